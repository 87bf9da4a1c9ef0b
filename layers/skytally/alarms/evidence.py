"""Evidence: where the page shows what an alarm rests on.

A window ends when the alarm was last found, so that a link that was sent shows the same for as long as details are
kept.
"""

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlencode

from skytally.alarms import job_checks, payload_checks, secret_checks, vm_checks
from skytally.core.documents import Alarm
from skytally.core.records import iso

Parameters = dict[str, str]
# A secret is taken, at the earliest, this long before the check of secrets finds it.
SECRETS_BACK = timedelta(days=11)
VMS_BACK, PAYLOADS_BACK = timedelta(days=1), timedelta(days=7)


def parameters(alarm: Alarm) -> Parameters:
    """Return the parameters of the view that shows an alarm's evidence; the page and `dashboard/data` take them."""
    make, back = _VIEWS.get(alarm.kind, (_health, timedelta(0)))
    fields = make(alarm)
    if back:
        fields |= {"cloud": alarm.cloud, "vm": alarm.vm, "from": iso(alarm.raised_at - back)}
        fields["until"] = iso(max(alarm.seen_at, alarm.raised_at)) if alarm.kind not in _GO_ON else None
    return {name: value for name, value in fields.items() if value is not None}


def link(public_url: str, alarm: Alarm) -> str | None:
    """Return the address of an alarm's evidence on the page; None where the settings name no public URL.

    What a name holds is percent-encoded, so it is markup in no chat.
    """
    if not public_url:
        return None
    fragment = urlencode(parameters(alarm)).replace("+", "%20").replace("~", "%7E")
    return f"{public_url.rstrip('/')}/dashboard#{fragment}"


def _failed_jobs(alarm: Alarm) -> dict[str, str | None]:
    """Return the failed jobs with the alarm's error, or the errors where it names none."""
    if alarm.error is None and alarm.vm is None:
        return {"view": "jobs", "by": "error"}
    return {"view": "jobs", "by": "job", "status": "failed", "error": alarm.error}


def _jobs(_: Alarm) -> dict[str, str | None]:
    return {"view": "jobs", "by": "job"}


def _usage(_: Alarm) -> dict[str, str | None]:
    return {"view": "usage", "by": "vm"}


def _secrets(_: Alarm) -> dict[str, str | None]:
    return {"view": "secrets"}


def _health(_: Alarm) -> dict[str, str | None]:
    return {"view": "health"}


# Jobs that run are shown where the window reaches until now.
_GO_ON = payload_checks.KINDS
_VIEWS: dict[str, tuple[Callable[[Alarm], dict[str, str | None]], timedelta]] = {
    **dict.fromkeys(job_checks.KINDS, (_failed_jobs, job_checks.LONGER)),
    **dict.fromkeys(payload_checks.KINDS, (_jobs, PAYLOADS_BACK)),
    **dict.fromkeys(vm_checks.KINDS, (_usage, VMS_BACK)),
    **dict.fromkeys(secret_checks.KINDS, (_secrets, SECRETS_BACK)),
}
