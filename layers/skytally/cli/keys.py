"""`skytally keys` and `skytally token`: key files, and tokens that they sign."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from msgspec import to_builtins

from skytally.access import tokens
from skytally.access.keyring import Key
from skytally.adapters.keys_files import PURPOSES, KeyFile, KeyFiles, needed_until
from skytally.cli.files import private_file, text_of
from skytally.cli.name import NAME
from skytally.cli.terminal import AS_JSON, say, say_json, show
from skytally.core import clock
from skytally.core.config import Config
from skytally.core.records import Caller, convert, iso


@click.group()
def keys() -> None:
    """Make and rotate the key files in SKYTALLY_KEYS."""


@keys.command("init")
@AS_JSON
def keys_init(*, as_json: bool) -> None:
    """Make the first key of each purpose that has none; running it again changes nothing.

    Example: SKYTALLY_KEYS=/etc/skytally/keys skytally keys init
    """
    new_paths = _key_files().init()
    if as_json:
        say_json({"made": [str(path) for path in new_paths]})
        return
    for path in new_paths:
        say(path)
    if not new_paths:
        click.echo("every purpose has a key already: nothing changed", err=True)


@keys.command("list")
@AS_JSON
def keys_list(*, as_json: bool) -> None:
    """Show every key: which is in use or about to be, which still opens what it made, and until when. Never a secret.

    Example: skytally keys list
    """
    key_files = _key_files()
    ring = key_files.keyring()
    rows = [
        {
            "key": file.key.name,
            "state": _state(file, getattr(ring, purpose)[0], clock.now()),
            "needed_until": _needed_until(file, files),
        }
        for purpose, files in key_files.files().items()
        for file in files
    ]
    if as_json:
        say_json(rows)
    else:
        caption = "`skytally keys rotate` makes new keys, and removes those that are not needed any more"
        words = [(str(row["key"]), str(row["state"]), row["needed_until"] or "it is replaced") for row in rows]
        show(("key", "state", "needed until"), words, caption=caption)


def _state(file: KeyFile, in_use: Key, now: datetime) -> str:
    if file.key is in_use:
        return "in use"
    return (
        f"in use from {iso(file.used_from)}"
        if file.used_from > now and file.key.name > in_use.name
        else "opens what it made"
    )


def _needed_until(file: KeyFile, files: list[KeyFile]) -> str | None:
    end = needed_until(file, files)
    return None if end is None else iso(end)


@keys.command("rotate")
@click.option(
    "--purpose", "purposes", multiple=True, type=click.Choice(PURPOSES), help="rotate only these (default: all)"
)
@click.option(
    "--now", "at_once", is_flag=True, help="a key has leaked: remove the old ones at once, with all that they opened"
)
@AS_JSON
def keys_rotate(purposes: tuple[str, ...], *, at_once: bool, as_json: bool) -> None:
    """Make a new key of each purpose, and remove those that nobody needs any more.

    Nothing in flight is lost: a new key is accepted at once and used five minutes later, old ones go on opening what
    they made. A vm gets a fresh token with its next report. On OpenFaaS hand the new files to the gateway (`skytally
    deploy secrets`) and deploy within a day.

    \b
    Examples:
      skytally keys rotate
      skytally keys rotate --purpose token --now     every token made before stops working
    """
    changes = _rotate(_key_files(), purposes or PURPOSES, at_once=at_once)
    if as_json:
        say_json([{"change": change, "key": key} for change, key in changes])
        return
    for change, key in changes:
        say(f"{change:<9}{key}")


def _rotate(key_files: KeyFiles, purposes: Sequence[str], *, at_once: bool) -> Iterator[tuple[str, str]]:
    for purpose in purposes:
        new_path = key_files.add(purpose)
        yield "new", new_path.name
        for path in key_files.older_than(new_path) if at_once else key_files.retired(purpose):
            path.unlink()
            yield "removed", path.name


@click.command("token")
@click.option("--role", type=click.Choice(["scheduler", "reporter", "reader"]), help="what the holder may do")
@click.option(
    "--cloud",
    "clouds",
    type=NAME,
    multiple=True,
    help="a cloud the token is limited to (repeat it; a reporter has exactly one)",
)
@click.option("--vm", type=NAME, help="the one vm that a reporter may report about (default: any of the cloud)")
@click.option("--days", type=click.IntRange(1, 366), help="how long it holds (default 365, a reporter's 90)")
@click.option("--out", type=click.Path(path_type=Path), help="write it there, mode 0600 (default: standard output)")
@click.option(
    "--show",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="make none, but tell what this file's token says",
)
def make_token(
    role: str | None, clouds: tuple[str, ...], vm: str | None, days: int | None, out: Path | None, show: Path | None
) -> None:
    """Make a token. It is shown once and kept nowhere.

    With --show tell what one says, and its chain: the entry of the site data's deny list that shuts it out with all its
    renewals.

    \b
    Examples:
      skytally token --role reader --out reader.token
      skytally token --role scheduler --cloud uvic --cloud cern --days 30
      skytally token --role reporter --cloud uvic --vm belle-uvic-4f2a
      skytally token --show reporter.token
    """
    if show is not None:
        say_json(_content(show))
        return
    if role is None:
        raise click.UsageError("give --role, or --show")
    if role == "reporter" and len(clouds) != 1:
        raise click.UsageError("a reporter's token names exactly one --cloud")
    if vm is not None and role != "reporter":
        raise click.UsageError("--vm is for --role reporter")
    lifetime = (
        timedelta(days=days) if days else (tokens.REPORTER_LIFETIME if role == "reporter" else tokens.DEFAULT_LIFETIME)
    )
    now = clock.now()
    fields = {
        "role": role,
        "issued": int(now.timestamp()),
        "expires": int((now + lifetime).timestamp()),
        "clouds": clouds,
        "vm": vm,
    }
    text = tokens.issue(convert(fields, Caller), _key_files().keyring().token)
    with private_file(out) as file:
        file.write(f"{text}\n")


def _content(path: Path) -> dict[str, object]:
    """Return the content of a token without checking its signature."""
    text = text_of(path, "name a file that `skytally token --out` wrote").strip()
    caller = tokens.content(text)
    times = {name: iso(datetime.fromtimestamp(getattr(caller, name), UTC)) for name in ("issued", "expires")}
    fields: dict[str, object] = to_builtins(caller)
    return fields | times | {"chain": tokens.chain_id(text, caller)}


def _key_files() -> KeyFiles:
    return KeyFiles(Config.from_env().keys_path, clock.now)
