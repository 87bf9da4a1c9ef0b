"""A model of APEL's server: what its loader takes, which rows it keeps, and what its summariser makes of them.

It is as strict as the real one (APEL 2.5 on MariaDB in strict mode): a message is loaded whole or refused whole, a row
replaces the one with its key, and nothing is ever removed but by the summariser's cleaning. Text in keys is compared as
the database's collation does, without regard to case.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

NULLS = {"none", "null", ""}
BIGGEST = {"DECIMAL": Decimal("9999999.999"), "INT": 2**31 - 1, "BIGINT": 2**63 - 1}


def columns(text):
    """Return the names of a table's columns."""
    return text.split()


CLOUD_TEXT = columns(
    "VMUUID SiteName CloudComputeService MachineName LocalUserId LocalGroupId GlobalUserName FQAN Status NetworkType "
    "BenchmarkType "
    "StorageRecordId ImageId CloudType"
)
CLOUD_INTS = columns(
    "SuspendDuration WallDuration CpuDuration NetworkInbound NetworkOutbound PublicIPCount Memory Disk"
)
SUMMARY_TEXT = columns(
    "SiteName CloudComputeService GlobalUserName VO VOGroup VORole Status CloudType ImageId BenchmarkType"
)
SUMMARY_INTS = columns("Month Year WallDuration CpuDuration NetworkInbound NetworkOutbound Memory Disk NumberOfVMs")
JOB_TEXT = columns("Site GlobalUserName VO VOGroup VORole SubmitHost Infrastructure InfrastructureDescription")
JOB_INTS = columns("Month Year NodeCount Processors WallDuration CpuDuration NumberOfJobs")
DECIMALS = ["CpuCount", "Benchmark"]
USER = ("GlobalUserName", "VO", "VOGroup", "VORole")
SUMMARY_KEY = (
    "SiteName",
    "CloudComputeService",
    "Month",
    "Year",
    *USER,
    "Status",
    "ImageId",
    "CpuCount",
    "BenchmarkType",
    "Benchmark",
)
JOB_KEY = (
    "Site",
    "Month",
    "Year",
    *USER,
    "SubmitHost",
    "Infrastructure",
    "NodeCount",
    "Processors",
    "ServiceLevelType",
)


class RefusedError(Exception):
    """The loader puts the whole message into its reject queue."""


@dataclass
class Totals:
    """What the accounting portal shows of a site's cloud, a virtual organisation and a month, in seconds."""

    wall: int = 0
    cpu: int = 0
    core: Decimal = Decimal(0)
    hs23: Decimal = Decimal(0)
    vms: int = 0


class ApelServer:
    """The tables CloudRecords, CloudSummaries and NormalisedSummaries."""

    def __init__(self):
        self.cloud_records, self.cloud_summaries, self.job_summaries = {}, {}, {}
        self.now = datetime(2026, 12, 1, tzinfo=UTC)

    def load(self, text):
        """Load a message, or raise RefusedError and keep nothing of it."""
        if not text.isascii():
            raise RefusedError("SSM carries ASCII only")
        header, _, body = text.strip().partition("\n")
        kind = header.partition(":")[0].strip()
        reads = {
            "APEL-cloud-message": (self._cloud_record, self.cloud_records),
            "APEL-cloud-summary-message": (self._cloud_summary, self.cloud_summaries),
            "APEL-normalised-summary-message": (self._job_summary, self.job_summaries),
        }
        if kind not in reads:
            raise RefusedError(f"message type {header} not recognised")
        read, table = reads[kind]
        rows = [read(fields_of(record)) for record in body.split("%%") if record.strip()]
        for key, row in rows:
            table[key] = row | {"UpdateTime": self.now}

    def _cloud_record(self, fields):
        row = typed(
            fields,
            CLOUD_TEXT,
            CLOUD_INTS,
            DECIMALS,
            ["RecordCreateTime", "StartTime", "EndTime"],
            ["VMUUID", "SiteName"],
        )
        row |= {name: row[name] or decimal("0") for name in DECIMALS}
        row |= organisation(row["FQAN"])
        at = row["EndTime"] if row["Status"] == "completed" else row["RecordCreateTime"]
        if at is None and row["Status"] != "completed" and row["StartTime"]:
            at = row["StartTime"] + timedelta(seconds=(row["SuspendDuration"] or 0) + (row["WallDuration"] or 0))
        row |= {"MeasurementTime": at, "Month": at.month if at else 0, "Year": at.year if at else 0}
        return (row["VMUUID"].casefold(), row["Month"], row["Year"]), row

    def _cloud_summary(self, fields):
        mandatory = ["SiteName", "Month", "Year", "NumberOfVMs"]
        row = typed(fields, SUMMARY_TEXT, SUMMARY_INTS, DECIMALS, ["EarliestStartTime", "LatestStartTime"], mandatory)
        for column in DECIMALS:
            if row[column] is None:
                raise RefusedError(f"Column '{column}' cannot be null")
        return key_of(row, SUMMARY_KEY), row

    def _job_summary(self, fields):
        levels = {}
        for name in ("NormalisedWallDuration", "NormalisedCpuDuration"):
            level, _, number = fields.pop(name, "").strip("{}").partition(":")
            if level.lower() not in {"hepscore23", "hepspec", "si2k"}:
                raise RefusedError(f"{name} holds no benchmark")
            levels |= {"ServiceLevelType": level.lower(), name: round(float(number))}
        mandatory = ["Site", "Month", "Year", "WallDuration", "CpuDuration", "NumberOfJobs"]
        row = typed(fields, JOB_TEXT, JOB_INTS, [], ["EarliestEndTime", "LatestEndTime"], mandatory) | levels
        for column in ("NodeCount", "Processors"):
            if row[column] is None:
                raise RefusedError(f"Column '{column}' cannot be null")
        if (row["Year"], row["Month"]) > (self.now.year, self.now.month):
            raise RefusedError("Month specified in record is in the future.")
        return key_of(row, JOB_KEY), row

    def summarise(self, stale_days=2):
        """Add up cloud records into summaries;
        a row of an old group stays, unless its month is that of two days ago or later.
        """
        groups = defaultdict(list)
        for (vmuuid, _, _), row in self.cloud_records.items():
            groups[key_of(row, SUMMARY_KEY)].append((row, self._before(vmuuid, row)))
        for key, pairs in groups.items():
            first = pairs[0][0]
            sums = {
                name: sum(row[name] - (before[name] if before else 0) for row, before in pairs)
                for name in ("WallDuration", "CpuDuration")
            }
            self.cloud_summaries[key] = (
                {name: first[name] for name in SUMMARY_KEY}
                | sums
                | {
                    "NumberOfVMs": len(pairs),
                    "UpdateTime": self.now,
                }
            )
        since = self.now - timedelta(days=stale_days)
        for key, row in list(self.cloud_summaries.items()):
            if row["Month"] >= since.month and row["Year"] >= since.year and row["UpdateTime"] < self.now:
                del self.cloud_summaries[key]

    def _before(self, vmuuid, row):
        """Find a vm's record before another: durations count from the start, so a month is the difference."""
        earlier = [
            one
            for (uuid, month, _), one in self.cloud_records.items()
            if uuid == vmuuid and month and one["MeasurementTime"] < row["MeasurementTime"]
        ]
        return max(earlier, key=lambda one: one["MeasurementTime"], default=None)

    def totals(self, by=("SiteName", "CloudComputeService", "VO", "Year", "Month")):
        """Add up all cloud summaries."""
        found = defaultdict(Totals)
        for row in self.cloud_summaries.values():
            total = found[tuple(row[name] for name in by)]
            core = row["WallDuration"] * row["CpuCount"]
            total.wall += row["WallDuration"]
            total.cpu += row["CpuDuration"]
            total.core += core
            total.hs23 += core * row["Benchmark"]
            total.vms += row["NumberOfVMs"]
        return dict(found)


