"""`skytally keys` and `skytally token`: key files and what they sign."""

from datetime import timedelta
from pathlib import Path

import click

from skytally import token, web
from skytally.adapters.keys_files import KeyFiles
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
    made = _key_files().init(web.clock())
    for path in made:
        click.echo(path)
    if not made:
        click.echo("every purpose has a key already: nothing changed", err=True)


@click.command("token")
@click.option("--role", required=True, type=click.Choice(["scheduler", "reporter", "reader"]), help="what the holder may do")
@click.option("--cloud", "clouds", multiple=True, help="a cloud the token is limited to (repeat it; a reporter has exactly one)")
@click.option("--vm", help="the one vm that a reporter may report about (default: any of the cloud)")
@click.option("--days", type=click.IntRange(1, 3_650), help="how long it holds (default 365, a reporter's 90)")
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
        _write_private(out, text)


def _key_files() -> KeyFiles:
    return KeyFiles(Config.from_env().keys_path)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
