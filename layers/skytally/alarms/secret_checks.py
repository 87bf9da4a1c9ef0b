"""What a person must look at among secrets: tokens that two parties hold,
vms that took one and were never heard of, and hosts that took one and are not the expected ones."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from skytally.alarms.alarm_round import Crash, Finding, each
from skytally.core.ports import Documents
from skytally.secrets import audit
from skytally.secrets.audit import SecretRecord
from skytally.secrets.outcomes import short

KINDS = ("contested_secret", "unreported_secret", "other_host")
OTHERS_NAMED = 5


def findings(held: Iterable[SecretRecord], documents: Documents, now: datetime) -> Iterator[Finding | Crash]:
    """Find all of them."""
    secrets = list(held)
    yield from contested_secrets(secrets)
    yield from unreported_secrets(secrets, documents, now)
    yield from other_hosts(secrets)


def _about(one: SecretRecord) -> tuple[str, str]:
    return f"{one.claim}/{one.vm}", one.cloud


def contested_secrets(held: Iterable[SecretRecord]) -> Iterator[Finding | Crash]:
    """Find secrets whose token somebody else holds, too."""

    def find(one: SecretRecord) -> Iterator[Finding]:
        taken = (
            f"was taken from {one.address} at {one.at} with key {short(one.spki_sha256)}"
            if one.address
            else f"is {one.state}"
        )
        others = ", ".join(
            f"{other.address} at {other.at} with key {short(other.spki_sha256)}"
            for other in one.contested[:OTHERS_NAMED]
        )
        message = (
            f"the secret of {one.vm} {taken} and wanted by {others}: replace what it holds, and see `skytally secrets "
            f"show {one.claim}`"
        )
        yield Finding("contested_secret", *_about(one), message, one.vm)

    return each(audit.contested(held), _about, find)


def unreported_secrets(held: Iterable[SecretRecord], documents: Documents, now: datetime) -> Iterator[Finding | Crash]:
    """Find secrets that left us and after which the vm was never heard of."""

    def find(one: SecretRecord) -> Iterator[Finding]:
        message = (
            f"the secret of {one.vm} went to {one.address} at {one.at}, and the vm never reported: if it is lost, "
            "deposit anew"
        )
        yield Finding("unreported_secret", *_about(one), message, one.vm)

    return each(audit.unreported(held, documents, now), _about, find)


def other_hosts(held: Iterable[SecretRecord]) -> Iterator[Finding | Crash]:
    """Find secrets that a host took which calls itself something else than the scheduler expected.

    Who has the token may, too.
    """

    def find(one: SecretRecord) -> Iterator[Finding]:
        message = (
            f"the secret of {one.vm} went at {one.at} to {one.address}, which calls itself {one.comment}, not "
            f"{one.expected_hostname}: "
            f"see whether that host is yours, and if not, replace what the secret holds"
        )
        yield Finding("other_host", *_about(one), message, one.vm)

    return each(audit.on_another_host(held), _about, find)
