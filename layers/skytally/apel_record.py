"""What APEL is told of a month: each boot, each cloud, each cloud's jobs; the numbers of the statement, as signed where it is closed.

Conventions where tools differ:

* a boot has one VMUUID a month, made from its boot_id and the month, and counts from the later of its start and the month's: the server
  credits a record to the month that it was measured in, and takes the difference to the one before, which then is always nothing;
* WallDuration is wall time, not times cores; CpuCount stands beside it, and is their quotient where cores were added or removed meanwhile;
* Benchmark is per core; normalised durations are seconds times HEPscore23 of the vm's core, not times cores;
* no summary has a Status: it is part of the server's key, and a summary sent again must replace the one before;
* jobs of no known cloud are told to nobody, and those that never started are none.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from msgspec import Struct

from skytally import apel
from skytally.apel import MessageType, Value
from skytally.cloud import Site
from skytally.errors import Conflict
from skytally.ports import Documents, Query
from skytally.samples import month_end_at, month_start_at

CLOUD_TYPE = "skytally"
BENCHMARK = "HEPscore23"
MB, GB = 10**6, 10**9
SUMMED = ("wall_seconds", "core_seconds", "cpu_seconds", "network_received_bytes", "network_sent_bytes", "memory_bytes", "disk_bytes")
NOT_OURS = {"unknown", "elsewhere"}

Record = Mapping[str, Value]
Boot = Mapping[str, Any]


class Source(Struct, frozen=True):
    """What a month's records are made of: the statement's rows of boots, and jobs of some clouds or of all."""

    month: str
    boots: Sequence[Boot]
    clouds: Sequence[str]
    documents: Documents
    site: Site
    now: datetime


def cloud_records(told: Source) -> list[Record]:
    """Answer a record for each boot of a month."""
    return [_cloud_record(boot, told) for boot in told.boots]


def _cloud_record(boot: Boot, told: Source) -> Record:
    last_sampled_at = datetime.fromisoformat(boot["last_sampled_at"])
    is_over = boot["final"] or told.now >= month_end_at(told.month)
    return {
        "RecordCreateTime": last_sampled_at,
        "VMUUID": str(uuid5(UUID(boot["boot_id"]), told.month)),
        "SiteName": told.site.apel_name(boot["cloud"]),
        "CloudComputeService": boot["cloud"],
        "MachineName": boot["vm"],
        "LocalGroupId": boot["group"],
        "Status": "completed" if is_over else "started",
        "StartTime": _started_at(told.month, boot),
        "EndTime": last_sampled_at if is_over else None,
        "SuspendDuration": round(boot["suspended_seconds"]),
        "WallDuration": round(boot["wall_seconds"]),
        "CpuDuration": round(boot["cpu_seconds"]),
        "CpuCount": round(boot["core_seconds"] / boot["wall_seconds"], 3),
        "NetworkInbound": round(boot["network_received_bytes"] / GB),
        "NetworkOutbound": round(boot["network_sent_bytes"] / GB),
        "Memory": None if boot["memory_bytes"] is None else round(boot["memory_bytes"] / MB),
        "Disk": None if boot["disk_bytes"] is None else round(boot["disk_bytes"] / GB),
        **_benchmark(boot["hs23_per_core"]),
        "CloudType": CLOUD_TYPE,
    }


def _started_at(month: str, boot: Boot) -> datetime:
    """Answer since when a boot ran in a month: at least for as long as it says, whatever its clock said at boot."""
    boot_at, last_sampled_at = (datetime.fromisoformat(boot[name]) for name in ("boot_at", "last_sampled_at"))
    return min(max(boot_at, month_start_at(month)), last_sampled_at - timedelta(seconds=boot["wall_seconds"]))


def cloud_summaries(told: Source) -> list[Record]:
    """Answer a record for each cloud of a month."""
    groups: dict[str, list[Boot]] = defaultdict(list)
    for boot in told.boots:
        groups[boot["cloud"]].append(boot)
    return [_cloud_summary(cloud, group, told) for cloud, group in sorted(groups.items())]


def _cloud_summary(cloud: str, boots: Sequence[Boot], told: Source) -> Record:
    starts = [_started_at(told.month, boot) for boot in boots]
    total = {name: sum(boot[name] or 0 for boot in boots) for name in SUMMED}
    return {
        "SiteName": told.site.apel_name(cloud),
        "CloudComputeService": cloud,
        **_year_month(told.month),
        "CloudType": CLOUD_TYPE,
        "EarliestStartTime": min(starts),
        "LatestStartTime": max(starts),
        "WallDuration": round(total["wall_seconds"]),
        "CpuDuration": round(total["cpu_seconds"]),
        "CpuCount": round(total["core_seconds"] / total["wall_seconds"], 3),
        "NetworkInbound": round(total["network_received_bytes"] / GB),
        "NetworkOutbound": round(total["network_sent_bytes"] / GB),
        "Memory": round(total["memory_bytes"] / MB),
        "Disk": round(total["disk_bytes"] / GB),
        **_benchmark(mean_hs23(boots)),
        "NumberOfVMs": len(boots),
    }


def job_summaries(told: Source) -> list[Record]:
    """Answer a record for each cloud, experiment and number of cores; raises Conflict where a cloud's HS23 is not known."""
    ended = Query(
        index="job",
        moment="final_at",
        from_at=month_start_at(told.month),
        until_at=month_end_at(told.month),
        by=("cloud", "vm", "system", "cores"),
        sums=("count:started_at", "wall_ms", "cpu_ms"),
        where={"cloud": told.clouds} if told.clouds else {},
    )
    worth = _Worth(told.boots)
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in told.documents.table(ended):
        if row["cloud"] not in NOT_OURS and row["count:started_at"]:
            groups[row["cloud"], row["system"], row["cores"]].append(row)
    return [_job_summary(key, rows, worth, told) for key, rows in sorted(groups.items())]


