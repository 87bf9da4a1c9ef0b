"""Boards: what is shown of the documents in Kibana, OpenSearch Dashboards and Grafana, described once for all.

A panel sums the documents of one index by their one time, per dimension. Its measures are those of the page and the
statement; what needs more than one index (coverage, HS23 hours, cost) no panel can have.
"""

from collections.abc import Iterator
from types import UnionType
from typing import Literal, get_args, get_type_hints

from msgspec import Struct

from skytally.accounting import measures
from skytally.accounting.measures import Measure
from skytally.core.distributions import BUCKET_FIELDS, DISTRIBUTIONS
from skytally.core.documents import INDICES

COLUMNS = 24
Chart = Literal["number", "series", "lines", "bars", "table"]

# An interval ends where its vm reports, so at a month's edge exactly; by its beginning it belongs to the month that it
# lies in.
MOMENTS = {"interval": "from_at", "job": "final_at", "usage": "last_sampled_at"}
# The fields that keep a job's bucket, and how many buckets there are.
BUCKETS = {BUCKET_FIELDS[name]: len(distribution.edges) for name, distribution in DISTRIBUTIONS.items()}
# A month is shown whole, however short the window is.
ALL_TIME = frozenset({"usage"})
NOTES = {
    "interval": "An interval counts whole in the hour in which it began; the page cuts it at the edges of hours and "
    "of the window.",
    "job": "Jobs that became final in the window; the page also shows those that go on, as they are now.",
    "usage": "All months, whatever the window: the numbers of the statement. Coverage, HS23 hours and cost need "
    "several indices, "
    "so only the page and the statement have them.",
}


class Panel(Struct, frozen=True):
    """One drawing: the measures of an index, per dimension; a series and lines also per hour or longer.

    `known` holds it to documents that have the field. Width and height are in steps of a grid of 24 columns.
    """

    name: str
    title: str
    index: str
    chart: Chart
    measures: tuple[Measure, ...]
    by: tuple[str, ...] = ()
    known: str | None = None
    width: int = COLUMNS
    height: int = 9

    @property
    def moment(self) -> str:
        """The time by which a document belongs to a window."""
        return MOMENTS[self.index]

    @property
    def note(self) -> str:
        """What whoever looks at it must know."""
        if not self.by:
            return NOTES[self.index]
        last, within = self.by[-1], " in each group" if len(self.by) > 1 else ""
        return f"{NOTES[self.index]} The {self.groups(last)} largest values of {last} are told apart{within}."

    @property
    def timed(self) -> bool:
        """Whether it is drawn along time."""
        return self.chart in {"series", "lines"}

    @property
    def rank(self) -> str:
        """The sum by which the largest groups come first."""
        return self.measures[0].sums[0]

    def order_of(self, name: str) -> Literal["asc", "desc"] | None:
        """How the values of a dimension are ordered by themselves; None where the largest groups come first."""
        return "desc" if name == "month" else "asc" if name in BUCKETS else None

    def groups(self, name: str) -> int:
        """How many values of a dimension are told apart; the last dimension of a table is its longest."""
        if name in BUCKETS:
            return BUCKETS[name]
        if self.chart != "table":
            return 20
        return 1_000 if name == self.by[-1] else 100


def _distribution(name: str, title: str) -> Panel:
    """Count jobs in the buckets of a value, by status."""
    field = BUCKET_FIELDS[name]
    return Panel(field.replace("_", "-"), title, "job", "bars", (measures.JOB_COUNT,), (field, "status"), field, 12)


class Board(Struct, frozen=True):
    """Panels that are looked at together, in reading order, first of the last `window`."""

    name: str
    title: str
    window: str
    panels: tuple[Panel, ...]


def placed(board: Board) -> Iterator[tuple[Panel, int, int]]:
    """Return each panel with its column and row, in lines that are filled from the left."""
    x = y = tallest = 0
    for panel in board.panels:
        if x + panel.width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        yield panel, x, y
        x, tallest = x + panel.width, max(tallest, panel.height)


def field_kind(index: str, field: str) -> tuple[type, bool]:
    """Return a field's type, and whether a document may lack it."""
    hint = get_type_hints(INDICES[index])[field]
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kinds: list[type] = [part for part in parts if part is not type(None)]
    return kinds[0], len(kinds) < len(parts)


