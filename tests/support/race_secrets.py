"""Race for secrets: many claimants for each,
over two server processes that are killed at random, on a store that loses replies.

    python -m tests.support.race_secrets --secrets 5000 --store files|versitygw|ministack|fake-gcs

Prints what was delivered how often. What must hold: nobody twice, nothing after its expiry, nothing without a proof,
and whoever has a secret is whom its mark names.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from localstack import servers
from skytally.adapters.keys_files import KeyFiles
from skytally.app import wiring
from skytally.core.config import Config
from skytally.core.records import Caller, Deposit
from skytally.secrets import deposits
from skytally.secrets.envelope import parse_public_key
from skytally.secrets.outcomes import outcome_key, read_outcome
from tests.support import builders

ROOT = Path(__file__).resolve().parents[2]
RACERS = 16
FINAL = {200, 400, 403, 409, 410}
PATIENCE_SECONDS = 60
SHORT_SECONDS = 4


@dataclass
class Result:
    """What came of a race."""

    secrets: int
    deliveries: Counter = field(default_factory=Counter)
    holders: dict = field(default_factory=dict)
    late: int = 0
    without_proof: int = 0
    statuses: Counter = field(default_factory=Counter)
    marks: dict = field(default_factory=dict)
    kills: int = 0
    seconds: float = 0.0

    @property
    def twice(self):
        return sum(count > 1 for count in self.deliveries.values())

    @property
    def wrong_holder(self):
        """Secrets whose mark names another than who got it, or nobody."""
        return sum(self.marks[name].spki_sha256 != spki for name, spki in self.holders.items()) + sum(
            mark.state == "delivered" and not (mark.spki_sha256 and mark.address) for mark in self.marks.values()
        )


class Servers:
    """Two servers on one store; any of them may be killed and comes back on its port."""

    def __init__(self, environment, lost_share, mutant):
        self._environment, self._mutant, self._lost_share = environment, mutant, lost_share
        self.ports, self._processes = [0, 0], [None, None]
        for n in (0, 1):
            self.start(n)

    def start(self, n):
        """Start a server on the port it had; if a connection took that meanwhile, on another."""
        environment = {**self._environment, "PYTHONPATH": str(ROOT)}
        line = ""
        while not line:
            command = [
                sys.executable,
                "-m",
                "tests.support.race_server",
                str(self.ports[n]),
                str(self._lost_share),
            ]
            command += ["--mutant"] if self._mutant else []
            with (Path(environment["SKYTALLY_HOME"]) / f"server-{n}.log").open("ab") as log:
                self._processes[n] = subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
                )
            line = self._processes[n].stdout.readline()
            self.ports[n] = int(line.partition("127.0.0.1:")[2].partition("/")[0]) if line else 0

    def kill(self, n):
        self._processes[n].kill()
        self._processes[n].wait()
        self._processes[n].stdout.close()
        self.start(n)

    def stop(self):
        for process in self._processes:
            process.terminate()
            process.wait()
            process.stdout.close()


def race(settings, home, secrets_count, *, lost_share=0.15, kill_every_seconds=2.0, mutant=False):
    """Run one race; return a Result."""
    environment = {**os.environ, **settings, "SKYTALLY_HOME": str(home), "SKYTALLY_TIMER_MIN_SECONDS": "1"}
    keys_folder = KeyFiles(home / "keys", lambda: datetime.now(UTC))
    keys_folder.init()
    config = Config.from_env({**settings, "SKYTALLY_HOME": str(home)})
    objects, result = wiring.open_objects(config), Result(secrets_count)
    keys = [rsa.generate_private_key(public_exponent=65_537, key_size=2_048) for _ in range(RACERS)]
    publics = [builders.public_key(key) for key in keys]
    spkis = [parse_public_key(public).spki_sha256 for public in publics]
    both = Servers(environment, lost_share, mutant)
    tokens = leave(secrets_count, objects, keys_folder.keyring())
    over, began = threading.Event(), time.monotonic()
    disturb = threading.Thread(target=disturbance, args=(both, over, kill_every_seconds, result))
    disturb.start()
    run(lambda racer: claim_all(racer, tokens, publics[racer], spkis[racer], both, result), RACERS)
    over.set()
    disturb.join()
    both.stop()
    result.seconds = time.monotonic() - began
    result.marks = {
        claim: mark for claim, expires, _ in map(parts, tokens) if (mark := mark_of(objects, claim, expires))
    }
    return result


def leave(count, objects, keyring):
    """Deposit secrets by the rule itself, so that some can expire within seconds; return their tokens."""
    caller = Caller(role="scheduler", issued=0, expires=2**40)
    tokens = []
    for n in range(count):
        age_seconds = 3_600 - SHORT_SECONDS if n % 10 == 9 else 0
        wanted = Deposit(cloud="uvic", vm=f"vm-{n}", payload=b"payload of %d" % n, expires_in_seconds=3_600)
        left_at = datetime.now(UTC) - timedelta(seconds=age_seconds)
        tokens.append(deposits.deposit(wanted, caller, objects, keyring, left_at)["token"])
    return tokens


def parts(text):
    claim, expires, claim_secret = text.split(".")
    return claim, int(expires), claim_secret


def mark_of(objects, claim, expires):
    with contextlib.suppress(Exception):
        return read_outcome(objects, outcome_key(claim, expires))


def run(work, count):
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def disturbance(both, over, kill_every_seconds, result):
    """Kill one server or the other, and sweep all the time."""
    dice, next_kill = random.Random(), time.monotonic() + kill_every_seconds
    while not over.wait(0.3):
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", both.ports[0], timeout=5)) as connection,
        ):
            post(connection, "/function/secret-sweep", b"", "text/plain")
        if time.monotonic() > next_kill:
            both.kill(dice.randrange(2))
            result.kills += 1
            next_kill = time.monotonic() + dice.uniform(0.5, 1.5) * kill_every_seconds


gates = defaultdict(lambda: threading.Barrier(RACERS))
lock = threading.Lock()


def claim_all(racer, tokens, public, spki, both, result):
    """Claim every secret at the same moment as the other racers; a racer in eight has no proof."""
    connections = {}
    for place, text in enumerate(tokens):
        claim, expires, _ = parts(text)
        honest = racer % 8 != 7
        form = builders.claim_form(text if honest else f"{claim}.{expires}.{'0' * 64}", public)
        with lock:
            gate = gates[id(result), place]
        gate.wait()
        status = insist(connections, racer + place, urllib.parse.urlencode(form).encode(), both)
        with lock:
            result.statuses[status] += 1
            if status == 200:
                result.deliveries[claim] += 1
                result.holders[claim] = spki
                result.late += time.time() > expires + 1
                result.without_proof += not honest
    for connection in connections.values():
        connection.close()


def insist(connections, start, body, both):
    """Ask one server and the other until one gives a final answer."""
    deadline, n = time.monotonic() + PATIENCE_SECONDS, start
    while time.monotonic() < deadline:
        n += 1
        port = both.ports[n % 2]
        connection = connections.setdefault(port, http.client.HTTPConnection("127.0.0.1", port, timeout=20))
        try:
            status = post(connection, "/function/secret-claim", body, "application/x-www-form-urlencoded")
        except (OSError, http.client.HTTPException):
            connection.close()
            connections.pop(port, None)
            time.sleep(0.02)
            continue
        if status in FINAL:
            return status
    return 0


def post(connection, path, body, media):
    connection.request("POST", path, body, {"Content-Type": media})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secrets", type=int, default=5_000)
    parser.add_argument("--store", default="files", choices=["files", *servers.SERVERS])
    parser.add_argument("--mutant", action="store_true", help="check-then-delete instead of marker-first")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = {"SKYTALLY_OBJECTS": f"file://{folder}/objects"}
        if options.store != "files":
            settings = stack.enter_context(servers.SERVERS[options.store](folder)).settings
        os.environ.update({name: value for name, value in settings.items() if not name.startswith("SKYTALLY_")})
        result = race(settings, folder, options.secrets, mutant=options.mutant)
    delivered = Counter(result.deliveries.values())
    print(
        json.dumps(
            {
                "store": options.store,
                "secrets": result.secrets,
                "racers": RACERS,
                "kills": result.kills,
                "seconds": round(result.seconds),
                "delivered once": delivered[1],
                "delivered twice": result.twice,
                "after expiry": result.late,
                "without proof": result.without_proof,
                "wrong or no holder": result.wrong_holder,
                "statuses": dict(result.statuses),
            }
        )
    )
    return 1 if result.twice or result.late or result.without_proof or result.wrong_holder else 0


if __name__ == "__main__":
    sys.exit(main())
