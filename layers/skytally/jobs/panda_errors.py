"""Errors of PanDA jobs: the first failing component, its code, and a message that is the same for the same fault.

The choice follows BigPanDA's. A bookkeeping code counts only without another code. A payload failure that the pilot
reports excludes all other codes. Of the rest the earliest component wins: a failed stage-in also fails the payload.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from msgspec import Struct

COMPONENTS = {
    "pilot": "piloterror",
    "executor": "exeerror",
    "transform": "transexit",
    "ddm": "ddmerror",
    "brokerage": "brokerageerror",
    "supervisor": "superror",
    "dispatcher": "jobdispatchererror",
    "taskbuffer": "taskbuffererror",
}
ONLY_ALONE = {("taskbuffer", 300), ("ddm", 200), ("supervisor", 8970)}
STANDS_ALONE = {("pilot", 1305), ("pilot", 1235)}
OTHER = "other"
MAX_MESSAGE, MAX_RAW, MAX_CODE = 200, 4_096, 10**9
# What a component writes where nothing went wrong.
SAYS_NOTHING = {"", "OK"}
# Only this many characters are read: the patterns below take time by the square of the length.
MAX_READ = 1_000
# What varies from job to job, and what is written instead. The order counts: a later pattern matches parts of what an
# earlier one replaces (a host in a URL, a number in an id).
VARYING = (
    (
        re.compile(
            r"(/[A-Za-z]{1,3}=[^/,;'\"]+){2,}|\b(CN|DC|O|OU|C|UID)=[^,;'\"]+(,\s*(CN|DC|O|OU|C|UID)=[^,;'\"]+)+"
        ),
        "<DN>",
    ),
    (re.compile(r"\b[a-z]{2,10}://[^\s'\",;)\]]+", re.IGNORECASE), "<URL>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE), "<ID>"),
    (re.compile(r"(?<![\w.])(/[\w.+@%-]+){2,}/?"), "<PATH>"),
    (re.compile(r"\b[\w-]+(\.[\w-]+)*\.(root|tgz|tar|gz|log|py|sh|xml|json|out|txt)(\.\d+)?\b"), "<FILE>"),
    (re.compile(r"\b([a-z0-9-]+\.){2,}[a-z]{2,}\b(:\d+)?", re.IGNORECASE), "<HOST>"),
    (re.compile(r"\b(0x)?[0-9a-f]{10,}\b", re.IGNORECASE), "<ID>"),
    (re.compile(r"\d+([.,]\d+)*"), "<N>"),
)
_PERSON = VARYING[0][0]


class JobError(Struct, frozen=True):
    """The reason that PanDA gives for a job that did not end well: its first failing component.

    `raw` has the words of all components.
    """

    component: str
    code: int | None
    category: str
    message: str
    raw: str | None

    @property
    def name(self) -> str:
        """Return component and code, such as `pilot 1305`."""
        return self.component if self.code is None else f"{self.component} {self.code}"


def error_of(row: Mapping[str, Any]) -> JobError:
    """Return the error of a job that did not end well."""
    codes = dict(_codes(row))
    if len(codes) > 1:
        codes = {key: diag for key, diag in codes.items() if key not in ONLY_ALONE} or codes
    codes = {key: diag for key, diag in codes.items() if key in STANDS_ALONE} or codes
    if not codes:
        return JobError("unknown", None, OTHER, "no component says why", _raw(row))
    (component, code), diag = next(iter(codes.items()))
    category, meaning = meanings().get((component, code), (OTHER, OTHER))
    return JobError(component, code, category, normalised(diag) or meaning, _raw(row))


def _raw(row: Mapping[str, Any]) -> str | None:
    """Return what every component says, a line each behind its name and code; None where none says anything."""
    lines = []
    for component, column in COMPONENTS.items():
        code, diag = _code(row.get(f"{column}code")), cleaned(str(row.get(f"{column}diag") or ""))
        words = "" if diag in SAYS_NOTHING else diag
        if code > 0:
            words = words or meanings().get((component, code), (OTHER, ""))[1]
            lines.append(f"{component} {code}: {words}".removesuffix(": "))
        elif words:
            lines.append(f"{component}: {words}")
    return "\n".join(lines)[:MAX_RAW] or None


def _codes(row: Mapping[str, Any]) -> Iterator[tuple[tuple[str, int], str]]:
    for component, column in COMPONENTS.items():
        code = _code(row.get(f"{column}code"))
        if code > 0:
            yield (component, code), str(row.get(f"{column}diag") or "")


def _code(value: Any) -> int:
    if value is None:
        return 0
    try:
        code = int(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return code if code < MAX_CODE else 0


@cache
def meanings() -> dict[tuple[str, int], tuple[str, str]]:
    """Return the category and the meaning of each known code."""
    table = tomllib.loads((files("skytally") / "data" / "panda_errors.toml").read_text())
    return {
        (component, int(code)): (category, meaning)
        for component, categories in table.items()
        for category, codes in categories.items()
        for code, meaning in codes.items()
    }


def cleaned(text: str) -> str:
    """Return a foreign text without persons and control characters, with single blanks."""
    plain = text[:MAX_READ]
    if not plain.isprintable():
        plain = "".join(letter if unicodedata.category(letter)[0] != "C" else " " for letter in plain)
    # No person's name is without one, and few texts have one.
    if "=" in plain:
        plain = _PERSON.sub("<DN>", plain)
    return " ".join(plain.split())


def normalised(text: str) -> str:
    """Return a text without what varies from job to job, so that the same fault has the same text."""
    words = cleaned(text)
    for pattern, name in VARYING:
        words = pattern.sub(name, words)
    return words[:MAX_MESSAGE]
