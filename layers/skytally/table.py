"""Tables as CSV (RFC 4180) that a spreadsheet opens without harm."""

import csv as writer
import io
from collections.abc import Mapping, Sequence
from typing import Any

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows under a header of their names, which hold the units; what is not known stays empty.

    A name that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    out = io.StringIO()
    if rows:
        lines = writer.DictWriter(out, list(rows[0]), lineterminator="\r\n")
        lines.writeheader()
        lines.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _harmless(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return "" if value is None else value
