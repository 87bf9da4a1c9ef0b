"""`skytally deploy`: functions and secrets on a FaaS gateway, one idempotent step at a time; Terraform calls these."""

import json
import sys
from pathlib import Path

import click
import yaml

from skytally import catalog, deployment
from skytally.adapters.functions_openfaas import OpenFaasFunctions
from skytally.cli.terminal import say
from skytally.errors import Malformed

GATEWAY = click.option("--gateway", required=True, envvar="SKYTALLY_GATEWAY", help="the gateway's URL")
PASSWORD = click.option(
    "--password-file",
    required=True,
    envvar="SKYTALLY_GATEWAY_PASSWORD_FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="file with the password of the gateway's user admin",
)


@click.group()
def deploy() -> None:
    """Put functions and secrets onto an OpenFaaS gateway. Each command may be repeated: what is so already stays as it is."""


@deploy.command("function")
@GATEWAY
@PASSWORD
def put_function(gateway: str, password_file: Path) -> None:
    """Make or change the function that standard input describes as JSON.

    \b
    Example:
      skytally deploy function --gateway http://127.0.0.1:8081 --password-file password < usage-report.json
    """
    try:
        spec = json.load(sys.stdin)
        name = spec["service"]
    except (ValueError, KeyError, TypeError):
        raise Malformed("standard input must be a function's description as JSON, with its service") from None
    changed = _open(gateway, password_file).put(spec)
    say(f"{name}: {'deployed' if changed else 'unchanged'}")


@deploy.command("remove")
@GATEWAY
@PASSWORD
@click.argument("name")
def remove_function(gateway: str, password_file: Path, name: str) -> None:
    """Remove a function.

    Example: skytally deploy remove usage-report --gateway … --password-file password
    """
    say(f"{name}: {'removed' if _open(gateway, password_file).remove(name) else 'was not there'}")


@deploy.command("secrets")
@GATEWAY
@PASSWORD
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def put_secrets(gateway: str, password_file: Path, folder: Path) -> None:
    """Hand every file of FOLDER to the gateway as a secret of its name; values are never printed.

    Example: skytally deploy secrets keys/ --gateway … --password-file password
    """
    gateway_functions = _open(gateway, password_file)
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
        gateway_functions.put_secret(path.name, path.read_text().strip())
        say(f"{path.name}: kept")


@deploy.command("secret")
@GATEWAY
@PASSWORD
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def put_secret(gateway: str, password_file: Path, name: str, file: Path) -> None:
    """Hand FILE to the gateway as the secret NAME; its value is never printed.

    Example: skytally deploy secret s3-credentials credentials --gateway … --password-file password
    """
    _open(gateway, password_file).put_secret(name, file.read_text().strip())
    say(f"{name}: kept")


@deploy.command("remove-secret")
@GATEWAY
@PASSWORD
@click.argument("name")
def remove_secret(gateway: str, password_file: Path, name: str) -> None:
    """Let the gateway forget a secret; functions that run keep what they mounted.

    Example: skytally deploy remove-secret s3-credentials --gateway … --password-file password
    """
    _open(gateway, password_file).remove_secret(name)
    say(f"{name}: removed")


@deploy.command("catalog")
def show_catalog() -> None:
    """Print the list of functions as Terraform reads it."""
    from skytally.adapters.documents_elasticsearch import access

    functions = [{"name": f.name, "service": f.service, "schedule": f.schedule, "keys": f.keys} for f in catalog.FUNCTIONS]
    described = {
        "functions": functions,
        "secrets_folder": deployment.SECRETS_FOLDER,
        "memory": deployment.MEMORY,
        "search_groups": access.FUNCTIONS,
    }
    click.echo(json.dumps(described, indent=2))


@deploy.command("stack")
@click.option("--image", default="ghcr.io/example/skytally:latest", show_default=True, help="the image that holds all functions")
@click.option("--setting", "settings", multiple=True, help="NAME=VALUE of a setting (repeat it)")
@click.option("--secret", "secrets", multiple=True, help="name of a secret to mount (repeat it)")
def show_stack(image: str, settings: tuple[str, ...], secrets: tuple[str, ...]) -> None:
    """Print stack.yml for faas-cli.

    Example: skytally deploy stack --image registry.example.org/skytally:1 --secret master-20261101000000 > stack.yml
    """
    pairs = dict(setting.partition("=")[::2] for setting in settings)
    click.echo(yaml.safe_dump(deployment.stack(image, pairs, secrets), sort_keys=False, width=120), nl=False)


def _open(gateway: str, password_file: Path) -> OpenFaasFunctions:
    return OpenFaasFunctions(gateway, password_file.read_text().strip())
