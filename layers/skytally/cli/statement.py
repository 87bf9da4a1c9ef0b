"""`skytally statement`: close and sign a month, and verify signed statements."""

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from skytally.accounting import bill, closing, frozen, reconciliation, restatement, signature
from skytally.accounting.bill import Billed
from skytally.accounting.frozen import Frozen
from skytally.app import wiring
from skytally.cli.files import private_file, text_of
from skytally.cli.terminal import AS_JSON, say, say_json, show_rows
from skytally.core import clock
from skytally.core.config import Config
from skytally.core.errors import Malformed
from skytally.core.ports import Documents
from skytally.core.records import month as read_month
from skytally.core.site_data import Site

MONTH = click.option("--month", required=True, help="YYYY-MM, in UTC")
KEY = click.option(
    "--key",
    "key_path",
    type=click.Path(path_type=Path),
    help="the signing key (default: statement.pem in SKYTALLY_KEYS)",
)
SHOWN = (
    *("vm_count", "core_hours", "hs23_hours", "scored_core_hours", "hs23_complete"),
    *("cost", "currency", "coverage", "silent_vms"),
)


@click.group()
def statement() -> None:
    """Close months, and check statements that others closed."""


@statement.command("keygen")
@KEY
def keygen(key_path: Path | None) -> None:
    """Make the key that signs statements.

    No function needs it: keep it where months are closed, and give its public half to cloud owners.

    \b
    Example: skytally statement keygen > statement.pub
    """
    path = key_path or _default_key()
    if path.exists():
        raise Malformed(
            f"{path} is there already: statements signed by it need its public half for as long as they are kept"
        )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    signing_key = signature.new_key()
    with private_file(path) as file:
        file.write(signing_key)
    click.echo(signature.sign("", signing_key)[1], nl=False)
    say(f"the signing key is {path}: keep a copy of it in a safe place", err=True)


@statement.command("close")
@MONTH
@click.option("--cloud", "clouds", multiple=True, help="close only this cloud (repeat it; default: all)")
@KEY
@click.option("--dry-run", is_flag=True, help="only show what would be signed")
@AS_JSON
def close(month: str, clouds: tuple[str, ...], key_path: Path | None, dry_run: bool, as_json: bool) -> None:
    """Freeze and sign a month that is over; later runs make a new revision with the differences since.

    A cloud without changes is not signed again, so this may run at any time.

    \b
    Examples:
      skytally statement close --month 2026-10 --dry-run
      skytally statement close --month 2026-10
      skytally statement close --month 2026-10 --cloud uvic --key /media/key/statement.pem
    """
    valid_month = read_month(month)
    signing_key = "" if dry_run else text_of(key_path or _default_key(), "make one by `skytally statement keygen`")
    with _stores() as (documents, site):
        if dry_run:
            revisions = closing.revisions(valid_month, clouds, documents, site, lambda _: ("", ""), clock.now())
        else:
            revisions = closing.close(
                valid_month, clouds, documents, site, lambda text: signature.sign(text, signing_key), clock.now()
            )
    rows = [_described(frozen.read(revision.text)) for revision in revisions]
    if as_json:
        say_json(rows)
    elif rows:
        show_rows(rows, "would be signed" if dry_run else "signed")
    else:
        say(f"nothing is new in {month}: nothing was signed", err=True)


@statement.command("verify")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--key",
    "key_path",
    type=click.Path(path_type=Path),
    help="the public key that you were given (default: the one in FILE)",
)
@click.option(
    "--unpack",
    type=click.Path(path_type=Path, file_okay=False),
    help="write statement.json and statement.sig for openssl there",
)
@AS_JSON
def verify(file: Path, key_path: Path | None, unpack: Path | None, *, as_json: bool) -> None:
    """Check a statement that `statement?detail=signed` answered, and show its totals.

    \b
    Exit codes: 0 it is as it was signed, 1 it is not.
    Examples:
      skytally statement verify uvic-2026-10.json --key statement.pub
      skytally statement verify uvic-2026-10.json --key statement.pub --unpack . &&
        openssl pkeyutl -verify -pubin -inkey statement.pub -rawin -in statement.json -sigfile statement.sig
    """
    try:
        answer = json.loads(file.read_text())
        text, signed, own_key = (str(answer[name]) for name in ("statement", "signature", "public_key"))
        row = _described(frozen.read(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Malformed(f"{file} is no signed statement of format 1 or 2: ask for it with detail=signed") from None
    signature.verify(
        text, signed, text_of(key_path, "name the public key that you were given") if key_path else own_key
    )
    if unpack:
        unpack.mkdir(parents=True, exist_ok=True)
        (unpack / "statement.json").write_text(text)
        (unpack / "statement.sig").write_bytes(base64.b64decode(signed))
    if key_path is None:
        click.echo("no --key: this shows that the statement fits the key inside it, not whose key that is", err=True)
    if as_json:
        say_json(row)
    else:
        show_rows([row], "as it was signed")


@statement.command("compare")
@MONTH
@click.option(
    "--bill",
    "bill_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="the provider's bill, as below",
)
@click.option(
    "--decimal", type=click.Choice([".", ","]), help="the bill's decimal separator, where its numbers do not tell"
)
@AS_JSON
def compare(month: str, bill_path: Path | None, decimal: str | None, as_json: bool) -> None:
    """Put a month's statement beside the scheduler's lives of vms and the provider's bill.

    `beyond` is the share by which the vms reported more than the other says; below zero, somebody counts what was never
    reported.

    The bill is CSV of any spreadsheet: columns cloud and core_hours, and, to compare money, cost and currency. Lines of
    a cloud are added up, negative ones are credits. What can be read in two ways is refused with its line and column.

    \b
    Examples:
      skytally statement compare --month 2026-10
      skytally statement compare --month 2026-10 --bill october.csv --json
      skytally statement compare --month 2026-10 --bill oktober.csv --decimal ,
    """
    valid_month = read_month(month)
    billed = _read_bill(bill_path, decimal) if bill_path else {}
    with _stores() as (documents, site):
        whole = closing.statement(valid_month, (), documents, site, clock.now())
        rows = reconciliation.reconciliation(whole["clouds"], valid_month, documents, billed)
    if as_json:
        say_json(rows)
    elif rows:
        show_rows(rows, f"{valid_month}, {whole['state']}")
    else:
        say(f"nothing is known of {month}", err=True)


@contextlib.contextmanager
def _stores() -> Iterator[tuple[Documents, Site]]:
    config = Config.from_env()
    with contextlib.closing(wiring.open_documents(config)) as documents:
        yield documents, wiring.open_site_data(config).site()


def _default_key() -> Path:
    return Config.from_env().keys_path / "statement.pem"


def _read_bill(path: Path, decimal: str | None) -> dict[str, Billed]:
    try:
        with path.open("rb") as file:
            return bill.read(file, decimal)
    except OSError as error:
        raise Malformed(f"cannot read {path} ({error.strerror}): name the file of the bill") from None


def _described(text: Frozen) -> dict[str, Any]:
    totals = text.totals
    return {
        "month": text.month,
        "cloud": text.cloud,
        "owner": text.owner,
        "contact": text.contact,
        "revision": text.revision,
        "closed_at": text.closed_at,
        **{name: totals[name] for name in SHOWN},
        "restated": restatement.sentence(text),
    }
