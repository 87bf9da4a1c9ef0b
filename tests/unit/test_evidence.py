"""Evidence: every kind of alarm has a view that shows it, and a link to it that is text everywhere."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest

from skytally.alarms import evidence, job_checks, payload_checks, secret_checks, vm_checks
from skytally.core.documents import Alarm
from skytally.dashboard.metrics import ALARMS

RAISED_AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
VIEWS = {
    "jobs": (*job_checks.KINDS, *payload_checks.KINDS),
    "usage": vm_checks.KINDS,
    "secrets": secret_checks.KINDS,
}


def alarm(kind, **fields):
    blank = {"subject": "x", "cloud": "uvic", "message": "", "state": "raised", "told": None, "resolved_at": None}
    return Alarm(**blank | {"kind": kind, "raised_at": RAISED_AT, "seen_at": RAISED_AT + timedelta(hours=1)} | fields)


@pytest.mark.parametrize("kind", ALARMS)
def test_every_kind_has_the_view_of_its_subject(kind):
    expected = next((view for view, kinds in VIEWS.items() if kind in kinds), "health")
    assert evidence.parameters(alarm(kind))["view"] == expected


def test_a_faulty_cloud_leads_to_the_failed_jobs_with_its_error():
    window = {"from": "2026-11-25T06:00:00Z", "until": "2026-11-25T13:00:00Z"}
    assert evidence.parameters(alarm("faulty_cloud", error="pilot 1099")) == window | {
        "view": "jobs",
        "by": "job",
        "status": "failed",
        "error": "pilot 1099",
        "cloud": "uvic",
    }
    assert evidence.parameters(alarm("faulty_cloud")) == window | {"view": "jobs", "by": "error", "cloud": "uvic"}


def test_a_vm_leads_to_itself():
    assert evidence.parameters(alarm("silent_vm", vm="vm-1")) == {
        "view": "usage",
        "by": "vm",
        "cloud": "uvic",
        "vm": "vm-1",
        "from": "2026-11-24T12:00:00Z",
        "until": "2026-11-25T13:00:00Z",
    }


def test_a_payload_that_runs_is_looked_at_until_now():
    assert "until" not in evidence.parameters(alarm("stuck_payload", vm="vm-1"))


def test_what_is_no_clouds_leads_to_health_alone():
    assert evidence.parameters(alarm("stale_timer", cloud=None)) == {"view": "health"}


def test_a_name_is_text_in_a_link():
    hostile = "a b&view=secrets#<!here>*~`_|\u202e"
    address, _, fragment = evidence.link("https://sky.example.org/", alarm("silent_vm", vm=hostile)).partition("#")
    assert address == "https://sky.example.org/dashboard"
    assert re.fullmatch(r"[\w=&%.-]+", fragment, re.ASCII)
    assert parse_qs(fragment)["vm"] == [hostile]


def test_without_a_public_url_there_is_no_link():
    assert evidence.link("", alarm("silent_vm")) is None
