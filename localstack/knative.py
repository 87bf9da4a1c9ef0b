"""skytally on a real Knative, from nothing: `make knative`. Root on Debian; some 15 minutes the first time, 5 later.

    python -m localstack.knative [drive | down]

The node (knative_node/node.sh) runs in namespaces of its own. `drive` is what happens inside: stores on the node, one
`skytally deploy apply`, a vm's life, five timers, a roll under load, a setting that is wrong, a burst of deposits into
no pods, a forged address, new keys, removal. Each step says what it saw and how long it took; one that sees something
else than it must ends the run with exit code 1.
"""

import base64
import contextlib
import gzip
import hmac
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from localstack import image
from localstack.elasticsearch_node import Elasticsearch
from localstack.servers import S3_USER, SERVERS, VERSITYGW, versitygw
from skytally.deployment.catalog import FUNCTIONS
from skytally.deployment.descriptions import SECRETS_FOLDER

ROOT = Path(__file__).resolve().parent.parent
NODE = ROOT / "localstack" / "knative_node" / "node.sh"
FOLDER = Path.home() / ".cache" / "skytally" / "knative"
SKYTALLY = Path(sys.executable).parent / "skytally"
IMAGE = "dev.local/skytally:1"
NAMESPACE, GATEWAY, NODE_ADDRESS = "skytally", "ingress/knative", "10.7.0.1"
BASE = f"http://{NODE_ADDRESS}:8080"
PAYLOAD = b"a certificate, a token or a password would be here\n"
TIMERS = tuple(function.service for function in FUNCTIONS if function.schedule)
BURST, LOAD_THREADS, FORGED = 60, 4, "203.0.113.7"


class Wrong(Exception):
    """A step saw something else than it must; the text says what."""


def main() -> int:
    """Build what is missing, start the node, drive it, and end it; return the exit code."""
    match sys.argv[1:]:
        case ["drive"]:
            return Drive().run()
        case ["down"]:
            return _node("down").returncode
        case []:
            return _from_nothing()
    print(__doc__, file=sys.stderr)
    return 2


def _from_nothing() -> int:
    if os.geteuid() != 0:
        print("make knative needs root: it makes namespaces for the node", file=sys.stderr)
        return 1
    began = time.monotonic()
    # The node has no way out: whatever is fetched for the first time is fetched before it.
    VERSITYGW.path()
    Elasticsearch.fetched()
    if _node("build").returncode:
        return 1
    with image.image():
        image.save(FOLDER / "images" / "skytally.tar", IMAGE)
    print(f"built after {time.monotonic() - began:.0f} s", flush=True)
    try:
        if _node("up").returncode:
            return 1
        print(f"the node is up after {time.monotonic() - began:.0f} s", flush=True)
        return _node("net", "env", f"--chdir={ROOT}", sys.executable, "-m", "localstack.knative", "drive").returncode
    finally:
        _node("down")


def _node(*words: str) -> "subprocess.CompletedProcess[bytes]":
    environment = {**os.environ, "D": str(FOLDER), "PYTHON": sys.executable}
    return subprocess.run([NODE, *words], env=environment, stdin=subprocess.DEVNULL, check=False)


