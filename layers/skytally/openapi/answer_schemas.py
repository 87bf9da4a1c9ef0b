"""Schemas of the HTTP description: of what callers send, and of every answer, made from the types of the code.

What is sent may have fields that nobody reads. An answer has no field that its schema does not name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from skytally.accounting import definitions
from skytally.accounting.closing import SignedStatement
from skytally.accounting.hs23 import Rule
from skytally.accounting.statement_answers import Statement, StatementBoot, StatementCloud
from skytally.alarms.alarm_round import AlarmCounts
from skytally.core.errors import ErrorAnswer
from skytally.core.records import (
    BatchJob,
    BatchVm,
    Benchmark,
    Claim,
    Deposit,
    HeartbeatReport,
    Placements,
    Receipt,
    Revocation,
    Sample,
    Samples,
)
from skytally.dashboard import metrics, view_answers
from skytally.dashboard.overview_answers import OpenAlarm, OverviewAnswer, OverviewPoint, OverviewRow
from skytally.dashboard.statement_view_answers import StatementDay, StatementRow, StatementViewAnswer
from skytally.dashboard.view_answers import (
    JOB_ROWS,
    AlarmHistoryRow,
    Bucket,
    BucketRow,
    HealthAnswer,
    HealthRow,
    IntervalRow,
    JobsAnswer,
    JobsPoint,
    JobsTotals,
    SecretPoint,
    SecretRow,
    SecretsAnswer,
    UsageAnswer,
    UsageCloudRow,
    UsageFlavorRow,
    UsageGroupRow,
    UsagePoint,
    UsageSiteRow,
    UsageVmRow,
)
from skytally.jobs.dirac_collector import DiracCounts
from skytally.jobs.panda_collector import PandaCounts
from skytally.operation.retention import DETAILS, SHORTLY
from skytally.operation.timer import State
from skytally.secrets.deposits import Deposited
from skytally.secrets.revocations import RevocationAnswer, SweepCounts

Schema = dict[str, Any]
PREFIX = "#/components/schemas/"
JOB_ID = {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"}
VIEWS = {
    "overview": OverviewAnswer,
    "usage": UsageAnswer,
    "jobs": JobsAnswer,
    "statement": StatementViewAnswer,
    "secrets": SecretsAnswer,
    "health": HealthAnswer,
}
SENT = (Deposit, Claim, Revocation, Samples, Placements, HeartbeatReport, Sample, Benchmark, BatchVm, BatchJob)
ForgottenCounts = msgspec.defstruct(
    "ForgottenCounts",
    [(index, int, 0) for index in (*(index for index, _ in SHORTLY), *DETAILS)],
    namespace={"__doc__": "How many documents of each index went."},
)
# What timers count, by function.
COUNTS: dict[str, Any] = {
    "alarm_raise": AlarmCounts,
    "dirac_collect": DiracCounts,
    "documents_forget": ForgottenCounts,
    "panda_collect": PandaCounts,
    "secret_sweep": SweepCounts,
}


class TimerState(Struct):
    """What became of a timer's call; the counts are those of a round that is done."""

    state: State


class Access(Struct):
    """Whether the dashboard's data need a token."""

    token_needed: bool


class Alive(Struct):
    """The process answers."""

    state: str


class Ready(Struct):
    """The function can do its work; `deployment` names the roll-out that it belongs to."""

    state: str
    deployment: str


