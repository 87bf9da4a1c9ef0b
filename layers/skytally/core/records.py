"""Wire records: the requests and answers of the functions, frozen, with their constraints in the types.

A record that exists is valid: `parse` refuses anything else and names the field. The OpenAPI description is generated
from these classes, so a field is declared once.
"""

import json
import math
import re
import sys
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, TypeVar, get_args
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from skytally.core.errors import Code, Malformed

YEARS_20_SECONDS = 20 * 366 * 86_400
EARLIEST_MOMENT, LATEST_MOMENT = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
MALFORMED_TIME: Code = "malformed_time"

Name = Annotated[
    str,
    Meta(
        min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f-\x9f]+\Z", description="a name, as its owner gave it"
    ),
]
Text = Annotated[str, Meta(max_length=512)]
# A clock that starts in 1970 is off by less than a century.
ClockOffset = Annotated[float, Meta(ge=-3.2e9, le=3.2e9)]
Month = Annotated[str, Meta(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])\Z", description="a calendar month in UTC, YYYY-MM")]
Revision = Annotated[int, Meta(ge=1, le=9_999)]
Moment = Annotated[datetime, Meta(tz=True, description="aware, ISO 8601, from 2000 to 2100; answered in UTC with Z")]
IsoMoment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Uptime = Annotated[float, Meta(ge=0, le=YEARS_20_SECONDS)]
Seconds = Annotated[float, Meta(ge=0, le=YEARS_20_SECONDS * 65_536)]
Bytes = Annotated[int, Meta(ge=0, le=2**60)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Cores = Annotated[int, Meta(ge=1, le=65_536)]
ClaimId = Annotated[str, Meta(pattern=r"^[a-z0-9]{20,64}\Z")]
UnixSeconds = Annotated[int, Meta(ge=0, le=9_999_999_999)]
Hex256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]

T = TypeVar("T")


def parse(body: bytes, kind: type[T]) -> T:
    """Return the record of a JSON text, or raise Malformed with the field's path."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None


# Strings, whose brackets nest nothing, and brackets. A string without an end is one too: else it would be read
# again from each quote within it.
_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)
TOO_DEEP = 50
MOST_DIGITS = 4_000
MOST_ITEMS = 10_000
# Matching brackets takes half a second per MiB.
MOST_FLATTENED_BYTES = 1 << 20
MOST_PAYLOAD_BYTES = 1_500_000


def parse_report(body: bytes, kind: type[T]) -> T:
    """Return a report of many items; an item that is JSON and yet undecodable becomes null, and costs only itself.

    Examples are numbers beyond all floats, half a surrogate pair, bytes that are no UTF-8, and thousands of brackets.
    Raise Malformed for what is no report at all.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise malformed(error) from None  # Its fields are at fault, and no item's JSON.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        repaired = _repaired(body)
        if repaired is None:
            raise malformed(error) from None
    return parse(repaired, kind) if repaired == body else parse_report(repaired, kind)


def _repaired(body: bytes) -> bytes | None:
    """Return a report with null in place of each undecodable item, or None if it has no such item."""
    try:
        # Bytes that are no UTF-8 become halves of surrogate pairs, and so undecodable in their item alone.
        report = json.loads(body.decode(errors="surrogateescape"), parse_int=_whole)
        if not isinstance(report, dict):
            return None
        lists = {name: i for name, i in report.items() if isinstance(i, list) and len(i) <= MOST_ITEMS}
        repaired = {name: [item if _is_decodable(item) else None for item in items] for name, items in lists.items()}
        return None if repaired == lists else json.dumps(report | repaired, allow_nan=False).encode()
    except RecursionError:
        return _flattened(body) if len(body) <= MOST_FLATTENED_BYTES else None
    except ValueError:
        return None


