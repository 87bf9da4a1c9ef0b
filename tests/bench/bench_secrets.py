"""Secrets in numbers: claims a second on files and on the object-store servers,
and what a claim costs without any store.

`python -m tests.bench.bench_secrets [files|versitygw|ministack|fake-gcs …]`; default: all that can be had.
"""

import http.client
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from localstack import servers
from skytally.adapters.keys_files import KeyFiles
from skytally.app import wiring
from skytally.core.config import Config
from skytally.core.ports import Created, Exists
from skytally.core.records import Caller, Claim, Deposit
from skytally.secrets import claims as claim_rules
from skytally.secrets import deposits
from tests.support import builders

ROOT = Path(__file__).resolve().parents[2]

CLAIMS = 400
CLIENTS = (1, 16)
PUBLIC = builders.public_key()
console = Console()


class Memory:
    """The least a store can cost, to see what a claim costs without one."""

    def __init__(self):
        self.data, self.trips = {}, 0

    def create(self, key, data):
        self.trips += 1
        if key in self.data:
            return Exists()
        self.data[key] = data
        return Created(datetime.now(UTC))

    def get(self, key):
        self.trips += 1
        return self.data[key]

    def delete(self, key):
        self.trips += 1
        del self.data[key]


def leave(objects, keyring, count):
    now, caller = datetime.now(UTC), Caller(role="scheduler", issued=0, expires=2**40)
    wanted = Deposit(cloud="uvic", vm="vm", payload=os.urandom(4_096), expires_in_seconds=3_600)
    return [deposits.deposit(wanted, caller, objects, keyring, now)["token"] for _ in range(count)]


def server_time(keyring):
    """Return CPU milliseconds and store round trips of a claim."""
    store = Memory()
    claims = [
        msgspec.convert(builders.claim_form(token, PUBLIC), Claim, strict=False) for token in leave(store, keyring, 200)
    ]
    store.trips, began = 0, time.process_time()
    for claim in claims:
        claim_rules.claim(claim, store, keyring, claim_rules.Origin("", ""), lambda: datetime.now(UTC))
    return (time.process_time() - began) / len(claims) * 1e3, store.trips / len(claims)


def claim_all(port, tokens, times):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for token in tokens:
        body = urllib.parse.urlencode(builders.claim_form(token, PUBLIC))
        began = time.perf_counter()
        connection.request(
            "POST", "/function/secret-claim", body, {"Content-Type": "application/x-www-form-urlencoded"}
        )
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        times.append(time.perf_counter() - began)
    connection.close()


def rates(name, settings, home):
    """Return a row for each number of clients."""
    environment = {**os.environ, **settings, "SKYTALLY_HOME": str(home)}
    os.environ.update({name: value for name, value in settings.items() if not name.startswith("SKYTALLY_")})
    keys = KeyFiles(home / "keys", lambda: datetime.now(UTC))
    keys.init()
    objects = wiring.open_objects(Config.from_env({**settings, "SKYTALLY_HOME": str(home)}))
    command = [sys.executable, str(ROOT / "localstack" / "serve.py"), "--port", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        port = int(process.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])
        for clients in CLIENTS:
            tokens, times = leave(objects, keys.keyring(), CLAIMS), []
            threads = [
                threading.Thread(target=claim_all, args=(port, tokens[n::clients], times)) for n in range(clients)
            ]
            began = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            took = time.perf_counter() - began
            times.sort()
            yield (
                name,
                str(clients),
                f"{len(times) / took:,.0f}",
                *(f"{times[len(times) * share // 100] * 1e3:.1f}" for share in (50, 99)),
            )
        process.terminate()


def main():
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}"
    )
    with tempfile.TemporaryDirectory() as folder:
        keys = KeyFiles(Path(folder) / "keys", lambda: datetime.now(UTC))
        keys.init()
        milliseconds, trips = server_time(keys.keyring())
    console.print(
        f"a claim without its store: {milliseconds:.2f} ms of CPU; store round trips: {trips:.0f}; of a wrong proof: 0"
    )
    table = Table(title="secret_claim")
    for column in ("store", "clients", "claims/s", "p50 ms", "p99 ms"):
        table.add_column(column, justify="right")
    for name in sys.argv[1:] or ["files", *servers.SERVERS]:
        with ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            try:
                found = (
                    stack.enter_context(servers.SERVERS[name](home)).settings
                    if name != "files"
                    else {"SKYTALLY_OBJECTS": f"file://{home}/objects"}
                )
            except servers.Missing as missing:
                console.print(str(missing))
                continue
            for row in rates(name, found, home):
                table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
