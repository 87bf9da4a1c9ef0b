"""Measures: the names of the numbers in every table, board and statement, and the sums that they are made of."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from skytally.accounting.statement_rows import MS_PER_HOUR, hours, ratio

Unit = Literal["hours", "share", "bytes", "count"]


class Measure(Struct, frozen=True):
    """A number of a group of documents: a sum of fields, a ratio of sums if it has `over`, or a count of values.

    `count` counts the documents and `count:<field>` those that have the field. If the unit is hours, the sums are
    milliseconds.
    """

    name: str
    title: str
    unit: Unit
    sums: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    distinct: str | None = None

    @property
    def terms(self) -> tuple[str, ...]:
        """Return every sum that the value is made of, once."""
        return tuple(dict.fromkeys((*self.sums, *self.over)))

    @property
    def scale(self) -> int:
        """Return the divisor that turns the sums into the unit."""
        return MS_PER_HOUR if self.unit == "hours" else 1

    @property
    def mean_of(self) -> str | None:
        """Return the field whose mean this is, over the documents that have it, or None."""
        return self.sums[0] if self.over and self.over == tuple(f"count:{field}" for field in self.sums) else None

    @property
    def aggregation(self) -> tuple[str, str | None] | None:
        """Return the search engine's aggregation that gives the value, and its field; None where sums are combined."""
        if self.distinct:
            return "cardinality", self.distinct
        if self.mean_of:
            return "avg", self.mean_of
        return ("count", None) if self.sums == ("count",) and not self.over else None

    @property
    def value_type(self) -> Any:
        """Return the type of a value, described by the title."""
        plain: Any = float | None if self.over else float if self.unit == "hours" else int
        return Annotated[plain, Meta(description=self.title)]

    def arithmetic(self, name: Callable[[str], str]) -> str:
        """Return the value as an expression that Painless and Vega both read; `name` writes a sum."""
        above, below = (_added([name(term) for term in terms]) for terms in (self.sums, self.over))
        return " / ".join((above, *([str(self.scale)] if self.scale != 1 else []), *([below] if self.over else [])))

    def value(self, sums: Mapping[str, float]) -> float | None:
        """Return the number for these sums, or None for a division by 0."""
        whole = sum(sums[name] for name in self.sums)
        if self.over:
            return ratio(whole / self.scale, sum(sums[name] for name in self.over))
        return hours(whole) if self.unit == "hours" else whole


def _added(terms: list[str]) -> str:
    whole = " + ".join(terms)
    return f"({whole})" if len(terms) > 1 else whole


_CPU_MS = ("user_ms", "nice_ms", "system_ms")
VM_COUNT = Measure("vm_count", "Vms", "count", distinct="vm")
WALL_HOURS = Measure("wall_hours", "Wall hours", "hours", ("wall_ms",))
CORE_HOURS = Measure("core_hours", "Core hours", "hours", ("core_ms",))
CPU_HOURS = Measure("cpu_hours", "CPU hours", "hours", _CPU_MS)
EFFICIENCY = Measure("efficiency", "Efficiency", "share", _CPU_MS, ("core_ms",))

JOB_COUNT = Measure("job_count", "Jobs", "count", ("count",))
FINISHED_COUNT = Measure("finished_count", "Finished", "count", ("finished_count",))
FAILED_COUNT = Measure("failed_count", "Failed", "count", ("failed_count",))
CANCELLED_COUNT = Measure("cancelled_count", "Cancelled", "count", ("cancelled_count",))
CLOSED_COUNT = Measure("closed_count", "Closed", "count", ("closed_count",))
OTHER_COUNT = Measure("other_count", "Not final", "count", ("other_count",))
FAILED_SHARE = Measure("failed_share", "Failed share", "share", ("failed_count",), ("finished_count", "failed_count"))
JOB_CPU_HOURS = Measure("cpu_hours", "CPU hours", "hours", ("cpu_ms",))
JOB_EFFICIENCY = Measure("efficiency", "Efficiency", "share", ("cpu_ms",), ("core_ms_with_cpu",))
WASTED_CORE_HOURS = Measure("wasted_core_hours", "Wasted core hours", "hours", ("wasted_core_ms",))
MEAN_WALL_HOURS = Measure("mean_wall_hours", "Mean run time (h)", "hours", ("wall_ms",), ("count",))
MEAN_MAX_PSS = Measure(
    "mean_max_pss_bytes", "Mean of largest PSS", "bytes", ("max_pss_bytes",), ("count:max_pss_bytes",)
)
MEAN_WORK_FOLDER = Measure(
    "mean_work_folder_bytes", "Mean work folder", "bytes", ("work_folder_bytes",), ("count:work_folder_bytes",)
)
MEAN_INPUT = Measure("mean_input_bytes", "Mean input", "bytes", ("input_bytes",), ("count:input_bytes",))
MEAN_OUTPUT = Measure("mean_output_bytes", "Mean output", "bytes", ("output_bytes",), ("count:output_bytes",))

JOBS = (
    JOB_COUNT,
    FINISHED_COUNT,
    FAILED_COUNT,
    CANCELLED_COUNT,
    CLOSED_COUNT,
    OTHER_COUNT,
    FAILED_SHARE,
    WALL_HOURS,
    CORE_HOURS,
    JOB_CPU_HOURS,
    JOB_EFFICIENCY,
    WASTED_CORE_HOURS,
    MEAN_WALL_HOURS,
    MEAN_MAX_PSS,
    MEAN_WORK_FOLDER,
    MEAN_INPUT,
    MEAN_OUTPUT,
)
# What a point of the series has, of jobs that ended.
JOBS_PLOTTED = (
    JOB_COUNT,
    FINISHED_COUNT,
    FAILED_COUNT,
    CANCELLED_COUNT,
    CLOSED_COUNT,
    FAILED_SHARE,
    CORE_HOURS,
    JOB_CPU_HOURS,
    JOB_EFFICIENCY,
    WASTED_CORE_HOURS,
)
JOB_SUMS = tuple(dict.fromkeys(term for measure in JOBS for term in measure.terms))
