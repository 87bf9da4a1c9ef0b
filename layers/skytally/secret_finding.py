"""What a person must look at among secrets: tokens that two parties hold, and vms that took one and were never heard of."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from skytally import evidence
from skytally.alarm import Crash, Finding, each
from skytally.evidence import Held
from skytally.ports import Documents

KINDS = ("contested_secret", "unreported_secret")
OTHERS_NAMED = 5


def findings(held: Iterable[Held], documents: Documents, now: datetime) -> Iterator[Finding | Crash]:
    """Find all of them."""
    secrets = list(held)
    yield from contested_secrets(secrets)
    yield from unreported_secrets(secrets, documents, now)


def _about(one: Held) -> tuple[str, str]:
    return f"{one.claim}/{one.vm}", one.cloud


def contested_secrets(held: Iterable[Held]) -> Iterator[Finding | Crash]:
    """Find secrets whose token somebody else holds, too."""

    def find(one: Held) -> Iterator[Finding]:
        taken = f"was taken from {one.address}" if one.address else f"is {one.state}"
        others = ", ".join(f"{other.address} at {other.at}" for other in one.contested[:OTHERS_NAMED])
        message = (
            f"the secret of {one.vm} {taken} and wanted by {others}: replace what it holds, and see `skytally secrets show {one.claim}`"
        )
        yield Finding("contested_secret", *_about(one), message, one.vm)

    return each(evidence.contested(held), _about, find)


def unreported_secrets(held: Iterable[Held], documents: Documents, now: datetime) -> Iterator[Finding | Crash]:
    """Find secrets that left us and after which the vm was never heard of."""

    def find(one: Held) -> Iterator[Finding]:
        message = f"the secret of {one.vm} went to {one.address} at {one.at}, and the vm never reported: if it is lost, deposit anew"
        yield Finding("unreported_secret", *_about(one), message, one.vm)

    return each(evidence.unreported(held, documents, now), _about, find)
