"""A laboratory for scheduler.py: history files as HTCondor writes them,
commands that print what they are given, and a server with a book.

`Pool` runs the real script as a process, by any interpreter, and reads in the book what it told. `receiving` is the far
end: it keeps every report that it answered with 200, and can refuse, be away, or send one elsewhere.
"""

import contextlib
import gzip
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.recording_server import Reply, Request, recording_server

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "functions" / "agent" / "scheduler.py"
RECORDED = ROOT / "tests" / "recorded"
T0 = 1_795_500_000
TOKEN = "secret-token"
spec = importlib.util.spec_from_file_location("scheduler", SCRIPT)
scheduler = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scheduler)


class Receiver:
    """Keeps what it is told, with the end of the base that told it;
    `odd` is answered instead of a receipt, to GET `listed`.

    It answers 503 with each Retry-After of `later` first. It refuses jobs of the numbers `refused`, and as too large,
    in words of its own or others', reports of more than `limit` items.
    """

    status, delay, odd, moved, listed, limit, too_large, said = 200, 0.0, None, None, b"", 10**9, None, "no good"
    base: str

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.sizes: list[int] = []
        self.refused: set[int] = set()
        self.later: list[str] = []

    def __call__(self, request: Request) -> Reply:
        """Return the reply to a request."""
        if request.method == "GET":
            self.asked.append(f"{request.path} {request.headers['Authorization']}")
            return self.reply(200, self.listed)
        body = json.loads(gzip.decompress(request.body))
        base, function = request.path.split("/function/")
        assert (function, request.headers["Authorization"]) == ("placement-report", f"Bearer {TOKEN}")
        if self.later:
            return self.reply(503, b"", {"Retry-After": self.later.pop(0)})
        self.sizes.append(len(body["vms"]) + len(body["jobs"]))
        status = 413 if self.sizes[-1] > self.limit else self.status
        bad = [index for index, job in enumerate(body["jobs"], len(body["vms"])) if number_of(job) in self.refused]
        if status == 200 and self.odd is None:
            good = [job for job in body["jobs"] if number_of(job) not in self.refused]
            self.told.append({**body, "jobs": good, "base": base})
        time.sleep(self.delay)
        rejected = [{"index": index, "code": "malformed", "message": self.said} for index in bad]
        receipt = {
            "accepted": self.sizes[-1] - len(bad),
            "stale": 0,
            "rejected": rejected,
            "server_time": "2026-11-24T00:00:00Z",
        }
        odd = self.too_large if status != self.status else self.odd
        return self.reply(status, odd or json.dumps(receipt if status == 200 else {"error": {"code": "x"}}).encode())

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> Reply:
        """Return a reply, which sends the caller elsewhere where a test says so."""
        return Reply(status, body, ({"Location": self.moved} if self.moved else {}) | (headers or {}))


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """Serve until the caller is done."""
    receiver = Receiver()
    with recording_server(receiver) as server:
        receiver.base = server.url
        yield receiver


