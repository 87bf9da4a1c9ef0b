"""Alarms as JSON to a webhook, in its receiver's form; anything but 2xx, after some tries, is an outage.

::

    skytally       {"state", "kind", "subject", "cloud", "message", "raised_at", "resolved_at", "link", "text"}, one
                   alarm a request
    chat           {"text"}, as Slack and what speaks like it take it: what would call people or be markup is written so
                   that it does not
    alertmanager   [{"labels", "annotations", "startsAt", "endsAt", "generatorURL"}, …], for POST …/api/v2/alerts of
                   Prometheus's Alertmanager

The link leads to an alarm's evidence on the page, where the settings name the page's address; it holds no token.
Foreign names are written without control characters and direction marks in every form. Alertmanager drops an alert that
is not repeated, so every round repeats the open alarms, each with an end some missed rounds away.
"""

import functools
import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import tenacity
import urllib3

from skytally.adapters.http_client import REQUEST_SECONDS, HttpClient
from skytally.core.clock import Countdown
from skytally.core.documents import Alarm
from skytally.core.errors import Unavailable
from skytally.core.plain_text import visible
from skytally.core.records import iso

TRIES = tenacity.stop_after_attempt(3)
PAUSES = tenacity.wait_exponential_jitter(multiplier=0.2, max=2)
TRY_AGAIN = {408, 429, 500, 502, 503, 504}
FORGOTTEN_AFTER = timedelta(hours=1)
# Alertmanager ignores an end in the future by its own clock, and keeps the later end of the last reminder.
CLOCKS_DIFFER = timedelta(minutes=1)
REMINDED_AT_ONCE = 500
CHAT_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# What chats read as a mention, a link, a picture or a style; underscores only at a word's edge, since names contain
# them.
CHAT_MARKUP = re.compile(r"[@#*`~\[\]!]|:(?=//)|(?<!\w)_|_(?!\w)")


# Returns the address of an alarm's evidence, where there is one.
Link = Callable[[Alarm], str | None]


class AlarmWebhook:
    """One webhook URL and the form of its alarms."""

    def __init__(self, url: str, form: str, link: Link, now: datetime) -> None:
        self._url, self._form, self._link, self._now = url, form, link, now
        self._client = HttpClient()

    def tell(self, alarm: Alarm) -> None:
        """Send one alarm; raise Unavailable without the URL, which may contain a secret."""
        self._deliver(FORMS[self._form](alarm, self._link(alarm), self._now), Countdown(REQUEST_SECONDS))

    def remind(self, alarms: Sequence[Alarm]) -> None:
        """Send the open alarms again to an Alertmanager; other receivers need no reminders."""
        if self._form == "alertmanager":
            countdown = Countdown(REQUEST_SECONDS)
            for start in range(0, len(alarms), REMINDED_AT_ONCE):
                some = alarms[start : start + REMINDED_AT_ONCE]
                self._deliver([alert(alarm, self._link(alarm), self._now) for alarm in some], countdown)

    def _deliver(self, body: Any, countdown: Countdown) -> None:
        """Post a body, with retries of passing failures until the countdown ends."""
        data = json.dumps(body).encode()
        patience = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_passing),
            wait=lambda state: min(PAUSES(state), countdown.left_seconds()),
            stop=TRIES,
            reraise=True,
        )
        try:
            for attempt in patience:
                with attempt:
                    self._post(data, countdown.left_seconds())
        except urllib3.exceptions.HTTPError:
            raise Unavailable("the alarm webhook does not answer: check SKYTALLY_ALARM_WEBHOOK") from None
        except _Refused as refused:
            raise Unavailable(
                f"the alarm webhook answered {refused.status}: check SKYTALLY_ALARM_WEBHOOK and alarms.form"
            ) from None

    def _post(self, data: bytes, seconds: float) -> None:
        answer = self._client.request(
            "POST", self._url, seconds=seconds, body=data, headers={"Content-Type": "application/json"}
        )
        if not 200 <= answer.status < 300:
            raise _Refused(answer.status)


class _Refused(Exception):
    """The receiver refused an alarm."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, urllib3.exceptions.HTTPError) or (
        isinstance(error, _Refused) and error.status in TRY_AGAIN
    )


def plain(alarm: Alarm, link: str | None, _: datetime) -> dict[str, Any]:
    """Return an alarm as its fields, with a text for people."""
    return {
        "state": alarm.state,
        "kind": alarm.kind,
        "subject": visible(alarm.subject),
        "cloud": alarm.cloud and visible(alarm.cloud),
        "message": visible(alarm.message),
        "raised_at": iso(alarm.raised_at),
        "resolved_at": iso(alarm.resolved_at) if alarm.resolved_at else None,
        "link": link,
        "text": visible(f"{alarm.state}: {alarm.message}"),
    }


def chat(alarm: Alarm, link: str | None, _: datetime) -> dict[str, Any]:
    """Return an alarm for a chat, with its markup escaped: foreign names mention nobody and load nothing."""
    escaped = functools.reduce(lambda words, item: words.replace(*item), CHAT_ESCAPES.items(), visible(alarm.message))
    words = f"{alarm.state} {alarm.kind}: " + CHAT_MARKUP.sub("\\g<0>\u200b", escaped)
    return {"text": f"{words} {link}" if link else words}


def alerts(alarm: Alarm, link: str | None, now: datetime) -> list[dict[str, Any]]:
    """Return an alarm as a list of one alert, as Alertmanager expects it."""
    return [alert(alarm, link, now)]


def alert(alarm: Alarm, link: str | None, now: datetime) -> dict[str, Any]:
    """Return an alarm as an alert: its labels are its identity and never change, its message may."""
    labels = {"alertname": alarm.kind, "subject": alarm.subject, "cloud": alarm.cloud, "service": "skytally"}
    return {
        "labels": {name: visible(value) for name, value in labels.items() if value},
        "annotations": {"summary": visible(alarm.message)},
        "startsAt": iso(alarm.raised_at),
        "endsAt": iso(
            now + FORGOTTEN_AFTER
            if alarm.resolved_at is None
            else max(alarm.raised_at, alarm.resolved_at - CLOCKS_DIFFER)
        ),
        **({"generatorURL": link} if link else {}),
    }


FORMS: dict[str, Callable[[Alarm, str | None, datetime], Any]] = {
    "skytally": plain,
    "chat": chat,
    "alertmanager": alerts,
}
