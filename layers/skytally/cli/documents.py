"""`skytally copy` and `skytally retention`: copy documents into another store, and remove old ones."""

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import msgspec
from msgspec import Struct
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skytally.app import wiring
from skytally.cli.files import private_file
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
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(".skytally-copy.json"),
    show_default=True,
    help="where it is kept how far the copy got",
)
@AS_JSON
def copy(source: str, target: str, state: Path, *, as_json: bool) -> None:
    """Copy every document into another store; stop and repeat it as you like:
    the newer version of a document always stays.

    For both stores SKYTALLY_DOCUMENTS_API_KEY_FILE, _CA_FILE and _PREFIX hold. Copy once while functions run, point
    them at the new store, and copy again with another --state for what came meanwhile.

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
        progress_file = Progressed(state, f"{source} {target}")
        _copy(old, new, progress_file)
        new.refresh()
        counts = {index: (old.count(index), new.count(index)) for index in COPIED}
    left_out = progress_file.left_out
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
    state.unlink(missing_ok=True)
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


class CopyState(Struct, frozen=True):
    """What the file says."""

    copy: str
    keys: dict[str, str]
    left_out: dict[str, dict[str, str]] = {}


def _state(path: Path) -> CopyState:
    try:
        return msgspec.json.decode(path.read_bytes(), type=CopyState)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Malformed(f"{path} is no state of a copy: name another --state, or remove it") from None


class Progressed:
    """A file that says behind which key of each index the copy goes on, and which documents it left out, and why."""

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what
        self.keys: dict[str, str] = {}
        self.left_out: dict[str, dict[str, str]] = {index: {} for index in COPIED}
        if path.exists():
            stored_state = _state(path)
            if stored_state.copy != what:
                raise Malformed(f"{path} belongs to another copy: name another --state, or remove it")
            self.keys = stored_state.keys
            self.left_out |= stored_state.left_out

    def leave_out(self, index: str, key: str, reason: str) -> None:
        """Remember a document that is not copied."""
        self.left_out[index][key] = reason

    def keep(self, index: str, key: str) -> None:
        """Go on behind this key the next time."""
        self.keys[index] = key
        with private_file(self._path) as file:
            file.write(msgspec.json.encode(CopyState(self._what, self.keys, self.left_out)).decode())


def _copy(old: Documents, new: Documents, progress_file: Progressed) -> None:
    with Progress(*COLUMNS, disable=not sys.stderr.isatty()) as progress:
        for index in COPIED:
            task = progress.add_task(index, total=old.count(index))
            leave_out = partial(progress_file.leave_out, index)
            documents = old.stored(index, INDICES[index], progress_file.keys.get(index, ""), leave_out)
            while page := list(islice(documents, PAGE_WRITES)):
                for key in _write(new, index, page):
                    leave_out(key, "the new store refuses it: is that set up by this version?")
                progress_file.keep(index, page[-1][0])
                progress.advance(task, len(page))


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
