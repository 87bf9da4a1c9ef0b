"""Batch ids: a batch system's name of a job, in each form that sources report.

HTCondor's GlobalJobId is `schedd#cluster.proc#qdate`; the schedd's name may contain or end in `@` and `#`. A pilot may
know only `cluster.proc` or `cluster`. Any other text is another batch system's id, and is compared as text.
"""

import re

_GLOBAL = re.compile(r".*#([0-9]{1,12}\.[0-9]{1,9})#[0-9]{1,12}")
_NUMBER = re.compile(r"([0-9]{1,12})(\.[0-9]{1,9})?")


def number_of(batch_id: str) -> str | None:
    """Return the `cluster.proc` of a batch id, or None where it has none."""
    whole = _GLOBAL.fullmatch(batch_id)
    if whole:
        return whole[1]
    bare = _NUMBER.fullmatch(batch_id)
    return f"{bare[1]}{bare[2] or '.0'}" if bare else None


def is_bare(batch_id: str) -> bool:
    """Return whether a batch id names no schedd, so that two schedds may have it."""
    return _NUMBER.fullmatch(batch_id) is not None


def host_of(slot: str) -> str:
    """Return the host of `slot1_2@host`, or of a host."""
    return slot.rpartition("@")[2]