def fields_of(record):
    """Read `Key: value` lines."""
    lines = [line.partition(":") for line in record.strip().splitlines()]
    if any(not colon for _, colon, _ in lines):
        raise RefusedError("a line without a key-value pair")
    return {key.strip(): value.strip() for key, _, value in lines}


def typed(fields, texts, ints, decimals, moments, mandatory):
    """Turn a record's text into a row; what may be null and is, is "None" among texts and None elsewhere."""
    known = {*texts, *ints, *decimals, *moments}
    unknown = fields.keys() - known
    if unknown:
        raise RefusedError(f"Unknown field: {sorted(unknown)}")
    values = {name: value for name, value in fields.items() if value.lower() not in NULLS}
    for name in mandatory:
        if name not in values:
            raise RefusedError(f"Mandatory field {name} not specified.")
    try:
        row = {name: values.get(name, "None") for name in texts}
        row |= {name: int(values[name]) if name in values else None for name in ints}
        row |= {name: decimal(values[name]) if name in values else None for name in decimals}
        row |= {name: datetime.fromtimestamp(int(values[name]), UTC) if name in values else None for name in moments}
    except (ValueError, InvalidOperation, OverflowError, OSError) as error:
        raise RefusedError(str(error)) from None
    if any(len(row[name]) > 255 for name in texts):
        raise RefusedError("Data too long for column")
    for name in [*ints, *decimals]:
        limit = (
            BIGGEST["DECIMAL"]
            if name in decimals
            else BIGGEST["INT"]
            if name in {"NumberOfVMs", "PublicIPCount"}
            else BIGGEST["BIGINT"]
        )
        if row[name] is not None and row[name] > limit:
            raise RefusedError(f"Out of range value for column '{name}'")
    return row


def decimal(text):
    """Keep three digits, as DECIMAL(10,3) does."""
    return Decimal(text).quantize(Decimal("0.001"), ROUND_HALF_UP)


def organisation(fqan):
    """Read the virtual organisation, its group and its role out of a FQAN;
    one without a slash is the organisation's name.
    """
    first = fqan.partition(";")[0]
    if not first.startswith("/"):
        return {"VO": first, "VOGroup": "None", "VORole": "None"}
    pieces = [piece for piece in first.split("/") if piece]
    role = next((piece for piece in pieces if piece.lower().startswith("role=")), "None")
    group = "".join(f"/{piece}" for piece in pieces[: pieces.index(role)] if piece) if role in pieces else first
    return {"VO": pieces[0], "VOGroup": group, "VORole": role}


def key_of(row, names):
    """Return a row's key."""
    return tuple(row[name].casefold() if isinstance(row[name], str) else row[name] for name in names)
