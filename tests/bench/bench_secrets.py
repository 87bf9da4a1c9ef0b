"""Secrets in numbers: claims a second on files and on the object-store servers,
and what a claim costs without any store.

`python -m tests.bench.bench_secrets [files|versitygw|ministack|fake-gcs …]`; default: all that can be had.
"""

import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from localstack import servers
from skytally.adapters.keys_files import KeyFiles
from skytally.core.ports import Created, Exists
from skytally.core.records import Claim
from skytally.secrets import claims as claim_rules
from tests.bench import claim_contenders
from tests.support import builders, left_deposits

CLAIMS = 400
CLIENTS = (1, 16)
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


def server_time(keyring):
    """Return CPU milliseconds and store round trips of a claim."""
    store = Memory()
    tokens = left_deposits.leave(store, keyring, ["vm"] * 200)
    forms = [
        msgspec.convert(builders.claim_form(token, claim_contenders.PUBLIC_KEY), Claim, strict=False)
        for token in tokens
    ]
    store.trips, began = 0, time.process_time()
    for claim in forms:
        claim_rules.claim(claim, store, keyring, claim_rules.Origin("", ""), lambda: datetime.now(UTC))
    return (time.process_time() - began) / len(forms) * 1e3, store.trips / len(forms)


def rates(name, settings):
    """Return a row for each number of clients."""
    with claim_contenders.ours(settings) as measure:
        for clients in CLIENTS:
            load = measure(clients, CLAIMS)
            quantiles = (f"{load.quantile_ms(share):.1f}" for share in (0.5, 0.99))
            yield name, str(clients), f"{load.per_second:,.0f}", *quantiles


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
            for row in rates(name, found):
                table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
