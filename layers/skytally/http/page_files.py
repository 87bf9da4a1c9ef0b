"""The dashboard page over HTTP: its files, cached by browsers under a strict policy, and its data as JSON or CSV."""

import functools
import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skytally.core.errors import Malformed, NotFound
from skytally.http import csv_table
from skytally.http.web import Reply, json_reply

MEDIA = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
CSV = "text/csv; charset=utf-8"
# Observable Plot writes this style sheet into each of its pictures: it is the only inline style that is allowed.
PLOT_STYLE = "sha256-jSYQUrW7J0b3jPqhZP9C2Xh1PyJKHKXd4s0fpGGKrww="
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' '{PLOT_STYLE}'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PACKED_FROM_BYTES, PACKED_LEVEL = 1_024, 5


def name_of(path: str) -> str:
    """Return the file name of a path; the page's links work with and without a slash at the end of its URL."""
    return path.removeprefix("dashboard/") or "index.html"


def file_reply(folder: Path, name: str, headers: Mapping[str, str]) -> Reply:
    """Return a file of the page's folder, or 304 if the caller's copy is the same; raise NotFound for another name.

    Browsers revalidate their copy each time: a new version shows at once, and an unchanged one is not sent again.
    """
    if name not in {path.name for path in folder.iterdir()}:
        raise NotFound("the page has no such file")
    path = folder / name
    whole, packed, tag = _read(path, path.stat().st_mtime_ns)
    cache = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "ETag": tag, "Vary": "Accept-Encoding"}
    if tag in headers.get("if-none-match", ""):
        return Reply(status_code=304, headers=cache)
    if _takes_gzip(headers):
        return Reply(packed, media_type=MEDIA[path.suffix], headers={**cache, "Content-Encoding": "gzip"})
    return Reply(whole, media_type=MEDIA[path.suffix], headers=cache)


@functools.lru_cache(maxsize=64)
def _read(path: Path, _modified_ns: int) -> tuple[bytes, bytes, str]:
    """Return a file, its gzip, and an entity tag; the tag is weak because both have it."""
    whole = path.read_bytes()
    return whole, gzip.compress(whole, mtime=0), f'W/"{hashlib.sha256(whole).hexdigest()[:32]}"'


def _takes_gzip(headers: Mapping[str, str]) -> bool:
    codings = (part.replace(" ", "").partition(";") for part in headers.get("accept-encoding", "").lower().split(","))
    return any(name == "gzip" and weight not in {"q=0", "q=0.0"} for name, _, weight in codings)


def data_reply(answer: Mapping[str, Any], query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
    """Return an answer as JSON, or its table as CSV; with gzip if it is large and the caller accepts that."""
    form = query.get("format", "json")
    if form not in {"json", "csv"}:
        raise Malformed("format must be json or csv", field="format")
    reply = (
        json_reply(answer)
        if form == "json"
        else Reply(csv_table.csv(answer["table"], decimal=query.get("decimal", ".")), media_type=CSV)
    )
    if _takes_gzip(headers) and len(reply.body) >= PACKED_FROM_BYTES:
        packed = gzip.compress(reply.body, PACKED_LEVEL, mtime=0)
        return Reply(
            packed, media_type=reply.media_type, headers={"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        )
    return reply
