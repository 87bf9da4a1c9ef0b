"""`skytally copy` and `skytally retention`: copy documents into another store, and remove old ones."""

import contextlib
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skytally.app import wiring
from skytally.cli.terminal import AS_JSON, say_json, show
from skytally.core import clock
from skytally.core.config import MOST_KEPT_DAYS, Config
from skytally.core.documents import INDICES, Document
from skytally.core.errors import Malformed
from skytally.core.ports import Documents, Outcome, Write
from skytally.core.unreadable import plain
from skytally.operation import retention

PAGE_WRITES = 2_000
# Leases and notes of unreadable items belong to the old store alone.
COPIED = [index for index in INDICES if index not in {"turn", "unreadable"}]
EXIT_FEWER, EXIT_LEFT_OUT = 1, 3
COLUMNS = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


@click.command()
@click.option("--from", "source", required=True, help="the store to read: sqlite:///path or https://host:9200")
@click.option("--to", "target", required=True, help="the store to write, set up by `skytally doctor --install`")
@AS_JSON
def copy(source: str, target: str, *, as_json: bool) -> None:
    """Copy every document into another store; the newer version of a document always stays.

    The copy is idempotent: it may be interrupted and repeated. For both stores SKYTALLY_DOCUMENTS_API_KEY_FILE,
    _CA_FILE and _PREFIX hold. Copy once while functions run, point them at the new store, and copy again for the
    documents since.

    A document that cannot be read, or that the new store refuses, is named on standard error and left out; all others
    are copied.

    \b
    Exit codes: 0 all is there, 1 counts differ at the end, 3 all is there but what was left out,
    5 a store is away (repeat it).
    Example:
      skytally copy --from sqlite:////var/lib/skytally/documents.sqlite --to https://search:9200
    """
    parts = urlsplit(source)
    if parts.scheme == "sqlite" and not Path(unquote(parts.path)).is_file():
        raise Malformed(f"there is no file {unquote(parts.path)} to copy from: write sqlite:// and its whole path")
    with _opened(source) as old, _opened(target) as new:
        for store in (old, new):
            store.refresh()
        left_out = _copy(old, new)
        new.refresh()
        counts = {index: (old.count(index), new.count(index)) for index in COPIED}
    expected = {index: here - len(left_out[index]) for index, (here, _) in counts.items()}
    if as_json:
        say_json(
            [
                {"index": index, "from": here, "to": there, "left_out": len(left_out[index])}
                for index, (here, there) in counts.items()
            ]
        )
    else:
        _show(counts, expected)
    for line in _named(left_out):
        click.echo(line, err=True)
    is_fewer = any(there < expected[index] for index, (_, there) in counts.items())
    sys.exit(EXIT_FEWER if is_fewer else EXIT_LEFT_OUT if any(left_out.values()) else 0)


@contextlib.contextmanager
def _opened(url: str) -> Iterator[Documents]:
    with contextlib.closing(
        wiring.open_documents(msgspec.structs.replace(Config.from_env(), documents=url))
    ) as documents:
        yield documents


def _copy(old: Documents, new: Documents) -> dict[str, dict[str, str]]:
    """Copy all documents; return for each index the keys that were left out, and why."""
    left_out: dict[str, dict[str, str]] = {index: {} for index in COPIED}
    with Progress(*COLUMNS, disable=not sys.stderr.isatty()) as progress:
        for index in COPIED:
            task = progress.add_task(index, total=old.count(index))
            documents = old.stored(index, INDICES[index], skipped=left_out[index].__setitem__)
            while page := list(islice(documents, PAGE_WRITES)):
                for key in _write(new, index, page):
                    left_out[index][key] = "the new store refuses it: is that set up by this version?"
                progress.advance(task, len(page))
    return left_out


def _write(new: Documents, index: str, page: list[tuple[str, int, Document]]) -> list[str]:
    """Write a page, and return the keys of documents that the store refuses."""
    outcomes = new.write([Write(index, key, version, document) for key, version, document in page]).result()
    return [key for (key, _, _), outcome in zip(page, outcomes, strict=True) if outcome is Outcome.REJECTED]


def _named(left_out: dict[str, dict[str, str]]) -> Iterator[str]:
    """Return the lines that name the documents that were left out."""
    count = sum(map(len, left_out.values()))
    if count:
        yield f"skytally: {count} {'document was' if count == 1 else 'documents were'} left out:"
    for index, documents in left_out.items():
        yield from (f"  {index}: {plain(key)} ({plain(reason)})" for key, reason in documents.items())


def _show(counts: dict[str, tuple[int, int]], expected: dict[str, int]) -> None:
    """Print the numbers of documents; mark an index with fewer documents than expected."""
    rows = [
        (index, str(here), f"{there}{' (fewer!)' if there < expected[index] else ''}")
        for index, (here, there) in counts.items()
    ]
    show(("index", "from", "to"), rows, right=("from", "to"))


@click.command("retention")
@click.option(
    "--days",
    type=click.IntRange(0, MOST_KEPT_DAYS),
    help="how long details are kept; 0 is for ever; default: SKYTALLY_KEPT_DAYS",
)
def forget(days: int | None) -> None:
    """Remove old details (intervals, jobs, placements, heartbeats); months, boots and scores stay for ever.

    The timer function documents_forget does the same once a day.

    \b
    Example: skytally retention --days 400
    """
    config = Config.from_env()
    with contextlib.closing(wiring.open_documents(config)) as documents:
        removed = retention.forget(documents, config.kept_days if days is None else days, clock.now())
    say_json(removed)
