"""Alarms as JSON to a webhook: `{"state", "kind", "subject", "cloud", "message", "raised_at", "resolved_at", "text"}`.

`text` is what chats that speak Slack's format show. Anything but 2xx, after some tries, is an outage: the alarm is told again later.
"""

import json

import urllib3

from skytally.documents import Alarm
from skytally.errors import Unavailable
from skytally.records import iso

SECONDS = urllib3.Timeout(connect=3.0, read=5.0)
RETRIES = urllib3.Retry(
    total=2, backoff_factor=0.5, status_forcelist=[429, 500, 502, 503, 504], allowed_methods=None, raise_on_status=False
)


class AlarmWebhook:
    """One address that takes alarms."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(timeout=SECONDS, retries=RETRIES)

    def tell(self, alarm: Alarm) -> None:
        """Deliver one alarm, or raise Unavailable without naming the address, which may hold a secret."""
        body = {
            "state": alarm.state,
            "kind": alarm.kind,
            "subject": alarm.subject,
            "cloud": alarm.cloud,
            "message": alarm.message,
            "raised_at": iso(alarm.raised_at),
            "resolved_at": iso(alarm.resolved_at) if alarm.resolved_at else None,
            "text": f"{alarm.state}: {alarm.message}",
        }
        try:
            answer = self._pool.request("POST", self._url, body=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
        except urllib3.exceptions.HTTPError:
            raise Unavailable("the alarm webhook does not answer: check SKYTALLY_ALARM_WEBHOOK") from None
        if not 200 <= answer.status < 300:
            raise Unavailable(f"the alarm webhook answered {answer.status}: check SKYTALLY_ALARM_WEBHOOK")
