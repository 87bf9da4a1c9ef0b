"""A month's jobs for APEL: a row for each cloud, virtual organisation and number of cores.

Normalised durations are seconds times the HEPscore23 of the vm's core, not times cores. Jobs that never started or went
on elsewhere are not counted. A row replaces the server's, so a month with removed jobs is not sent.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta

from skytally.accounting import apel_format
from skytally.accounting.apel_records import BENCHMARK
from skytally.accounting.apel_source import Boot, Record, Source, Unsendable
from skytally.core.errors import Conflict
from skytally.core.months import month_end_at, month_start_at
from skytally.core.ports import Query, Row
from skytally.core.records import iso
from skytally.jobs.placement_join import UNKNOWN
from skytally.operation import retention

ELSEWHERE = "elsewhere"
# A job counts in the month of its end and is removed by its last change, which a source may date this much earlier.
CHANGED_BEFORE_END = timedelta(days=7)

Group = tuple[str, str, str | None, int]


def job_summaries(source: Source, clouds: Sequence[str]) -> list[Record]:
    """Return a row for each group of the jobs that ended in a month, on some clouds or on all.

    Raise Conflict if some of them may have been removed.
    """
    _check_whole(source)
    groups: dict[tuple[str, ...], tuple[Group, list[tuple[Row, float]]]] = {}
    credit = _Worth(source.boots)
    for row in _ended(source, clouds):
        try:
            group, hs23 = _group(row, source), credit.of(row["cloud"], row["vm"])
        except Unsendable as error:
            source.leave_out(row["cloud"], None, error.message, row["count:started_at"])
        else:
            groups.setdefault(_folded(group), (group, []))[1].append((row, hs23))
    summaries = (_summary(group, rows, source.month) for _, (group, rows) in sorted(groups.items()))
    return source.checked(apel_format.JOB_SUMMARY, summaries, "SubmitHost", "NumberOfJobs")


def _check_whole(source: Source) -> None:
    forgotten_before = retention.forgotten_before("job", source.documents)
    if forgotten_before is not None and forgotten_before > month_start_at(source.month) - CHANGED_BEFORE_END:
        raise Conflict(
            f"jobs of {source.month} may be forgotten: those that changed last before {iso(forgotten_before)} "
            "were removed, and what is left would replace the whole month at APEL",
            code="forgotten",
        )


def _ended(source: Source, clouds: Sequence[str]) -> Iterable[Row]:
    ended = Query(
        index="job",
        moment="final_at",
        from_at=month_start_at(source.month),
        until_at=month_end_at(source.month),
        by=("cloud", "vm", "system", "cores"),
        sums=("count:started_at", "wall_ms", "cpu_ms"),
        where={"cloud": clouds} if clouds else {},
    )
    return (row for row in source.documents.table(ended) if row["cloud"] != ELSEWHERE and row["count:started_at"])


def _group(row: Row, source: Source) -> Group:
    """Return the key by which the server tells rows apart, with the cloud; or raise Unsendable."""
    cloud: str = row["cloud"]
    if cloud == UNKNOWN:
        raise Unsendable("nobody knows which cloud these jobs ran on")
    return source.site_name(cloud), cloud, source.organisation(row["system"], cloud), row["cores"]


def _folded(group: Group) -> tuple[str, ...]:
    """Return a group as the server compares it: without regard to case."""
    return tuple(apel_format.plain(str(part)).casefold() for part in group)


def _summary(group: Group, rows: Sequence[tuple[Row, float]], month: str) -> Record:
    site_name, cloud, organisation, cores = group
    wall, cpu = (sum(row[name] for row, _ in rows) for name in ("wall_ms", "cpu_ms"))
    normal_wall, normal_cpu = (sum(row[name] * hs23 for row, hs23 in rows) for name in ("wall_ms", "cpu_ms"))
    return {
        "Site": site_name,
        "Month": int(month[5:]),
        "Year": int(month[:4]),
        "VO": organisation,
        "SubmitHost": cloud,
        "Infrastructure": "grid",
        "NodeCount": 1,
        "Processors": cores,
        "WallDuration": _seconds(wall),
        "CpuDuration": _seconds(cpu),
        "NormalisedWallDuration": {BENCHMARK: _seconds(normal_wall)},
        "NormalisedCpuDuration": {BENCHMARK: _seconds(normal_cpu)},
        "NumberOfJobs": sum(row["count:started_at"] for row, _ in rows),
    }


class _Worth:
    """HS23 per core where a job ran: its vm's in that month, else its cloud's mean."""

    def __init__(self, boots: Sequence[Boot]) -> None:
        groups: dict[tuple[str, str | None], list[Boot]] = defaultdict(list)
        for boot in boots:
            groups[boot["cloud"], boot["vm"]].append(boot)
            groups[boot["cloud"], None].append(boot)
        self._known = {key: mean for key, group in groups.items() if (mean := mean_hs23(group)) is not None}

    def of(self, cloud: str, vm: str | None) -> float:
        """Return HS23 per core of a cloud's vm, or raise Unsendable with what to do."""
        hs23 = self._known.get((cloud, vm), self._known.get((cloud, None)))
        if hs23 is None:
            raise Unsendable(
                "its HS23 is not known, and APEL takes no jobs without: calibrate its benchmark in the site data"
            )
        return hs23


def mean_hs23(boots: Iterable[Boot]) -> float | None:
    """Return the mean HS23 per core of boots, weighted by core time; None where no boot has a score."""
    scored = [
        (boot["core_seconds"], boot["hs23_per_core"])
        for boot in boots
        if boot["hs23_per_core"] is not None and boot["core_seconds"] > 0
    ]
    return sum(seconds * hs23 for seconds, hs23 in scored) / sum(seconds for seconds, _ in scored) if scored else None


def _seconds(ms: float) -> int:
    return round(ms / 1_000)
