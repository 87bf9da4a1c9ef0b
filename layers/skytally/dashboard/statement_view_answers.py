"""The answer of the statement view."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from skytally.accounting.statement_answers import State, StatementCloud
from skytally.core.records import IsoMoment, Month
from skytally.dashboard.statement_view import PRICE
from skytally.dashboard.view_answers import Count, WindowAnswer


class StatementRow(StatementCloud, frozen=True, kw_only=True):
    """A cloud's row of the statement, with who owns the cloud and what its newest revision changed."""

    closed_at: IsoMoment | None
    owner: str | None
    contact: str | None
    price_per_hs23_hour: Annotated[float | None, Meta(description=PRICE)]
    changes: Annotated[
        dict[str, Any] | None, Meta(description="the newest revision's differences to the one before; null for none")
    ]


class StatementDay(TypedDict):
    """What ran on a day, of a cloud."""

    at: IsoMoment
    until: IsoMoment
    cloud: str
    core_hours: float


class Comparison(TypedDict):
    """A cloud's core hours as its vms said them, and as the scheduler saw its vms' lives."""

    cloud: str
    our_core_hours: float | None
    scheduler_core_hours: float | None
    difference_core_hours: float | None
    difference_share: float | None


class Definition(TypedDict):
    """What a number means, and its unit."""

    name: str
    text: str
    unit: str


class StatementTotals(TypedDict):
    """The rows added up; energy, CO2 and cost where they are known of every cloud, cost in one currency."""

    vm_count: Count
    boot_count: Count
    wall_hours: float
    core_hours: float
    cpu_hours: float
    efficiency: float | None
    hs23_hours: float | None
    scored_core_hours: float
    energy_kwh: float | None
    co2_kg: float | None
    cost: float | None
    currency: str | None
    silent_vms: Count


class StatementChoices(TypedDict):
    """What the view can be held to."""

    cloud: list[str]


class StatementViewAnswer(WindowAnswer):
    """view=statement&month=: a calendar month. With part=series there is no more than the two series."""

    view: Literal["statement"]
    month: Month
    previous_month: Annotated[Month | None, Meta(description="null before 2000")]
    next_month: Annotated[Month | None, Meta(description="null where it has not begun")]
    state: NotRequired[State]
    revision: NotRequired[Count]
    totals: NotRequired[StatementTotals]
    comparison: NotRequired[list[Comparison]]
    definitions: NotRequired[list[Definition]]
    choices: NotRequired[StatementChoices]
    previous_series: NotRequired[Annotated[list[StatementDay], Meta(description="the same of the month before")]]
    coverage: None
    doubts: Annotated[list[Any], Meta(max_length=0)]
