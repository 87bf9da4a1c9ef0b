"""APEL messages: their text, and the rules of APEL's loader, applied before anything is sent.

A message is a header, then records of `Key: value` lines with `%%` between them, in ASCII, at most 1 000 records. The
loader refuses a whole message for one unknown key, one float in place of an int or one missing mandatory column. It
accepts negative and absurd durations, which are refused here. Source: APEL 2.5's record classes and tables, and SSM
4.0's limits.
"""

import re
from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise

from msgspec import Struct

from skytally.core.errors import Malformed

MOST_RECORDS = 1_000
LONGEST_TEXT = 255
SEPARATOR = "%%"
NULLS = {"none", "null", ""}
IN_FUTURE = timedelta(days=2)
COMPLETED = "completed"
# Its columns are DECIMAL(10,3), and no machine has more cores.
MOST = {"CpuCount": 65_536, "Benchmark": 9_999_999}
# The tolerance of samples: clocks are read one after another.
TOLERANCE_SHARE, TOLERANCE_SECONDS = 1.02, 60
Value = str | int | float | datetime | Mapping[str, int] | None


class MessageType(Struct, frozen=True):
    """A kind of message: its header, its keys in order with their formats, and its mandatory keys."""

    header: str
    keys: Mapping[str, str]
    mandatory: frozenset[str]

    @property
    def name(self) -> str:
        """Return the header without its version."""
        return self.header.partition(":")[0]


def _keys(text: str) -> dict[str, str]:
    """Return keys and formats of `Key` (text), `Key:int`, `Key:float`, `Key:moment` or `Key:levels` (by benchmark)."""
    return {key: kind or "text" for key, _, kind in (word.partition(":") for word in text.split())}


CLOUD = MessageType(
    "APEL-cloud-message: v0.4",
    _keys(
        "RecordCreateTime:moment VMUUID SiteName CloudComputeService MachineName LocalUserId LocalGroupId "
        "GlobalUserName FQAN Status "
        "StartTime:moment EndTime:moment SuspendDuration:int WallDuration:int CpuDuration:int CpuCount:float "
        "NetworkType "
        "NetworkInbound:int NetworkOutbound:int PublicIPCount:int Memory:int Disk:int BenchmarkType Benchmark:float "
        "StorageRecordId "
        "ImageId CloudType"
    ),
    frozenset({"VMUUID", "SiteName"}),
)
CLOUD_SUMMARY = MessageType(
    "APEL-cloud-summary-message: v0.4",
    _keys(
        "SiteName CloudComputeService Month:int Year:int GlobalUserName VO VOGroup VORole Status CloudType ImageId "
        "EarliestStartTime:moment LatestStartTime:moment WallDuration:int CpuDuration:int CpuCount:float "
        "NetworkInbound:int "
        "NetworkOutbound:int Memory:int Disk:int BenchmarkType Benchmark:float NumberOfVMs:int"
    ),
    frozenset({"SiteName", "Month", "Year", "CpuCount", "Benchmark", "NumberOfVMs"}),
)
JOB_SUMMARY = MessageType(
    "APEL-normalised-summary-message: v0.4",
    _keys(
        "Site Month:int Year:int GlobalUserName VO VOGroup VORole SubmitHost Infrastructure InfrastructureDescription "
        "NodeCount:int "
        "Processors:int EarliestEndTime:moment LatestEndTime:moment WallDuration:int CpuDuration:int "
        "NormalisedWallDuration:levels "
        "NormalisedCpuDuration:levels NumberOfJobs:int"
    ),
    frozenset({"Site", "Month", "Year", "NodeCount", "Processors", "WallDuration", "CpuDuration", "NumberOfJobs"})
    | {"NormalisedWallDuration", "NormalisedCpuDuration"},
)
TYPES = {kind.name: kind for kind in (CLOUD, CLOUD_SUMMARY, JOB_SUMMARY)}


def message(kind: MessageType, records: Iterable[Mapping[str, Value]]) -> str:
    """Return a message; a key whose value is None is left out."""
    return f"{kind.header}\n" + f"{SEPARATOR}\n".join(_record_text(kind, record) for record in records)