_USED = (measures.CORE_HOURS, measures.CPU_HOURS, measures.EFFICIENCY, measures.WALL_HOURS)
_ENDED = (
    measures.JOB_COUNT,
    measures.WALL_HOURS,
    measures.CORE_HOURS,
    measures.JOB_CPU_HOURS,
    measures.JOB_EFFICIENCY,
    measures.WASTED_CORE_HOURS,
)
_BROKEN = (
    measures.FAILED_COUNT,
    measures.FINISHED_COUNT,
    measures.FAILED_SHARE,
    measures.JOB_COUNT,
    measures.WASTED_CORE_HOURS,
)
_NEEDED = (measures.JOB_COUNT, measures.MEAN_WALL_HOURS, measures.MEAN_MAX_PSS, measures.MEAN_WORK_FOLDER)

ACCOUNTING = Board(
    "accounting",
    "Accounting",
    "7d",
    (
        Panel("core-hours", "Core hours", "interval", "number", (measures.CORE_HOURS,), width=8, height=4),
        Panel("cpu-hours", "CPU hours", "interval", "number", (measures.CPU_HOURS,), width=8, height=4),
        Panel("wall-hours", "Wall hours", "interval", "number", (measures.WALL_HOURS,), width=8, height=4),
        Panel(
            "core-hours-by-cloud",
            "Core hours by cloud",
            "interval",
            "series",
            (measures.CORE_HOURS,),
            ("cloud",),
            width=12,
        ),
        Panel(
            "efficiency-by-cloud",
            "Efficiency by cloud",
            "interval",
            "lines",
            (measures.EFFICIENCY,),
            ("cloud",),
            width=12,
        ),
        Panel("clouds", "Clouds", "interval", "table", (*_USED, measures.VM_COUNT), ("cloud",), width=12),
        Panel(
            "sites",
            "Sites and groups",
            "interval",
            "table",
            (*_USED, measures.VM_COUNT),
            ("cloud", "site", "group"),
            width=12,
        ),
        Panel("vms", "Vms", "interval", "table", _USED, ("cloud", "vm"), height=12),
        Panel("months", "Months", "usage", "table", (*_USED, measures.VM_COUNT), ("month", "cloud"), height=10),
    ),
)
JOBS = Board(
    "jobs",
    "Jobs",
    "24h",
    (
        Panel("job-count", "Jobs", "job", "number", (measures.JOB_COUNT,), width=8, height=4),
        Panel("job-core-hours", "Core hours", "job", "number", (measures.CORE_HOURS,), width=8, height=4),
        Panel("job-wasted", "Wasted core hours", "job", "number", (measures.WASTED_CORE_HOURS,), width=8, height=4),
        Panel(
            "failed-share",
            "Failed share by cloud",
            "job",
            "lines",
            (measures.FAILED_SHARE,),
            ("cloud",),
            width=12,
        ),
        Panel("failures-by-cloud", "Failures by cloud", "job", "table", _BROKEN, ("cloud",), width=12),
        Panel("jobs-by-status", "Jobs by status", "job", "series", (measures.JOB_COUNT,), ("status",), width=12),
        Panel(
            "wasted-by-cloud",
            "Wasted core hours by cloud",
            "job",
            "series",
            (measures.WASTED_CORE_HOURS,),
            ("cloud",),
            width=12,
        ),
        Panel(
            "jobs-by-cloud",
            "Jobs by cloud and status",
            "job",
            "bars",
            (measures.JOB_COUNT,),
            ("cloud", "status"),
            width=12,
        ),
        Panel(
            "job-efficiency", "Efficiency by cloud", "job", "lines", (measures.JOB_EFFICIENCY,), ("cloud",), width=12
        ),
        Panel("job-clouds", "Clouds", "job", "table", (*_ENDED, measures.MEAN_WALL_HOURS), ("cloud", "status")),
        Panel(
            "errors",
            "Errors",
            "job",
            "table",
            (measures.JOB_COUNT, measures.WASTED_CORE_HOURS),
            ("cloud", "error_category", "error", "error_message"),
            known="error",
            height=12,
        ),
        Panel(
            "processing-types",
            "Processing types",
            "job",
            "table",
            _NEEDED,
            ("processing_type", "status"),
            width=8,
            height=10,
        ),
        Panel("releases", "Releases", "job", "table", _NEEDED, ("release", "status"), width=8, height=10),
        Panel("cores", "Multicore or not", "job", "table", _NEEDED, ("multicore", "status"), width=8, height=10),
        _distribution("run_seconds", "Jobs by run time (s)"),
        _distribution("efficiency", "Jobs by efficiency"),
        _distribution("max_pss_bytes", "Jobs by largest PSS (bytes)"),
        _distribution("disk_bytes", "Jobs by disk (bytes)"),
        Panel("queues", "Queues", "job", "table", _ENDED, ("queue", "status"), width=12),
        Panel("job-vms", "Vms", "job", "table", _ENDED, ("cloud", "vm", "status"), width=12),
    ),
)
BOARDS = (ACCOUNTING, JOBS)