USAGE_ROWS = (UsageCloudRow, UsageSiteRow, UsageGroupRow, UsageFlavorRow, UsageVmRow)
ANSWERED = (
    *(Deposited, RevocationAnswer, Receipt, Statement, StatementCloud, StatementBoot, SignedStatement, ErrorAnswer),
    *(OverviewAnswer, OverviewRow, OverviewPoint, OpenAlarm, AlarmHistoryRow),
    *(StatementViewAnswer, StatementRow, StatementDay),
    *(UsageAnswer, *USAGE_ROWS, IntervalRow, UsagePoint),
    *(JobsAnswer, *JOB_ROWS, JobsTotals, JobsPoint, Bucket, BucketRow),
    *(SecretsAnswer, SecretRow, SecretPoint, HealthAnswer, HealthRow),
    *(Access, Alive, Ready),
)
# Fields whose items are of several types, or are decoded one by one.
ITEMS: dict[tuple[Any, str], Sequence[Any]] = {
    (Samples, "samples"): (Sample,),
    (Placements, "vms"): (BatchVm,),
    (Placements, "jobs"): (BatchJob,),
    (OverviewAnswer, "table"): (OverviewRow,),
    (OverviewAnswer, "series"): (OverviewPoint,),
    (StatementViewAnswer, "table"): (StatementRow,),
    (StatementViewAnswer, "series"): (StatementDay,),
    (UsageAnswer, "table"): (*USAGE_ROWS, IntervalRow),
    (UsageAnswer, "series"): (UsagePoint,),
    (JobsAnswer, "table"): (*JOB_ROWS, BucketRow),
    (JobsAnswer, "series"): (JobsPoint,),
    (SecretsAnswer, "table"): (SecretRow,),
    (SecretsAnswer, "series"): (SecretPoint,),
    (HealthAnswer, "table"): (HealthRow,),
}
# Fields that hold one of some words, which the code has as constants.
WORDS: dict[tuple[Any, str], Sequence[str | None]] = {
    (SecretRow, "state"): view_answers.SECRET_STATES,
    (SecretRow, "boot"): (*view_answers.BOOT_STATES, None),
    (SecretPoint, "state"): view_answers.SECRET_STATES[1:],
    (StatementBoot, "hs23_rule"): (*Rule, None),
    (HealthRow, "state"): (*view_answers.HEALTH_STATES, None),
    (Alive, "state"): ("up",),
    (Ready, "state"): ("ready",),
}
# Fields whose words may become more: what is open was written by any version.
OPEN_WORDS: dict[tuple[Any, str], Sequence[str]] = {
    (HealthRow, "kind"): (*view_answers.HEALTH_KINDS, *metrics.ALARMS),
}
MEANINGS: dict[Any, Mapping[str, str]] = {
    **dict.fromkeys((StatementCloud, StatementRow), definitions.TOTALS),
    StatementBoot: definitions.BOOTS,
    **dict.fromkeys(USAGE_ROWS, definitions.TOTALS | {"coverage": view_answers.COVERAGE}),
}


def components() -> dict[str, Schema]:
    """Return the schema of every type that is sent or answered, by its name."""
    sent, answered = _schemas(SENT), {name: _closed(schema) for name, schema in _schemas(ANSWERED).items()}
    sent["HeartbeatReport"]["properties"]["jobs"]["items"] = JOB_ID
    schemas = sent | answered | {_round_name(name): _round(counts) for name, counts in COUNTS.items()}
    for (kind, field), kinds in ITEMS.items():
        schemas[kind.__name__]["properties"][field]["items"] = any_of(kinds)
    for (kind, field), words in WORDS.items():
        schemas[kind.__name__]["properties"][field] = {"enum": list(words)}
    for (kind, field), words in OPEN_WORDS.items():
        schemas[kind.__name__]["properties"][field]["examples"] = list(words)
    for kind, meanings in MEANINGS.items():
        for field, schema in schemas[kind.__name__]["properties"].items():
            if field in meanings:
                schema.setdefault("description", meanings[field])
    return {name: _json_schema(schema) for name, schema in schemas.items()}


def reference(kind: Any) -> Schema:
    """Return a reference to a type's schema."""
    return {"$ref": f"{PREFIX}{kind.__name__}"}


def any_of(kinds: Sequence[Any]) -> Schema:
    """Return the schema of what is of one of some types."""
    return reference(kinds[0]) if len(kinds) == 1 else {"anyOf": [reference(kind) for kind in kinds]}


def round_reference(name: str) -> Schema:
    """Return a reference to the schema of a timer's answer."""
    return {"$ref": f"{PREFIX}{_round_name(name)}"}


def data_schema() -> Schema:
    """Return the schema of the dashboard's data, which its view decides."""
    mapping = {view: f"{PREFIX}{kind.__name__}" for view, kind in VIEWS.items()}
    one_of = [reference(kind) for kind in VIEWS.values()]
    return {"oneOf": one_of, "discriminator": {"propertyName": "view", "mapping": mapping}}


def _round_name(function: str) -> str:
    return f"{function.title().replace('_', '')}Round"


def _round(counts: Any) -> Schema:
    """Return the schema of a timer's answer: its state, and counts where a round is done."""
    schemas = _schemas([TimerState, counts])
    whole, counted = schemas["TimerState"], schemas[counts.__name__]["properties"]
    numbers = {name: {"type": "integer", "minimum": 0} for name in counted}
    return _closed({**whole, "properties": whole["properties"] | numbers})


def _schemas(kinds: Sequence[Any]) -> dict[str, Schema]:
    return msgspec.json.schema_components(kinds, ref_template=PREFIX + "{name}")[1]


def _closed(schema: Schema) -> Schema:
    return {**schema, "additionalProperties": False}


def _json_schema(schema: Any) -> Any:
    """Return a schema as JSON Schema has it: lists for tuples, and no `\\Z` in patterns, which it does not know."""
    if isinstance(schema, dict):
        return {
            name: value.replace(r"\Z", "$") if name == "pattern" and isinstance(value, str) else _json_schema(value)
            for name, value in schema.items()
        }
    return [_json_schema(value) for value in schema] if isinstance(schema, list | tuple) else schema
