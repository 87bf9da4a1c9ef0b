"""`skytally keys` and `skytally token`: key files and what they sign."""

from datetime import timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from skytally import token, web
from skytally.adapters.keys_files import PURPOSES, KeyFiles
from skytally.config import Config
from skytally.records import Caller, convert


@click.group()
def keys() -> None:
    """Make and rotate the key files in SKYTALLY_KEYS."""


@keys.command("init")
def keys_init() -> None:
    """Make the first key of each purpose that has none; running it again changes nothing.

    Example: SKYTALLY_KEYS=/etc/skytally/keys skytally keys init
    """
    made = _key_files().init()
    for path in made:
        click.echo(path)
    if not made:
        click.echo("every purpose has a key already: nothing changed", err=True)


@keys.command("list")
def keys_list() -> None:
    """Show every key: which is in use, which still opens what it made, which nobody needs any more. Never a secret.

    Example: skytally keys list
    """
    key_files = _key_files()
    ring = key_files.keyring()
    table = Table()
    for column in ("key", "state"):
        table.add_column(column)
    for purpose in PURPOSES:
        gone = {path.name for path in key_files.retired(purpose)}
        in_use, *others = getattr(ring, purpose)
        table.add_row(in_use.name, "[green]in use[/green]")
        for key in others:
            table.add_row(
                key.name, "retired: `keys rotate` removes it" if key.name in gone else "still opens what it made, or is about to be used"
            )
    Console().print(table)


@keys.command("rotate")
@click.option("--purpose", "purposes", multiple=True, type=click.Choice(PURPOSES), help="rotate only these (default: all)")
@click.option("--now", "at_once", is_flag=True, help="a key has leaked: remove the old ones at once, with all that they opened")
def keys_rotate(purposes: tuple[str, ...], at_once: bool) -> None:
    """Make a new key of each purpose, and remove those that nobody needs any more.

    Nothing in flight is lost: a new key is accepted at once and used five minutes later, old ones go on opening what they made. A vm gets a
    fresh token with its next report. On OpenFaaS hand the new files to the gateway (`skytally deploy secrets`) and deploy.

    \b
    Examples:
      skytally keys rotate
      skytally keys rotate --purpose token --now     every token made before stops working
    """
    key_files = _key_files()
    for purpose in purposes or PURPOSES:
        made = key_files.add(purpose)
        click.echo(f"new      {made.name}")
        for path in key_files.older_than(made) if at_once else key_files.retired(purpose):
            path.unlink()
            click.echo(f"removed  {path.name}")


@click.command("token")
@click.option("--role", required=True, type=click.Choice(["scheduler", "reporter", "reader"]), help="what the holder may do")
@click.option("--cloud", "clouds", multiple=True, help="a cloud the token is limited to (repeat it; a reporter has exactly one)")
@click.option("--vm", help="the one vm that a reporter may report about (default: any of the cloud)")
@click.option("--days", type=click.IntRange(1, 366), help="how long it holds (default 365, a reporter's 90)")
@click.option("--out", type=click.Path(path_type=Path), help="write it there, mode 0600 (default: standard output)")
def make_token(role: str, clouds: tuple[str, ...], vm: str | None, days: int | None, out: Path | None) -> None:
    """Make a token. It is shown once and kept nowhere.

    \b
    Examples:
      skytally token --role reader --out reader.token
      skytally token --role scheduler --cloud uvic --cloud cern --days 30
      skytally token --role reporter --cloud uvic --vm belle-uvic-4f2a
    """
    if role == "reporter" and len(clouds) != 1:
        raise click.UsageError("a reporter's token names exactly one --cloud")
    if vm is not None and role != "reporter":
        raise click.UsageError("--vm is for --role reporter")
    lifetime = timedelta(days=days) if days else (token.REPORTER_LIFETIME if role == "reporter" else token.DEFAULT_LIFETIME)
    now = web.clock()
    fields = {"role": role, "issued": int(now.timestamp()), "expires": int((now + lifetime).timestamp()), "clouds": clouds, "vm": vm}
    text = token.issue(convert(fields, Caller), _key_files().keyring().token)
    if out is None:
        click.echo(text)
    else:
        write_private(out, text)


def _key_files() -> KeyFiles:
    return KeyFiles(Config.from_env().keys_path, web.clock)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
