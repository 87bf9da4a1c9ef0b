"""The demo's last month: a fleet that ran then, closed by the command line,
and one cloud's late reports, for which it is closed again.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from localstack import fleet

Send = Callable[[str, str, Any], bytes]
VMS, DAYS = 16, 14.0
# Reports come in large parcels, so that a month's take seconds.
LOST = 0.95
# Country, currency, price of a core hour, watts of a core, PUE, grams of CO2 of a kWh. Not all is known of every cloud.
CLOUDS: dict[str, tuple[str | float, ...]] = {
    "uvic": ("University of Victoria", "CA", "CAD", 0.0115, 7.2, 1.32, 12.0),
    "cern": ("CERN, the computing centre of Meyrin", "CH", "CHF", 0.0098, 6.8, 1.12, 35.0),
    "melbourne": ("University of Melbourne", "AU", "AUD", 0.0142, 8.1, 1.45, 620.0),
    "lrz": ("Leibniz Supercomputing Centre", "DE", "EUR", 0.0101, 6.1, 1.08, 380.0),
}


def write_site_data(path: Path) -> None:
    """Write what the demo's site knows of its clouds."""
    names = ("owner", "country", "currency", "price_per_core_hour", "watts_per_core", "pue", "co2_grams_per_kwh")
    text = '[operator]\ncontact = "Cloud accounting of the demo <accounting@example.org>"\n'
    for cloud, values in CLOUDS.items():
        lines = (f"{name} = {_toml(value)}" for name, value in zip(names, values, strict=True))
        text += "\n".join(("", f"[clouds.{cloud}]", *lines, f'apel_site = "DEMO-{cloud.upper()}"', ""))
    path.write_text(text)


def _toml(value: str | float) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def last_month(until: datetime) -> str:
    """Return the month before a moment's."""
    return f"{_edge(until) - timedelta(days=1):%Y-%m}"


def _edge(until: datetime) -> datetime:
    return datetime(until.year, until.month, 1, tzinfo=UTC)


def fill(base: str, home: Path, until: datetime, environment: Mapping[str, str], send: Send) -> None:
    """Report last month's fleet but for one vm, close the month, report that vm, and close the month again.

    The scheduler saw the same vms, and one that never reported.
    """
    end = _edge(until) - timedelta(hours=1)
    vms = [
        replace(vm, name=f"{vm.cloud}-{vm.boot_at:%b}-{number:03}".lower(), end_at=vm.end_at or end)
        for number, vm in enumerate(fleet.make(VMS, DAYS, end, seed=2))
    ]
    late = next(vm for vm in vms if vm.cloud == "uvic")
    month = last_month(until)
    lost = replace(vms[-1], name=f"{vms[-1].cloud}-never-reported", end_at=vms[-1].boot_at + timedelta(hours=9))
    scheduler = (home / "tokens" / "scheduler").read_text().strip()
    send("placement-report", scheduler, {"vms": [vm.as_scheduled() for vm in (*vms, lost)]})
    _report(base, home, [vm for vm in vms if vm is not late], end)
    _skytally(environment, "keygen")
    _skytally(environment, "close", "--month", month)
    _report(base, home, [late], end)
    _skytally(environment, "close", "--month", month)


def _report(base: str, home: Path, vms: list[fleet.Vm], end: datetime) -> None:
    tokens = fleet.reporter_tokens(home, {vm.cloud for vm in vms})
    asyncio.run(fleet.post_all(base, tokens, fleet.requests(vms, end, lost=LOST, doubled=0.0, seed=2)))


def _skytally(environment: Mapping[str, str], *arguments: str) -> None:
    command = [str(Path(sys.executable).parent / "skytally"), "statement", *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
