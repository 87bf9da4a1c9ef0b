"""Parameters of the HTTP description: what a query, a path or a header may hold, and what it means."""

from typing import Any

from msgspec import Struct

from skytally.accounting.apel_export import FORMATS
from skytally.core.distributions import DISTRIBUTIONS
from skytally.core.job_outcomes import OUTCOMES
from skytally.dashboard import jobs_view, paging, query, time_range, usage_view
from skytally.deployment.catalog import FUNCTIONS
from skytally.http import csv_table
from skytally.secrets.deposits import MAX_REQUEST_KEY

Schema = dict[str, Any]


class Parameter(Struct, frozen=True):
    """A parameter: its name, its schema, and what it means."""

    name: str
    schema: Schema
    description: str
    required: bool = False
    place: str = "query"
    example: Any = None

    def described(self) -> Schema:
        """Return the parameter as OpenAPI has it."""
        example = {} if self.example is None else {"example": self.example}
        where = {"name": self.name, "in": self.place, "required": self.required}
        return {**where, "description": self.description, "schema": self.schema, **example}


def _enum(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


TEXT = {"type": "string"}
NUMBER = {"type": "integer", "minimum": 0, "maximum": 10**paging.MOST_DIGITS - 1}
MONTH = {"type": "string", "pattern": "^20[0-9]{2}-(0[1-9]|1[0-2])$"}
MOMENT = {"type": "string", "format": "date-time"}
FROM_ONE = {"type": "integer", "minimum": 1}
DECIMAL = Parameter(
    "decimal", _enum(*csv_table.DELIMITERS), "the decimal separator of CSV; with a comma, semicolons separate cells"
)
FILTER_MEANINGS = {
    "cloud": "only this cloud; one that nobody knows is 404",
    "site": "only this site",
    "group": "only this group, of view=usage",
    "flavor": "only this flavor, of view=usage",
    "vm": "only this vm",
    "system": "only jobs of this system, panda or dirac",
    "queue": "only jobs of this queue",
    "error": "only jobs with this error",
    "release": "only jobs of this release",
    "status": f"only jobs with this outcome ({', '.join(OUTCOMES)}), or with this status of the source's",
    "task": "only jobs of this task",
}
FILTERS = tuple(
    Parameter(name, TEXT, FILTER_MEANINGS[name]) for name in dict.fromkeys((*usage_view.FILTERS, *jobs_view.FILTERS))
)
BY = "what a row of the table is: {} with view=usage, {} with view=jobs".format(
    ", ".join(usage_view.DIMENSIONS), ", ".join(jobs_view.DISPLAYS)
)
QUERIES: dict[str, tuple[Parameter, ...]] = {
    "secret_deposit": (
        Parameter(
            "Idempotency-Key",
            {"type": "string", "minLength": 1, "maxLength": MAX_REQUEST_KEY},
            "the same key and body get the same answer again; another body is 409",
            place="header",
        ),
    ),
    "statement": (
        Parameter(
            "month",
            MONTH,
            "a month in UTC",
            True,
            example="2026-10",
        ),
        Parameter(
            "cloud", {"type": "array", "items": TEXT}, "only these clouds; without it all that the reader may see"
        ),
        Parameter(
            "detail",
            _enum("boots", "jobs", "signed"),
            "boots (json, csv), jobs (csv), or the signed text of one cloud (json)",
        ),
        Parameter("format", _enum("json", "csv", *FORMATS), "JSON, CSV, or one of APEL's messages"),
        DECIMAL,
        Parameter("part", FROM_ONE, "which part of APEL's messages, where there are several"),
        Parameter("revision", FROM_ONE | {"maximum": 9_999}, "a revision of closed months; without it the newest"),
    ),
    "dashboard/data": (
        Parameter("view", _enum(*query.VIEWS), "what is shown; usage where it is not given"),
        Parameter(
            "window",
            _enum(*time_range.NAMES),
            "how long the window is, or which calendar month (UTC), this one as far as `until`; "
            "day where it is not given",
        ),
        Parameter("from", MOMENT, "where the window begins, instead of its length", example="2026-10-01T00:00:00Z"),
        Parameter("until", MOMENT, "where the window ends; now where it is not given", example="2026-10-02T00:00:00Z"),
        Parameter("by", _enum(*dict.fromkeys((*usage_view.DIMENSIONS, *jobs_view.DISPLAYS))), BY),
        *FILTERS,
        Parameter(
            "month", MONTH, "the month in UTC of view=statement; this one where it is not given", example="2026-10"
        ),
        Parameter(
            "sort",
            {"type": "string", "pattern": "-(up|down)$"},
            "a column with -up or -down behind it",
            example="core_hours-down",
        ),
        Parameter("offset", NUMBER, "how many rows of the table to leave out"),
        Parameter("limit", NUMBER, "how many rows of the table at most"),
        Parameter(
            "part",
            _enum(*query.PARTS),
            "the table, the series, both, or the distribution of a value, with view=jobs and `of`",
        ),
        Parameter("of", _enum(*DISTRIBUTIONS), "which value's distribution, with part=distribution"),
        Parameter("format", _enum("json", "csv"), "JSON, or the table as CSV"),
        DECIMAL,
    ),
    "dashboard/metrics": (Parameter("cloud", TEXT, "only this cloud's alarms"),),
}
PATHS = {
    "agent/{file}": Parameter("file", TEXT, "open.sh, scheduler.py, vm.py or SHA256SUMS", True, "path", "vm.py"),
    "dashboard/{file}": Parameter(
        "file", {"type": "string", "pattern": r"^[a-z0-9.]+\.(css|js)$"}, "a file of the page", True, "path"
    ),
}
FUNCTION = Parameter("function", _enum(*(function.service for function in FUNCTIONS)), "any function", True, "path")


def described(name: str) -> list[Schema]:
    """Return the parameters of a path."""
    own = [PATHS[name]] if name in PATHS else [FUNCTION] if "{function}" in name else []
    return [parameter.described() for parameter in (*own, *QUERIES.get(name, ()))]