def _whole(digits: str) -> float:
    """Return a whole number; for more digits than Python reads, return one that is beyond every field's bounds too."""
    if len(digits) <= MOST_DIGITS:
        return int(digits)
    return math.copysign(sys.float_info.max, -1 if digits.startswith("-") else 1)


def _flattened(body: bytes) -> bytes:
    """Return JSON with null in place of values nested more deeply than any record; read it without recursion."""
    pieces, depth, kept_until = [], 0, 0
    for token in _NESTING.finditer(body):
        if token[0] in b"[{":
            depth += 1
            if depth == TOO_DEEP:
                pieces.append(body[kept_until : token.start()] + b"null")
        elif token[0] in b"]}":
            if depth == TOO_DEEP:
                kept_until = token.end()
            depth -= 1
    return b"".join(pieces) + body[kept_until:] if depth == 0 else body


def _is_decodable(item: Any) -> bool:
    try:
        msgspec.json.decode(json.dumps(item, allow_nan=False))
    except (ValueError, RecursionError):
        return False
    return True


def convert(fields: Any, kind: type[T], *, strict: bool = True) -> T:
    """Return the record of plain values (form fields with `strict=False`), or raise Malformed with the field's path."""
    try:
        return msgspec.convert(fields, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise malformed(error) from None


def month(text: str) -> str:
    """Return a requested month, or raise Malformed."""
    try:
        return msgspec.convert(text, Month)
    except msgspec.ValidationError:
        raise Malformed("month must be YYYY-MM, in UTC, such as 2026-10", field="month") from None


def malformed(error: Exception) -> Malformed:
    """Return the error of msgspec's, with the field's path as users write it: `samples[3].counters.wall_seconds`."""
    sentence, _, path = str(error).partition(" - at `$")
    field, cause = path.rstrip("`").lstrip("."), error.__cause__
    if isinstance(cause, TimeOutOfRange):
        field = f"{field}.{cause.field}" if field else cause.field
    is_time = isinstance(cause, TimeOutOfRange) or "timezone component" in sentence or "RFC3339" in sentence
    details = {"field": field} if field else {}
    return Malformed(
        f"{sentence}{f' in {field}' if field else ''}: see openapi.json for this function's body",
        code=MALFORMED_TIME if is_time else None,
        **details,
    )


def revision(text: str) -> int:
    """Return a requested revision number, or raise Malformed."""
    try:
        return msgspec.convert(text, Revision, strict=False)
    except msgspec.ValidationError:
        raise Malformed("revision must be a whole number from 1 to 9999", field="revision") from None


class TimeOutOfRange(ValueError):
    """A time outside 2000 to 2100; names the field."""

    def __init__(self, field: str) -> None:
        super().__init__("a moment must lie from 2000 to 2100")
        self.field = field


class WireRecord(Struct, frozen=True, kw_only=True, gc=False):
    """The base of wire records with times.

    Invariant: each time lies from 2000 to 2100, so no conversion of it overflows.
    """

    def __post_init__(self) -> None:
        """Raise TimeOutOfRange for an impossible time."""
        for field in _moments_of(type(self)):
            value = getattr(self, field)
            if value is not None and not EARLIEST_MOMENT <= value <= LATEST_MOMENT:
                raise TimeOutOfRange(field)


@cache
def _moments_of(kind: type[WireRecord]) -> tuple[str, ...]:
    """Return the names of a record's fields that hold a moment."""
    return tuple(field.name for field in msgspec.structs.fields(kind) if Moment in {field.type, *get_args(field.type)})


def iso(moment: datetime) -> str:
    """Return a time in wire format: UTC with Z, and milliseconds only if there are any."""
    utc = moment.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds" if utc.microsecond else "seconds").replace("+00:00", "Z")


class Labels(Struct, frozen=True, kw_only=True):
    """Where a vm belongs; None is unknown."""

    cloud: Name
    site: Name | None = None
    group: Name | None = None
    flavor: Name | None = None


class Caller(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A token's holder; an empty `clouds` of a scheduler or reader means all clouds.

    `chain` are the SHA-256 of the tokens from which this one was renewed. The first is the id of the whole chain.
    """

    role: str
    expires: int
    issued: int
    clouds: tuple[Name, ...] = ()
    vm: Name | None = None
    site: Name | None = None
    group: Name | None = None
    flavor: Name | None = None
    chain: tuple[Hex256, ...] = ()

    def may_touch(self, cloud: str) -> bool:
        """Return whether this caller may read and write about a cloud."""
        return not self.clouds or cloud in self.clouds


class Deposit(Struct, frozen=True, kw_only=True):
    """POST secret_deposit: a payload for one vm, or for each of several that boot with one user-data."""

    cloud: Name
    payload: Annotated[bytes, Meta(max_length=MOST_PAYLOAD_BYTES, description="base64 of the opaque payload")]
    vm: Name | None = None
    vms: Annotated[tuple[Name, ...], Meta(max_length=1_000)] = ()
    site: Name | None = None
    group: Name | None = None
    flavor: Name | None = None
    cores: Cores | None = None
    expires_in_seconds: Annotated[int, Meta(ge=60, le=604_800)] = 3_600
    sources: Annotated[tuple[Text, ...], Meta(max_length=64, description="CIDRs that may claim; empty: any")] = ()
    hostname: Name | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a deposit without a vm, with both `vm` and `vms`, or with a name twice."""
        if (self.vm is None) == (not self.vms):
            raise ValueError("give either vm or vms")
        if len(set(self.vms)) != len(self.vms):
            raise ValueError("vms names one vm twice")


class Claim(Struct, frozen=True, kw_only=True):
    """POST secret_claim: a public key, and the proof that its sender holds the claim's secret."""

    claim: ClaimId
    expires: UnixSeconds
    public_key: Annotated[str, Meta(min_length=1, max_length=8_192)]
    proof: Hex256
    vm: Name | None = None


class Revocation(Struct, frozen=True, kw_only=True):
    """POST secret_revoke: the claim to revoke."""

    claim: ClaimId
    expires: UnixSeconds


class Counters(Struct, frozen=True, kw_only=True, gc=False):
    """What a vm counted since its boot."""

    wall_seconds: Seconds
    core_seconds: Seconds
    user_seconds: Seconds
    system_seconds: Seconds
    idle_seconds: Seconds
    nice_seconds: Seconds = 0.0
    iowait_seconds: Seconds = 0.0
    steal_seconds: Seconds = 0.0
    suspended_seconds: Seconds = 0.0
    network_received_bytes: Bytes = 0
    network_sent_bytes: Bytes = 0

    @property
    def cpu_seconds(self) -> float:
        """Return user, nice and system time; user includes guest time."""
        return self.user_seconds + self.nice_seconds + self.system_seconds


class Previous(WireRecord, frozen=True, kw_only=True):
    """The sample before this one, of the same boot."""

    sampled_at: Moment
    uptime_seconds: Uptime
    counters: Counters


class Benchmark(WireRecord, frozen=True, kw_only=True):
    """A benchmark's scores per core, with what they depend on."""

    kernel: Name
    kernel_version: Text | Annotated[int, Meta(ge=0, le=2**53)] | None = None
    score_wall: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    score_cpu: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    score_hs23: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    copies: Cores | None = None
    steal_fraction: Annotated[float, Meta(ge=0, le=1)] | None = None
    duration_seconds: Annotated[float, Meta(ge=0, le=366 * 86_400)] | None = None
    interpreter: Text | None = None
    cpu_model: Text | None = None
    measured_at: Moment | None = None


NULL = msgspec.Raw(b"null")


class Sample(WireRecord, frozen=True, kw_only=True):
    """What a vm measured at one moment, cumulative since boot, with the month's start and the sample before.

    `benchmark` is parsed by itself, so that a bad one does not cost the accounting; see `benchmark_of`. `most_cores` is
    the highest number of cores that the boot had at once, if that is more than `cores`. `estimated`: the counters at
    the month's start, or the core time before the first sample, were not measured.
    """

    vm: Name
    boot_id: UUID
    boot_at: Moment
    sampled_at: Moment
    uptime_seconds: Uptime
    month: Month
    cores: Cores
    most_cores: Cores | None = None
    counters: Counters
    month_start: Counters
    previous: Previous | None = None
    final: bool = False
    estimated: bool = False
    memory_bytes: Bytes | None = None
    disk_bytes: Bytes | None = None
    cpu_model: Text | None = None
    agent_version: Text | None = None
    benchmark: Annotated[msgspec.Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/Benchmark"})] = (
        msgspec.field(default_factory=lambda: NULL)
    )
    clock_offset_seconds: ClockOffset | None = None
    cloud: Name | None = None
    site: Name | None = None
    group: Name | None = None
    flavor: Name | None = None


def benchmark_of(sample: Sample) -> Benchmark | None:
    """Return a sample's benchmark, None where it has none; raise Malformed with the field's path."""
    if sample.benchmark == NULL:
        return None
    return parse(sample.benchmark, Benchmark | None)  # type: ignore[arg-type]


class Samples(Struct, frozen=True):
    """POST usage_report: up to 10 000 samples, each judged by itself."""

    samples: Annotated[tuple[msgspec.Raw, ...], Meta(min_length=1, max_length=MOST_ITEMS)]


class GoodSamples(Struct, frozen=True):
    """The same with nothing but good samples, which is read in one pass."""

    samples: Annotated[tuple[Sample, ...], Meta(min_length=1, max_length=MOST_ITEMS)]


class HeartbeatReport(WireRecord, frozen=True, kw_only=True):
    """POST job_heartbeat: the DIRAC jobs that run on a vm, or ran at `seen_at`, up to three days ago, in a late report.

    Each job is judged by itself. `sources` says how many processes could be looked into.
    """

    vm: Name
    jobs: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=MOST_ITEMS)]
    seen_at: Moment | None = None
    sources: Annotated[dict[Annotated[str, Meta(max_length=64)], Count], Meta(max_length=64)] | None = None


