"""`skytally statement export`: a closed month as messages for APEL, into a spool of `ssmsend`, or into files."""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from skytally.accounting import apel_export, closing, cloud_names
from skytally.accounting.apel_export import Export
from skytally.accounting.apel_source import LeftOut
from skytally.accounting.statement_rows import FINAL
from skytally.adapters import spool_dirq
from skytally.app import wiring
from skytally.cli.statement import MONTH
from skytally.cli.terminal import AS_JSON, say_json
from skytally.core import clock
from skytally.core.config import Config
from skytally.core.errors import Conflict, Malformed
from skytally.core.records import month as read_month

EXIT_LEFT_OUT = 3


@click.command("export")
@MONTH
@click.option(
    "--format", "form", type=click.Choice(list(apel_export.FORMATS)), required=True, help="which of APEL's messages"
)
@click.option(
    "--spool",
    type=click.Path(path_type=Path, file_okay=False),
    help="the dirq folder that ssmsend sends: messages are added",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="a file; several messages become FILE-1, FILE-2 …"
)
@click.option("--cloud", "clouds", multiple=True, help="only this cloud (repeat it; default: all)")
@click.option(
    "--provisional", is_flag=True, help="also clouds whose month is not closed: close it, and send it again afterwards"
)
@AS_JSON
def export(
    month: str,
    form: str,
    spool: Path | None,
    output: Path | None,
    clouds: tuple[str, ...],
    *,
    provisional: bool,
    as_json: bool,
) -> None:
    """Write a closed month for APEL. Do it again after each `close`: what was sent before is replaced.

    What cannot be sent is left out and named, with the reason; all else is sent. apel-cloud is the format to choose: a
    record a vm, which APEL sums up itself.

    \b
    Exit codes: 0 all of it, 1 refused, 3 something was left out, 5 a store is away (try again).
    Examples:
      skytally statement export --month 2026-10 --format apel-cloud --spool /var/spool/apel/outgoing
      skytally statement export --month 2026-10 --format apel-job-summary --cloud uvic --output uvic.txt
    """
    valid_month = read_month(month)
    if (spool is None) == (output is None):
        raise click.UsageError("say where to: --spool DIR or --output FILE")
    export = _export(valid_month, form, clouds, closed_only=not provisional)
    files: Sequence[Path] = ()
    if export.record_count:
        files = spool_dirq.add(spool, export.messages, clock.now()) if spool else _write(output, export.messages)
    if as_json:
        left_out = [msgspec.structs.asdict(entry) for entry in export.left_out]
        say_json({"records": export.record_count, "messages": list(map(str, files)), "left_out": left_out})
    else:
        _show(export, files, f"{spool}" if spool else ", ".join(map(str, files)), valid_month)
    if export.left_out:
        sys.exit(EXIT_LEFT_OUT)


def _export(month: str, form: str, clouds: Sequence[str], *, closed_only: bool) -> Export:
    now, site = clock.now(), wiring.site()
    with contextlib.closing(wiring.open_documents(Config.from_env())) as documents:
        cloud_names.check(clouds, documents, site)
        whole = closing.statement(month, clouds, documents, site, now)
        if closed_only and all(row["state"] != FINAL for row in whole["clouds"]):
            raise Conflict(
                f"{month} is not closed: do `skytally statement close` first, or say --provisional", code="not_closed"
            )
        return apel_export.export(form, whole, clouds, documents, site, now, closed_only=closed_only)


def _write(output: Path | None, messages: Sequence[str]) -> list[Path]:
    """Write each message into its own file and return the files."""
    path = output or Path()
    files = [path] if len(messages) == 1 else [path.with_stem(f"{path.stem}-{n}") for n in range(1, len(messages) + 1)]
    try:
        for file, message in zip(files, messages, strict=True):
            file.write_text(message, encoding="ascii")
    except OSError as error:
        raise Malformed(f"cannot write {path}: {error.strerror}") from None
    return files


def _number(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _show(export: Export, files: Sequence[Path], where: str, month: str) -> None:
    """Print what was written where, and each omission, in printable ASCII."""
    if files:
        click.echo(f"{_number(export.record_count, 'record')} in {_number(len(files), 'message')}: {where}")
    else:
        click.echo(f"there is nothing to send of {month}", err=True)
    if export.left_out:
        _show_left_out(export.left_out)


def _show_left_out(left_out: Sequence[LeftOut]) -> None:
    click.echo(f"left out, by vms or jobs: {sum(entry.count for entry in left_out)}", err=True)
    for entry in left_out:
        click.echo(f"{entry.count:>7}  {entry}", err=True)
