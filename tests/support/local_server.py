"""A server as its users meet it: a process that answers HTTP. Nothing here, or in any journey, imports skytally."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Answer:
    """What came back: a status, headers, a body."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """`make serve` as one process that can be killed and started again on the same state and port; or as several."""

    def __init__(self, home: Path, processes: int = 1, **environment: str) -> None:
        self.home, self.port, self._processes = home, 0, processes
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SKYTALLY_")}
        self._environment = {**clean, "SKYTALLY_HOME": str(home), **environment}

    def start(self) -> "Server":
        command = [sys.executable, str(ROOT / "localstack" / "serve.py"), "--port", str(self.port)]
        command += ["--processes", str(self._processes)]
        with (self.home / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        line = self._process.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), (self.home / "server.log").read_text()
        self.base = line.split()[1].partition("/function/")[0]
        self.port = int(self.base.rpartition(":")[2])
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """Return the processes that answer."""
        return children(self.pid) or [self.pid]

    def kill(self) -> None:
        """End it as a crash would; several processes end soon after."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def restart(self) -> None:
        self.kill()
        self.port = 0
        self.start()

    def stop(self) -> int:
        """End it as a platform would; return the exit code."""
        self._process.terminate()
        code = self._process.wait(timeout=10)
        self._process.stdout.close()
        return code

    def token(self, role: str) -> str:
        return (self.home / "tokens" / role).read_text()

    def call(
        self, path: str, body: Any = None, *, token: str | None = None, method: str | None = None, **headers: str
    ) -> Answer:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **headers} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(f"{self.base}/function/{path}", data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def fleet(server, *options):
    command = [sys.executable, "-m", "localstack.fleet", "--base", server.base, "--home", str(server.home), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
