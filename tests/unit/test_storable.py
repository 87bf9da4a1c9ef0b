"""The one rule of what stores keep: which documents can be read again."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from skytally.core import storable
from skytally.core.documents import INDICES, Label, Round, TimerSlot, Usage
from skytally.core.ports import Query, Write
from tests.support.documents import AT, HOUR, interval, label, usage

FAR_EAST = timezone(timedelta(hours=14))


def round_at(moment):
    return Write("round", "r", 1, Round(name="r", started_at=moment, finished_at=None, succeeded_at=None, error=None))


def changed(write, **fields):
    return Write(write.index, write.key, write.version, msgspec.structs.replace(write.document, **fields))


@pytest.mark.parametrize(
    "write",
    [
        label("k", "a"),
        label("🦉", "ü\x00"),
        Write("label", "k", 2**63 - 1, Label(boot_id="")),
        round_at(storable.EARLIEST),
        round_at(storable.LATEST - timedelta(milliseconds=1)),
        round_at(datetime(2026, 1, 1, tzinfo=FAR_EAST)),
        interval("i", AT, AT, 5),
        changed(
            usage("u", "2026-11", "uvic"),
            core_ms=2**63 - 1,
            user_ms=-(2**63),
            disk_bytes=None,
            clock_offset_seconds=1e308,
        ),
    ],
)
def test_what_can_be_read_again_is_kept_and_its_values_are_returned(write):
    kind, values = type(write.document), msgspec.structs.astuple(write.document)
    assert storable.check(write) == values
    assert storable.read(write.key, msgspec.structs.asdict(write.document), kind) == write.document
    assert storable.read_row(write.key, values, kind) == write.document


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (label("", "a"), "key"),
        (label("\ud800", "a"), "key"),
        (label("k", "\udfff"), "boot_id"),
        (label("k", 5), "boot_id"),
        (label("k", None), "boot_id"),
        (label("k", "a", -1), "version"),
        (label("k", "a", 2**63), "version"),
        (Write("nowhere", "k", 1, Label(boot_id="a")), "kind"),
        (Write("label", "k", 1, TimerSlot(taken_at=AT)), "kind"),
        (round_at(datetime(1, 1, 1, tzinfo=FAR_EAST)), "started_at"),
        (round_at(datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-14)))), "started_at"),
        (round_at(storable.EARLIEST - timedelta(microseconds=1)), "started_at"),
        (round_at(storable.LATEST), "started_at"),
        (round_at(AT.replace(tzinfo=None)), "started_at"),
        (changed(usage("u", "2026-11", "uvic"), core_ms=2**63), "core_ms"),
        (changed(usage("u", "2026-11", "uvic"), core_ms=-(2**63) - 1), "core_ms"),
        (changed(usage("u", "2026-11", "uvic"), core_ms=1.5), "core_ms"),
        (changed(usage("u", "2026-11", "uvic"), clock_offset_seconds=float("nan")), "clock_offset_seconds"),
        (changed(usage("u", "2026-11", "uvic"), clock_offset_seconds=float("-inf")), "clock_offset_seconds"),
        (interval("i", AT, AT - HOUR, 5), "until_at"),
    ],
)
def test_what_could_not_be_read_again_is_refused_and_the_reason_names_it_without_its_content(write, reason):
    with pytest.raises(storable.NotStorable, match=reason) as refused:
        storable.check(write)
    str(refused.value).encode()


def test_a_value_is_checked_wherever_it_stands_and_whatever_was_stored_before():
    sound = usage("u", "2026-11", "uvic")
    for name, held in storable.field_types(type(sound.document)).items():
        bad = {datetime: storable.LATEST, int: 2**63, float: float("inf"), str: "\ud800"}.get(held)
        for others in ({}, {"disk_bytes": None, "clock_offset_seconds": 1.5, "site": None}):
            storable.check(changed(sound, **others))
            if bad is not None:
                with pytest.raises(storable.NotStorable, match=rf"^{name} "):
                    storable.check(changed(sound, **others | {name: bad}))
            with pytest.raises(storable.NotStorable, match=name):
                storable.check(changed(sound, **others | {name: object()}))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (label("", "a"), "key"),
        (label(b"k", "a"), "key"),
        (label("k", 5), "boot_id"),
        (label("k", b"\xff"), "boot_id"),
        (round_at(5), "started_at"),
        (round_at(storable.LATEST), "started_at"),
        (round_at(AT.replace(tzinfo=None)), "started_at"),
        (changed(usage("u", "2026-11", "uvic"), core_ms=1.5), "core_ms"),
        (changed(usage("u", "2026-11", "uvic"), final=2), "final"),
        (changed(usage("u", "2026-11", "uvic"), clock_offset_seconds=float("inf")), "clock_offset_seconds"),
        (interval("i", AT, AT - HOUR, 5), "until_at"),
    ],
)
def test_a_row_that_is_no_document_is_refused_and_the_reason_names_it(write, reason):
    values = msgspec.structs.astuple(write.document)
    with pytest.raises(storable.NotStorable, match=reason):
        storable.read_row(write.key, values, type(write.document))


def test_a_row_may_have_a_whole_number_where_a_document_has_any():
    row = msgspec.structs.astuple(changed(usage("u", "2026-11", "uvic"), clock_offset_seconds=5).document)
    assert storable.read_row("u", row, Usage).clock_offset_seconds == 5.0


def test_the_fields_that_every_document_has_are_those_that_may_not_be_none():
    assert storable.required("label") == {"boot_id"}
    assert {"cloud", "vm", "label"} <= storable.required("interval")
    assert not {"site", "group", "flavor"} & storable.required("interval")
    for index, kind in INDICES.items():
        assert storable.required(index) <= set(kind.__struct_fields__)


def test_windows_end_where_moments_end():
    window = Query(
        index="interval", from_at=datetime(2000, 1, 1, tzinfo=UTC), until_at=datetime(9998, 1, 1, tzinfo=UTC)
    )
    assert storable.within_reach(window).until_at == storable.LATEST
    usual = Query(index="interval", from_at=AT, until_at=AT + HOUR)
    assert storable.within_reach(usual) is usual