class Pool:
    """A folder of history files, and commands that print what they are given."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.folder, self.receiver = folder, receiver
        (folder / "bin").mkdir()
        (folder / "token").write_text(f"{TOKEN}\n")
        self.history = folder / "spool" / "history"
        self.epochs = self.history.with_name("epoch_history")
        self.history.parent.mkdir()
        self.history.touch()
        for name in ("condor_q", "condor_status", "condor_history"):
            self.prints(name, "")
        self.prints("condor_config_val", "", 1)

    def prints(self, name: str, told: Any, code: int = 0, *, limited: Any = None) -> None:
        """Let a command print text, bytes or ads; `limited` where it is asked for a few only.

        Its arguments are kept in `name`.args.
        """
        for ending, one in (("out", told), ("limited", told if limited is None else limited)):
            text = one if isinstance(one, str | bytes) else json.dumps(one)
            (self.folder / f"{name}.{ending}").write_bytes(text if isinstance(text, bytes) else text.encode())
        path, here = self.folder / "bin" / name, self.folder / name
        path.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$*" >>"{here}.args"\n'
            f'case " $* " in *" -limit "*) cat "{here}.limited";; *) cat "{here}.out";; esac\n'
            f'[ {code} = 0 ] || echo "no daemon" >&2\nexit {code}\n'
        )
        path.chmod(0o755)

    def add(self, *numbers: int, torn: int = 0, path: Path | None = None, **fields: Any) -> None:
        """Append ads; the last one without so many of its bytes."""
        data = b"".join(ad(number, **fields) for number in numbers)
        with (path or self.history).open("ab") as file:
            file.write(data[: len(data) - torn])

    def epoch(self, number: int, start: int, vm: str) -> None:
        """Append one run of a job to the epoch history: 30 s that began at `start`."""
        banner = f'*** EPOCH ClusterId={number} ProcId=0 RunInstanceId=1 Owner="alice" CurrentTime={start + 30}'
        fields = {
            "RemoteHost": f"slot1@{vm}",
            "JobCurrentStartDate": start,
            "RemoteWallClockTime": 7.0,
            "CompletionDate": None,
        }
        self.add(number, path=self.epochs, JobStatus=2, banner=banner, **fields)

    def rotate(self, stamp: str) -> Path:
        to = self.history.with_name(f"history.{stamp}")
        self.history.rename(to)
        self.history.touch()
        return to

    @property
    def arguments(self) -> list[str]:
        told = ["--base", self.receiver.base, "--token-file", self.folder / "token", "--state", self.folder / "state"]
        return ["report", *map(str, told), "--history", str(self.history)]

    def command(self, *more: Any, python: str = sys.executable, verb: str = "report") -> list[str]:
        return [python, str(SCRIPT), verb, *self.arguments[1:], *map(str, more)]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, *more: Any, python: str = sys.executable, verb: str = "report") -> subprocess.CompletedProcess[str]:
        """Run the script once; it never ends in a traceback."""
        command = self.command(*more, python=python, verb=verb)
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=100, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    @property
    def jobs(self) -> list[dict[str, Any]]:
        return [job for body in self.receiver.told for job in body["jobs"]]

    @property
    def vms(self) -> list[dict[str, Any]]:
        return [vm for body in self.receiver.told for vm in body["vms"]]

    def numbers(self) -> Counter[int]:
        """Count how often each job was told."""
        return Counter(map(number_of, self.jobs))


def number_of(job: dict[str, Any]) -> int:
    return int(job["batch_id"].split("#")[-2].split(".")[0])


def fields_of(number: int, **fields: Any) -> dict[str, Any]:
    """Describe a job as HTCondor does: 5 s on a vm of the cloud west."""
    started = T0 + 10 * number
    told = {
        "GlobalJobId": f"sched.test@#{number}.0#{T0}",
        "ClusterId": number,
        "JobStatus": 4,
        "LastRemoteHost": f"slot1_1@vm-{number % 7}",
    }
    told |= {
        "JobCurrentStartDate": started,
        "CompletionDate": started + 5,
        "RemoteWallClockTime": 5.0,
        "NumShadowStarts": 1,
        "ExitCode": 0,
    }
    return told | {"MachineAttrcloud_name0": "west", "RemoteUserCpu": 3.0, "RemoteSysCpu": 1.0} | fields


def ad(number: int, **fields: Any) -> bytes:
    """Write an ad as HTCondor does; `banner` is what its last line says."""
    told = fields_of(number, **fields)
    banner = f'*** Offset = 0 ClusterId = {number} ProcId = 0 Owner = "alice" CompletionDate = {T0 + 10 * number + 5}'
    banner = told.pop("banner", banner)
    lines = [f"{name} = {json.dumps(value) if value is not None else 'undefined'}" for name, value in told.items()]
    return ("\n".join([*lines, banner]) + "\n").encode()
