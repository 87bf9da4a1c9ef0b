"""A real server as a process of this machine: started, waited for,
ended with its caller; and the programs that Go builds for it.

A program's source is pinned by the one checksum in its `GoProgram`: the source holds its go.sum, and the build takes
nothing that is not in there. Programs are kept under ~/.cache/skytally/bin by version.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CACHE = Path.home() / ".cache" / "skytally"
READY_SECONDS = 120
STOP_SECONDS = 10
BUILD_SECONDS = 1_200


class Missing(Exception):
    """This machine lacks what the server needs; the text says in one line what is not tested for it."""


class MissingOptional(Missing):
    """What it lacks is nowhere required, also where CI asks for everything."""


@dataclass
class Server:
    """A running server: where it answers, and the settings with which skytally uses it."""

    url: str
    process: "subprocess.Popen[bytes]"
    settings: dict[str, str] = field(default_factory=dict)
    worker: Path | None = None

    def kill(self) -> None:
        """End it as a crash would; where another process does the work,
        that one (its number is in the file `worker`).
        """
        if self.worker is not None:
            os.kill(int(self.worker.read_text()), signal.SIGKILL)
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running(
    command: list[Any],
    environment: dict[str, str],
    url: str,
    log: Path,
    tls: ssl.SSLContext | None = None,
    **how: Any,
) -> Iterator[Server]:
    """Run a server until the caller is done, handing it over once it answers anything at all; `how` goes to Popen."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**clean, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            **how,
        )
    try:
        _wait_until_it_answers(url, process, log, tls)
        yield Server(url, process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]", log: Path, tls: ssl.SSLContext | None) -> None:
    """Wait for any HTTP answer; a server that ends or stays silent shows the end of its log."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5, context=tls).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{url} does not answer: {log.read_text(errors='replace')[-1_000:]}")


@contextlib.contextmanager
def alone(made: Path) -> Iterator[None]:
    """Let one process at a time make something that is kept; whoever waited looks again whether it is there."""
    made.parent.mkdir(parents=True, exist_ok=True)
    with made.with_name(f".{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class GoProgram:
    """A program that Go builds: its module, version,
    the checksum of the module's source as in a go.sum, and its package.
    """

    name: str
    module: str
    version: str
    checksum: str
    package: str = "."

    def path(self) -> Path:
        """Return the program, building it the first time (minutes); raises Missing where that cannot be done."""
        program = CACHE / "bin" / f"{self.name}-{self.version}"
        if program.exists():
            return program
        if shutil.which("go") is None:
            raise Missing(f"without go: {self.name} is not tested")
        with alone(program):
            if program.exists():
                return program
            print(f"building {self.name} {self.version} (some minutes, once)", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=program.parent) as folder:
                built = Path(folder) / self.name
                self._go(
                    "build",
                    "-mod=readonly",
                    "-buildvcs=false",
                    "-trimpath",
                    "-o",
                    str(built),
                    self.package,
                    folder=self.source(),
                )
                built.rename(program)
        return program

    def source(self) -> Path:
        """Fetch the module's source, and refuse any other than the pinned."""
        module_info = json.loads(self._go("mod", "download", "-json", f"{self.module}@{self.version}", folder=CACHE))
        if module_info["Sum"] != self.checksum:
            raise RuntimeError(
                f"the source of {self.name} {self.version} has checksum {module_info['Sum']}, not {self.checksum}"
            )
        return Path(module_info["Dir"])

    def _go(self, *arguments: str, folder: Path) -> str:
        command, environment = ["go", *arguments], {**os.environ, "GOFLAGS": "", "GOWORK": "off"}
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=BUILD_SECONDS,
            )
        except subprocess.CalledProcessError as error:
            said = " ".join((error.stderr or error.stdout).split())
            raise Missing(f"go cannot build {self.name}, which is not tested: {said[-300:]}") from None
        except subprocess.TimeoutExpired:
            raise Missing(f"go builds {self.name} for too long: it is not tested") from None
        return done.stdout
