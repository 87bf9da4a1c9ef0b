"""The overview's answer, and alarms as views show them."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from skytally.core.records import IsoMoment
from skytally.dashboard.view_answers import Count, Evidence, HealthRow, HealthTotals, WindowAnswer

VmCount = Annotated[Count | None, Meta(description="null in an overview of more than two hours ago")]


class OverviewRow(TypedDict):
    """A cloud: its vms now, and what ran and ended in the last hour."""

    cloud: str
    reporting_vms: VmCount
    silent_vms: VmCount
    booting_vms: Annotated[
        Count | None,
        Meta(description="vms whose secret waits or was taken, and that have not reported; null where that takes long"),
    ]
    core_hours: float
    cpu_hours: float
    efficiency: float | None
    job_count: Count
    finished_count: Count
    failed_count: Count
    failed_share: float | None
    commonest_error: str | None
    commonest_error_message: str | None
    commonest_error_count: Count | None
    open_alarms: Count


class OverviewPoint(TypedDict):
    """Jobs that ended in an hour of the last day, of a cloud."""

    at: IsoMoment
    until: IsoMoment
    cloud: str
    finished_count: Count
    failed_count: Count
    failed_share: float | None


class OpenAlarm(TypedDict):
    """An open alarm."""

    kind: str
    subject: str
    cloud: str | None
    vm: str | None
    state: str
    raised_at: IsoMoment
    resolved_at: IsoMoment | None
    message: str
    evidence: Evidence


class OverviewTotals(HealthTotals):
    """What of all needs a person, and what ran and ended in the last hour."""

    reporting_vms: VmCount
    silent_vms: VmCount
    core_hours: float
    job_count: Count
    failed_count: Count
    failed_share: float | None


class OverviewChoices(TypedDict):
    """What the view can be held to."""

    cloud: list[str]


class OverviewAnswer(WindowAnswer):
    """view=overview: the hour before `until`, or now. With part=series there is no more than the series."""

    view: Literal["overview"]
    alarms: NotRequired[Annotated[list[OpenAlarm], Meta(description="open, newest first, at most 100")]]
    late: NotRequired[Annotated[list[HealthRow], Meta(description="timers and sources that fail or are late")]]
    coverage: NotRequired[None]
    totals: NotRequired[OverviewTotals]
    doubts: NotRequired[Annotated[list[Any], Meta(max_length=0)]]
    choices: NotRequired[OverviewChoices]
