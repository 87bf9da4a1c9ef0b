"""A real DiracX for tests: its REST server from PyPI, on SQLite, on a free port of this machine's loopback.

The environment is made once under ~/.cache/skytally from `diracx.lock`, which pins every package by hash. `with
diracx(folder) as server` answers a server whose `token()` signs robots in; `python -m localstack.diracx FOLDER` starts
one to try things by hand.
"""

import base64
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from localstack.replicas import free_port

HERE = Path(__file__).resolve().parent
CACHE = Path.home() / ".cache" / "skytally"
USER = "75212b23-14c2-47be-9374-eb0113b0575e"
VO = "diracAdmin"
SCOPE = f"vo:{VO} group:admin"
EXCHANGE_KEY = secrets.token_bytes(32)
READY_SECONDS = 90

TOKEN_SCRIPT = f"""
import sys
from datetime import timedelta
from pathlib import Path
from uuid_utils import uuid7
from diracx.core.models.auth import AccessTokenPayload
from diracx.core.properties import JOB_ADMINISTRATOR, NORMAL_USER
from diracx.core.settings import AuthSettings
from diracx.db.sql.utils import uuid7_to_datetime
from diracx.logic.auth.token import create_token
settings, jti = AuthSettings(token_keystore=Path(sys.argv[1]).read_text()), uuid7()
print(create_token(AccessTokenPayload(
    sub="{VO}:{USER}", vo="{VO}", iss=settings.token_issuer, jti=str(jti),
    dirac_properties=[str(NORMAL_USER), str(JOB_ADMINISTRATOR)],
    preferred_username="localuser", dirac_group="admin", dirac_policies={{}},
    exp=uuid7_to_datetime(jti) + timedelta(seconds=int(sys.argv[2])),
), settings))
"""

# As at the end of a person's login: the only kind of refresh token that the server replaces at each use.
PAIR_SCRIPT = f"""
import asyncio
import json
import sys
from pathlib import Path
from diracx.core.config import ConfigSource
from diracx.core.properties import SecurityProperty
from diracx.core.settings import AuthSettings
from diracx.db.sql import AuthDB
from diracx.logic.auth.token import create_token, exchange_token

async def main():
    settings = AuthSettings(token_keystore=Path(sys.argv[1]).read_text())
    database = AuthDB(AuthDB.available_urls()["AuthDB"])
    async with database.engine_context(), database:
        who = {{"sub": "{USER}", "preferred_username": "localuser"}}
        config = await asyncio.to_thread(ConfigSource.create().read)
        access, refresh = await exchange_token(
            database, "{SCOPE}", who, config, settings, SecurityProperty.available_properties()
        )
    tokens = {{"access_token": create_token(access, settings), "refresh_token": create_token(refresh, settings)}}
    print(json.dumps(tokens))

asyncio.run(main())
"""


