"""Who calls, and what it may read."""

from datetime import UTC, datetime

import pytest

from skytally.access import callers, tokens
from skytally.access.keyring import Key
from skytally.core import site_data
from skytally.core.errors import Forbidden, NotYours, Unauthenticated
from skytally.core.records import Caller

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEYS = (Key("token-1", b"k" * 32),)
READER = Caller(role="reader", issued=0, expires=2_000_000_000, clouds=("uvic", "cern"))


def test_a_token_admits_its_holder_to_the_functions_of_its_role():
    text = tokens.issue(READER, KEYS)
    admission = callers.admit(text, "reader", KEYS, site_data.Site(), NOW)
    assert (admission.caller, admission.token_keys, admission.chain_id) == (READER, KEYS, tokens.digest_of(text))


def test_another_roles_token_and_an_unsigned_one_are_refused():
    text = tokens.issue(READER, KEYS)
    with pytest.raises(Forbidden, match="needs a scheduler's token, not a reader's"):
        callers.admit(text, "scheduler", KEYS, site_data.Site(), NOW)
    with pytest.raises(Unauthenticated):
        callers.admit(text, "reader", (Key("token-2", b"x" * 32),), site_data.Site(), NOW)


def test_a_token_on_the_deny_list_is_refused_whatever_its_role():
    text = tokens.issue(READER, KEYS)
    site = site_data.Site(deny=site_data.Deny(tokens=(tokens.digest_of(text),)))
    for role in ("reader", "scheduler"):
        with pytest.raises(Forbidden, match="deny list"):
            callers.admit(text, role, KEYS, site, NOW)


def test_a_reader_reads_its_own_clouds_or_some_of_them():
    assert callers.readable_clouds(READER, ()) == ("uvic", "cern")
    assert callers.readable_clouds(READER, ("cern",)) == ("cern",)
    with pytest.raises(NotYours):
        callers.readable_clouds(READER, ("cern", "desy"))


def test_whoever_reads_an_open_dashboard_reads_every_cloud():
    anybody = callers.admit_anybody(site_data.Site()).caller
    assert callers.readable_clouds(anybody, ()) == ()
    assert callers.readable_clouds(anybody, ("desy",)) == ("desy",)
