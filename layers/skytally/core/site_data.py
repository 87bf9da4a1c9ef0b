"""Site data: what no vm can measure: each cloud's owner, price and power, and the calibration of benchmarks.

The file is TOML, documented in data/clouds.example.toml. A cloud that it does not name is accounted too, without cost
and energy.
"""

import re
import tomllib
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from skytally.core import batch
from skytally.core.errors import Forbidden, Misconfigured
from skytally.core.records import Caller, Rejection, Sample, Text

Positive = Annotated[float, Meta(gt=0, le=1e9)]
# APEL's names are checked as they are sent: a bad one must not cost other clouds or the rest of the file.
ForApel = Annotated[str, Meta(max_length=255)]


class Rates(Struct, frozen=True):
    """The rates that turn core hours into cost, energy and CO2; None where not known."""

    price_per_core_hour: float | None = None
    currency: str | None = None
    watts_per_core: float | None = None
    pue: float | None = None
    co2_grams_per_kwh: float | None = None


class Cloud(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cloud's data; None where not known."""

    owner: Text | None = None
    # For whoever reads the file: no number rests on it, and a file that has it is not broken.
    country: Annotated[str, Meta(pattern=r"^[A-Z]{2}\Z")] | None = None
    price_per_core_hour: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")] | None = None
    watts_per_core: Positive | None = None
    pue: Annotated[float, Meta(ge=1, le=10)] = 1.0
    co2_grams_per_kwh: Annotated[float, Meta(ge=0, le=10_000)] | None = None
    apel_site: ForApel | None = None

    @property
    def rates(self) -> Rates:
        """Return its rates."""
        return Rates(**{name: getattr(self, name) for name in Rates.__struct_fields__})


class Calibration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """HS23 per point of a benchmark kernel's score, or the HS23 of one CPU model's core."""

    kernels: dict[str, Positive] = {}
    cpu_models: dict[str, Positive] = {}


class Benchmarks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules for plausible scores: near the median of their peers and within bounds, or confirmed by a person."""

    quarantine_factor: Annotated[float, Meta(gt=1, le=100)] = 1.5
    lowest_hs23_per_core: Positive = 1.0
    highest_hs23_per_core: Positive = 60.0
    confirmed_boots: tuple[str, ...] = ()

    def allows(self, hs23_per_core: float) -> bool:
        """Return whether a score per core lies within the bounds."""
        return self.lowest_hs23_per_core <= hs23_per_core <= self.highest_hs23_per_core


class Deny(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The deny list: vms as `cloud/vm`, whoever reports about them; tokens by their SHA-256, with their renewals."""

    vms: tuple[str, ...] = ()
    tokens: tuple[Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")], ...] = ()


class Alarms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The muted alarms, as patterns of `kind:subject`, and the form of the webhook's body."""

    muted: tuple[str, ...] = ()
    form: Literal["skytally", "alertmanager", "chat"] = "skytally"


class Apel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The virtual organisations for APEL, each by a system of jobs, a group of vms, or a cloud."""

    virtual_organisations: dict[str, ForApel] = {}


class Operator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operator of this skytally; signed statements name the contact."""

    contact: Text | None = None


class BrokenSiteData(Misconfigured):
    """The site data are broken. `place` is for any reader: it quotes nothing but the name of a table."""

    def __init__(self, place: str, sentence: str, *, quoting: str = "") -> None:
        reason = f"clouds.toml, {quoting or place}: {sentence}"
        super().__init__("the server's site data are broken: tell its operator, and ask again", reason=reason)
        self.place = place


class SiteFault(Struct, frozen=True):
    """The fault of broken site data: since when, where, and the reason for the operator. The last good ones count."""

    since: datetime
    place: str
    reason: str


class Site(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All site data."""

    clouds: dict[str, Cloud] = {}
    operator: Operator = Operator()
    calibration: Calibration = Calibration()
    benchmarks: Benchmarks = Benchmarks()
    deny: Deny = Deny()
    alarms: Alarms = Alarms()
    apel: Apel = Apel()
    # The line of each cloud's apel_site in the file.
    apel_lines: dict[str, int | None] = {}

    def cloud(self, name: str) -> Cloud:
        """Return a cloud's data, which may be empty."""
        return self.clouds.get(name, Cloud())

    def check(self, caller: Caller, token_digest: str) -> None:
        """Raise Forbidden for a token on the deny list or renewed from one on it, and for a denied vm's token."""
        if any(digest in self.deny.tokens for digest in (*caller.chain, token_digest)):
            raise _shut_out("this caller")
        if caller.vm is not None:
            self.check_vm(caller, caller.vm)

    def check_vm(self, caller: Caller, vm: str) -> None:
        """Raise Forbidden for a vm on the deny list, whoever reports about it."""
        if any(f"{cloud}/{vm}" in self.deny.vms for cloud in caller.clouds):
            raise _shut_out("this vm")

    def judged(self, items: Sequence[Sample | Rejection], caller: Caller) -> list[Sample | Rejection]:
        """Return a report's items, with a rejection in place of each sample about a vm on the deny list."""
        return [self._judged(index, item, caller) if self.deny.vms else item for index, item in enumerate(items)]

    def _judged(self, index: int, item: Sample | Rejection, caller: Caller) -> Sample | Rejection:
        try:
            if isinstance(item, Sample):
                self.check_vm(caller, item.vm)
        except Forbidden as error:
            return batch.rejection(index, error)
        return item


def _shut_out(who: str) -> Forbidden:
    return Forbidden(f"{who} is shut out by the site's deny list: ask the operator")


def parse(text: str) -> Site:
    """Return the site data of a text, or raise BrokenSiteData with line and field; no text raises any other error."""
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_toml(text, error) from None
    if not tables:
        raise BrokenSiteData(
            "the whole file", "it says nothing: a disk that was full, or a copy under way, leaves it so"
        )
    table_names = {"clouds", *_KINDS}
    for name in sorted(tables.keys() - table_names):
        raise _wrong(text, name, None, f"there is no table {name}: use {', '.join(sorted(table_names))}", is_ours=False)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise _wrong(text, name, None, "must be a table")
    clouds = {name: _table(text, f"clouds.{name}", fields, Cloud) for name, fields in tables.get("clouds", {}).items()}
    rest = {name: _table(text, name, tables[name], kind) for name, kind in _KINDS.items() if name in tables}
    lines = {
        name: _line(text, f"clouds.{name}", "apel_site")
        for name, cloud in clouds.items()
        if cloud.apel_site is not None
    }
    site = Site(clouds=clouds, **rest, apel_lines=lines)
    for name, cloud in clouds.items():
        if cloud.price_per_core_hour is not None and cloud.currency is None:
            raise _wrong(text, f"clouds.{name}", "price_per_core_hour", "a price needs its currency")
    bounds = site.benchmarks
    if bounds.lowest_hs23_per_core > bounds.highest_hs23_per_core:
        field = next(name for name in ("lowest_hs23_per_core", "highest_hs23_per_core") if name in tables["benchmarks"])
        sentence = (
            f"the lowest score, {bounds.lowest_hs23_per_core}, is above the highest, {bounds.highest_hs23_per_core}: "
            "none would count"
        )
        raise _wrong(text, "benchmarks", field, sentence)
    return site


_KINDS: dict[str, type] = {
    "operator": Operator,
    "calibration": Calibration,
    "benchmarks": Benchmarks,
    "deny": Deny,
    "alarms": Alarms,
    "apel": Apel,
}
_HEAD = re.compile(r"\s*\[\s*([A-Za-z0-9_. \"'-]{1,100})\]")


def _no_toml(text: str, error: Exception) -> BrokenSiteData:
    """Return the error of a line that is no TOML, with its table."""
    lines = text.split("\n")
    match = re.search(r"at line (\d+)", str(error))
    line = int(match[1]) if match else len(lines)
    heads = [head[1].strip() for head in map(_HEAD.match, lines[:line]) if head]
    return BrokenSiteData(", ".join([f"line {line}", *heads[-1:]]), str(error))


def _table(text: str, name: str, fields: Any, kind: type) -> Any:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        sentence, _, path = str(error).partition(" - at `$.")
        unknown = re.search(r"unknown field `(.*)`", sentence)
        field = unknown[1] if unknown else re.split(r"[.\[`]", path)[0]
        raise _wrong(text, name, field, sentence, is_ours=unknown is None) from None


def _wrong(text: str, table: str, field: str | None, sentence: str, *, is_ours: bool = True) -> BrokenSiteData:
    """Return an error with the field's line, or its table's; unknown names are for the operator alone."""
    line = _line(text, table, field)
    whole = f"{table}.{field}" if field else table
    readable = whole if is_ours else table if field else ""
    places = [", ".join(part for part in (f"line {line}" if line else "", name) if part) for name in (readable, whole)]
    return BrokenSiteData(places[0] or "a table", sentence, quoting=places[1])


def _line(text: str, table: str, field: str | None) -> int | None:
    lines = text.split("\n")
    heads = [n for n, line in enumerate(lines) if _bare(line).startswith((f"[{_bare(table)}]", f"[{_bare(table)}."))]
    start = heads[0] if heads else -1
    for n, line in enumerate(lines[start + 1 :], start + 1):
        if field and re.match(rf"\s*[\"']?{re.escape(field)}[\"']?\s*[=.]", line):
            return n + 1
        if line.lstrip().startswith("[") and start >= 0:
            break
    return start + 1 if start >= 0 else None


def _bare(text: str) -> str:
    """Return a table's header or name without blanks and quotes."""
    return re.sub(r"[\s\"']", "", text)