class Drive:
    """The run inside the node."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(dir="/var/tmp")
        self.folder = Path(self._temporary.name)
        self.keys, self.settings, self.report = self.folder / "keys", dict[str, str](), list[dict[str, Any]]()
        self.folder.chmod(0o755)
        self.by_host = False

    def run(self) -> int:
        """Do every step; return 1 where one failed."""
        try:
            with self._temporary, self._stores():
                for step in (
                    self.deploys,
                    self.applies_again,
                    self.lives,
                    self.ticks,
                    self.refuses_forged_addresses,
                    self.rolls_under_load,
                    self.keeps_what_works,
                    self.scales_from_zero,
                    self.rotates_keys,
                    self.answers_by_host_names,
                    self.removes,
                ):
                    self._do(step)
        except Wrong as wrong:
            print(f"FAILED: {wrong}", flush=True)
            return 1
        finally:
            (FOLDER / "report.json").write_text(json.dumps(self.report, indent=2))
        print(f"all {len(self.report)} steps went well: {FOLDER / 'report.json'}")
        return 0

    def _do(self, step: Any) -> None:
        began = time.monotonic()
        said = step()
        seconds = round(time.monotonic() - began, 1)
        self.report.append({"step": step.__name__, "seconds": seconds, "said": said})
        print(f"{step.__name__.replace('_', ' ')}: {said} ({seconds} s)", flush=True)

    @contextlib.contextmanager
    def _stores(self) -> Iterator[None]:
        """Run Elasticsearch and S3 on the node, reachable from its pods, and set them up."""
        with SERVERS["elasticsearch"](self.folder) as documents, versitygw(self.folder) as objects:
            for server in (documents, objects):
                port = server.url.rpartition(":")[2]
                rule = ["-t", "nat", "-A", "PREROUTING", "-d", NODE_ADDRESS, "-p", "tcp", "--dport", port]
                _run("iptables", *rule, "-j", "DNAT", "--to-destination", f"127.0.0.1:{port}")
            self.settings = {
                "SKYTALLY_DOCUMENTS": documents.url.replace("127.0.0.1", NODE_ADDRESS),
                "SKYTALLY_OBJECTS": objects.settings["SKYTALLY_OBJECTS"],
                "SKYTALLY_S3_ENDPOINT": objects.url.replace("127.0.0.1", NODE_ADDRESS),
                "SKYTALLY_TRUSTED_HOPS": "4",
                "SKYTALLY_TIMER_MIN_SECONDS": "0",
                "SKYTALLY_CALLS_PER_SECOND": "0",
                "AWS_DEFAULT_REGION": S3_USER["AWS_DEFAULT_REGION"],
                "AWS_SHARED_CREDENTIALS_FILE": f"{SECRETS_FOLDER}/s3-credentials",
            }
            credentials = "".join(
                f"{name.lower()}={S3_USER[name]}\n" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            )
            (self.folder / "s3-credentials").write_text(f"[default]\n{credentials}")
            self.skytally("keys", "init")
            local = {"SKYTALLY_DOCUMENTS": documents.url, "SKYTALLY_S3_ENDPOINT": objects.url}
            local["AWS_SHARED_CREDENTIALS_FILE"] = str(self.folder / "s3-credentials")
            self.skytally("doctor", "--install", settings={**self.settings, **local})
            for role in ("scheduler", "reader"):
                self.skytally("token", "--role", role, "--out", str(self.folder / role))
            yield

    def deploys(self) -> str:
        """Deploy everything by one apply onto an empty cluster."""
        self.apply()
        return f"{len(FUNCTIONS)} functions from nothing"

    def applies_again(self) -> str:
        """Apply the same again: nothing changes, and nothing differs from it."""
        before = self.revisions()
        told = self.apply()
        _must(all(line.endswith("unchanged") for line in told.splitlines()), told)
        self.deploy("status", "-")
        _must(self.revisions() == before, "the same description made a new revision")
        return "unchanged, and status finds no drift"

    def lives(self) -> str:
        """Take a vm through its life, and see it on the statement and the page."""
        token = self.deposit("vm-1")["token"]
        script, digests = (self.call(f"agent/{name}", role=None)[1] for name in ("vm.py", "SHA256SUMS"))
        _must(f"{sha256(script).hexdigest()}  vm.py" in digests.decode().splitlines(), "vm.py does not have its digest")
        (self.folder / "vm.py").write_bytes(script)
        benchmark = self.folder / "benchmark.json"
        benchmark.write_text(
            '{"app": "HEPscore23", "profiles": {"hepscore": {"score": 16.0, "app_info": {"config_hash": "x"}}}, '
            '"host": {}}'
        )
        payload = self.folder / "payload"
        self.vm(
            "boot", "--claim-file", "-", "--payload", str(payload), "--benchmark-report", str(benchmark), stdin=token
        )
        _must(payload.read_bytes() == PAYLOAD, "the payload is not the one that was left")
        self.vm("report")
        self.vm("stop")
        time.sleep(2)  # Elasticsearch shows what was written after a second.
        statement = self.json(f"statement?month={datetime.now(UTC):%Y-%m}&detail=boots")
        _must([boot["vm"] for boot in statement["boots"]] == ["vm-1"], f"the statement has {statement['boots']}")
        _must(
            [row["cloud"] for row in self.json("dashboard/data?window=day")["table"]] == ["uvic"],
            "the page lacks the cloud",
        )
        return "deposit, boot, report, stop, statement, page"

    def ticks(self) -> str:
        """Run each timer once as its CronJob does, and see that none is reachable by a path."""
        for name in TIMERS:
            kubectl("create", "job", f"now-{name}", f"--from=cronjob/{name}")
        for name in TIMERS:
            kubectl("wait", "--for=condition=Complete", f"job/now-{name}", "--timeout=120s")
            _must(self.call(name, b"", role=None)[0] == 404, f"{name} answers by its path")
        return f"{len(TIMERS)} CronJobs"

    def refuses_forged_addresses(self) -> str:
        """Claim from an address that the caller made up: refused; from its own: delivered."""
        for number, forged in enumerate((FORGED, ", ".join([FORGED] * 6))):
            refused = self.claim(
                self.deposit(f"vm-f{number}", sources=[f"{FORGED}/32"])["token"], {"X-Forwarded-For": forged}
            )
            _must(refused[0] == 403, f"a forged address was believed: {refused}")
        own = self.claim(self.deposit("vm-own", sources=[f"{NODE_ADDRESS}/32"])["token"], {"X-Forwarded-For": FORGED})
        _must(own[0] == 200, f"its own address was refused: {own}")
        return f"{self.settings['SKYTALLY_TRUSTED_HOPS']} trusted hops"

    def rolls_under_load(self) -> str:
        """Change a setting of every function while callers go on: no answer is lost."""
        with self.load() as answers:
            self.settings["SKYTALLY_IDLE_SECONDS"] = "31"
            self.apply()
        _must(set(answers) == {200, 201}, f"answers under the roll: {dict(answers)}")
        return f"answers {dict(answers)}"

    def keeps_what_works(self) -> str:
        """Apply a setting that is wrong: refused with its name, and the version before answers on."""
        with self.load() as answers:
            told = self.apply(expected=5, settings=self.settings | {"SKYTALLY_DOCUMENTS_CA_FILE": "/nowhere"})
        _must("SKYTALLY_DOCUMENTS_CA_FILE" in told, f"the setting is not named: {told}")
        _must(set(answers) == {200, 201}, f"answers beside a wrong version: {dict(answers)}")
        missing = self.apply(expected=1, secrets=[*self.secret_names(), "nobody-has-it"])
        _must("nobody-has-it" in missing, missing)
        self.apply()
        return f"answers {dict(answers)}; it said: {told.splitlines()[-1]}"

    def scales_from_zero(self) -> str:
        """Wait until a function has no pod, and leave many deposits at once."""
        _until(lambda: not pods("secret-deposit"), "secret-deposit does not scale to zero", 180)
        refused = Counter[int]()
        with ThreadPoolExecutor(BURST) as pool:
            took = list(
                pool.map(lambda number: _timed(lambda: self.deposit_as_told(f"burst-{number}", refused)), range(BURST))
            )
        return (
            f"{len(took)} deposits at once into no pods, slowest {max(took):.1f} s; asked to come again: "
            f"{dict(refused)}"
        )

    def deposit_as_told(self, vm: str, refused: Counter[int]) -> None:
        """Leave a secret, coming again where one caller has too much under way; any other answer is wrong."""
        body = json.dumps({"vm": vm, "cloud": "uvic", "payload": base64.b64encode(PAYLOAD).decode()}).encode()
        while (status := self.call("secret-deposit", body, role="scheduler")[0]) != 201:
            _must(status == 429, f"a deposit of the burst was answered {status}")
            refused[status] += 1
            time.sleep(1)

    def rotates_keys(self) -> str:
        """Make new keys and roll: what was left before opens, and so does what is left afterwards."""
        before, names = self.deposit("vm-5"), self.secret_names()
        self.skytally("keys", "rotate")
        _must(set(self.secret_names()) > set(names), "no new key")
        self.apply()
        for deposit in (before, self.deposit("vm-6")):
            _must(self.claim(deposit["token"], {})[0] == 200, "a claim does not open under rotated keys")
        return f"{len(set(self.secret_names()) - set(names))} new keys"

    def answers_by_host_names(self) -> str:
        """Give up the paths: each function answers at a host name of its own, with one proxy less on the way."""
        self.by_host, self.settings["SKYTALLY_TRUSTED_HOPS"] = True, "3"
        self.apply()
        _must("-path" not in kubectl("get", "httproute", "-o", "name"), "a path is left")
        return self.refuses_forged_addresses()

    def removes(self) -> str:
        """Remove everything, and see that nothing is left."""
        names = self.secret_names()
        self.deploy("remove", "--all")
        for name in names:
            self.deploy("remove-secret", name)
        kinds = "ksvc,httproute,cronjob,job,secret,networkpolicy,pod"
        ours = ["-l", "app.kubernetes.io/name=skytally", "-o", "name"]
        _until(lambda: not kubectl("get", kinds, *ours), "something is left", 180)
        _must(
            kubectl("get", "serviceaccount", "-o", "name").split() == ["serviceaccount/default"], "an account is left"
        )
        return "nothing of ours is in the namespace"

    def secret_names(self) -> list[str]:
        """Return the names of what functions mount."""
        return ["s3-credentials", *sorted(path.name for path in self.keys.iterdir() if path.is_file())]

    def apply(self, expected: int = 0, settings: dict[str, str] | None = None, secrets: list[str] | None = None) -> str:
        """Apply the description, or one that differs; return what it said."""
        names = self.secret_names()
        files = {name: str(self.folder / name if name == "s3-credentials" else self.keys / name) for name in names}
        described = {
            "image": IMAGE,
            "settings": settings or self.settings,
            "secrets": secrets or names,
            "secret_files": files,
        }
        return self.deploy(
            "apply", "--seconds", "300", "-", stdin=msgspec.json.encode(described).decode(), expected=expected
        )

    def deploy(self, command: str, *words: str, stdin: str | None = None, expected: int = 0) -> str:
        """Run a command of `skytally deploy`; `-` without other input is the present description."""
        if stdin is None and "-" in words:
            names = self.secret_names()
            stdin = msgspec.json.encode({"image": IMAGE, "settings": self.settings, "secrets": names}).decode()
        access = ["--platform", "knative", "--namespace", NAMESPACE]
        access += [] if self.by_host else ["--route-gateway", GATEWAY]
        return self.skytally("deploy", command, *access, *words, stdin=stdin, expected=expected)

    def skytally(
        self, *words: str, stdin: str | None = None, expected: int = 0, settings: dict[str, str] | None = None
    ) -> str:
        """Run the command line with the site's keys; return what it said."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "KUBECONFIG") if name in os.environ}
        environment = {**kept, "SKYTALLY_KEYS": str(self.keys), **(settings or {})}
        done = subprocess.run(
            [SKYTALLY, *words], input=stdin, env=environment, capture_output=True, text=True, timeout=1_800, check=False
        )
        said = (done.stdout + done.stderr).strip()
        _must(
            done.returncode == expected, f"skytally {' '.join(words[:2])} ended with {done.returncode}: {said[-2_000:]}"
        )
        return said

    def vm(self, verb: str, *words: str, stdin: str | None = None) -> None:
        """Run the vm.py that was served."""
        command = [sys.executable, str(self.folder / "vm.py"), verb, "--base", BASE, "--insecure", "yes"]
        _run(*command, "--state", str(self.folder / "vm"), *words, stdin=stdin)

    def deposit(self, vm: str, **fields: Any) -> Any:
        """Leave a secret for a vm; return the answer."""
        body = {"vm": vm, "cloud": "uvic", "payload": base64.b64encode(PAYLOAD).decode(), **fields}
        return self.json("secret-deposit", body, role="scheduler")

    def claim(self, token: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Claim a secret for a new key."""
        form = urllib.parse.urlencode(_claim(token, rsa.generate_private_key(65_537, 3_072))).encode()
        return self.call(
            "secret-claim", form, role=None, headers={"Content-Type": "application/x-www-form-urlencoded", **headers}
        )

    def json(self, path: str, body: Any = None, role: str = "reader") -> Any:
        """Call a function that must answer with JSON."""
        status, answer = self.call(path, None if body is None else json.dumps(body).encode(), role=role)
        _must(status in {200, 201}, f"{path}: {status} {answer[:500]!r}")
        return json.loads(answer)

    def call(
        self, path: str, body: bytes | None = None, *, role: str | None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Call a function by its path."""
        told = {"Content-Type": "application/json", **(headers or {})}
        if role:
            told["Authorization"] = f"Bearer {(self.folder / role).read_text().strip()}"
        service, _, rest = path.partition("/")
        if self.by_host:
            told["Host"] = f"{service}.{NAMESPACE}.sky.test"
        request = urllib.request.Request(f"{BASE}/{rest}" if self.by_host else f"{BASE}/function/{path}", body, told)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    @contextlib.contextmanager
    def load(self) -> Iterator[Counter[int]]:
        """Let callers deposit and read until the caller is done;
        yield how often each status was answered, 0 for none at all.
        """
        answers, ended = Counter[int](), threading.Event()
        body = {"vm": "load", "cloud": "uvic", "payload": base64.b64encode(PAYLOAD).decode()}

        def ask(number: int) -> None:
            while not ended.is_set():
                try:
                    deposits = number % 2 == 0
                    path = "secret-deposit" if deposits else "agent/vm.py"
                    sent = json.dumps(body).encode() if deposits else None
                    status = self.call(path, sent, role="scheduler" if deposits else None)[0]
                except OSError:
                    status = 0
                answers[status] += 1

        with ThreadPoolExecutor(LOAD_THREADS) as pool:
            asking = [pool.submit(ask, number) for number in range(LOAD_THREADS)]
            try:
                yield answers
            finally:
                ended.set()
                for future in asking:
                    future.result()

    def revisions(self) -> str:
        """Return the names of all revisions."""
        return kubectl("get", "revisions", "-o", "name")


def _claim(token: str, private_key: rsa.RSAPrivateKey) -> dict[str, str]:
    """Write a claim as vm.py does: a public key, and the proof that its sender holds the token."""
    claim, expires, secret = token.rsplit(".", 2)
    line = private_key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public_key = base64.b64encode(gzip.compress(line + b"\n"))
    proven = f"skytally/v1 claim|{claim}|{sha256(public_key).hexdigest()}"
    proof = hmac.new(secret.encode(), proven.encode(), "sha256").hexdigest()
    return {"claim": claim, "expires": expires, "public_key": public_key.decode(), "proof": proof}


def kubectl(*words: str) -> str:
    """Run kubectl in the site's namespace."""
    return _run("kubectl", "--namespace", NAMESPACE, *words)


def pods(service: str) -> str:
    """Return the names of a function's pods."""
    return kubectl("get", "pods", "-l", f"serving.knative.dev/service={service}", "-o", "name")


def _run(*words: str, stdin: str | None = None) -> str:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=300, check=False)
    _must(
        done.returncode == 0,
        f"{words[0]} {' '.join(words[1:4])} ended with {done.returncode}: {(done.stdout + done.stderr)[-1_000:]}",
    )
    return done.stdout.strip()


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise)


def _until(holds: Any, otherwise: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        _must(time.monotonic() < deadline, otherwise)
        time.sleep(0.5)


def _timed(call: Any) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
