"""OpenAPI 3.1 of the HTTP contract, made from the records that the functions parse."""

from typing import Any

import msgspec

from skytally import records
from skytally.catalog import FUNCTIONS

BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
ERRORS = {
    400: "malformed: the message names the field",
    401: "unauthenticated",
    403: "not_yours or forbidden",
    405: "method_not_allowed, with Allow",
    408: "timeout: head or body came too slowly",
    429: "too_many_requests, with Retry-After: this caller asks too often",
    431: "head_too_large",
    503: "unavailable, with Retry-After: nothing was lost",
}
BODIES: dict[str, tuple[type, tuple[str, ...]]] = {
    "secret_deposit": (records.Deposit, ("application/json",)),
    "secret_claim": (records.Claim, ("application/x-www-form-urlencoded", "application/json")),
    "secret_revoke": (records.Revocation, ("application/json",)),
    "usage_report": (records.Samples, ("application/json",)),
    "placement_report": (records.Placements, ("application/json",)),
    "job_heartbeat": (records.HeartbeatReport, ("application/json",)),
}
# What the items are that each function judges by themselves: to the record that holds them, any JSON is one.
SCHEMA = "#/components/schemas/"
ITEMS: dict[tuple[type, str], dict[str, Any]] = {
    (records.Samples, "samples"): {"$ref": f"{SCHEMA}Sample"},
    (records.Placements, "vms"): {"$ref": f"{SCHEMA}BatchVm"},
    (records.Placements, "jobs"): {"$ref": f"{SCHEMA}BatchJob"},
    (records.HeartbeatReport, "jobs"): {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"},
}
JSON, CSV, TEXT = "application/json", "text/csv", "text/plain"
ANSWERS: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "secret_deposit": (201, "the claim, the token for the user-data, the expiry", (JSON,)),
    "secret_claim": (200, "the bundle", ("application/x-tar",)),
    "secret_revoke": (200, "nobody can take it any more", (JSON,)),
    "usage_report": (200, "a Receipt", (JSON,)),
    "job_heartbeat": (200, "a Receipt", (JSON,)),
    "placement_report": (200, "a Receipt; items are numbered through vms and then jobs", (JSON,)),
    "statement": (200, "the month's statement, as JSON, CSV or APEL's messages", (JSON, CSV, TEXT)),
    "dashboard": (200, "the page", ("text/html",)),
    "dashboard/data": (200, "what the page draws", (JSON, CSV)),
    "dashboard/metrics": (200, "how skytally itself is, as Prometheus's text", (TEXT,)),
    "agent/{file}": (200, "a script, or the digests of all", (TEXT,)),
}
MORE_ERRORS: dict[str, dict[int, str]] = {
    "secret_deposit": {
        409: "exists: this Idempotency-Key came with another body",
        413: "too_large",
        415: "unsupported_media_type",
    },
    "secret_claim": {
        409: "taken: somebody has it",
        410: "expired or revoked",
        413: "too_large",
        415: "unsupported_media_type",
    },
    "secret_revoke": {
        404: "unknown",
        409: "taken, with who has it",
        410: "expired",
        413: "too_large",
        415: "unsupported_media_type",
    },
    "usage_report": {413: "too_large", 415: "unsupported_media_type"},
    "job_heartbeat": {413: "too_large", 415: "unsupported_media_type"},
    "placement_report": {413: "too_large", 415: "unsupported_media_type"},
    "statement": {
        404: "unknown: there is no such cloud, and the message names those that are known; or no such revision",
        409: "forgotten: jobs of the month were removed, and APEL would take the rest for all of them",
    },
    "dashboard": {404: "unknown"},
    "dashboard/data": {404: "unknown: there is no such cloud, and the message names those that are known"},
    "dashboard/metrics": {404: "unknown: there is no such cloud"},
    "agent": {404: "unknown: name a script"},
    "agent/{file}": {404: "unknown: there is no such script"},
}
PARAMETERS: dict[str, tuple[tuple[str, dict[str, Any], bool], ...]] = {
    "statement": (
        ("month", {"type": "string", "pattern": "^20[0-9]{2}-(0[1-9]|1[0-2])$"}, True),
        ("cloud", {"type": "array", "items": {"type": "string"}}, False),
        ("detail", {"enum": ["boots", "jobs", "signed"]}, False),
        ("format", {"enum": ["json", "csv", "apel-cloud", "apel-cloud-summary", "apel-job-summary"]}, False),
        ("decimal", {"enum": [".", ","]}, False),
        ("part", {"type": "integer", "minimum": 1}, False),
        ("revision", {"type": "integer", "minimum": 1}, False),
    ),
    "dashboard/data": (
        ("view", {"enum": ["usage", "jobs", "secrets", "health"]}, False),
        ("window", {"enum": ["hour", "day", "week", "month"]}, False),
        ("from", {"type": "string", "format": "date-time"}, False),
        ("until", {"type": "string", "format": "date-time"}, False),
        ("by", {"enum": ["cloud", "vm", "interval", "error", "kind", "release", "cores", "queue", "task", "job"]}, False),
        ("cloud", {"type": "string"}, False),
        ("site", {"type": "string"}, False),
        ("group", {"type": "string"}, False),
        ("vm", {"type": "string"}, False),
        ("queue", {"type": "string"}, False),
        ("system", {"type": "string"}, False),
        ("error", {"type": "string"}, False),
        ("release", {"type": "string"}, False),
        ("sort", {"type": "string", "pattern": "-(up|down)$"}, False),
        ("offset", {"type": "integer", "minimum": 0}, False),
        ("limit", {"type": "integer", "minimum": 0}, False),
        ("part", {"enum": ["all", "table", "series"]}, False),
        ("format", {"enum": ["json", "csv"]}, False),
        ("decimal", {"enum": [".", ","]}, False),
    ),
}
HEADERS: dict[str, dict[str, str]] = {
    "statement": {
        "X-Skytally-Left-Out": "what APEL cannot be told: how many vms or jobs, then which and why, as far as there is room",
        "Content-Disposition": "of CSV: the name of its file",
    },
}
PUBLIC = {"secret_claim", "dashboard", "agent", "dashboard/access", "dashboard/openapi.json"}
FILES = {
    "dashboard/data": "what the page draws, as JSON",
    "dashboard/metrics": "how skytally itself is, as Prometheus's text",
    "dashboard/access": "whether the data needs a token",
    "dashboard/openapi.json": "this description",
    "agent/{file}": "vm.py, open.sh or SHA256SUMS",
}


