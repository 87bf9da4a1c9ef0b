"""Types of the JSON answers of `statement`: OpenAPI is generated from them, and tests check all answers by them."""

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from skytally.accounting.frozen import BootRow, Totals
from skytally.core.records import IsoMoment, Month

State = Literal["provisional", "final"]


class StatementCloud(Totals, frozen=True, kw_only=True):
    """A cloud's month. What is known by now and not in its newest revision is unsettled (null: the month is open)."""

    state: State
    revision: Annotated[int, Meta(ge=0, description="0 while the month is open")]
    unsettled_core_hours: float | None
    unsettled_hs23_hours: float | None
    unsettled_cost: float | None
    unsettled_vms: int | None
    unsettled: Annotated[str | None, Meta(description="the difference in words")]


class StatementBoot(BootRow, frozen=True, kw_only=True):
    """A boot's month, with `detail=boots`."""

    boot_at: IsoMoment
    last_sampled_at: IsoMoment


class Statement(TypedDict):
    """A month's accounting; final once every cloud's month is closed."""

    month: Month
    state: State
    revision: Annotated[int, Meta(ge=0, description="the highest of its clouds' revisions")]
    generated_at: IsoMoment
    clouds: list[StatementCloud]
    boots: NotRequired[list[StatementBoot]]
