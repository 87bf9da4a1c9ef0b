"""`skytally search-setup` and `search-revoke`: an Elasticsearch made ready, and who may use it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skytally import web
from skytally.catalog import service_of
from skytally.cli.files import private_file
from skytally.cli.terminal import AS_JSON, say, say_json
from skytally.config import Config

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

LEAST_ILM_DAYS = 62


def as_administrator(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say as whom a command speaks to Elasticsearch."""
    password = click.option(
        "--password-file",
        required=True,
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="file with the password",
    )
    return click.option("--user", required=True, help="a user who may manage templates, indices and API keys")(password(command))


@click.command("search-setup")
@as_administrator
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="folder for a new API key a group of functions")
@click.option("--days", type=click.IntRange(1, 3_650), default=366, show_default=True, help="how long the keys live")
@click.option(
    "--ilm-days",
    type=click.IntRange(0),
    help="let ILM remove intervals after so many days; 0: not any more; default: as it is",
)
@AS_JSON
def search_setup(user: str, password_file: Path, out: Path | None, days: int, ilm_days: int | None, *, as_json: bool) -> None:
    """Set an Elasticsearch up that asks who calls: templates, indices, and new API keys with which functions use it.

    Each group of functions gets a key without any right that it does not use. Hand each file to its functions as
    SKYTALLY_DOCUMENTS_API_KEY_FILE. Repeat it before the keys end; old keys go on until then.

    \b
    Examples:
      SKYTALLY_DOCUMENTS=https://search:9200 skytally search-setup --user elastic --password-file password --out keys/search
      SKYTALLY_DOCUMENTS=https://search:9200 skytally search-setup --user elastic --password-file password --ilm-days 760
    """
    from skytally.adapters.documents_elasticsearch import access, install, lifecycle

    if ilm_days and ilm_days < LEAST_ILM_DAYS:
        raise click.UsageError(f"--ilm-days must leave two months at least: {LEAST_ILM_DAYS}, or 0")
    with _administrator(user, password_file) as (client, prefix):
        fresh = install(client, prefix, web.clock())
        say(f"made {', '.join(fresh)}" if fresh else "templates and indices are as they should be", err=True)
        if ilm_days is not None:
            lifecycle.switch(client, prefix, ilm_days)
            click.echo(f"ILM removes intervals after {ilm_days} days" if ilm_days else "ILM removes nothing", err=True)
        keys = [(out / group, group) for group in access.FUNCTIONS] if out else []
        for path, group in keys:
            _write_key(path, access.make_key(client, prefix, group, days))
            if not as_json:
                say(f"{path}: for {', '.join(map(service_of, access.FUNCTIONS[group])) or '`skytally statement`'}")
    if as_json:
        issued = [{"file": str(path), "functions": list(map(service_of, access.FUNCTIONS[group]))} for path, group in keys]
        say_json({"made": fresh, "keys": issued})


@click.command("search-revoke")
@as_administrator
@AS_JSON
def search_revoke(user: str, password_file: Path, *, as_json: bool) -> None:
    """End every API key that `search-setup` has made, at once: a key has leaked, or the functions are gone. Documents stay.

    \b
    Example: SKYTALLY_DOCUMENTS=https://search:9200 skytally search-revoke --user elastic --password-file password
    """
    from skytally.adapters.documents_elasticsearch import access

    with _administrator(user, password_file) as (client, prefix):
        ended = access.end_keys(client, prefix)
    if as_json:
        say_json({"ended": ended})
    else:
        click.echo(f"ended {ended} API keys")


@contextlib.contextmanager
def _administrator(user: str, password_file: Path) -> Iterator[tuple["Elasticsearch", str]]:
    from skytally.adapters.documents_elasticsearch import as_user

    config = Config.from_env()
    with as_user(config.documents_url.split(","), user, password_file, config.documents_ca_file) as client:
        yield client, config.documents_prefix


def _write_key(path: Path, key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with private_file(path) as file:
        file.write(f"{key}\n")
