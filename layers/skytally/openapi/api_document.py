"""OpenAPI 3.1 of the HTTP contract: paths, parameters, and the schema of every body and every answer.

The function tests hold each answer that they get to it.
"""

from functools import cache
from typing import Any

from skytally.accounting.closing import SignedStatement
from skytally.accounting.statement_answers import Statement
from skytally.core import records
from skytally.core.errors import Code, ErrorAnswer
from skytally.core.records import Receipt
from skytally.dashboard import metrics
from skytally.deployment.catalog import FUNCTIONS
from skytally.openapi import answer_examples, query_parameters
from skytally.openapi.answer_schemas import (
    Access,
    Alive,
    Ready,
    Schema,
    any_of,
    components,
    data_schema,
    reference,
    round_reference,
)
from skytally.secrets.deposits import Deposited
from skytally.secrets.revocations import RevocationAnswer

JSON, CSV, TEXT, HTML = "application/json", "text/csv", "text/plain", "text/html"
FORM, TAR = "application/x-www-form-urlencoded", "application/x-tar"
ANY_TEXT: Schema = {"type": "string"}
DESCRIPTION = """What vms, schedulers and readers send to skytally, and what it answers.

Tokens come from `skytally token` and are sent as `Authorization: Bearer …`; the roles that may call are named at each
path. Timers take anybody's POST, because a platform's timer sends no token. Whatever takes GET takes HEAD, too. Bodies
are read up to a cap for each function. Moments are ISO 8601 in UTC with Z, and what is not known is null, never 0."""
TAGS = {
    "secrets": "a payload for one vm, taken once",
    "reports": "what vms and schedulers know",
    "reading": "statements, and the data of the page",
    "timers": "rounds of work that the platform starts",
    "files": "the page, the scripts of vms and schedulers, and this description",
    "health": "whether a function's process works",
}
# Of every path, the codes of each status and what they mean.
ERRORS: dict[int, tuple[tuple[Code, ...], str]] = {
    400: (
        ("malformed", "malformed_gzip", "malformed_public_key", "malformed_time", "refused"),
        "the message names the field",
    ),
    401: (("unauthenticated",), "no token, or none that holds"),
    403: (("forbidden", "not_yours"), "a good token for something else, or a wrong proof"),
    404: (("unknown",), "there is no such thing: the message says what there is"),
    405: (("method_not_allowed",), "another method: see Allow"),
    408: (("timeout",), "head or body came too slowly"),
    409: (("exists", "taken", "forgotten"), "something that is there stands in the way"),
    410: (("expired", "revoked"), "it was there and will not come back"),
    413: (("too_large",), "the body is above the function's cap"),
    415: (("unsupported_media_type", "unsupported_encoding"), "another type or encoding of the body"),
    429: (("too_many_requests",), "this caller asks too often: see Retry-After"),
    431: (("head_too_large",), "too many bytes of headers"),
    500: (("internal",), "a bug: the operator finds the incident in the log"),
    503: (("unavailable",), "a store or a setting is broken and nothing was lost: ask again, see Retry-After"),
}
ERROR_HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    405: {"Allow": "the methods"},
    429: {"Retry-After": "seconds"},
    503: {"Retry-After": "seconds"},
}
EVERYWHERE = (400, 405, 408, 429, 431, 500, 503)
WITH_BODY = (413, 415)
WITH_TOKEN = (401, 403)
MORE_ERRORS: dict[str, tuple[int, ...]] = {
    "secret_deposit": (409, 410),
    "secret_claim": (403, 409, 410),
    "secret_revoke": (404, 409, 410),
    "statement": (404, 409),
    "dashboard/data": (404,),
    "dashboard/metrics": (404,),
    "dashboard/{file}": (404,),
    "agent": (404,),
    "agent/{file}": (404,),
}
ROLES = {
    "secret_deposit": "scheduler",
    "secret_revoke": "scheduler",
    "placement_report": "scheduler",
    "usage_report": "reporter",
    "job_heartbeat": "reporter",
    "statement": "reader",
    "dashboard/data": "reader",
    "dashboard/metrics": "reader",
}
BODIES: dict[str, tuple[type, tuple[str, ...]]] = {
    "secret_deposit": (records.Deposit, (JSON,)),
    "secret_claim": (records.Claim, (FORM, JSON)),
    "secret_revoke": (records.Revocation, (JSON,)),
    "usage_report": (records.Samples, (JSON,)),
    "placement_report": (records.Placements, (JSON,)),
    "job_heartbeat": (records.HeartbeatReport, (JSON,)),
}
STATUS = {"secret_deposit": 201}
ANSWERS: dict[str, tuple[str, dict[str, Schema]]] = {
    "secret_deposit": ("the claim, the token for the user-data, and when they expire", {JSON: reference(Deposited)}),
    "secret_claim": ("the bundle, once", {TAR: {"type": "string", "format": "binary"}}),
    "secret_revoke": ("nobody can take it any more", {JSON: reference(RevocationAnswer)}),
    "usage_report": ("what became of each sample; what is accepted is durable", {JSON: reference(Receipt)}),
    "job_heartbeat": ("what became of each job", {JSON: reference(Receipt)}),
    "placement_report": ("what became of each item, numbered through vms and then jobs", {JSON: reference(Receipt)}),
    "statement": (
        "the month's statement, as JSON, CSV or APEL's messages",
        {JSON: any_of((Statement, SignedStatement)), CSV: ANY_TEXT, TEXT: ANY_TEXT},
    ),
    "dashboard": ("the page", {HTML: ANY_TEXT}),
    "dashboard/data": ("what the page draws", {JSON: data_schema(), CSV: ANY_TEXT}),
    "dashboard/metrics": ("how skytally itself is, as Prometheus's text", {metrics.MEDIA.partition(";")[0]: ANY_TEXT}),
    "dashboard/access": ("whether the data need a token", {JSON: reference(Access)}),
    "dashboard/openapi.json": ("this description", {JSON: {"type": "object"}}),
    "dashboard/openapi.html": ("this description, as a page", {HTML: ANY_TEXT}),
    "dashboard/{file}": ("a file of the page", {"text/javascript": ANY_TEXT, "text/css": ANY_TEXT}),
    "agent": ("nothing: name a script", {}),
    "agent/{file}": ("a script, or the digests of all", {TEXT: ANY_TEXT}),
    "{function}/healthz": ("the process answers", {JSON: reference(Alive)}),
    "{function}/_/health": ("the process answers", {JSON: reference(Alive)}),
    "{function}/_/ready": ("the function can do its work", {JSON: reference(Ready)}),
}
HEADERS = {
    "statement": {
        "X-Skytally-Left-Out": "what APEL cannot be told: how many vms or jobs, then which and why, as far as there "
        "is room",
        "Content-Disposition": "of CSV: the name of its file",
    },
}
NOT_MODIFIED = ("dashboard", "dashboard/{file}")
_TAGGED = {
    "secrets": ("secret_deposit", "secret_claim", "secret_revoke"),
    "reports": ("usage_report", "job_heartbeat", "placement_report"),
    "reading": ("statement", "dashboard/data", "dashboard/metrics"),
    "health": ("{function}/healthz", "{function}/_/health", "{function}/_/ready"),
}
TAG_OF = {name: tag for tag, names in _TAGGED.items() for name in names}


