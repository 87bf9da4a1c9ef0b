"""At most once: many claimants, two servers that are killed,
a store that loses replies, a sweep; and the mutant that delivers twice.
"""

import pytest

from tests.support.race_secrets import race

pytestmark = [pytest.mark.servers, pytest.mark.timeout(280)]


def test_nobody_gets_a_secret_twice_late_or_without_proof(object_settings, tmp_path):
    result = race(object_settings, tmp_path, 80, kill_every_seconds=0.5)
    assert (result.twice, result.late, result.without_proof, result.wrong_holder) == (0, 0, 0, 0)
    assert result.statuses[0] == 0
    assert result.kills >= 1
    assert sum(result.deliveries.values()) > 30


def test_check_then_delete_delivers_twice(store_settings, tmp_path):
    result = race(store_settings("files"), tmp_path, 60, kill_every_seconds=1e9, mutant=True)
    assert result.twice > 0
