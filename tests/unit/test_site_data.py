"""Site data that are read again and again:
the last ones that made sense count, whatever becomes of the file meanwhile.
"""

import json
import logging
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from skytally.adapters.objects_filesystem import FilesystemObjects
from skytally.adapters.site_files import OBJECT_KEPT, SiteData
from skytally.cli import cli, main
from skytally.core import site_data
from skytally.core.errors import Misconfigured, NotFound, Unavailable
from skytally.core.site_data import BrokenSiteData, Site

NOW = datetime(2026, 11, 25, tzinfo=UTC)
GOOD = "[clouds.a]\nowner = '{}'\n"
FORGOTTEN_QUOTE = '[clouds.uvic]\nowner = "UVic\n'
SECRET = "s3cret"
EXAMPLE = (Path(site_data.__file__).parents[1] / "data" / "clouds.example.toml").read_text().splitlines()


def test_a_file_counts_from_the_next_look(tmp_path):
    path = tmp_path / "clouds.toml"
    data = SiteData(str(path), FilesystemObjects, lambda: NOW)
    with pytest.raises(Misconfigured):
        data.site()
    for owner in ("x", "yy", "zz"):
        path.write_text(GOOD.format(owner))
        assert (data.site().cloud("a").owner, data.fault()) == (owner, None)
    assert SiteData("", FilesystemObjects, lambda: NOW).site() == Site()


def test_an_object_is_read_every_half_minute(tmp_path):
    times = [NOW]
    store = FilesystemObjects(tmp_path)
    store.create("other", b"")
    data = SiteData("file:///x/clouds.toml", lambda _: store, lambda: times[-1])
    with pytest.raises(Misconfigured) as broken:
        data.site()
    assert "cannot be read: there is no such object" in broken.value.reason
    store.create("clouds.toml", GOOD.format("x").encode())
    assert data.fault() is not None
    times.append(NOW + OBJECT_KEPT)
    assert data.site().cloud("a").owner == "x"
    store.delete("clouds.toml")
    assert (data.site().cloud("a").owner, data.fault()) == ("x", None)
    times.append(NOW + 2 * OBJECT_KEPT)
    assert (data.site().cloud("a").owner, data.fault().since) == ("x", times[-1])


def broken_by_a_quote(path):
    path.write_text(FORGOTTEN_QUOTE)


def gone(path):
    path.unlink()


def a_folder(path):
    path.unlink()
    path.mkdir()


def in_latin_1(path):
    path.write_bytes("[clouds.a]\nowner = 'Zürich'\n".encode("latin-1"))


def bounds_the_wrong_way_round(path):
    path.write_text("[benchmarks]\nlowest_hs23_per_core = 61\n")


FAULTS = {
    broken_by_a_quote: "line 2, clouds.uvic",
    gone: "cannot be read",
    a_folder: "cannot be read",
    in_latin_1: "cannot be read",
    bounds_the_wrong_way_round: "line 2, benchmarks.lowest_hs23_per_core",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_last_good_data_count_and_the_fault_is_said_with_its_begin(tmp_path, fault, caplog):
    path, times = tmp_path / "clouds.toml", [NOW]
    path.write_text(GOOD.format("x") + '[deny]\nvms = ["a/bad"]\n')
    data = SiteData(str(path), FilesystemObjects, lambda: times[-1])
    good = data.site()
    fault(path)
    with caplog.at_level(logging.ERROR, "skytally"):
        for minutes in range(3):
            times.append(NOW + timedelta(minutes=minutes))
            assert (data.site(), data.fault().since, data.fault().place) == (good, NOW, FAULTS[fault])
    assert len(caplog.records) == 1
    assert data.site().deny.vms == ("a/bad",)


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path):
    path, store = tmp_path / "clouds.toml", FilesystemObjects(tmp_path / "store")
    content = GOOD.format("Zürich").encode("utf-8-sig")
    path.write_bytes(content)
    store.create("clouds.toml", content)
    for where in (str(path), f"file://{tmp_path}/store/clouds.toml"):
        data = SiteData(where, lambda _: store, lambda: NOW)
        assert (data.site().cloud("a").owner, data.fault()) == ("Zürich", None)


