"""`skytally`: the operator's command line. `skytally COMMAND --help` shows examples."""

import io
import sys

import click

from skytally.cli.dashboards import dashboards
from skytally.cli.deploy import deploy
from skytally.cli.doctor import doctor
from skytally.cli.documents import copy, forget
from skytally.cli.export import export
from skytally.cli.keys import keys, make_token
from skytally.cli.search import search_revoke, search_setup
from skytally.cli.secrets import deposit, make_userdata, secrets
from skytally.cli.statement import statement
from skytally.cli.terminal import say
from skytally.core.errors import Misconfigured, SkytallyError
from skytally.core.first_use import prepare_records

EXIT_FAILED, EXIT_UNAVAILABLE = 1, 5
COMMANDS: tuple[click.Command, ...] = (
    copy,
    dashboards,
    deploy,
    deposit,
    doctor,
    forget,
    make_userdata,
    search_revoke,
    search_setup,
    secrets,
    statement,
    keys,
    make_token,
)

statement.add_command(export)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="skytally")
def cli() -> None:
    """Accounting, job monitoring and one-shot secrets for virtual machines on many clouds.

    Settings come from the environment: SKYTALLY_KEYS names the folder of key files, SKYTALLY_HOME the local state.
    Commands that print a table or facts print JSON with --json. A table that does not fit the terminal turns into
    records. Exit codes: 0 done, 1 refused, 2 wrong usage, 3 done but something was left out, 5 a store or server is
    away (try again).
    """


for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command line; print an error as one line on standard error, and exit with its code."""
    prepare_records()
    try:
        sys.exit(cli(standalone_mode=False))
    except SkytallyError as error:
        say(f"skytally: {error.for_operator}", err=True)
        is_away = error.code == "unavailable" and not isinstance(error, Misconfigured)
        sys.exit(EXIT_UNAVAILABLE if is_away else EXIT_FAILED)
    except OSError as error:
        what = " and ".join(str(name) for name in (error.filename, error.filename2) if name) or "this machine"
        say(f"skytally: {what}: {error.strerror or type(error).__name__}", err=True)
        sys.exit(EXIT_FAILED)
    except click.ClickException as error:
        usage = io.StringIO()
        error.show(usage)
        for line in usage.getvalue().splitlines():
            say(line, err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        say("Aborted!", err=True)
        sys.exit(EXIT_FAILED)
