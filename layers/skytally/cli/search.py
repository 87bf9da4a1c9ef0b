"""`skytally search-setup` and `search-revoke`: set a search engine up, and create or revoke its credentials."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skytally.cli.files import private_file
from skytally.cli.terminal import AS_JSON, say, say_json
from skytally.core import clock
from skytally.core.config import Config
from skytally.deployment.catalog import service_of

if TYPE_CHECKING:
    from skytally.adapters.documents_search.wire import Client

LEAST_ILM_DAYS = 62


def as_administrator(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with the options of the search engine's administrator."""
    password = click.option(
        "--password-file",
        required=True,
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="file with the password",
    )
    return click.option(
        "--user", required=True, help="a user who may manage templates, indices, and API keys or users"
    )(password(command))


@click.command("search-setup")
@as_administrator
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="folder for a new credential a group of functions"
)
@click.option(
    "--days", type=click.IntRange(1, 3_650), default=366, show_default=True, help="how long the credentials live"
)
@click.option(
    "--ilm-days",
    type=click.IntRange(0),
    help="let the engine's ILM or ISM remove intervals after so many days; 0: not any more; default: as it is",
)
@AS_JSON
def search_setup(
    user: str, password_file: Path, out: Path | None, days: int, ilm_days: int | None, *, as_json: bool
) -> None:
    """Set a search engine up that asks who calls: templates, indices, and new credentials with which functions use it.

    Each group of functions gets an API key of Elasticsearch, or a user of OpenSearch's security plugin, without any
    right that it does not use. Hand each file to its functions as SKYTALLY_DOCUMENTS_API_KEY_FILE. Repeat it before the
    credentials end; old ones go on until then. OpenSearch's are removed when this is run after their last day.

    \b
    Examples:
      export SKYTALLY_DOCUMENTS=https://search:9200
      skytally search-setup --user elastic --password-file password --out keys/search
      skytally search-setup --user elastic --password-file password --ilm-days 760
    """
    from skytally.adapters.documents_search import access, install, lifecycle

    if ilm_days and ilm_days < LEAST_ILM_DAYS:
        raise click.UsageError(f"--ilm-days must leave two months at least: {LEAST_ILM_DAYS}, or 0")
    with _administrator(user, password_file) as (client, prefix):
        installed = install(client, prefix, clock.now())
        say(
            f"made {', '.join(installed.made)}" if installed.made else "templates and indices are as they should be",
            err=True,
        )
        if installed.left:
            say(installed.left, err=True)
        if ilm_days is not None:
            lifecycle.switch(client, prefix, ilm_days)
            by = "ISM" if client.dialect.name == "opensearch" else "ILM"
            click.echo(
                f"{by} removes intervals after {ilm_days} days" if ilm_days else f"{by} removes nothing", err=True
            )
        keys = [(out / group, group) for group in access.FUNCTIONS] if out else []
        for path, group in keys:
            _write_key(path, access.make_credential(client, prefix, group, days, clock.now()))
            if not as_json:
                say(f"{path}: for {', '.join(map(service_of, access.FUNCTIONS[group])) or '`skytally statement`'}")
    if as_json:
        issued = [
            {"file": str(path), "functions": list(map(service_of, access.FUNCTIONS[group]))} for path, group in keys
        ]
        say_json({"made": installed.made, "keys": issued})


@click.command("search-revoke")
@as_administrator
@AS_JSON
def search_revoke(user: str, password_file: Path, *, as_json: bool) -> None:
    """End every API key or user that `search-setup` has made, at once: a key has leaked, or the functions are gone.

    Documents stay.

    \b
    Example: SKYTALLY_DOCUMENTS=https://search:9200 skytally search-revoke --user elastic --password-file password
    """
    from skytally.adapters.documents_search import access

    with _administrator(user, password_file) as (client, prefix):
        ended = access.end_credentials(client, prefix)
    if as_json:
        say_json({"ended": ended})
    else:
        click.echo(f"ended {ended} credentials")


@contextlib.contextmanager
def _administrator(user: str, password_file: Path) -> Iterator[tuple["Client", str]]:
    from skytally.adapters.documents_search import as_user

    config = Config.from_env()
    with as_user(config.documents_url.split(","), user, password_file, config.documents_ca_file) as client:
        yield client, config.documents_prefix


def _write_key(path: Path, key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with private_file(path) as file:
        file.write(f"{key}\n")
