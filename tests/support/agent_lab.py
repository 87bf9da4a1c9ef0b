"""A laboratory for vm.py: a pretend kernel behind a fake /proc,
clocks that can be stepped, and a small server that keeps books.

`World` is the machine and knows the truth of every boot and month. `Office` is the far end: it answers like
usage_report, can be away, and books what it accepts the way the documents do (by uptime as version, intervals by where
they start). `Lab` runs the real vm.py between the two, in this process or in another interpreter.
"""

import calendar
import contextlib
import functools
import gzip
import importlib.util
import itertools
import json
import os
import ssl
import subprocess
import sys
import time
import types
import uuid
from collections import deque
from email.utils import formatdate
from pathlib import Path

from tests.support.recording_server import Reply, recording_server

AGENT = Path(__file__).parents[2] / "functions" / "agent"
VM_PY = AGENT / "vm.py"
CPU = ("user_seconds", "nice_seconds", "system_seconds", "idle_seconds", "iowait_seconds", "steal_seconds")
SHARES = {"user_seconds": 0.7, "nice_seconds": 0.1, "system_seconds": 0.15, "iowait_seconds": 0.05}

DRIVER = """
import importlib.util, json, sys, types
spec = importlib.util.spec_from_file_location("vm", sys.argv[1])
vm = sys.modules["vm"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vm)
with open(sys.argv[2]) as source:
    lab = json.load(source)
def sleep(seconds):
    lab["unix"] += seconds
    lab["monotonic"] += seconds
vm.clock = types.SimpleNamespace(unix=lambda: lab["unix"], monotonic=lambda: lab["monotonic"], sleep=sleep)
for name, value in lab["constants"].items():
    setattr(vm, name, value)
sys.exit(vm.main(sys.argv[3:]))
"""


def at(text: str) -> float:
    """Return unix seconds of a UTC time such as 2026-11-25T10:00:00."""
    return calendar.timegm(time.strptime(text.rstrip("Z"), "%Y-%m-%dT%H:%M:%S"))


def month_of(moment: float) -> str:
    return time.strftime("%Y-%m", time.gmtime(moment))


