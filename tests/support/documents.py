"""Documents to write, and how they are written and added up, the same on every store."""

from datetime import UTC, datetime, timedelta

from skytally.core.documents import Interval, Label, Usage
from skytally.core.errors import Unavailable
from skytally.core.ports import Outcome, Query, Write

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
STORED, STALE = Outcome.STORED, Outcome.STALE


class WithoutJobs:
    """A document store that is away whenever jobs are written."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)

    def write(self, writes):
        if any(write.index == "job" for write in writes):
            raise Unavailable("away")
        return self.store.write(writes)


def done(documents, *writes):
    return documents.write(list(writes)).result(timeout=60)


def label(key, boot_id, version=0, **how):
    return Write("label", key, version, Label(boot_id=boot_id), **how)


def interval(name, from_at, until_at, core_ms, cloud="uvic", vm="v", **more):
    blank = dict.fromkeys(Interval.__struct_fields__, 0)
    fields = {
        "label": name,
        "vm": vm,
        "cloud": cloud,
        "site": None,
        "group": None,
        "flavor": None,
        "from_at": from_at,
        "until_at": until_at,
    }
    document = Interval(**blank | fields | {"core_ms": core_ms, "wall_ms": core_ms // 8, "cores": 8} | more)
    return Write("interval", f"{name}-{from_at.timestamp():.0f}", round(until_at.timestamp()), document)


def window(documents, from_at, until_at, **query):
    documents.refresh()
    return documents.table(
        Query(index="interval", from_at=from_at, until_at=until_at, **{"by": ("cloud",), "sums": ("core_ms",)} | query)
    )


def usage(key, month, cloud, version=1):
    blank = dict.fromkeys(Usage.__struct_fields__, 0)
    fields = {
        "month": month,
        "boot_id": key,
        "label": key,
        "vm": key,
        "cloud": cloud,
        "site": None,
        "group": None,
        "flavor": None,
    }
    fields |= {
        "boot_at": AT,
        "last_sampled_at": AT,
        "final": True,
        "estimated": False,
        "clock_ahead": False,
        "clock_offset_seconds": 0.5,
    }
    fields |= {"cores": 8, "memory_bytes": 2**40, "disk_bytes": None, "cpu_model": None, "agent_version": None}
    return Write("usage", key, version, Usage(**blank | fields))
