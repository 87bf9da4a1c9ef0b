"""`skytally deposit`, `skytally userdata` and `skytally secrets`: deposit secrets for vms and see their outcomes."""

import base64
import json
import re
import secrets as random_secrets
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.text import Text

from skytally.adapters.http_skytally import Deployment
from skytally.app import wiring
from skytally.cli.files import private_file
from skytally.cli.name import ABSOLUTE_PATH, MODE, NAME, OWNER
from skytally.cli.terminal import AS_JSON, say, say_json, show, text
from skytally.core import clock
from skytally.core.errors import Malformed
from skytally.core.ports import Write
from skytally.core.unreadable import Notes
from skytally.deployment.function_urls import is_private
from skytally.secrets import audit, revocations, user_data, vm_payload
from skytally.secrets.outcomes import short

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
FILE_OR_STDIN = click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
DAYS_KEPT = revocations.OUTCOMES_KEPT.days
CLAIM_TOKEN = re.compile(r"[a-z0-9]{20,64}\.[0-9]{1,12}\.[0-9a-f]{64}")


def _deposit_options(command: Any) -> Any:
    """Return a command with the options of a deposit."""
    for option in reversed(
        (
            click.option(
                "--base",
                required=True,
                envvar="SKYTALLY_BASE",
                help="the deployment's URL, before /function/; or with {function} in it, where each has a host of its "
                "own",
            ),
            click.option("--token-file", required=True, type=FILE, help="file with the scheduler's token"),
            click.option("--ca", type=FILE, help="CA of the deployment's certificate"),
            click.option(
                "--insecure",
                is_flag=True,
                help="let token and payload travel in clear to an http:// that is not this machine",
            ),
            click.option(
                "--vm",
                "vms",
                type=NAME,
                multiple=True,
                required=True,
                help="the vm that may take it; repeat it for vms that boot with one user-data",
            ),
            click.option("--cloud", type=NAME, required=True, help="the cloud where the vm runs"),
            click.option("--site", type=NAME, help="the vm's site"),
            click.option("--group", type=NAME, help="the vm's group"),
            click.option("--flavor", type=NAME, help="the vm's flavor"),
            click.option(
                "--hostname",
                type=NAME,
                help="what the vm calls itself: another host that takes the secret raises an alarm, and gets it all "
                "the same",
            ),
            click.option("--source", "sources", multiple=True, help="CIDR that may take it (repeat it; default: any)"),
            click.option(
                "--expires-in",
                "expires_in_seconds",
                type=click.IntRange(60, 604_800),
                default=3_600,
                show_default=True,
                help="seconds",
            ),
            click.option(
                "--payload",
                required=True,
                type=FILE_OR_STDIN,
                help="the secret, or a tar of several; - is standard input",
            ),
        )
    ):
        command = option(command)
    return command


@click.command()
@_deposit_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="write the claim token there, mode 0600 (default: standard output)"
)
@click.option("--json", "as_json", is_flag=True, help="write claim, token and expiry as JSON")
@click.option(
    "--opaque",
    is_flag=True,
    help="the payload is one file for `vm.py --payload`, whatever it looks like: it is not checked",
)
def deposit(out: Path | None, payload: Path, *, as_json: bool, opaque: bool, **options: Any) -> None:
    """Deposit a secret for a vm, and print the claim token for its user-data.

    The token opens the secret once, for the first claim.

    A payload that looks like a tar is checked as `vm.py --unpack` would do it.

    \b
    Example:
      skytally deposit --base https://sky.example.org --token-file scheduler.token \\
          --cloud uvic --vm belle-4f2a --payload secrets.tar --out claim
    """
    data = _content(payload)
    if vm_payload.looks_packed(data) and not opaque and vm_payload.plain_tar(data) != data:
        raise Malformed("the payload is a gzip, which vm.py does not unpack: leave the tar itself, or say --opaque")
    with private_file(out) as file:
        answer = _leave(payload=data, **options)
        file.write(f"{json.dumps(answer) if as_json else answer['token']}\n")
    say(f"claim {answer['claim']} until {answer['expires_at']}", err=True)


