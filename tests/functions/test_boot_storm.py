"""A small storm at the real server: all vms boot, or come back, behind one address, and none is refused."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from tests.support import boot_storm
from tests.support.local_server import Server

VMS, WITHIN_SECONDS = 200, 4


@pytest.fixture
def storm_server(tmp_path):
    server = Server(tmp_path, **boot_storm.SETTINGS).start()
    yield server
    server.stop()


def boots_of_statement(server):
    """Return the boots of this month and the one before, which a day's spool may reach into."""
    now = datetime.now(UTC)
    months = {f"{moment:%Y-%m}" for moment in (now, now - boot_storm.OLDEST_SPOOL)}
    paths = [f"statement?month={month}&detail=boots" for month in months]
    return {boot["boot_id"] for path in paths for boot in server.call(path, token=server.token("reader")).json["boots"]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [boot_storm.boots, boot_storm.returns])
def test_every_vm_of_a_storm_behind_one_address_is_served(kind, storm_server):
    storm = boot_storm.run(storm_server.port, kind(storm_server.home, VMS), WITHIN_SECONDS)
    assert storm.refusals == Counter()
    assert len(storm.waits_seconds) == VMS
    assert len(boots_of_statement(storm_server)) == VMS


@pytest.mark.slow
def test_a_storm_is_counted_as_one_address(tmp_path):
    """Without this the other test would prove nothing about the rate limits."""
    server = Server(tmp_path, **boot_storm.SETTINGS, SKYTALLY_CLAIMS_PER_SECOND="1").start()
    try:
        storm = boot_storm.run(server.port, boot_storm.boots(tmp_path, 63), 0.5)
    finally:
        server.stop()
    assert set(storm.refusals) == {429}
    assert len(storm.waits_seconds) == 63