def _record_text(kind: MessageType, record: Mapping[str, Value]) -> str:
    return "".join(f"{key}: {_text(record[key])}\n" for key in kind.keys if record.get(key) is not None)


def _text(value: Value) -> str:
    if isinstance(value, datetime):
        return str(int(value.timestamp()))
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{benchmark}: {number}' for benchmark, number in value.items())}}}"
    if isinstance(value, str):
        return plain(value)
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def plain(text: str) -> str:
    """Return a text as a message can hold it: printable ASCII with escapes, within a column's width, no separator."""
    return text.encode("unicode_escape").decode("ascii").replace(SEPARATOR, "%25%25")[:LONGEST_TEXT]


def fault_of_name(name: str) -> str | None:
    """Return why a name would not arrive unchanged, or None if it does."""
    if name.strip().lower() in NULLS:
        return "is what APEL takes for no name at all"
    return None if name == plain(name).strip() else "is not plain ASCII without blanks around it"


def fault_of_organisation(name: str) -> str | None:
    """Return why the server would read another virtual organisation from this name as FQAN, or None."""
    return fault_of_name(name) or ("is a FQAN: name the virtual organisation alone" if {"/", ";"} & set(name) else None)


def whole_numbers(values: Iterable[float]) -> list[int]:
    """Return numbers rounded so that all add up to their rounded sum, and any adjacent ones to within 1 of theirs."""
    return [after - before for before, after in pairwise(map(round, accumulate(values, initial=0.0)))]


def check(text: str, now: datetime) -> int:
    """Return a message's number of records; raise Malformed with the record and key that APEL would refuse."""
    header, _, rest = text.partition("\n")
    kind = TYPES.get(header.partition(":")[0].strip())
    if kind is None or not text.isascii():
        raise Malformed(
            f"no APEL message: it begins with {', '.join(kind.header for kind in TYPES.values())} and is ASCII"
        )
    records = [record for record in rest.split(SEPARATOR) if record.strip()]
    if len(records) > MOST_RECORDS:
        raise Malformed(f"{len(records)} records in one message: APEL takes {MOST_RECORDS}, send several messages")
    for number, record in enumerate(records, 1):
        for problem in _problems(_fields(record), kind, now):
            raise Malformed(f"record {number} of {kind.name}: {problem}")
    return len(records)


def problem(kind: MessageType, record: Mapping[str, Value], now: datetime) -> str | None:
    """Return why a record must not be sent, or None if it may."""
    return next(_problems(_fields(_record_text(kind, record)), kind, now), None)


def _fields(record: str) -> list[tuple[str, str]]:
    """Return the pairs of `Key: value` lines as the loader reads them."""
    return [
        (key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in record.strip().splitlines())
    ]


def _problems(fields: list[tuple[str, str]], kind: MessageType, now: datetime) -> Iterator[str]:
    """Return what the loader refuses, then what it should refuse."""
    values = {key: value for key, value in fields if value.lower() not in NULLS}
    if len({key for key, _ in fields}) != len(fields):
        yield "a key comes twice"
    for key, value in values.items():
        if key not in kind.keys:
            yield f"there is no key {key}"
        elif not FORMS[kind.keys[key]](value):
            yield f"{key} is no {kind.keys[key]}: {value[:40]}"
    for key in sorted(kind.mandatory - values.keys()):
        yield f"{key} is missing"
    numbers = {key: float(values[key]) for key, form in kind.keys.items() if form in NUMBERS and key in values}
    if kind is CLOUD:
        yield from _misplaced(values.get("Status"), numbers)
    yield from _absurdities(numbers, now)


def _misplaced(status: str | None, numbers: Mapping[str, float]) -> Iterator[str]:
    """Return the faults of a record that the server would count in another month than that of its usage.

    The server counts a completed vm by its EndTime, any other by RecordCreateTime.
    """
    if status == COMPLETED and "EndTime" not in numbers:
        yield "EndTime is missing, and the vm is over"
    moments = [
        datetime.fromtimestamp(numbers[key], UTC)
        for key in ("StartTime", "EndTime", "RecordCreateTime")
        if key in numbers
    ]
    if len({(moment.year, moment.month) for moment in moments}) > 1:
        yield "its times lie in several months"


