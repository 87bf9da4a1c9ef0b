"""Slow senders beside good ones: how long good requests take with and without them,
in turns on one server, and what it holds in memory.

Rates depend on the machine and its load, so the numbers to quote are the ratios: turns with and without alternate, and
both kinds of client run on the same cores as the server.
"""

import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import platform
import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from localstack import fleet
from tests.support import slow_senders

TURNS, TURN_SECONDS, CONNECTIONS = 5, 3.0, 4
console = Console()


def reports():
    """Make single samples of many vms."""
    until = datetime.now(UTC).replace(microsecond=0)
    vms = [fleet.Vm(f"vm-{n}", "uvic", 8, 80, until - timedelta(hours=1), None) for n in range(200)]
    samples = [vm.sample(until, vm.boot_at, f"{until:%Y-%m}") for vm in vms]
    return itertools.cycle([json.dumps({"samples": [sample]}).encode() for sample in samples])


async def good(port, token, bodies, until, seconds):
    """Report until a moment, on a connection for each report as vms do,
    and write down how long each took until it was accepted.
    """
    headers = (f"Authorization: Bearer {token}", "Content-Type: application/json", "Connection: close")
    while time.perf_counter() < until:
        body, began = next(bodies), time.perf_counter()
        pieces = [slow_senders.head("usage-report", *headers, f"Content-Length: {len(body)}") + body]
        while (answer := await slow_senders.converse(port, pieces)).status != 200:
            assert answer.status in {None, 503}, answer.status
            await asyncio.sleep(0.05)
        seconds.append(time.perf_counter() - began)


async def again_and_again(sender, *arguments):
    """Let a sender come back a second after it was ended."""
    await asyncio.sleep(random.random())
    while True:
        with contextlib.suppress(OSError):
            await sender(*arguments)
        await asyncio.sleep(1)


SENDERS = {
    "200 heads, a byte every 0.2 s": (200, slow_senders.slow_head),
    "200 bodies, a byte every 0.2 s": (200, slow_senders.slow_claim),
    "400 connections that say nothing": (400, slow_senders.silent),
    "900 heads, for 512 places": (900, lambda port: slow_senders.slow_head(port, 1.0)),
    "4 bodies of 8 MiB without a token, on and on": (4, slow_senders.large_body_of_nobody),
    "a gzip bomb with another's token, on and on": (1, slow_senders.bomb),
}


def send_slowly(name, port, token):
    """Be all the senders of a kind, in a process of their own."""
    count, sender = SENDERS[name]
    arguments = (port, token) if sender is slow_senders.bomb else (port,)

    async def all_of_them():
        await asyncio.gather(*(again_and_again(sender, *arguments) for _ in range(count)))

    asyncio.run(all_of_them())


async def turns(server, tokens, name):
    """Return how long good requests took without and with some senders, in alternating turns."""
    seconds, bodies = {False: [], True: []}, reports()
    for turn in range(2 * TURNS):
        beside = bool(turn % 2)
        senders = multiprocessing.Process(target=send_slowly, args=(name, server.port, tokens["cern"]), daemon=True)
        if beside:
            senders.start()
        await asyncio.sleep(1.5)
        until = time.perf_counter() + TURN_SECONDS
        await asyncio.gather(
            *(good(server.port, tokens["uvic"], bodies, until, seconds[beside]) for _ in range(CONNECTIONS))
        )
        if beside:
            senders.kill()
            senders.join()
    return seconds[False], seconds[True]


def quantile_ms(seconds, share):
    return sorted(seconds)[int(len(seconds) * share)] * 1e3


def main():
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}"
    )
    table = Table(title=f"single reports on {CONNECTIONS} connections, {TURNS} turns of {TURN_SECONDS:.0f} s each way")
    for column in ("beside", "reports", "p50 ms", "p99 ms", "p99 ms beside", "p50 ratio", "p99 ratio", "most MiB"):
        table.add_column(column, justify="left" if column == "beside" else "right")
    for name in SENDERS:
        with tempfile.TemporaryDirectory() as folder, slow_senders.served(Path(folder)) as server:
            tokens = fleet.reporter_tokens(Path(folder), ["uvic", "cern"])
            alone, beside = asyncio.run(turns(server, tokens, name))
            ratios = (quantile_ms(beside, share) / quantile_ms(alone, share) for share in (0.5, 0.99))
            numbers = (quantile_ms(alone, 0.5), quantile_ms(alone, 0.99), quantile_ms(beside, 0.99), *ratios)
            table.add_row(
                name,
                str(len(alone) + len(beside)),
                *(f"{number:.1f}" for number in numbers),
                f"{server.most_memory_mib:.0f}",
            )
    console.print(table)


if __name__ == "__main__":
    main()
