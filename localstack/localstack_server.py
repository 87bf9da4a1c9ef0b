"""LocalStack's S3 for tests, without Docker or an account:
its last release that asks for none, from `localstack.lock`, on loopback.

The environment is made once under ~/.cache/skytally; every package is pinned by hash. It is a big program for what it
does here (half a gigabyte, some seconds to start), so it runs when it is asked for: `make localstack`.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from localstack.replicas import free_port
from localstack.server_process import CACHE, Missing, Server, running

LOCK = Path(__file__).with_name("localstack.lock")
INSTALL = (
    "install",
    "--quiet",
    "--disable-pip-version-check",
    "--no-deps",
    "--require-hashes",
    "--requirement",
    str(LOCK),
)
SETTINGS = {
    "SERVICES": "s3",
    "EAGER_SERVICE_LOADING": "1",
    "STRICT_SERVICE_LOADING": "1",
    "DISABLE_EVENTS": "1",
    "SKIP_SSL_CERT_DOWNLOAD": "1",
    "DNS_ADDRESS": "0",
    # Its other server listens on every address.
    "GATEWAY_SERVER": "hypercorn",
}


def environment() -> Path:
    """Make LocalStack's environment where it is not there yet; return its Python.

    Raise Missing where it cannot be made.
    """
    name = f"localstack-{sha256(LOCK.read_bytes()).hexdigest()[:12]}-py{sys.version_info[0]}{sys.version_info[1]}"
    folder = CACHE / name
    if not (folder / ".ready").exists():
        print("making LocalStack's environment (a minute, once)", file=sys.stderr, flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=300)
            subprocess.run([str(folder / "bin" / "pip"), *INSTALL], check=True, stdin=subprocess.DEVNULL, timeout=900)
        except (subprocess.SubprocessError, OSError):
            raise Missing("LocalStack cannot be installed here: S3 by LocalStack is not tested") from None
        (folder / ".ready").touch()
    return folder / "bin" / "python"


@contextlib.contextmanager
def localstack_s3(folder: Path) -> Iterator[Server]:
    """Run LocalStack with nothing but S3, everything in its memory."""
    program, port = environment(), free_port()
    settings = SETTINGS | {
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_VOLUME_DIR": str(folder / "volume"),
        "HOME": str(folder),
    }
    url = f"http://127.0.0.1:{port}/_localstack/health"
    # Away from the repository, whose own folder bears the same name as its package.
    with running(
        [program, "-m", "localstack.runtime.main"], settings, url, folder / "localstack.log", cwd=folder
    ) as server:
        server.url = f"http://127.0.0.1:{port}"
        yield server
