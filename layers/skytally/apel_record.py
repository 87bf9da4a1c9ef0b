"""What APEL is told of a month: each boot, each cloud, each cloud's jobs. Conventions where tools differ:

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

from skytally import apel
from skytally.apel import MessageType, Value
from skytally.cloud import Site
from skytally.documents import Usage
from skytally.errors import Conflict
from skytally.ports import Documents, Query
from skytally.statement import BootMonth, boot_months, cpu_ms
from skytally.usage import month_end_at, month_start_at

CLOUD_TYPE = "skytally"
BENCHMARK = "HEPscore23"
MB, GB = 10**6, 10**9
NOT_OURS = {"unknown", "elsewhere"}

Record = Mapping[str, Value]


def cloud_records(month: str, clouds: Sequence[str], documents: Documents, site: Site, now: datetime) -> list[Record]:
    """Answer a record for each boot of a month."""
    return [_cloud_record(boot, site, now) for boot in boot_months(month, clouds, documents, site) if boot.usage.wall_ms]


def _cloud_record(boot: BootMonth, site: Site, now: datetime) -> Record:
    usage = boot.usage
    is_over = usage.final or now >= month_end_at(usage.month)
    return {
        "RecordCreateTime": usage.last_sampled_at,
        "VMUUID": str(uuid5(UUID(usage.boot_id), usage.month)),
        "SiteName": site.apel_name(usage.cloud),
        "CloudComputeService": usage.cloud,
        "MachineName": usage.vm,
        "LocalGroupId": usage.group,
        "Status": "completed" if is_over else "started",
        "StartTime": _started_at(usage),
        "EndTime": usage.last_sampled_at if is_over else None,
        "SuspendDuration": _seconds(usage.suspended_ms),
        "WallDuration": _seconds(usage.wall_ms),
        "CpuDuration": _seconds(cpu_ms(usage)),
        "CpuCount": round(usage.core_ms / usage.wall_ms, 3),
        "NetworkInbound": round(usage.network_received_bytes / GB),
        "NetworkOutbound": round(usage.network_sent_bytes / GB),
        "Memory": None if usage.memory_bytes is None else round(usage.memory_bytes / MB),
        "Disk": None if usage.disk_bytes is None else round(usage.disk_bytes / GB),
        **_benchmark(boot.credit.hs23),
        "CloudType": CLOUD_TYPE,
    }


def _started_at(usage: Usage) -> datetime:
    """Answer since when a boot ran in a month: at least for as long as it says, whatever its clock said at boot."""
    return min(max(usage.boot_at, month_start_at(usage.month)), usage.last_sampled_at - timedelta(milliseconds=usage.wall_ms))


def cloud_summaries(month: str, clouds: Sequence[str], documents: Documents, site: Site, now: datetime) -> list[Record]:  # noqa: ARG001
    """Answer a record for each cloud of a month."""
    groups: dict[str, list[BootMonth]] = defaultdict(list)
    for boot in boot_months(month, clouds, documents, site):
        if boot.usage.wall_ms:
            groups[boot.usage.cloud].append(boot)
    return [_cloud_summary(month, cloud, group, site) for cloud, group in sorted(groups.items())]


def _cloud_summary(month: str, cloud: str, boots: Sequence[BootMonth], site: Site) -> Record:
    usages = [boot.usage for boot in boots]
    starts = [_started_at(usage) for usage in usages]
    wall_ms = sum(usage.wall_ms for usage in usages)
    return {
        "SiteName": site.apel_name(cloud),
        "CloudComputeService": cloud,
        **_year_month(month),
        "CloudType": CLOUD_TYPE,
        "EarliestStartTime": min(starts),
        "LatestStartTime": max(starts),
        "WallDuration": _seconds(wall_ms),
        "CpuDuration": _seconds(sum(cpu_ms(usage) for usage in usages)),
        "CpuCount": round(sum(usage.core_ms for usage in usages) / wall_ms, 3),
        "NetworkInbound": round(sum(usage.network_received_bytes for usage in usages) / GB),
        "NetworkOutbound": round(sum(usage.network_sent_bytes for usage in usages) / GB),
        "Memory": round(sum(usage.memory_bytes or 0 for usage in usages) / MB),
        "Disk": round(sum(usage.disk_bytes or 0 for usage in usages) / GB),
        **_benchmark(mean_hs23(boots)),
        "NumberOfVMs": len({usage.boot_id for usage in usages}),
    }


def job_summaries(month: str, clouds: Sequence[str], documents: Documents, site: Site, now: datetime) -> list[Record]:  # noqa: ARG001
    """Answer a record for each cloud, experiment and number of cores; raises Conflict where a cloud's HS23 is not known."""
    ended = Query(
        index="job",
        moment="final_at",
        from_at=month_start_at(month),
        until_at=month_end_at(month),
        by=("cloud", "vm", "system", "cores"),
        sums=("count:started_at", "wall_ms", "cpu_ms"),
        where={"cloud": clouds} if clouds else {},
    )
    worth = _Worth(boot_months(month, clouds, documents, site))
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in documents.table(ended):
        if row["cloud"] not in NOT_OURS and row["count:started_at"]:
            groups[row["cloud"], row["system"], row["cores"]].append(row)
    return [_job_summary(month, key, rows, worth, site) for key, rows in sorted(groups.items())]


