"""`skytally copy` and `retention`: moving and forgetting documents."""

import contextlib
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from skytally import retention, web, wiring
from skytally.cli.files import private_file
from skytally.config import Config
from skytally.documents import INDICES, Document
from skytally.errors import Malformed, Unavailable
from skytally.ports import Documents, Outcome, Write

PAGE_WRITES = 2_000
COPIED = [index for index in INDICES if index != "turn"]
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
def copy(source: str, target: str, state: Path) -> None:
    """Copy every document into another store; stop and repeat it as you like: the newer version of a document always stays.

    For both stores SKYTALLY_DOCUMENTS_API_KEY_FILE, _CA_FILE and _PREFIX hold. Copy once while functions run, point them at the new store,
    and copy again with another --state for what came meanwhile.

    \b
    Exit codes: 0 all is there, 1 counts differ at the end, 5 a store is away (repeat it).
    Example:
      skytally copy --from sqlite:////var/lib/skytally/documents.sqlite --to https://search:9200
    """
    parts = urlsplit(source)
    if parts.scheme == "sqlite" and not Path(unquote(parts.path)).is_file():
        raise Malformed(f"there is no file {unquote(parts.path)} to copy from: write sqlite:// and its whole path")
    with _opened(source) as old, _opened(target) as new:
        for store in (old, new):
            store.refresh()
        _copy(old, new, Progressed(state, f"{source} {target}"))
        new.refresh()
        counts = {index: (old.count(index), new.count(index)) for index in COPIED}
    _show(counts)
    state.unlink(missing_ok=True)
    sys.exit(1 if any(there < here for here, there in counts.values()) else 0)


@contextlib.contextmanager
def _opened(url: str) -> Iterator[Documents]:
    with contextlib.closing(wiring.open_documents(msgspec.structs.replace(Config.from_env(), documents=url))) as documents:
        yield documents


class Progressed:
    """A file that says behind which key of each index the copy goes on."""

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what
        self.keys: dict[str, str] = {}
        if path.exists():
            known = json.loads(path.read_text())
            if known["copy"] != what:
                raise Malformed(f"{path} belongs to another copy: name another --state, or remove it")
            self.keys = known["keys"]

    def keep(self, index: str, key: str) -> None:
        """Go on behind this key the next time."""
        self.keys[index] = key
        with private_file(self._path) as file:
            file.write(json.dumps({"copy": self._what, "keys": self.keys}))


def _copy(old: Documents, new: Documents, progressed: Progressed) -> None:
    with Progress(*COLUMNS, disable=not sys.stderr.isatty()) as progress:
        for index in COPIED:
            task = progress.add_task(index, total=old.count(index))
            documents = old.stored(index, INDICES[index], progressed.keys.get(index, ""))
            while page := list(islice(documents, PAGE_WRITES)):
                _write(new, index, page)
                progressed.keep(index, page[-1][0])
                progress.advance(task, len(page))


def _write(new: Documents, index: str, page: list[tuple[str, int, Document]]) -> None:
    outcomes = new.write([Write(index, key, version, document) for key, version, document in page]).result()
    if Outcome.REJECTED in outcomes:
        raise Unavailable(f"the new store refuses a document of {index}: run `skytally doctor --install` on it")


def _show(counts: dict[str, tuple[int, int]]) -> None:
    table = Table()
    for column in ("index", "from", "to"):
        table.add_column(column, justify="left" if column == "index" else "right")
    for index, (here, there) in counts.items():
        table.add_row(index, str(here), f"{there}{' (fewer!)' if there < here else ''}")
    Console().print(table)


@click.command("retention")
@click.option("--days", type=click.IntRange(0), help="how long details are kept; 0 is for ever; default: SKYTALLY_KEPT_DAYS")
def forget(days: int | None) -> None:
    """Remove details (intervals, jobs, placements, heartbeats) that are too old; months, boots and scores stay for ever.

    The timer function documents_forget does the same once a day.

    \b
    Example: skytally retention --days 400
    """
    config = Config.from_env()
    with contextlib.closing(wiring.open_documents(config)) as documents:
        gone = retention.forget(documents, config.kept_days if days is None else days, web.clock())
    click.echo(json.dumps(gone))