def description() -> dict[str, Any]:
    """Answer the whole description."""
    kinds = [*(kind for kind, _ in BODIES.values()), records.Sample, records.Benchmark, records.BatchVm, records.BatchJob, records.Receipt]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=SCHEMA + "{name}")
    for (kind, field), item in ITEMS.items():
        components[kind.__name__]["properties"][field]["items"] = item
    components = _ecmascript(components)
    bodies = dict(zip(BODIES, schemas, strict=False))
    paths = {f"/function/{f.service}": _operation(f.name, f.summary, bodies, timer=f.schedule is not None) for f in FUNCTIONS}
    paths |= {f"/function/{path}": _operation(path, summary, bodies, timer=False) for path, summary in FILES.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "skytally", "version": "1", "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": components | {"Error": _error_schema()},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _ecmascript(schema: Any) -> Any:
    """Return a schema whose patterns end as JSON Schema's regular expressions do: those know no `\\Z`."""
    if isinstance(schema, dict):
        return {
            name: value.replace(r"\Z", "$") if name == "pattern" and isinstance(value, str) else _ecmascript(value)
            for name, value in schema.items()
        }
    return [_ecmascript(value) for value in schema] if isinstance(schema, list) else schema


def _operation(name: str, summary: str, bodies: dict[str, Any], *, timer: bool) -> dict[str, Any]:
    method = "post" if timer or name in BODIES else "get"
    status, meaning, media = ANSWERS.get(name, (200, "the state of the round" if timer else summary, (JSON,)))
    answer = {"description": meaning, "content": {kind: {} for kind in media}}
    operation: dict[str, Any] = {
        "operationId": name.replace("/", "_").replace("{", "").replace("}", "").replace(".", "_"),
        "summary": summary,
        "security": [] if timer or name in PUBLIC or name.startswith("agent") else BEARER,
        "responses": {str(status): answer} | {str(s): _error(m) for s, m in (ERRORS | MORE_ERRORS.get(name, {})).items()},
    }
    if name in HEADERS:
        headers = {header: {"description": text, "schema": {"type": "string"}} for header, text in HEADERS[name].items()}
        operation["responses"][str(status)]["headers"] = headers
    if name in BODIES:
        operation["requestBody"] = {
            "required": True,
            "content": {media: {"schema": bodies[name]} for media in BODIES[name][1]},
        }
    parameters = [{"name": n, "in": "query", "required": required, "schema": schema} for n, schema, required in PARAMETERS.get(name, ())]
    if "{file}" in name:
        parameters.append({"name": "file", "in": "path", "required": True, "schema": {"type": "string"}})
    return {method: operation | ({"parameters": parameters} if parameters else {})}


def _error(meaning: str) -> dict[str, Any]:
    return {"description": meaning, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}


def _error_schema() -> dict[str, Any]:
    error = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "string", "pattern": "^[a-z_]+$"},
            "message": {"type": "string"},
            "field": {"type": "string"},
        },
    }
    return {"type": "object", "required": ["error"], "properties": {"error": error}}