@cache
def description() -> dict[str, Any]:
    """Return the whole description."""
    functions = {function.service: (function.name, function.summary) for function in FUNCTIONS}
    files = {name: (name, meaning) for name, (meaning, _) in ANSWERS.items() if "/" in name}
    timers = {function.name for function in FUNCTIONS if function.schedule}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "skytally",
            "version": "1",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": {
            f"/function/{path}": _operation(name, summary, is_timer=name in timers)
            for path, (name, summary) in (functions | files).items()
        },
        "components": {
            "schemas": components(),
            "responses": {f"Error{status}": _error(status) for status in ERRORS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "a token that skytally signed"}
            },
        },
    }


def _operation(name: str, summary: str, *, is_timer: bool) -> dict[str, Any]:
    """Return the one method of a path."""
    operation: dict[str, Any] = {
        "operationId": name.translate({ord(old): new for old, new in zip("/{}.", ("_", "", "", "_"), strict=True)}),
        "tags": ["timers" if is_timer else TAG_OF.get(name, "files")],
        "summary": summary,
        "security": [{"bearer": [ROLES[name]]}] if name in ROLES else [],
        "responses": _responses(name, is_timer=is_timer),
    }
    if name in BODIES:
        kind, media = BODIES[name]
        content = {"schema": reference(kind)} | answer_examples.of(kind)
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(media, content)}
    if parameters := query_parameters.described(name):
        operation["parameters"] = parameters
    return {"post" if is_timer or name in BODIES else "get": operation}


def _responses(name: str, *, is_timer: bool) -> dict[str, Any]:
    """Return the answers of a path by their status."""
    meaning, content = ("what became of the round", {JSON: round_reference(name)}) if is_timer else ANSWERS[name]
    answer: dict[str, Any] = {"description": meaning}
    if content:
        answer["content"] = {
            media: {"schema": schema} | answer_examples.answer(name, media) for media, schema in content.items()
        }
    if name in HEADERS:
        answer["headers"] = _headers(HEADERS[name])
    statuses = {*EVERYWHERE, *MORE_ERRORS.get(name, ())}
    statuses |= {*WITH_BODY} if name in BODIES else {413} if is_timer else set()
    statuses |= {*WITH_TOKEN} if name in ROLES else set()
    good = {str(STATUS.get(name, 200)): answer} if content else {}
    same = {"304": {"description": "what the caller has is the same"}} if name in NOT_MODIFIED else {}
    return good | same | {str(status): {"$ref": f"#/components/responses/Error{status}"} for status in sorted(statuses)}


def _error(status: int) -> dict[str, Any]:
    """Return the answer of an error: its schema, with the codes that the status has."""
    codes, meaning = ERRORS[status]
    narrowed = {"properties": {"error": {"properties": {"code": {"enum": list(codes)}}}}}
    example = {"error": {"code": codes[0], "message": meaning}}
    schema = {"allOf": [reference(ErrorAnswer), narrowed]}
    answer = {
        "description": f"{', '.join(codes)}: {meaning}",
        "content": {JSON: {"schema": schema, "example": example}},
    }
    return answer | ({"headers": _headers(ERROR_HEADERS[status])} if status in ERROR_HEADERS else {})


def _headers(meanings: dict[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in meanings.items()}
