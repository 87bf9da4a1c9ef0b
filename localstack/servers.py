"""Real servers for tests, from package registries: each on a free port of loopback, with a folder of its own, ending with its caller.

    python -m localstack.servers list
    python -m localstack.servers start versitygw

A tool that this machine lacks raises Missing, which says in one line what goes untested. Programs built with Go are kept under
~/.cache/skytally/bin by version; Go's checksum database vouches for their sources.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localstack.replicas import free_port

CACHE = Path.home() / ".cache" / "skytally"
READY_SECONDS = 60
STOP_SECONDS = 10
BUILD_SECONDS = 1_200
GO_PROGRAMS = {
    "versitygw": "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
    "fake-gcs-server": "github.com/fsouza/fake-gcs-server@v1.56.1",
}


class Missing(Exception):
    """This machine lacks what the server needs; the text says what is not tested for it."""


@dataclass
class Server:
    """A running server: where it answers, and the settings with which skytally uses it."""

    url: str
    process: "subprocess.Popen[bytes]"
    settings: dict[str, str] = field(default_factory=dict)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running(command: list[Any], environment: dict[str, str], url: str, log: Path) -> Iterator[Server]:
    """Run a server until the caller is done, handing it over once it answers anything at all."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(c) for c in command], env={**clean, **environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        wait_until_it_answers(url, process, log)
        yield Server(url, process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait for any HTTP answer; a server that ends or stays silent shows the end of its log."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{url} does not answer: {log.read_text(errors='replace')[-1_000:]}")


def go_program(name: str) -> Path:
    """Answer a program built with Go, building it the first time (minutes)."""
    version = GO_PROGRAMS[name].rpartition("@")[2]
    program = CACHE / "bin" / f"{name}-{version}"
    if not program.exists():
        if shutil.which("go") is None:
            raise Missing(f"without go: {name} is not tested")
        print(f"building {name} {version} (some minutes, once)", file=sys.stderr, flush=True)
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as folder:
            environment = {**os.environ, "GOBIN": folder, "GOFLAGS": "-mod=mod"}
            subprocess.run(
                ["go", "install", GO_PROGRAMS[name]], env=environment, check=True, stdin=subprocess.DEVNULL, timeout=BUILD_SECONDS
            )
            (Path(folder) / name).rename(program)
    return program


S3_USER = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "tester-secret", "AWS_DEFAULT_REGION": "us-east-1"}


def s3_settings(url: str, bucket: str = "skytally") -> dict[str, str]:
    """Answer skytally's settings for a bucket on an S3 server of this machine."""
    return {**S3_USER, "SKYTALLY_OBJECTS": f"s3://{bucket}/tests", "SKYTALLY_S3_ENDPOINT": url}


@contextlib.contextmanager
def versitygw(folder: Path) -> Iterator[Server]:
    """Run a real S3 gateway over `folder`/data; a second one over the same folder serves the same buckets."""
    program, port = go_program("versitygw"), free_port()
    (folder / "data" / "skytally").mkdir(parents=True, exist_ok=True)
    environment = {"ROOT_ACCESS_KEY": S3_USER["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": S3_USER["AWS_SECRET_ACCESS_KEY"]}
    command = [program, "--port", f"127.0.0.1:{port}", "posix", folder / "data"]
    with running(command, environment, f"http://127.0.0.1:{port}", folder / f"versitygw-{port}.log") as server:
        server.settings = s3_settings(server.url)
        yield server


@contextlib.contextmanager
def ministack(folder: Path) -> Iterator[Server]:
    """Run an S3 in a Python process, with everything in its memory."""
    port = free_port()
    environment = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "SERVICES": "s3"}
    with running([Path(sys.executable).parent / "ministack"], environment, f"http://127.0.0.1:{port}", folder / "ministack.log") as server:
        server.settings = s3_settings(server.url)
        make_bucket(server)
        yield server


def make_bucket(server: Server, bucket: str = "skytally") -> None:
    """Make a bucket by the server's own client."""
    import boto3

    user = {"aws_access_key_id": S3_USER["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": S3_USER["AWS_SECRET_ACCESS_KEY"]}
    boto3.client("s3", endpoint_url=server.url, region_name="us-east-1", **user).create_bucket(Bucket=bucket)


@contextlib.contextmanager
def fake_gcs(folder: Path) -> Iterator[Server]:
    """Run a stand-in for Google Cloud Storage, with everything in its memory."""
    program, port = go_program("fake-gcs-server"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [program, "-scheme", "http", "-host", "127.0.0.1", "-port", port, "-backend", "memory", "-public-host", f"127.0.0.1:{port}"]
    with running(command, {}, f"{url}/storage/v1/b", folder / "fake-gcs.log") as server:
        request = urllib.request.Request(f"{url}/storage/v1/b?project=tests", b'{"name": "skytally"}', {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()
        server.settings = {"SKYTALLY_OBJECTS": "gs://skytally/tests", "STORAGE_EMULATOR_HOST": url}
        yield server


SERVERS: dict[str, Callable[[Path], AbstractContextManager[Server]]] = {
    "versitygw": versitygw,
    "ministack": ministack,
    "fake-gcs": fake_gcs,
}


def main() -> int:
    """List the servers, or run one until somebody ends it; answers the exit code."""
    if sys.argv[1:2] == ["list"]:
        print("\n".join(SERVERS))
        return 0
    if len(sys.argv) != 3 or sys.argv[1] != "start" or sys.argv[2] not in SERVERS:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, SERVERS[sys.argv[2]](Path(folder)) as server:
        print(f"ready {server.url}", *(f"{name}={value}" for name, value in server.settings.items()), sep="\n", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