def _job_summary(key: tuple[str, str, int], rows: Sequence[Mapping[str, Any]], worth: "_Worth", told: Source) -> Record:
    cloud, system, cores = key
    wall, cpu = (sum(row[name] for row in rows) for name in ("wall_ms", "cpu_ms"))
    normal_wall, normal_cpu = (sum(row[name] * worth.of(cloud, row["vm"]) for row in rows) for name in ("wall_ms", "cpu_ms"))
    return {
        "Site": told.site.apel_name(cloud),
        **_year_month(told.month),
        "VO": told.site.apel.virtual_organisations.get(system),
        "SubmitHost": cloud,
        "Infrastructure": "grid",
        "NodeCount": 1,
        "Processors": cores,
        "WallDuration": _seconds(wall),
        "CpuDuration": _seconds(cpu),
        "NormalisedWallDuration": {BENCHMARK: _seconds(normal_wall)},
        "NormalisedCpuDuration": {BENCHMARK: _seconds(normal_cpu)},
        "NumberOfJobs": sum(row["count:started_at"] for row in rows),
    }


class _Worth:
    """HS23 per core of where a job ran: its vm's in that month, or else its cloud's mean."""

    def __init__(self, boots: Sequence[Boot]) -> None:
        groups: dict[tuple[str, str | None], list[Boot]] = defaultdict(list)
        for boot in boots:
            groups[boot["cloud"], boot["vm"]].append(boot)
            groups[boot["cloud"], None].append(boot)
        self._known = {key: mean for key, group in groups.items() if (mean := mean_hs23(group)) is not None}

    def of(self, cloud: str, vm: str | None) -> float:
        """Answer it, or raise Conflict with what to do."""
        found = self._known.get((cloud, vm), self._known.get((cloud, None)))
        if found is None:
            raise Conflict(
                f"the HS23 of {cloud} is not known, and APEL takes no jobs without: calibrate its benchmark in the site data, "
                "or ask for other clouds by cloud=",
                code="hs23_unknown",
            )
        return found


def mean_hs23(boots: Iterable[Boot]) -> float | None:
    """Answer HS23 per core of some boots, weighed by their core time; None where it is known of none."""
    known = [(boot["core_seconds"], boot["hs23_per_core"]) for boot in boots if boot["hs23_per_core"] is not None and boot["core_seconds"]]
    return sum(seconds * hs23 for seconds, hs23 in known) / sum(seconds for seconds, _ in known) if known else None


def _benchmark(hs23: float | None) -> Record:
    return {} if hs23 is None else {"BenchmarkType": BENCHMARK, "Benchmark": round(hs23, 3)}


def _year_month(month: str) -> Record:
    return {"Month": int(month[5:]), "Year": int(month[:4])}


def _seconds(ms: float) -> int:
    return round(ms / 1_000)


FORMATS: dict[str, tuple[MessageType, Callable[[Source], list[Record]]]] = {
    "apel-cloud": (apel.CLOUD, cloud_records),
    "apel-cloud-summary": (apel.CLOUD_SUMMARY, cloud_summaries),
    "apel-job-summary": (apel.JOB_SUMMARY, job_summaries),
}


def messages(form: str, statement: Mapping[str, Any], clouds: Sequence[str], documents: Documents, site: Site, now: datetime) -> list[str]:
    """Answer the messages of a statement in one of FORMATS, each checked as APEL would; jobs are of some clouds or of all."""
    kind, make = FORMATS[form]
    boots = [boot for boot in statement["boots"] if boot["wall_seconds"]]
    records = make(Source(statement["month"], boots, clouds, documents, site, now))
    written = [apel.message(kind, part) for part in apel.parts(records)]
    for text in written:
        apel.check(text, now)
    return written