def test_what_is_wrong_is_told_to_the_operator_alone(tmp_path):
    path = tmp_path / "clouds.toml"
    data = SiteData(str(path), FilesystemObjects, lambda: NOW)
    for text in (f"[{SECRET}]\n", f"[clouds.a]\n{SECRET} = 1\n", f"[clouds.a]\nowner = {SECRET}\n", f"{SECRET} = [1\n"):
        path.write_text(text)
        with pytest.raises(Misconfigured) as broken:
            data.site()
        assert SECRET not in broken.value.message + data.fault().place
        assert str(path) not in broken.value.message + data.fault().place
        assert "line " in data.fault().place
    assert isinstance(broken.value, Unavailable)


def test_the_command_line_says_what_is_wrong(home, monkeypatch, capsys):
    (home / "clouds.toml").write_text(FORGOTTEN_QUOTE)
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))
    words = "line 2, clouds.uvic: Illegal character"
    found = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).output)
    assert [(one["state"], words in one["finding"]) for one in found if one["part"] == "site data"] == [
        ("FAILED", True)
    ]
    for setting in ("", "many"):
        monkeypatch.setenv("SKYTALLY_CALLS_PER_SECOND", setting)
        monkeypatch.setattr("sys.argv", ["skytally", "statement", "compare", "--month", "2026-10"])
        with pytest.raises(SystemExit) as end:
            main()
        assert (
            end.value.code,
            ("SKYTALLY_CALLS_PER_SECOND: must be a rate limit" if setting else words) in capsys.readouterr().err,
        ) == (1, True)
    monkeypatch.delenv("SKYTALLY_CALLS_PER_SECOND")
    (home / "clouds.toml").write_text(GOOD.format("x"))
    found = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).output)
    assert [(one["state"], one["finding"]) for one in found if one["part"] == "site data"] == [("ok", "1 clouds")]


def test_nobody_who_has_data_waits_for_a_store_that_is_slow():
    times, release, entered = [NOW], threading.Event(), threading.Event()

    class Slow:
        def get(self, _):
            if len(times) > 1:
                entered.set()
                assert release.wait(10)
                raise NotFound("gone")
            return GOOD.format("x").encode()

    data = SiteData("file:///x/clouds.toml", lambda _: Slow(), lambda: times[-1])
    assert data.site().cloud("a").owner == "x"
    times.append(NOW + OBJECT_KEPT)
    reader = threading.Thread(target=data.site)
    reader.start()
    assert entered.wait(10)
    assert data.site().cloud("a").owner == "x"
    release.set()
    reader.join()
    assert data.fault() is not None


@given(st.lists(st.tuples(st.sampled_from(["good", "broken", "gone"]), st.integers(0, 2)), max_size=8))
def test_whatever_becomes_of_the_object_the_newest_good_data_count(steps):
    times, held = [NOW], [None]

    class Store:
        def get(self, _):
            if held[0] is None:
                raise NotFound("there is no such object")
            return held[0].encode()

    data, last_good = SiteData("file:///x/y", lambda _: Store(), lambda: times[-1]), None
    for state, number in steps:
        held[0] = {"good": GOOD.format(number), "broken": FORGOTTEN_QUOTE, "gone": None}[state]
        last_good = f"{number}" if state == "good" else last_good
        times.append(times[-1] + OBJECT_KEPT)
        if last_good is None:
            with pytest.raises(Misconfigured):
                data.site()
        else:
            assert data.site().cloud("a").owner == last_good
        assert (data.fault() is None) == (state == "good")


lines = st.lists(st.sampled_from([*EXAMPLE, "[", "=", "clouds = 1", "[deny.vms]", '"', "x = nan"]), max_size=40)


@given(st.one_of(st.text(), lines.map("\n".join), st.integers(1, 5_000).map(lambda n: "a=" + "[" * n + "9" * n)))
def test_no_text_is_anything_but_site_data_or_broken_site_data(text):
    try:
        assert isinstance(site_data.parse(text), Site)
    except BrokenSiteData as broken:
        found = broken
    else:
        return
    assert (bool(found.reason), bool(found.place)) == (True, True)