def _job_summary(month: str, key: tuple[str, str, int], rows: Sequence[Mapping[str, Any]], worth: "_Worth", site: Site) -> Record:
    cloud, system, cores = key
    wall, cpu = (sum(row[name] for row in rows) for name in ("wall_ms", "cpu_ms"))
    normal_wall, normal_cpu = (sum(row[name] * worth.of(cloud, row["vm"]) for row in rows) for name in ("wall_ms", "cpu_ms"))
    return {
        "Site": site.apel_name(cloud),
        **_year_month(month),
        "VO": site.apel.virtual_organisations.get(system),
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

    def __init__(self, boots: Sequence[BootMonth]) -> None:
        groups: dict[tuple[str, str | None], list[BootMonth]] = defaultdict(list)
        for boot in boots:
            groups[boot.usage.cloud, boot.usage.vm].append(boot)
            groups[boot.usage.cloud, None].append(boot)
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


def mean_hs23(boots: Iterable[BootMonth]) -> float | None:
    """Answer HS23 per core of some boots, weighed by their core time; None where it is known of none."""
    known = [(boot.usage.core_ms, boot.credit.hs23) for boot in boots if boot.credit.hs23 is not None and boot.usage.core_ms]
    return sum(core_ms * hs23 for core_ms, hs23 in known) / sum(core_ms for core_ms, _ in known) if known else None


def _benchmark(hs23: float | None) -> Record:
    return {} if hs23 is None else {"BenchmarkType": BENCHMARK, "Benchmark": round(hs23, 3)}


def _year_month(month: str) -> Record:
    return {"Month": int(month[5:]), "Year": int(month[:4])}


def _seconds(ms: float) -> int:
    return round(ms / 1_000)


Maker = Callable[[str, Sequence[str], Documents, Site, datetime], list[Record]]
FORMATS: dict[str, tuple[MessageType, Maker]] = {
    "apel-cloud": (apel.CLOUD, cloud_records),
    "apel-cloud-summary": (apel.CLOUD_SUMMARY, cloud_summaries),
    "apel-job-summary": (apel.JOB_SUMMARY, job_summaries),
}


def messages(form: str, month: str, clouds: Sequence[str], documents: Documents, site: Site, now: datetime) -> list[str]:
    """Answer the messages of a month in one of FORMATS, each checked as APEL would check it."""
    documents.refresh()
    kind, make = FORMATS[form]
    written = [apel.message(kind, part) for part in apel.parts(make(month, clouds, documents, site, now))]
    for text in written:
        apel.check(text, now)
    return written
