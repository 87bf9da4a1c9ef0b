"""Frozen statements: the signed text of a cloud's month, and the reading of stored texts.

Invariant: a statement that `read` returns is of one cloud and has all numbers, names and times of its format, so that
later steps cannot fail on it.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from skytally.core.records import Revision
from skytally.core.rounding import rounded
from skytally.core.site_data import Calibration, Rates
from skytally.core.storable import EARLIEST, LATEST

FORMAT: Literal["skytally statement 2"] = "skytally statement 2"
# Above every sum of 64-bit milliseconds and bytes, and small enough that products of a few numbers stay finite.
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Frozen(Struct, frozen=True, kw_only=True):
    """The signed text: the numbers of a cloud's month, their rates, calibration and definitions, and their changes.

    Format 1 had no bounds, owner, contact, rates, calibration and definitions, and its numbers were not rounded.
    """

    format: Literal["skytally statement 1", "skytally statement 2"]
    month: str
    from_at: str | None = msgspec.field(default=None, name="from")
    until_at: str | None = msgspec.field(default=None, name="until")
    cloud: str
    owner: str | None = None
    contact: str | None = None
    revision: Revision
    closed_at: str
    rates: Rates = Rates()
    calibration: Calibration = Calibration()
    totals: dict[str, Any]
    changes: dict[str, Any] | None
    definitions: dict[str, dict[str, str]] = {}
    boots: list[dict[str, Any]]


class Totals(Struct, frozen=True, kw_only=True):
    """The columns of `totals`; texts older than a column with a default lack it."""

    cloud: str
    vm_count: Whole
    boot_count: Whole
    wall_hours: Number
    core_hours: Number
    cpu_hours: Number
    efficiency: Number | None
    hs23_hours: Number | None
    scored_core_hours: Number | None = None
    hs23_complete: bool | None = None
    energy_kwh: Number | None
    co2_kg: Number | None
    cost: Number | None
    currency: str | None
    coverage: Number | None
    silent_vms: Whole
    estimated_edges: Whole
    anomalies: Whole
    quarantined_benchmarks: Whole


class BootRow(Struct, frozen=True, kw_only=True):
    """The columns of a row of `boots`; texts older than a column with a default lack it."""

    document: str
    vm: str
    boot_id: str
    boot_at: str
    cloud: str
    site: str | None
    group: str | None
    flavor: str | None
    cores: Whole
    wall_seconds: Number
    core_seconds: Number
    user_seconds: Number
    nice_seconds: Number
    system_seconds: Number
    cpu_seconds: Number
    idle_seconds: Number
    iowait_seconds: Number
    steal_seconds: Number
    suspended_seconds: Number
    network_received_bytes: Whole = 0
    network_sent_bytes: Whole = 0
    memory_bytes: Whole | None = None
    disk_bytes: Whole | None = None
    benchmark_score: float | None
    benchmark_kernel: str | None
    benchmark_quarantined: bool
    hs23_per_core: Number | None
    hs23_rule: str | None = None
    coverage: Number | None
    last_sampled_at: str
    final: bool
    estimated: bool
    anomalies: Whole
    clock_ahead: bool
    clock_offset_seconds: float | None


class Before(Struct, frozen=True, kw_only=True):
    """The changed sums, and their currency, in the revision before."""

    wall_hours: Number | None = None
    core_hours: Number | None = None
    cpu_hours: Number | None = None
    hs23_hours: Number | None = None
    energy_kwh: Number | None = None
    co2_kg: Number | None = None
    cost: Number | None = None
    currency: str | None = None


class Changes(Struct, frozen=True, kw_only=True):
    """The columns of `changes`; the first texts of format 2 lack `before`."""

    wall_hours: Number | None
    core_hours: Number | None
    cpu_hours: Number | None
    hs23_hours: Number | None
    energy_kwh: Number | None
    co2_kg: Number | None
    cost: Number | None
    core_hours_share: Number | None
    vm_count: Whole
    before: Before | None = None


def read(text: str) -> Frozen:
    """Return a signed text of any format with its numbers rounded; raise ValueError for any other text."""
    try:
        frozen = msgspec.json.decode(text, type=Frozen)
        _check(frozen)
    except (RecursionError, TypeError, OverflowError) as error:
        raise ValueError(f"no statement: {type(error).__name__}") from error
    totals = _with_completeness(rounded(frozen.totals))
    return msgspec.structs.replace(frozen, totals=totals, boots=[rounded(boot) for boot in frozen.boots])


def _check(frozen: Frozen) -> None:
    """Raise ValueError or TypeError for a column of another type, or a row of another cloud."""
    msgspec.convert(frozen.changes, Changes | None)
    totals, boots = msgspec.convert(frozen.totals, Totals), msgspec.convert(frozen.boots, list[BootRow])
    if {totals.cloud, *(boot.cloud for boot in boots)} != {frozen.cloud}:
        raise ValueError("it has rows of another cloud")
    for boot in frozen.boots:
        for name in ("boot_at", "last_sampled_at"):
            if not EARLIEST <= datetime.fromisoformat(boot[name]) < LATEST:
                raise ValueError(f"{name} does not lie from 1970 to 2199")


def _with_completeness(totals: dict[str, Any]) -> dict[str, Any]:
    """Return totals with `hs23_complete`, which older texts lack: unless known to be complete, it is a lower bound."""
    hs23_hours, core_hours, scored = (totals.get(name) for name in ("hs23_hours", "core_hours", "scored_core_hours"))
    complete = None if hs23_hours is None else scored is not None and scored == core_hours
    return {"scored_core_hours": None, "hs23_complete": complete} | totals
