"""APEL's messages: their text, and the rules by which its loader takes or refuses them, applied before anything is sent.

A message is a header, then records of `Key: value` lines with `%%` between them, in ASCII, at most 1 000 records. The loader refuses a
whole message for one unknown key or one float where an int belongs, and takes negative or absurd durations without a word: so these are
refused here. Source: APEL 2.5's record classes and SSM 4.0's limits.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from skytally.errors import Malformed

MOST_RECORDS = 1_000
LONGEST_TEXT = 255
SEPARATOR = "%%"
NULLS = {"none", "null", ""}
IN_FUTURE = timedelta(days=2)
# As the server allows for the samples themselves: clocks are read one after another.
TOLERANCE_SHARE, TOLERANCE_SECONDS = 1.02, 60
Value = str | int | float | datetime | Mapping[str, int] | None


class MessageType(Struct, frozen=True):
    """A kind of message: its header, and its keys in order with how each is written; mandatory ones are named."""

    header: str
    keys: Mapping[str, str]
    mandatory: frozenset[str]

    @property
    def name(self) -> str:
        """Answer the header without its version."""
        return self.header.partition(":")[0]


def _keys(text: str) -> dict[str, str]:
    """Read `Key` (text), `Key:int`, `Key:float`, `Key:moment`, `Key:levels` (a number for each benchmark)."""
    return {key: kind or "text" for key, _, kind in (word.partition(":") for word in text.split())}


CLOUD = MessageType(
    "APEL-cloud-message: v0.4",
    _keys(
        "RecordCreateTime:moment VMUUID SiteName CloudComputeService MachineName LocalUserId LocalGroupId GlobalUserName FQAN Status "
        "StartTime:moment EndTime:moment SuspendDuration:int WallDuration:int CpuDuration:int CpuCount:float NetworkType "
        "NetworkInbound:int NetworkOutbound:int PublicIPCount:int Memory:int Disk:int BenchmarkType Benchmark:float StorageRecordId "
        "ImageId CloudType"
    ),
    frozenset({"VMUUID", "SiteName"}),
)
CLOUD_SUMMARY = MessageType(
    "APEL-cloud-summary-message: v0.4",
    _keys(
        "SiteName CloudComputeService Month:int Year:int GlobalUserName VO VOGroup VORole Status CloudType ImageId "
        "EarliestStartTime:moment LatestStartTime:moment WallDuration:int CpuDuration:int CpuCount:float NetworkInbound:int "
        "NetworkOutbound:int Memory:int Disk:int BenchmarkType Benchmark:float NumberOfVMs:int"
    ),
    frozenset({"SiteName", "Month", "Year", "NumberOfVMs"}),
)
JOB_SUMMARY = MessageType(
    "APEL-normalised-summary-message: v0.4",
    _keys(
        "Site Month:int Year:int GlobalUserName VO VOGroup VORole SubmitHost Infrastructure InfrastructureDescription NodeCount:int "
        "Processors:int EarliestEndTime:moment LatestEndTime:moment WallDuration:int CpuDuration:int NormalisedWallDuration:levels "
        "NormalisedCpuDuration:levels NumberOfJobs:int"
    ),
    frozenset({"Site", "Month", "Year", "WallDuration", "CpuDuration", "NormalisedWallDuration", "NormalisedCpuDuration", "NumberOfJobs"}),
)
TYPES = {kind.name: kind for kind in (CLOUD, CLOUD_SUMMARY, JOB_SUMMARY)}


def message(kind: MessageType, records: Iterable[Mapping[str, Value]]) -> str:
    """Write a message; a key whose value is None is left out."""
    written = ["".join(f"{key}: {_text(record[key])}\n" for key in kind.keys if record.get(key) is not None) for record in records]
    return f"{kind.header}\n" + f"{SEPARATOR}\n".join(written)


def _text(value: Value) -> str:
    if isinstance(value, datetime):
        return str(int(value.timestamp()))
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{benchmark}: {number}' for benchmark, number in value.items())}}}"
    if isinstance(value, str):
        return value.encode("ascii", "backslashreplace").decode().replace(SEPARATOR, "%25%25")[:LONGEST_TEXT]
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def check(text: str, now: datetime) -> int:
    """Answer how many records a message holds, or raise Malformed, which names the record and the key that APEL would refuse."""
    header, _, rest = text.partition("\n")
    kind = TYPES.get(header.partition(":")[0].strip())
    if kind is None or not text.isascii():
        raise Malformed(f"no APEL message: it begins with {', '.join(known.header for known in TYPES.values())} and is ASCII")
    records = [record for record in rest.split(SEPARATOR) if record.strip()]
    if len(records) > MOST_RECORDS:
        raise Malformed(f"{len(records)} records in one message: APEL takes {MOST_RECORDS}, send several messages")
    for number, record in enumerate(records, 1):
        for problem in _problems(_fields(record), kind, now):
            raise Malformed(f"record {number} of {kind.name}: {problem}")
    return len(records)


def _fields(record: str) -> list[tuple[str, str]]:
    """Read `Key: value` lines as the loader does."""
    return [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in record.strip().splitlines())]


def _problems(fields: list[tuple[str, str]], kind: MessageType, now: datetime) -> Iterator[str]:
    """Find what the loader would refuse, then what it should."""
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
    yield from _absurdities({key: float(values[key]) for key, form in kind.keys.items() if form in NUMBERS and key in values}, now)


FORMS: dict[str, Callable[[str], bool]] = {
    "text": lambda value: len(value) <= LONGEST_TEXT,
    "int": lambda value: re.fullmatch(r"-?\d{1,18}", value) is not None,
    "float": lambda value: re.fullmatch(r"-?\d{1,18}(\.\d+)?", value) is not None,
    "moment": lambda value: re.fullmatch(r"[1-9]\d{0,10}", value) is not None,
    "levels": lambda value: re.fullmatch(r"\{\w+: \d{1,18}(, \w+: \d{1,18})*\}", value) is not None,
}
NUMBERS = {"int", "float", "moment"}


def _absurdities(numbers: Mapping[str, float], now: datetime) -> Iterator[str]:
    """Find what is a number and cannot be."""
    for key, value in numbers.items():
        if value < 0:
            yield f"{key} is negative"
    start, end = numbers.get("StartTime"), numbers.get("EndTime")
    latest = (now + IN_FUTURE).timestamp()
    if any(numbers.get(key, 0) > latest for key in ("StartTime", "EndTime", "RecordCreateTime", "EarliestEndTime", "LatestEndTime")):
        yield "a time lies in the future"
    if start is not None and end is not None and end < start:
        yield "EndTime is before StartTime"
    until = end if end is not None else numbers.get("RecordCreateTime")
    if start is not None and until is not None and _exceeds(numbers.get("WallDuration", 0), until - start):
        yield "WallDuration is longer than the vm ran"
    if "CpuCount" in numbers and _exceeds(numbers.get("CpuDuration", 0), numbers.get("WallDuration", 0) * numbers["CpuCount"]):
        yield "CpuDuration is more than the cores can give"
    if "Month" in numbers and not (1 <= numbers["Month"] <= 12 and (numbers["Year"], numbers["Month"]) <= (now.year, now.month)):
        yield "the month is none, or lies in the future"
    if any(numbers.get(key) == 0 for key in ("NumberOfJobs", "NumberOfVMs", "CpuCount", "Processors")):
        yield "it counts nothing"


def _exceeds(part: float, whole: float) -> bool:
    return part > whole * TOLERANCE_SHARE + TOLERANCE_SECONDS


def parts(records: list[Mapping[str, Value]]) -> list[list[Mapping[str, Value]]]:
    """Cut records into as many messages as APEL's limit needs; no records are one empty message."""
    return [records[start : start + MOST_RECORDS] for start in range(0, max(len(records), 1), MOST_RECORDS)]


def part(messages: Sequence[str], part: str | None) -> str:
    """Choose a message; where there are several, none is left out silently."""
    if part is None and len(messages) == 1:
        return messages[0]
    if part is None or not part.isascii() or not part.isdigit() or not 1 <= int(part) <= len(messages):
        last = f" to part={len(messages)}" if len(messages) > 1 else ""
        raise Malformed(f"this month comes in parts: ask for each by part=1{last}", field="part")
    return messages[int(part) - 1]
