"""Real servers for tests, from package registries:
each on a free port of loopback, with a folder of its own, ending with its caller.

    python -m localstack.servers list
    python -m localstack.servers start versitygw

`with versitygw(folder) as server:` gives `server.url`, and the settings with which skytally uses it. A new server is
one function here and one entry in SERVERS. One that cannot be had on this machine raises Missing, which says in one
line what goes untested.
"""

import contextlib
import signal
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from localstack.localstack_server import localstack_s3
from localstack.replicas import free_port
from localstack.search_server import unsecured
from localstack.server_process import GoProgram, Missing, MissingOptional, Server, running

__all__ = ["SERVERS", "Missing", "MissingOptional", "Server"]

VERSITYGW = GoProgram(
    "versitygw",
    "github.com/versity/versitygw",
    "v1.8.0",
    "h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc=",
    "./cmd/versitygw",
)
FAKE_GCS = GoProgram(
    "fake-gcs-server", "github.com/fsouza/fake-gcs-server", "v1.56.1", "h1:K03sAvbLvDz4hAynpCCUqnNRp+ik9JFSvHbkD/wTPOU="
)
ALERTMANAGER = GoProgram(
    "alertmanager",
    "github.com/prometheus/alertmanager",
    "v0.27.0",
    "h1:V6nTa2J5V4s8TG4C4HtrBP/WNSebCCTYGGv4qecA/+I=",
    "./cmd/alertmanager",
)
AMTOOL = replace(ALERTMANAGER, name="amtool", package="./cmd/amtool")
S3_USER = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "tester-secret", "AWS_DEFAULT_REGION": "us-east-1"}


def s3_settings(url: str, bucket: str = "skytally") -> dict[str, str]:
    """Return skytally's settings for a bucket on an S3 server of this machine."""
    return {**S3_USER, "SKYTALLY_OBJECTS": f"s3://{bucket}/tests", "SKYTALLY_S3_ENDPOINT": url}


@contextlib.contextmanager
def versitygw(folder: Path) -> Iterator[Server]:
    """Run a real S3 gateway over `folder`/data; a second one over the same folder serves the same buckets."""
    program, port = VERSITYGW.path(), free_port()
    (folder / "data" / "skytally").mkdir(parents=True, exist_ok=True)
    environment = {"ROOT_ACCESS_KEY": S3_USER["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": S3_USER["AWS_SECRET_ACCESS_KEY"]}
    command = [program, "--port", f"127.0.0.1:{port}", "posix", folder / "data"]
    with running(command, environment, f"http://127.0.0.1:{port}", folder / f"versitygw-{port}.log") as server:
        server.settings = s3_settings(server.url)
        yield server


@contextlib.contextmanager
def ministack(folder: Path) -> Iterator[Server]:
    """Run an S3 in a Python process, with everything in its memory."""
    program, port = Path(sys.executable).parent / "ministack", free_port()
    if not program.exists():
        raise Missing("without the Python package ministack: S3 by ministack is not tested")
    environment = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "SERVICES": "s3"}
    with running([program], environment, f"http://127.0.0.1:{port}", folder / "ministack.log") as server:
        server.settings = s3_settings(server.url)
        make_bucket(server)
        yield server


def make_bucket(server: Server, bucket: str = "skytally") -> None:
    """Make a bucket by the server's own client."""
    import boto3

    user = {
        "aws_access_key_id": S3_USER["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": S3_USER["AWS_SECRET_ACCESS_KEY"],
    }
    boto3.client("s3", endpoint_url=server.url, region_name="us-east-1", **user).create_bucket(Bucket=bucket)


@contextlib.contextmanager
def localstack(folder: Path) -> Iterator[Server]:
    """Run LocalStack's S3."""
    with localstack_s3(folder) as server:
        server.settings = s3_settings(server.url)
        make_bucket(server)
        yield server


@contextlib.contextmanager
def fake_gcs(folder: Path) -> Iterator[Server]:
    """Run a stand-in for Google Cloud Storage, with everything in its memory."""
    program, port = FAKE_GCS.path(), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        program,
        "-scheme",
        "http",
        "-host",
        "127.0.0.1",
        "-port",
        port,
        "-backend",
        "memory",
        "-public-host",
        f"127.0.0.1:{port}",
    ]
    with running(command, {}, url, folder / "fake-gcs.log") as server:
        request = urllib.request.Request(
            f"{url}/storage/v1/b?project=tests", b'{"name": "skytally"}', {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()
        server.settings = {"SKYTALLY_OBJECTS": "gs://skytally/tests", "STORAGE_EMULATOR_HOST": url}
        yield server


@contextlib.contextmanager
def alertmanager(folder: Path) -> Iterator[Server]:
    """Run Prometheus's Alertmanager, alone;
    its configuration is `folder`/alertmanager.yml, or a receiver that does nothing.
    """
    program, port = ALERTMANAGER.path(), free_port()
    if not (folder / "alertmanager.yml").exists():
        (folder / "alertmanager.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    where = [
        "--storage.path",
        folder / "data",
        "--web.listen-address",
        f"127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    command = [program, "--config.file", folder / "alertmanager.yml", *where]
    with running(command, {}, f"http://127.0.0.1:{port}/-/ready", folder / "alertmanager.log") as server:
        server.url = f"http://127.0.0.1:{port}"
        server.settings = {"SKYTALLY_ALARM_WEBHOOK": f"{server.url}/api/v2/alerts"}
        yield server


SERVERS: dict[str, Callable[[Path], AbstractContextManager[Server]]] = {
    "versitygw": versitygw,
    "ministack": ministack,
    "localstack": localstack,
    "fake-gcs": fake_gcs,
    "elasticsearch": unsecured("elasticsearch"),
    "opensearch": unsecured("opensearch"),
    "opensearch-3": unsecured("opensearch-3"),
    "alertmanager": alertmanager,
}


def main() -> int:
    """List the servers, or run one until somebody ends it; return the exit code."""
    if sys.argv[1:2] == ["list"]:
        print("\n".join(SERVERS))
        return 0
    if len(sys.argv) != 3 or sys.argv[1] != "start" or sys.argv[2] not in SERVERS:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory() as folder, SERVERS[sys.argv[2]](Path(folder)) as server:
            print(
                f"ready {server.url}",
                *(f"{name}={value}" for name, value in server.settings.items()),
                sep="\n",
                flush=True,
            )
            server.process.wait()
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
