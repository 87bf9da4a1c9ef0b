"""A month's vms for APEL: a record for each boot or a summary for each group of boots, with the statement's numbers.

Conventions where tools differ:

* A boot has one VMUUID per month, made from its boot_id and the month. It counts from its start or the month's,
  whichever is later. The server credits a record to the month of its EndTime and subtracts the record before it with
  the same VMUUID; with one VMUUID per month there is none.
* EndTime and RecordCreateTime lie inside the month, at most in its last second. Every record is `completed`, even of a
  running vm: the status is part of a summary's key, and a summary with another status would be added, not replaced.
* WallDuration is wall time, not times cores. CpuCount is the quotient of core time and wall time where cores were added
  or removed.
* Benchmark is per core, and 0 if it is not known: the server multiplies wall time, CpuCount and Benchmark.
* A summary is of whole boots with one CpuCount and Benchmark, with the key of the server's own summariser.

Invariant: the server keeps a summary for each key that was ever sent. A revision that moves boots into other groups
therefore sends zeros for each group that only an earlier revision had, so that the server's sums equal the statement.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import NAMESPACE_OID, UUID, uuid5

from skytally.accounting import apel_format
from skytally.accounting.apel_format import COMPLETED, Value
from skytally.accounting.apel_source import Boot, Record, Source, Unsendable
from skytally.core.months import month_end_at, month_start_at

BENCHMARK = "HEPscore23"
MB, GB = 10**6, 10**9
# Whole numbers that are rounded so that a cloud's records add up to its sum.
SHARED = ("SuspendDuration", "WallDuration", "CpuDuration", "NetworkInbound", "NetworkOutbound")
GROUPED = ("SiteName", "CloudComputeService", "FQAN", "CpuCount", "Benchmark")
ALIKE: Record = {"Status": COMPLETED, "BenchmarkType": BENCHMARK, "CloudType": "skytally"}


def cloud_records(source: Source) -> list[Record]:
    """Return a record for each boot of a month, and a record of zeros for each group that only another revision had."""
    current, vanished = _records(source)
    return [*current, *vanished]


def cloud_summaries(source: Source) -> list[Record]:
    """Return a row for each group of a month's boots, and a row of zeros for each group of another revision only."""
    current, vanished = _records(source)
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in current:
        groups[_group(record)].append(record)
    rows = [_summary(group, len(group), source.month) for group in groups.values()]
    rows += [_summary([zeros], 0, source.month) for zeros in vanished]
    return source.checked(apel_format.CLOUD_SUMMARY, rows, "CloudComputeService", "NumberOfVMs")


def _records(source: Source) -> tuple[list[Record], list[Record]]:
    """Return the records that can be sent, ordered by group, and the records of zeros."""
    sendable: dict[str, list[tuple[tuple[str, ...], Boot, Record]]] = defaultdict(list)
    for boot in source.boots:
        try:
            record = _sendable(boot, source)
        except Unsendable as error:
            source.leave_out(boot["cloud"], error.details.get("vm"), error.message)
        else:
            sendable[boot["cloud"]].append((_group(record), boot, record))
    current: list[Record] = []
    for parts in sendable.values():
        parts.sort(key=lambda part: (part[0], part[1]["document"]))
        current += _shared([boot for _, boot, _ in parts], [record for _, _, record in parts])
    return current, list(_gone({_group(record) for record in current}, source))


def _sendable(boot: Boot, source: Source) -> Record:
    """Return the record of a boot's month; raise Unsendable for its cloud, or with the vm's name for this boot."""
    try:
        record = _record(boot, source)
    except (ValueError, OverflowError):
        raise Unsendable("its boot_id is no UUID, or its times are of no vm", vm=boot["vm"]) from None
    problem = apel_format.problem(apel_format.CLOUD, record, source.now)
    if problem is not None:
        raise Unsendable(problem, vm=boot["vm"])
    return record


