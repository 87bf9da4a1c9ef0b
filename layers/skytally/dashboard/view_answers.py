"""View answers: what the JSON of `dashboard/data` holds, view by view.

OpenAPI is made from these types, and the tests hold every answer to them. A measure that is not known is null.
"""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta, Struct, defstruct, structs

from skytally.access.credentials import FAILING, WELL
from skytally.accounting.measures import JOBS, JOBS_PLOTTED
from skytally.core.documents import Job
from skytally.core.records import IsoMoment
from skytally.dashboard import job_details
from skytally.dashboard.health_view import OFF, RUNNING, SKIPPED
from skytally.dashboard.jobs_view import DISPLAYS
from skytally.secrets.audit import LOST, REPORTS, TAKEN, WAITING
from skytally.secrets.outcomes import DELIVERED, EXPIRED, REVOKED

Count = Annotated[int, Meta(ge=0)]
HEALTH_KINDS = ("timer", "source", "credential", "site_data", "unreadable")
HEALTH_STATES = (FAILING, WELL, RUNNING, OFF, SKIPPED, "raised")
SECRET_STATES = (WAITING, DELIVERED, EXPIRED, REVOKED, "damaged")
BOOT_STATES = (WAITING, TAKEN, REPORTS, LOST)

Evidence = Annotated[
    dict[str, str], Meta(description="the parameters of the view that shows it, of the page and of `dashboard/data`")
]

COVERAGE = (
    "time of which reports arrived, divided by the time that the vms were up by the calendar or were expected to be: a "
    "vm that fell silent is expected for seven days, unless it boots again"
)
Span = TypedDict("Span", {"from": IsoMoment, "until": IsoMoment})


class ViewAnswer(Span):
    """What every view has: its window, its table, and how many rows that has in all."""

    generated_at: IsoMoment
    table: list[Any]
    row_count: Annotated[Count, Meta(description="rows of the whole table, of which offset and limit cut a part")]
    series: list[Any]
    open_alarms: Annotated[Count, Meta(description="open alarms of all clouds that the reader may see")]


class WindowAnswer(ViewAnswer):
    """A view of a window that is drawn in steps."""

    step_seconds: float


class UsageMeasures(TypedDict):
    """What intervals and boots of a window add up to."""

    vm_count: Count
    wall_hours: float
    core_hours: float
    cpu_hours: float
    efficiency: float | None
    hs23_hours: float | None
    scored_core_hours: float
    hs23_complete: bool | None
    coverage: float | None
    silent_vms: Count
    largest_clock_offset_seconds: float | None
    estimated_edges: Count
    quarantined_benchmarks: Count
    last_sampled_at: IsoMoment | None


class UsageCloudRow(UsageMeasures):
    """A cloud, with `by=cloud`."""

    cloud: str


class UsageSiteRow(UsageMeasures):
    """A site of a cloud, with `by=site`."""

    cloud: str
    site: str | None


class UsageGroupRow(UsageMeasures):
    """A group of vms of a cloud, with `by=group`."""

    cloud: str
    group: str | None


class UsageFlavorRow(UsageMeasures):
    """A flavor of a cloud, with `by=flavor`."""

    cloud: str
    flavor: str | None


class UsageVmRow(UsageMeasures):
    """A vm, with `by=vm`; what it is is said by its newest boot in the window."""

    cloud: str
    vm: str
    flavor: str | None
    cores: int | None
    cpu_model: str | None
    agent_version: str | None
    benchmark_score: float | None
    boot_count: Count
    open_alarms: Count


class IntervalRow(Span):
    """An interval of one vm, with `by=interval`; one that the window cuts counts by its part inside."""

    cloud: str
    vm: str
    boot_at: IsoMoment
    cores: int
    wall_hours: float
    core_hours: float
    cpu_hours: float
    efficiency: float | None
    iowait_core_hours: float
    steal_core_hours: float
    suspended_hours: float
    network_received_bytes: Count
    network_sent_bytes: Count


class UsagePoint(TypedDict):
    """What ran in a step, of a cloud, or of its sites, groups or flavors where the table has a row of each."""

    at: IsoMoment
    until: IsoMoment
    cloud: str
    site: NotRequired[str | None]
    group: NotRequired[str | None]
    flavor: NotRequired[str | None]
    core_hours: float
    cpu_hours: float
    efficiency: float | None
    hs23_hours: Annotated[
        float | None, Meta(description="null where no boot has a score, and where boots times steps are too many")
    ]
    vm_count: Annotated[Count, Meta(description="vms between their boot and their last report")]
    silent_vms: Count


class DoubtfulVm(TypedDict):
    """A vm with its value: since when it is silent, how many seconds its clock is off, or true."""

    cloud: str
    vm: str
    value: str | float | bool


class UsageDoubt(TypedDict):
    """What the numbers cannot know, of how many vms, and the first of them by name."""

    kind: Literal["silent", "clock_offset", "clock_ahead", "estimated_edge", "quarantined_benchmark", "no_hs23"]
    vm_count: Count
    vms: list[DoubtfulVm]


class UsageChoices(TypedDict):
    """What the window can be held to."""

    cloud: list[str]
    site: list[str]
    group: list[str]
    flavor: list[str]


class UsageAnswer(WindowAnswer):
    """view=usage. With part=series there is no more than the series."""

    view: Literal["usage"]
    coverage: NotRequired[float | None]
    last_sampled_at: NotRequired[IsoMoment | None]
    totals: NotRequired[UsageMeasures]
    doubts: NotRequired[list[UsageDoubt]]
    choices: NotRequired[UsageChoices]


_DIMENSIONS = {field.name: field.type for field in structs.fields(Job)}
_MEASURES = [(measure.name, measure.value_type) for measure in JOBS]


