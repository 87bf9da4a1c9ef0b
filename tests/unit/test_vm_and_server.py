"""The real vm.py against the server's real rules, where clocks of the vm do not tell the truth:
the statement says what is not known.
"""

import asyncio
import copy
from datetime import UTC, datetime

import msgspec
import pytest

from skytally.accounting import samples, usage
from skytally.accounting.boots import Register
from skytally.accounting.closing import statement
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.core.records import Caller
from skytally.core.site_data import Site
from tests.support.agent_lab import Lab, Office

HOUR = 3600
CALLER = Caller(role="reporter", issued=0, expires=2**40, vm="vm-1", clouds=("uvic",))


class ServerOffice(Office):
    """A far end that judges and keeps samples as the server does."""

    def __init__(self, world, documents):
        super().__init__(world)
        self.documents, self.register = documents, Register(documents)

    @property
    def moment(self):
        return datetime.fromtimestamp(self.now, UTC)

    def book(self, samples_of_it):
        items = samples.parse(msgspec.json.encode({"samples": samples_of_it}))
        receipt = asyncio.run(usage.record(items, CALLER, self.register, self.documents, self.moment))
        self.samples += samples_of_it
        return self.receipt(receipt.accepted, receipt.stale, msgspec.to_builtins(receipt.rejected))

    def boot(self, month):
        (boot,) = statement(month, (), self.documents, Site(), self.moment)["boots"]
        return boot


@pytest.fixture
def lab(tmp_path):
    one = Lab(tmp_path, "2026-11-03T00:00:00", cores=4)
    one.direct = True
    documents = SqliteDocuments(tmp_path / "documents.sqlite")
    one.office = ServerOffice(one.world, documents)
    yield one
    documents.close()


def hourly(lab, hours):
    for _ in range(hours):
        lab.world.run(HOUR)
        assert lab.do("report") == 0


def memory(lab):
    """Take a snapshot of the vm's memory, disk and clocks."""
    world, files = lab.world, [path for folder in (lab.state, lab.run_dir) for path in folder.iterdir()]
    kept = {name: copy.deepcopy(vars(world)[name]) for name in ("uptime", "wall", "used", "network", "cores")}
    return kept, world.unix, {path: path.read_bytes() for path in files}


def restore(lab, snapshot, with_disk):
    """Go back to a snapshot; the vm's clock stands where it stood until NTP sets it."""
    kept, unix, files = snapshot
    vars(lab.world).update(copy.deepcopy(kept))
    lab.world.clock_error = unix - lab.world.now
    lab.world.publish()
    for path, content in files.items() if with_disk else ():
        path.write_bytes(content)


def test_a_week_in_which_the_host_paused_the_vm_is_not_covered(lab):
    hourly(lab, 30)
    lab.world.pause(7 * 24 * HOUR)
    hourly(lab, 1)
    lab.world.clock_error = 0
    hourly(lab, 9)
    boot = lab.office.boot("2026-11")
    assert boot["core_seconds"] == pytest.approx(40 * 4 * HOUR, abs=10)
    assert boot["coverage"] == pytest.approx(40 / 208, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("with_disk", [False, True])
def test_what_a_restored_vm_ran_twice_counts_once_and_is_not_covered(lab, with_disk):
    hourly(lab, 10)
    snapshot = memory(lab)
    hourly(lab, 20)
    restore(lab, snapshot, with_disk)
    hourly(lab, 1)
    lab.world.clock_error = 0
    hourly(lab, 23)
    boot = lab.office.boot("2026-11")
    assert boot["core_seconds"] == pytest.approx(34 * 4 * HOUR, abs=10)
    assert boot["coverage"] == pytest.approx(34 / 54, abs=1e-3)
    assert boot["anomalies"] == 1


@pytest.mark.parametrize("with_disk", [False, True])
def test_a_restored_vm_that_ends_before_it_was_is_not_covered_either(lab, with_disk):
    hourly(lab, 10)
    snapshot = memory(lab)
    hourly(lab, 20)
    restore(lab, snapshot, with_disk)
    hourly(lab, 6)
    boot = lab.office.boot("2026-11")
    assert boot["core_seconds"] == pytest.approx(30 * 4 * HOUR, abs=10)
    assert boot["coverage"] == pytest.approx(30 / 36, abs=1e-3)


def test_a_vm_that_was_heard_of_every_hour_is_covered_whole(lab):
    hourly(lab, 30)
    lab.world.suspend(12 * HOUR)
    hourly(lab, 5)
    assert lab.office.boot("2026-11")["coverage"] == 1.0