def next_month_at(moment: float) -> float:
    year, month = time.gmtime(moment)[:2]
    return calendar.timegm((year + month // 12, month % 12 + 1, 1, 0, 0, 0))


def load_agent() -> types.ModuleType:
    """Import vm.py afresh, without leaving byte code beside it."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec = importlib.util.spec_from_file_location("vm", VM_PY)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


@functools.cache
def interpreters() -> list[str]:
    """Find every CPython from 3.6 on that starts, one per minor version."""
    found: dict[str, str] = {}
    candidates = sorted(str(path) for path in Path.home().glob(".pyenv/versions/*/bin/python3"))
    for minor in range(6, 15):
        candidates += [str(Path(folder) / f"python3.{minor}") for folder in os.get_exec_path() if "shims" not in folder]
    for path in [sys.executable, *candidates]:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                [path, "-c", "import ssl, sys; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
            found.setdefault(done.stdout.strip(), path)
    return [path for version, path in found.items() if version.startswith("3.")]


class World:
    """One vm: what its kernel counts, what its clock says, and the truth."""

    def __init__(self, folder: Path, now: str = "2026-11-25T10:00:00", cores: int = 4) -> None:
        self.folder = folder
        self.now = float(at(now))
        self.clock_error = 0.0
        self.cores = cores
        self.truth: dict[tuple[str, str], dict[str, float]] = {}
        (folder / "proc/sys/kernel/random").mkdir(parents=True)
        (folder / "proc/net").mkdir()
        (folder / "proc/meminfo").write_text("MemTotal:       16384 kB\nMemFree: 1 kB\n")
        (folder / "proc/cpuinfo").write_text(
            "processor\t: 0\nmodel name\t: Imaginary CPU @ 3.00GHz\n\nprocessor\t: 1\n"
        )
        self.boot()

    def boot(self, off_seconds: float = 0.0) -> None:
        """Start a kernel, after having been off."""
        self.now += off_seconds
        self.boot_id = str(uuid.uuid4())
        self.booted_at = self.now
        self.uptime = self.wall = 0.0
        self.used = dict.fromkeys((*CPU, "core_seconds"), 0.0)
        self.network = {"eth0": [0, 0], "lo": [10**9, 10**9]}
        self.publish()

    @property
    def unix(self) -> float:
        """Return what the vm's own clock says."""
        return self.now + self.clock_error

    def run(self, seconds: float, busy: float = 0.5) -> None:
        """Let time pass while the cores are busy."""
        while seconds > 0:
            part = min(seconds, next_month_at(self.now) - self.now)
            core = part * self.cores
            used = {name: core * busy * share for name, share in SHARES.items()}
            used["idle_seconds"] = core * (1 - busy)
            used["steal_seconds"] = 0.0
            book = self.truth.setdefault((self.boot_id, month_of(self.now)), {})
            for name, value in {**used, "core_seconds": core, "wall_seconds": part}.items():
                book[name] = book.get(name, 0.0) + value
            for name, value in {**used, "core_seconds": core}.items():
                self.used[name] += value
            self.network["eth0"][0] += int(part * 1000)
            self.network["eth0"][1] += int(part * 500)
            self.uptime += part
            self.wall += part
            self.now += part
            seconds -= part
        self.publish()

    def run_until(self, moment: str | float, busy: float = 0.5) -> None:
        target = at(moment) if isinstance(moment, str) else moment
        self.run(target - self.now, busy)

    def suspend(self, seconds: float) -> None:
        """Sleep: CLOCK_BOOTTIME goes on, CLOCK_MONOTONIC and the counters do not."""
        self.now += seconds
        self.uptime += seconds
        self.publish()

    def pause(self, seconds: float) -> None:
        """Be stopped by the hypervisor: no clock of the vm notices."""
        self.now += seconds
        self.clock_error -= seconds

    def publish(self) -> None:
        """Write /proc."""
        proc = self.folder / "proc"
        ticks = [
            round(self.used[name] * 100)
            for name in ("user_seconds", "nice_seconds", "system_seconds", "idle_seconds", "iowait_seconds")
        ]
        line = " ".join(map(str, [*ticks, 0, 0, round(self.used["steal_seconds"] * 100), 0, 0]))
        cores = "".join(f"cpu{number} {line}\n" for number in range(self.cores))
        (proc / "stat").write_text(f"cpu  {line}\n{cores}intr 1 2 3\nbtime {int(self.unix - self.uptime)}\n")
        (proc / "uptime").write_text(f"{int(self.uptime * 100) / 100:.2f} {self.uptime:.2f}\n")
        (proc / "sys/kernel/random/boot_id").write_text(self.boot_id + "\n")
        rows = "".join(f"{name:>6}: {rx} 1 0 0 0 0 0 0 {tx} 1 0 0 0 0 0 0\n" for name, (rx, tx) in self.network.items())
        (proc / "net/dev").write_text(
            "Inter-|   Receive    |  Transmit\n face |bytes    packets errs|bytes    packets errs\n" + rows
        )


class Office:
    """The far end, with books; `script` holds (status, headers, body) to answer before anything else."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.samples: list[dict] = []
        self.usage: dict[tuple[str, str], dict] = {}
        self.intervals: dict[tuple[str, int], dict] = {}
        self.heartbeats: list[dict] = []
        self.script: deque = deque()
        self.away = False
        self.clock_error = 0.0
        self.token = "t0"
        self.fresh_token: str | None = None

    @property
    def now(self) -> float:
        return self.world.now + self.clock_error

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Respond to one request."""
        self.requests.append((method, path, headers, body))
        if self.script:
            reply = self.script.popleft()
            return reply(self, path, headers, body) if callable(reply) else reply
        if self.away:
            return 503, {"Retry-After": "9"}, b'{"error": {"code": "unavailable", "message": "away"}}'
        if method == "GET":
            return 405, {"Allow": "POST"}, b'{"error": {"code": "method_not_allowed", "message": "use POST"}}'
        if headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {}, b'{"error": {"code": "unauthenticated", "message": "no"}}'
        fields = json.loads(gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body)
        return (
            200,
            {},
            json.dumps(self.book(fields["samples"]) if path.endswith("/usage-report") else self.beat(fields)).encode(),
        )

    def beat(self, fields: dict) -> dict:
        self.heartbeats.append(fields)
        return self.receipt(len(fields["jobs"]), 0, [])

    def receipt(self, accepted: int, stale: int, rejected: list[dict]) -> dict:
        token = {"token": self.fresh_token} if self.fresh_token else {}
        return {"accepted": accepted, "stale": stale, "rejected": rejected, "server_time": self.iso(self.now), **token}

    @staticmethod
    def iso(moment: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1e6):06d}Z"

    def book(self, samples: list[dict]) -> dict:
        """Keep what is good, judge the rest, sample by sample."""
        counts = {"accepted": 0, "stale": 0}
        rejected = []
        for index, sample in enumerate(samples):
            code = self.fault(sample)
            if code:
                rejected.append({"index": index, "code": code, "message": "refused"})
                continue
            self.samples.append(sample)
            counts[self.keep(sample)] += 1
        return self.receipt(counts["accepted"], counts["stale"], rejected)

    def fault(self, sample: dict) -> str | None:
        """Apply the rules of accounting.md that an agent can break; answer the first that it did."""
        counters, start = sample["counters"], sample["month_start"]
        sampled_at, edge = at(sample["sampled_at"]), next_month_at(at(sample["month"] + "-01T00:00:00"))
        used = counters["user_seconds"] + counters["nice_seconds"] + counters["system_seconds"]
        faults = {
            "future_month": sample["month"] > month_of(self.now + 300),
            "malformed_time": sample["sampled_at"] < "2020" or at(sample["boot_at"]) > sampled_at,
            "wrong_month": sample["month"] != month_of(sampled_at) and not edge <= sampled_at <= edge + 60,
            "baseline_above_counters": any(start[name] > counters[name] for name in counters),
            "wall_above_uptime": counters["wall_seconds"] + counters["suspended_seconds"]
            > sample["uptime_seconds"] * 1.02 + 60,
            "cpu_above_cores": used > counters["core_seconds"] * 1.02 + 60,
            "malformed": any(value < 0 for value in counters.values()) or sample["cores"] < 1,
        }
        return next((code for code, broken in faults.items() if broken), None)

    def keep(self, sample: dict) -> str:
        version = round(sample["uptime_seconds"] * 1000)
        key = sample["boot_id"], sample["month"]
        known = self.usage.get(key)
        if sample["previous"] is not None:
            start = sample["boot_id"], round(sample["previous"]["uptime_seconds"] * 1000)
            if start[1] < version and version >= self.intervals.get(start, {"until": 0})["until"]:
                difference = {n: v - sample["previous"]["counters"][n] for n, v in sample["counters"].items()}
                self.intervals[start] = {"until": version, **difference}
        if known and known["version"] > version:
            return "stale"
        total = {name: value - sample["month_start"][name] for name, value in sample["counters"].items()}
        self.usage[key] = {"version": version, "estimated": sample["estimated"], "final": sample["final"], **total}
        return "accepted"

    def overlaps(self) -> list[tuple[int, int]]:
        """Find intervals of one boot that share a millisecond."""
        spans = sorted((boot, start, one["until"]) for (boot, start), one in self.intervals.items())
        return [(a[1], b[1]) for a, b in itertools.pairwise(spans) if a[0] == b[0] and a[2] > b[1]]


@contextlib.contextmanager
def serve(office: Office, context: ssl.SSLContext | None = None):
    """Serve an office over HTTP; yield its base URL."""

    def respond(request):
        status, headers, body = office.answer(request.method, request.path, dict(request.headers), request.body)
        date = {"Date": formatdate(int(office.now), usegmt=True)}
        return Reply(status, body, date | headers) if status else None

    with recording_server(respond, context=context) as server:
        yield server.url


class Lab:
    """The real vm.py between a world and an office."""

    def __init__(self, folder: Path, now: str = "2026-11-25T10:00:00", cores: int = 4) -> None:
        self.folder = folder
        self.world = World(folder, now, cores)
        self.office = Office(self.world)
        self.base = "http://127.0.0.1:9"
        self.direct = False
        self.run_dir, self.state = folder / "run", folder / "state"
        self.run_dir.mkdir()
        (folder / "secret").mkdir()
        (folder / "machine").write_text("11111111-2222-3333-4444-555555555555\n")
        (folder / "token").write_text("t0\n")
        self.console = folder / "console"
        self.console.touch()
        self.slept: list[float] = []
        self.module: types.ModuleType | None = None

    def constants(self) -> dict:
        return {
            "RUN": str(self.run_dir),
            "CONSOLE": str(self.console),
            "SECRET_DIRS": [str(self.folder / "secret")],
            "MACHINE_FILE": str(self.folder / "machine"),
        }

    def argv(self, verb: str, *more: str) -> list[str]:
        common = {"--base": self.base, "--state": str(self.state), "--proc": str(self.folder / "proc"), "--vm": "vm-1"}
        common |= {"--token-file": str(self.folder / "token"), "--benchmark-report": "none", "--patience": "1"}
        given = [word for pair in common.items() if pair[0] not in more for word in pair]
        return [verb, *given, *more]

    def agent(self) -> types.ModuleType:
        """Return vm.py as a module, in this world."""
        agent = self.module = self.module or load_agent()

        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.world.run(seconds)

        agent.clock = types.SimpleNamespace(
            unix=lambda: self.world.unix, monotonic=lambda: self.world.wall, sleep=sleep
        )
        for name, value in self.constants().items():
            setattr(agent, name, value)
        if self.direct:
            agent.post = functools.partial(self.post_directly, agent)
        return agent

    def options(self, verb: str = "report", *more: str) -> types.SimpleNamespace:
        """Return what vm.py makes of its command line."""
        words = self.argv(verb, *more)[1:]
        given = {name.lstrip("-").replace("-", "_"): value for name, value in zip(words[::2], words[1::2], strict=True)}
        return types.SimpleNamespace(**{**self.agent().OPTIONS, **given, "verb": verb})

    def post_directly(
        self,
        agent: types.ModuleType,
        vm: types.SimpleNamespace,
        name: str,
        body: bytes = b"",
        headers: dict | None = None,
    ) -> bytes:
        """Stand in for HTTP where a test makes thousands of requests."""
        vm.sent_at = agent.uptime_of(vm)
        if self.office.away:
            raise agent.Stop(agent.UNAVAILABLE, "away")
        status, _, answer = self.office.answer("POST" if body else "GET", "/function/" + name, headers or {}, body)
        if not vm.heard:
            agent.hear(vm, int(self.office.now) + 0.5 - vm.sent_at)
        if status != 200 and body:
            raise agent.Stop(agent.REFUSED, answer.decode())
        return answer

    def do(self, verb: str, *more: str) -> int:
        """Run one verb in this process; answer its exit code."""
        mask = os.umask(0o022)
        try:
            return self.agent().main(self.argv(verb, *more))
        finally:
            os.umask(mask)

    def spawn(self, python: str, verb: str, *more: str) -> subprocess.CompletedProcess:
        """Run one verb in another interpreter."""
        settings = self.folder / "lab.json"
        settings.write_text(
            json.dumps({"unix": self.world.unix, "monotonic": self.world.wall, "constants": self.constants()})
        )
        command = [
            python,
            "-B",
            "-W",
            "error::SyntaxWarning",
            "-c",
            DRIVER,
            str(VM_PY),
            str(settings),
            *self.argv(verb, *more),
        ]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    @property
    def kept(self) -> dict:
        """Return the state on disk."""
        return json.loads((self.state / "state.json").read_text())

    def booked(self, name: str = "wall_seconds") -> dict[str, float]:
        """Return a counter's total by month, over all boots."""
        totals: dict[str, float] = {}
        for (_, month), usage in self.office.usage.items():
            totals[month] = totals.get(month, 0) + usage[name]
        return totals

    def true(self, name: str = "wall_seconds") -> dict[str, float]:
        """Return the truth of the same."""
        totals: dict[str, float] = {}
        for (_, month), used in self.world.truth.items():
            totals[month] = totals.get(month, 0) + used[name]
        return totals