FORMS: dict[str, Callable[[str], bool]] = {
    "text": lambda value: len(value) <= LONGEST_TEXT,
    "int": lambda value: re.fullmatch(r"-?\d{1,18}", value) is not None,
    "float": lambda value: re.fullmatch(r"-?\d{1,18}(\.\d+)?", value) is not None,
    "moment": lambda value: re.fullmatch(r"[1-9]\d{0,10}", value) is not None,
    "levels": lambda value: re.fullmatch(r"\{\w+: \d{1,18}(, \w+: \d{1,18})*\}", value) is not None,
}
NUMBERS = {"int", "float", "moment"}


def _absurdities(numbers: Mapping[str, float], now: datetime) -> Iterator[str]:
    """Return the faults of impossible numbers."""
    for key, value in numbers.items():
        if value < 0:
            yield f"{key} is negative"
        if value > MOST.get(key, value):
            yield f"{key} is absurd: {value:g}"
    if any(numbers.get(key) == 0 for key in ("NumberOfJobs", "CpuCount", "Processors")):
        yield "it counts nothing"
    yield from _impossible_times(numbers, (now + IN_FUTURE).timestamp())
    yield from _impossible_durations(numbers)
    if "Month" in numbers:
        yield from _impossible_months(numbers, now)


def _impossible_times(numbers: Mapping[str, float], latest: float) -> Iterator[str]:
    start, end = numbers.get("StartTime"), numbers.get("EndTime")
    if any(
        numbers.get(key, 0) > latest
        for key in ("StartTime", "EndTime", "RecordCreateTime", "EarliestEndTime", "LatestEndTime")
    ):
        yield "a time lies in the future"
    if start is not None and end is not None and end < start:
        yield "EndTime is before StartTime"
    until = end if end is not None else numbers.get("RecordCreateTime")
    if start is not None and until is not None and _exceeds(numbers.get("WallDuration", 0), until - start):
        yield "WallDuration is longer than the vm ran"


def _impossible_durations(numbers: Mapping[str, float]) -> Iterator[str]:
    wall, cpu = numbers.get("WallDuration", 0), numbers.get("CpuDuration", 0)
    if "CpuCount" in numbers and _exceeds(cpu, wall * numbers["CpuCount"]):
        yield "CpuDuration is more than the cores can give"


def _impossible_months(numbers: Mapping[str, float], now: datetime) -> Iterator[str]:
    if not (
        1 <= numbers["Month"] <= 12
        and numbers["Year"] >= 1
        and (numbers["Year"], numbers["Month"]) <= (now.year, now.month)
    ):
        yield "the month is none, or lies in the future"
    elif "NumberOfVMs" in numbers and _exceeds(
        numbers.get("WallDuration", 0), numbers["NumberOfVMs"] * _month_seconds(numbers)
    ):
        yield "WallDuration is longer than its vms can have run in the month"


def _month_seconds(numbers: Mapping[str, float]) -> int:
    return monthrange(int(numbers["Year"]), int(numbers["Month"]))[1] * 86_400


def _exceeds(part: float, whole: float) -> bool:
    return part > whole * TOLERANCE_SHARE + TOLERANCE_SECONDS


def parts(records: Sequence[Mapping[str, Value]]) -> list[Sequence[Mapping[str, Value]]]:
    """Return the records of each message within APEL's limit; without records there is one empty message."""
    return [records[start : start + MOST_RECORDS] for start in range(0, max(len(records), 1), MOST_RECORDS)]


def part(messages: Sequence[str], part: str | None) -> str:
    """Return the requested message; raise Malformed if there are several and none was requested."""
    if part is None and len(messages) == 1:
        return messages[0]
    if part is None or not re.fullmatch("[0-9]{1,9}", part) or not 1 <= int(part) <= len(messages):
        last = f" to part={len(messages)}" if len(messages) > 1 else ""
        raise Malformed(f"this month comes in parts: ask for each by part=1{last}", field="part")
    return messages[int(part) - 1]