def environment() -> Path:
    """Make DiracX's environment where it is not there yet; return its folder of commands."""
    lock = HERE / "diracx.lock"
    folder = CACHE / f"diracx-{sha256(lock.read_bytes()).hexdigest()[:12]}-py{sys.version_info[0]}{sys.version_info[1]}"
    if not (folder / ".ready").exists():
        print("making DiracX's environment (a minute, once)", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = (
            folder / "bin" / "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
            "--requirement",
            lock,
        )
        subprocess.run([str(part) for part in install], check=True, stdin=subprocess.DEVNULL)
        (folder / ".ready").touch()
    return folder / "bin"


class Diracx:
    """A running server, and the jobs in it."""

    def __init__(self, commands: Path, folder: Path, port: int, settings: dict[str, str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._commands, self._folder, self._settings = commands, folder, settings
        self._administrator: str | None = None

    def token(self, lifetime_seconds: int = 3_600) -> str:
        """Sign a robot in: NormalUser and JobAdministrator."""
        command = [
            str(self._commands / "python"),
            "-c",
            TOKEN_SCRIPT,
            str(self._folder / "jwks.json"),
            str(lifetime_seconds),
        ]
        return subprocess.run(
            command, env=self._settings, capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    def token_pair(self) -> dict[str, Any]:
        """Sign a robot in as DIRAC's own proxy tools do: an access token, and one to renew it with."""
        query = urllib.parse.urlencode({"preferred_username": "localuser", "scope": SCOPE})
        headers = {"Authorization": f"Bearer diracx:legacy:{base64.urlsafe_b64encode(EXCHANGE_KEY).decode()}"}
        pair: dict[str, Any] = _answer(
            urllib.request.Request(f"{self.url}/api/auth/legacy-exchange?{query}", headers=headers)
        )
        return pair

    def login_pair(self) -> dict[str, str]:
        """Sign a robot in as a person does: of this pair a refresh token works once,
        and the second use ends all of the user's sessions.
        """
        command = [str(self._commands / "python"), "-c", PAIR_SCRIPT, str(self._folder / "jwks.json")]
        done = subprocess.run(command, env=self._settings, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise AssertionError(done.stderr)
        pair: dict[str, str] = json.loads(done.stdout)
        return pair

    def call(self, method: str, path: str, body: Any) -> Any:
        """Ask as an administrator."""
        self._administrator = self._administrator or self.token()
        headers = {"Authorization": f"Bearer {self._administrator}", "Content-Type": "application/json"}
        return _answer(urllib.request.Request(self.url + path, json.dumps(body).encode(), headers, method=method))

    def submit(self, count: int) -> list[int]:
        """Make jobs; return their ids."""
        jdls = [f'Executable = "/bin/echo";\nJobName = "job-{n}";\nJobGroup = "group";\n' for n in range(count)]
        pages = (jdls[start : start + 20] for start in range(0, count, 20))
        return [job["JobID"] for page in pages for job in self.call("POST", "/api/jobs/jdl", page)]

    def set_state(self, job_id: int, at: str, **change: str) -> None:
        """Let a job be in a state since a moment, whatever the state machine thinks of it."""
        self.call("PATCH", "/api/jobs/status?force=true", {str(job_id): {at: {**change, "Source": "test"}}})

    def move(self, job_id: int, site: str) -> None:
        """Let a job run at a site."""
        self.call("PATCH", "/api/jobs/metadata", {str(job_id): {"Site": site}})

    def reschedule(self, job_id: int) -> None:
        """Send a job back to where it is matched anew."""
        self.call("POST", "/api/jobs/reschedule", {"job_ids": [job_id]})


def _answer(request: urllib.request.Request) -> Any:
    """Ask past the first seconds, in which a fresh server answers 503."""
    for _ in range(READY_SECONDS):
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 503:
                    raise AssertionError(
                        f"{request.method} {request.selector}: {error.code} {error.read().decode()[:300]}"
                    ) from error
            time.sleep(1)
    raise AssertionError("DiracX is not ready")


@contextlib.contextmanager
def diracx(folder: Path) -> Iterator[Diracx]:
    """Run DiracX with its state in a folder, and the object store that it wants for sandboxes."""
    commands = environment()
    folder.mkdir(parents=True, exist_ok=True)
    port, store_port = free_port(), free_port()
    settings = set_up(commands, folder, port, store_port)
    store = {
        "GATEWAY_PORT": str(store_port),
        "BIND_HOST": "127.0.0.1",
        "SERVICES": "s3",
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
    }
    server = [
        commands / "uvicorn",
        "--factory",
        "diracx.testing.routers:create_app",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]
    with (
        (folder / "log").open("wb") as log,
        running([Path(sys.executable).parent / "ministack"], store, log),
        running(server, settings, log),
    ):
        wait_for(f"http://127.0.0.1:{port}/api/openapi.json", folder / "log")
        yield Diracx(commands, folder, port, settings)


@contextlib.contextmanager
def running(command: list[Any], environment: dict[str, str], log: Any) -> Iterator[None]:
    """Run a process for as long as it is needed."""
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(url: str, log: Path) -> None:
    """Wait until a server answers, or show the end of its log."""
    for _ in range(READY_SECONDS * 5):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace")[-2_000:])


def set_up(commands: Path, folder: Path, port: int, store_port: int) -> dict[str, str]:
    """Make keys, configuration and databases; return the server's settings."""
    path = {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
    configuration = folder / "configuration"

    def step(*command: object) -> str:
        done = subprocess.run(
            [str(part) for part in command],
            env=path,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    step(commands / "python", "-m", "diracx.logic", "rotate-jwk", "--jwks-path", folder / "jwks.json")
    step(commands / "dirac", "internal", "generate-cs", configuration)
    provider = ("--idp-url=runlocal.diracx.invalid", "--idp-client-id=idp-client-id", "--default-group=admin")
    step(commands / "dirac", "internal", "add-vo", configuration, f"--vo={VO}", *provider)
    names = (f"--vo={VO}", "--group=admin", f"--sub={USER}", "--preferred-username=localuser")
    step(commands / "dirac", "internal", "add-user", configuration, *names)
    databases = step(commands / "python", "-m", "diracx.db", "generate-local-urls", folder)
    store = {
        "endpoint_url": f"http://127.0.0.1:{store_port}",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    return {
        **path,
        **exported(databases),
        "DIRACX_CONFIG_BACKEND_URL": f"git+file://{configuration}",
        "DIRACX_SERVICE_AUTH_TOKEN_KEYSTORE": f"file://{folder}/jwks.json",
        "DIRACX_SERVICE_AUTH_STATE_KEY": secrets.token_urlsafe(32) + "=",
        "DIRACX_SERVICE_AUTH_TOKEN_ISSUER": f"http://127.0.0.1:{port}",
        "DIRACX_SERVICE_AUTH_ALLOWED_REDIRECTS": f'["http://127.0.0.1:{port}/docs/oauth2-redirect"]',
        "DIRACX_LEGACY_EXCHANGE_HASHED_API_KEY": sha256(EXCHANGE_KEY).hexdigest(),
        "DIRACX_SANDBOX_STORE_BUCKET_NAME": "sandboxes",
        "DIRACX_SANDBOX_STORE_AUTO_CREATE_BUCKET": "true",
        "DIRACX_SANDBOX_STORE_S3_CLIENT_KWARGS": json.dumps(store),
        "DIRACX_TASKS_REDIS_URL": "redis://127.0.0.1:1",
        "DIRACX_URL": f"http://127.0.0.1:{port}",
    }


def exported(script: str) -> dict[str, str]:
    """Read `export NAME="VALUE"` lines."""
    lines = (line.removeprefix("export ") for line in script.splitlines() if line.startswith("export "))
    return {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)}


def main() -> None:
    """Run one until somebody ends it."""
    with diracx(Path(sys.argv[1]).absolute()) as server:
        print(f"ready {server.url}\ntoken {server.token()}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(1e9)


if __name__ == "__main__":
    main()