class JobLink(TypedDict):
    """A page about a job."""

    title: Literal["BigPanDA", "log"]
    url: str


def _job_row(by: str) -> type[Struct]:
    """Return what a row of a jobs display holds."""
    columns: list[tuple[str, Any]] = [(name, _DIMENSIONS[name]) for name in DISPLAYS[by]]
    if by == "job":
        columns += [(column, _DIMENSIONS[field] | None) for column, field in job_details.FIELDS.items()]
        columns += [(name, IsoMoment | None) for name in job_details.TIMES]
        columns += [("links", list[JobLink])]
    return defstruct(f"JobsBy{by.title()}Row", [*columns, *_MEASURES], kw_only=True, namespace={"__doc__": f"by={by}"})


JOB_ROWS = [_job_row(by) for by in DISPLAYS]
JobsTotals = defstruct("JobsTotals", _MEASURES, kw_only=True, namespace={"__doc__": "What jobs add up to."})
JobsPoint = defstruct(
    "JobsPoint",
    [
        ("at", IsoMoment),
        ("until", IsoMoment),
        ("cloud", str),
        *((measure.name, measure.value_type) for measure in JOBS_PLOTTED),
    ],
    kw_only=True,
    namespace={"__doc__": "Jobs that ended in a step, of a cloud."},
)


class JobsDoubt(TypedDict):
    """Jobs whose cloud nobody knows, or whose times cannot be."""

    kind: Literal["unknown_cloud", "impossible_times"]
    job_count: Count


class JobsChoices(TypedDict):
    """What the window can be held to."""

    cloud: list[str]
    site: list[str]
    queue: list[str]


class BucketCounts(TypedDict):
    """Jobs of a bucket that ended, by their outcome."""

    finished_count: Count
    failed_count: Count
    cancelled_count: Count
    closed_count: Count


BucketEdges = TypedDict(
    "BucketEdges", {"from": float, "until": Annotated[float | None, Meta(description="null: without end")]}
)


class Bucket(BucketEdges, BucketCounts):
    """A bucket of a distribution."""


class BucketRow(BucketCounts):
    """A bucket in the table, with part=distribution."""

    of: Literal["run_seconds", "max_pss_bytes", "disk_bytes", "efficiency"]
    value_from: float
    value_until: float | None


class JobsAnswer(WindowAnswer):
    """view=jobs. With part=series there is no more than the series, with part=distribution no more than that."""

    view: Literal["jobs"]
    coverage: NotRequired[Annotated[float | None, Meta(description="share of the ended jobs whose cloud is known")]]
    totals: NotRequired[JobsTotals]  # type: ignore[valid-type]
    doubts: NotRequired[list[JobsDoubt]]
    choices: NotRequired[JobsChoices]
    of: NotRequired[Literal["run_seconds", "max_pss_bytes", "disk_bytes", "efficiency"]]
    unit: NotRequired[Literal["seconds", "bytes", "share"]]
    buckets: NotRequired[list[Bucket]]
    unknown_count: NotRequired[Annotated[Count, Meta(description="jobs of which the value is not known")]]


class SecretRow(TypedDict):
    """A secret of one vm: what became of it, who took it, and who else proved that it holds the token."""

    claim: str
    vm: str | None
    cloud: str
    state: str
    at: IsoMoment
    expires_at: IsoMoment
    address: str | None
    spki_sha256: str | None
    comment: str | None
    expected_hostname: str | None
    other_hostname: str | None
    contested_count: Count
    others: list[str]
    boot: str | None
    reported: bool | None


class SecretPoint(TypedDict):
    """Secrets that came to an end in a step, by their state."""

    at: IsoMoment
    until: IsoMoment
    state: str
    secret_count: Count


class SecretTotals(TypedDict):
    """Secrets by their state, and those that a person must look at."""

    waiting_count: Count
    delivered_count: Count
    expired_count: Count
    revoked_count: Count
    damaged_count: Count
    contested_count: Count
    unreported_count: Count


class SecretsDoubt(TypedDict):
    """The window begins before the days that are kept."""

    kind: Literal["kept_days"]
    days: int


class SecretsChoices(TypedDict):
    """What the window can be held to."""

    cloud: list[str]


class SecretsAnswer(WindowAnswer):
    """view=secrets."""

    view: Literal["secrets"]
    coverage: None
    totals: SecretTotals
    doubts: list[SecretsDoubt]
    choices: SecretsChoices


class HealthRow(TypedDict):
    """A timer, source, credential, fault or open alarm."""

    kind: str
    subject: str
    cloud: str | None
    state: str | None
    since: IsoMoment | None
    period_seconds: Annotated[int | None, Meta(description="of a timer: the longest time between two of its calls")]
    message: str | None


class AlarmHistoryRow(TypedDict):
    """An alarm that is open or was resolved within 31 days."""

    kind: str
    subject: str
    cloud: str | None
    raised_at: IsoMoment
    resolved_at: IsoMoment | None
    open_seconds: float
    message: str
    evidence: Evidence


class HealthTotals(TypedDict):
    """What of it needs a person."""

    open_alarms: Count
    failing_timers: Count
    timers_never_run: Count
    failing_sources: Count
    unreadable_things: Count


class HealthAnswer(ViewAnswer):
    """view=health: how skytally is now, whatever window is named."""

    view: Literal["health"]
    history: Annotated[list[AlarmHistoryRow], Meta(description="newest first")]
    coverage: None
    totals: HealthTotals
    doubts: Annotated[list[Any], Meta(max_length=0)]
    choices: Annotated[dict[str, Any], Meta(max_length=0)]