@click.command("userdata")
@_deposit_options
@click.option(
    "--unpack",
    type=ABSOLUTE_PATH,
    default="/etc/skytally/secrets",
    show_default=True,
    help="folder on the vm that a tar is unpacked to",
)
@click.option("--owner", type=OWNER, default="root", show_default=True, help="USER[:GROUP] of the unpacked files")
@click.option("--mode", type=MODE, default="0400", show_default=True, help="mode of the unpacked files")
@click.option("--mirror", "mirrors", multiple=True, help="another URL of vm.py, believed by its digest; repeat it")
def make_userdata(unpack: str, owner: str, mode: str, mirrors: tuple[str, ...], payload: Path, **options: Any) -> None:
    """Deposit a secret, and print the cloud-init user-data with which the vm takes it, benchmarks itself and reports.

    The payload is a tar, which may be gzip. A payload that the vm would refuse is refused here, before the deposit.

    \b
    Example: an IDTOKEN for HTCondor and a GSI proxy
      tar cf secrets.tar tokens.d/pool x509up
      skytally userdata --base https://sky.example.org --token-file scheduler.token --cloud uvic --vm belle-4f2a \\
          --payload secrets.tar --unpack /etc/condor --owner condor --mode 0600 > user-data

    It comes after a site's own user-data: cloud-init lets a later part replace what an earlier one writes and runs,
    unless the later one has a `merge_how` as this one has.
    """
    base, ca, names = options["base"], options["ca"], options["vms"]
    data = vm_payload.plain_tar(_content(payload))
    certificates = user_data.certificates_of(ca.read_text("ascii", "replace")) if ca else []
    digests = (
        Deployment(base, ca_file=ca, insecure=options["insecure"]).get("agent/SHA256SUMS").decode("ascii", "replace")
    )
    digest = user_data.digest_of("vm.py", digests)
    taking = user_data.Taking(unpack=unpack, owner=owner, mode=mode, names=names if len(names) > 1 else ())
    door = user_data.Door(base, insecure=options["insecure"], ca="".join(certificates) or None, mirrors=mirrors)
    user_data.check_size(door, digest, taking)
    cloud_init = user_data.text_of(
        user_data.cloud_config(door, _leave(payload=data, **options)["token"], digest, taking)
    )
    say(
        f"{len(cloud_init)} of the {user_data.MOST_BYTES} bytes that clouds accept, together with the site's own "
        "user-data",
        err=True,
    )
    click.echo(cloud_init, nl=False)


def _leave(
    base: str, token_file: Path, ca: Path | None, vms: tuple[str, ...], payload: bytes, *, insecure: bool, **more: Any
) -> dict[str, str]:
    deployment = Deployment(base, _token(token_file), ca, insecure=insecure)
    if not is_private(base):
        click.echo("the payload and the token travel unencrypted: use https unless this network is yours", err=True)
    names = {"vm": vms[0]} if len(vms) == 1 else {"vms": list(vms)}
    body = {
        **names,
        **{name: value for name, value in more.items() if value},
        "payload": base64.b64encode(payload).decode(),
    }
    key = random_secrets.token_hex(16)
    answer = deployment.post("secret-deposit", body, **{"Idempotency-Key": key})
    try:
        fields = {name: str(answer[name]) for name in ("claim", "token", "expires_at")}
    except (KeyError, TypeError):
        fields = {"token": ""}
    if not CLAIM_TOKEN.fullmatch(fields["token"]):
        raise Malformed(f"{base} answered no claim token: check --base")
    return fields


def _content(payload: Path) -> bytes:
    """Return the payload; raise Malformed for an empty one."""
    content = sys.stdin.buffer.read() if str(payload) == "-" else payload.read_bytes()
    if not content:
        raise Malformed("the payload is empty: nothing is left for the vm")
    return content


def _token(path: Path) -> str:
    fields = path.read_bytes().split()
    if len(fields) != 1 or not fields[0].isascii() or not fields[0].decode().isprintable():
        raise Malformed(f"{path} does not hold one token: make one with `skytally token --role scheduler`")
    return fields[0].decode()


@click.group("secrets")
def secrets() -> None:
    """See the outcomes of secrets: who took, revoked or contested which, when and from where."""


@secrets.command("list")
@click.option("--days", type=click.IntRange(1, DAYS_KEPT), default=7, show_default=True, help="how far back")
@click.option(
    "--state",
    type=click.Choice(["waiting", "delivered", "expired", "revoked", "contested", "unreported"]),
    help="only these",
)
@AS_JSON
def list_secrets(days: int, state: str | None, as_json: bool) -> None:
    """List secrets, newest first.

    \b
    Examples:
      skytally secrets list --state contested
      skytally secrets list --days 30 --json | jq '.[] | select(.cloud == "uvic")'
    """
    records = _history(days)
    if state == "contested":
        records = audit.contested(records)
    elif state == "unreported":
        records = audit.unreported(records, wiring.documents(), clock.now())
    elif state is not None:
        records = [record for record in records if record.state == state]
    if as_json:
        say_json([msgspec.to_builtins(record) for record in records])
    else:
        _show(records)


@secrets.command("show")
@click.argument("claim")
def show_secret(claim: str) -> None:
    """Show one claim as JSON, with its failed claims.

    Example: skytally secrets show k3m9…
    """
    records = [msgspec.to_builtins(record) for record in _history(DAYS_KEPT, claim)]
    if not records:
        raise Malformed(f"no such claim in {DAYS_KEPT} days: check its name with `skytally secrets list`")
    say_json(records)


def _history(days: int, claim: str | None = None) -> list[audit.SecretRecord]:
    """Return the secrets of the object store; report how many objects are no records of ours."""
    skipped: list[Write] = []
    records = audit.history(wiring.objects(), clock.now(), days, Notes(skipped.extend), claim)
    if skipped:
        click.echo(f"{len(skipped)} objects are no records of ours and left out: the health view names them", err=True)
    return records


def _show(records: list[audit.SecretRecord]) -> None:
    columns = ("vm", "cloud", "state", "at", "from", "key", "others")
    show(columns, map(_row, records), caption=f"{len(records)} secrets")


def _row(record: audit.SecretRecord) -> list[str | Text]:
    fields = (
        record.vm,
        record.cloud,
        record.state,
        record.at,
        record.address,
        short(record.spki_sha256) if record.spki_sha256 else "",
    )
    return [*(word or "" for word in fields), text(audit.described(record), "red")]