class BatchVm(WireRecord, frozen=True, kw_only=True):
    """A vm's life as its batch scheduler saw it; without `ended_at` it lives."""

    vm: Name
    cloud: Name
    site: Name | None = None
    flavor: Name | None = None
    cores: Cores | None = None
    started_at: Moment
    ended_at: Moment | None = None
    state: Text | None = None


class BatchJob(WireRecord, frozen=True, kw_only=True):
    """One run of a batch job on a vm; `cloud` where the scheduler knows it, else it is the vm's."""

    batch_id: Name
    vm: Name
    cloud: Name | None = None
    slot: Text | None = None
    started_at: Moment
    ended_at: Moment | None = None
    wall_seconds: Seconds | None = None
    cpu_seconds: Seconds | None = None
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**32)] | None = None
    state: Text


class Placements(WireRecord, frozen=True, kw_only=True):
    """POST placement_report: up to 10 000 of each, each judged by itself.

    `listed_at` is when the scheduler began to list these vms, by its own clock, and so tells in which order reports
    were made; without it that is the order in which they come.
    """

    listed_at: Moment | None = None
    vms: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=MOST_ITEMS)] = ()
    jobs: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=MOST_ITEMS)] = ()


class Rejection(Struct, frozen=True):
    """One item that was not kept, and why."""

    index: Annotated[int, Meta(description="the item's place in the report, from 0")]
    code: Code
    message: str


class Receipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a report's items; `accepted` are durable, `stale` were known in a newer form."""

    accepted: int
    stale: int
    rejected: list[Rejection]
    server_time: datetime
    token: Annotated[str | None, Meta(description="a fresh token, once the caller's is past half its life")] = None