def _record(boot: Boot, source: Source) -> Record:
    month, first_second = source.month, month_start_at(source.month)
    sampled_at, boot_at = (datetime.fromisoformat(boot[name]) for name in ("last_sampled_at", "boot_at"))
    ended_at = max(first_second, min(sampled_at, _last_second(month)))
    # Early enough for its wall time, whatever its clock showed at boot.
    started_at = max(first_second, min(boot_at, sampled_at - timedelta(seconds=boot["wall_seconds"])))
    return {
        **_place(boot, source),
        **ALIKE,
        "VMUUID": str(uuid5(UUID(boot["boot_id"]), month)),
        "MachineName": boot["vm"],
        "LocalGroupId": boot["group"],
        "RecordCreateTime": ended_at,
        "StartTime": min(started_at, ended_at),
        "EndTime": ended_at,
        **dict(zip(SHARED, map(round, _amounts(boot)), strict=True)),
        "Memory": _known(boot.get("memory_bytes"), MB),
        "Disk": _known(boot.get("disk_bytes"), GB),
    }


def _place(boot: Boot, source: Source) -> Record:
    """Return the group keys of a boot, or raise Unsendable."""
    return {
        "SiteName": source.site_name(boot["cloud"]),
        "CloudComputeService": boot["cloud"],
        "FQAN": source.organisation(boot["group"], boot["cloud"]),
        "CpuCount": _cores(boot),
        "Benchmark": round(boot["hs23_per_core"] or 0.0, 3),
    }


def _last_second(month: str) -> datetime:
    return month_end_at(month) - timedelta(seconds=1)


def _cores(boot: Boot) -> float:
    """Return the mean number of a boot's cores; raise Unsendable if core and wall time contradict each other."""
    wall, core = boot["wall_seconds"], boot["core_seconds"]
    if bool(wall) != bool(core):
        raise Unsendable("it has no core time" if wall else "it has core time and no wall time", vm=boot["vm"])
    return round(core / wall, 3) if wall else float(boot["cores"])


def _known(number: int | None, unit: int) -> int | None:
    """Return bytes in a unit; None where they are not known or round to 0."""
    return round((number or 0) / unit) or None


def _amounts(boot: Boot) -> tuple[float, ...]:
    """Return the values of SHARED of a boot, unrounded."""
    networks = (boot.get(name, 0) / GB for name in ("network_received_bytes", "network_sent_bytes"))
    return (boot["suspended_seconds"], boot["wall_seconds"], boot["cpu_seconds"], *networks)


def _shared(boots: Sequence[Boot], records: Sequence[Record]) -> list[Record]:
    """Return records rounded so that a cloud's add up to its statement, and a group's to within a second of it."""
    columns = [apel_format.whole_numbers(column) for column in zip(*map(_amounts, boots), strict=True)]
    rows = [dict(zip(SHARED, amounts, strict=True)) for amounts in zip(*columns, strict=True)]
    return [record | row for record, row in zip(records, rows, strict=True)]


def _group(record: Record) -> tuple[str, ...]:
    """Return the group in which the server counts a record; the server ignores case."""
    return tuple(
        "" if record[name] is None else apel_format.plain(str(record[name])).strip().casefold() for name in GROUPED
    )


def _gone(present: set[tuple[str, ...]], source: Source) -> Iterator[Record]:
    """Return a record of zeros for each group that only another revision had, under its current names."""
    groups = set(present)
    for boot in source.others:
        with suppress(Unsendable):
            place = _place(boot, source)
            group = _group(place)
            if group not in groups:
                _sendable(boot, source)
                groups.add(group)
                yield _zeros(place, group, source.month)


def _zeros(place: Record, group: tuple[str, ...], month: str) -> Record:
    last_second = _last_second(month)
    return {
        **place,
        **ALIKE,
        "VMUUID": str(uuid5(NAMESPACE_OID, "\n".join((month, *group)))),
        **dict.fromkeys(("RecordCreateTime", "StartTime", "EndTime"), last_second),
        **dict.fromkeys(SHARED, 0),
    }


def _summary(records: Sequence[Mapping[str, Value]], vms: int, month: str) -> Record:
    first = records[0]
    starts = [record["StartTime"] for record in records]
    return {
        **ALIKE,
        **{name: first[name] for name in GROUPED if name != "FQAN"},
        "Month": int(month[5:]),
        "Year": int(month[:4]),
        "VO": first["FQAN"],
        "EarliestStartTime": min(starts),  # type: ignore[type-var]
        "LatestStartTime": max(starts),  # type: ignore[type-var]
        **{name: sum(record[name] for record in records) for name in SHARED[1:]},  # type: ignore[misc]
        **{name: sum(record.get(name) or 0 for record in records) or None for name in ("Memory", "Disk")},  # type: ignore[misc]
        "NumberOfVMs": vms,
    }
