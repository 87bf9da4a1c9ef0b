"""What the server refuses is kept by vm.py for 14 days,
offered again by a person or a newer version, and stops nothing else.
"""

import gzip
import json

import pytest

from tests.support.agent_lab import Lab, serve


@pytest.fixture
def lab(tmp_path):
    one = Lab(tmp_path)
    one.world.run(60)
    with serve(one.office) as one.base:
        assert one.do("report") == 0
        yield one


def hours(lab, *codes):
    for code in codes:
        lab.world.run(3600)
        assert lab.do("report") == code


def refusing(lab, uptime=None):
    """Let the office refuse the sample with this uptime, or all, until what is returned is called."""
    real = lab.office.fault

    def fault(sample):
        return "malformed" if uptime in {None, round(sample["uptime_seconds"])} else real(sample)

    lab.office.fault = fault
    return lambda: setattr(lab.office, "fault", real)


def error(status, code="malformed", message="never"):
    return status, {}, json.dumps({"error": {"code": code, "message": message}}).encode()


def uptimes(samples):
    return [round(sample["uptime_seconds"]) for sample in samples]


def test_a_refused_sample_is_kept_on_disk_for_its_owner_only_and_said_in_one_line(lab, capfd):
    end = refusing(lab)
    hours(lab, 3)
    end()
    hours(lab, 0)
    (entry,) = lab.kept["refused"]
    assert round(entry["sample"]["uptime_seconds"]) == 3660
    assert entry["why"] == ["refused", "malformed"]
    assert (lab.state / "state.json").stat().st_mode & 0o777 == 0o600
    (line,) = capfd.readouterr().err.splitlines()
    assert "usage-report: 1 refused" in line
    assert "vm.py resend" in line
    assert lab.kept["pending"] == []


def test_resend_offers_it_again_and_what_is_taken_is_gone(lab, capfd):
    end = refusing(lab)
    hours(lab, 3, 3)
    assert lab.do("resend") == 3
    assert len(lab.kept["refused"]) == 2
    end()
    hours(lab, 0)
    assert lab.do("resend") == 0
    assert lab.kept["refused"] == []
    assert sorted(uptimes(lab.office.samples)) == [60, 3660, 7260, 10860]
    assert lab.office.overlaps() == []
    assert sum(one["wall_seconds"] for one in lab.office.intervals.values()) == pytest.approx(10860, abs=1)
    assert "of 2 refused before, 0 are refused again" in capfd.readouterr().err
    before = len(lab.office.requests)
    assert lab.do("resend") == 0
    assert len(lab.office.requests) == before


def test_a_newer_version_offers_it_again_once_and_not_every_hour(lab):
    end = refusing(lab, 3660)
    hours(lab, 3, 0)
    lab.agent().VERSION = "99"
    before = len(lab.office.requests)
    hours(lab, 0)
    assert len(lab.office.requests) == before + 2
    hours(lab, 0)
    assert len(lab.office.requests) == before + 3
    assert len(lab.kept["refused"]) == 1
    end()
    lab.agent().VERSION = "100"
    hours(lab, 0)
    assert lab.kept["refused"] == []
    assert 3660 in uptimes(lab.office.samples)


def test_a_newer_version_that_meets_an_outage_tries_again_with_the_next_report(lab):
    end = refusing(lab, 3660)
    hours(lab, 3)
    end()
    lab.agent().VERSION = "99"
    lab.office.script.extend([as_ever, *[(503, {}, b"")] * 9])
    hours(lab, 5)
    lab.office.script.clear()
    assert len(lab.kept["refused"]) == 1
    hours(lab, 0)
    assert lab.kept["refused"] == []


def as_ever(office, path, headers, body):
    """Return as the office does whatever its script says."""
    script, office.script = office.script, type(office.script)()
    try:
        return office.answer("POST", path, headers, body)
    finally:
        office.script = script


def test_what_was_refused_goes_after_14_days_and_survives_reboots_until_then(lab):
    refusing(lab, 3660)
    hours(lab, 3)
    lab.world.boot(60)
    lab.world.run(60)
    assert lab.do("report") == 0
    assert len(lab.kept["refused"]) == 1
    lab.world.run(13.8 * 86400)
    hours(lab, 0)
    assert len(lab.kept["refused"]) == 1
    lab.world.run(86400 * 0.3)
    hours(lab, 0)
    assert lab.kept["refused"] == []


def test_a_cloned_image_offers_nothing_of_its_original(lab):
    end = refusing(lab)
    hours(lab, 3)
    end()
    (lab.folder / "machine").write_text("99999999-2222-3333-4444-555555555555\n")
    lab.world.boot(60)
    lab.world.run(60)
    hours(lab, 0)
    assert lab.kept["refused"] == []


def test_it_is_bounded_in_number_and_bytes_and_the_oldest_goes_first(lab):
    agent = lab.agent()
    refusing(lab)
    agent.KEPT_ITEMS = 3
    hours(lab, *[3] * 5)
    assert uptimes(entry["sample"] for entry in lab.kept["refused"]) == [60 + 3600 * n for n in (3, 4, 5)]
    agent.KEPT_BYTES = 2 * len(json.dumps(lab.kept["refused"][0])) + 100
    hours(lab, 3)
    assert uptimes(entry["sample"] for entry in lab.kept["refused"]) == [60 + 3600 * n for n in (5, 6)]


@pytest.mark.parametrize("status", [400, 415, 422, 413])
def test_a_request_that_is_refused_whole_is_kept_and_the_next_goes_through(lab, status, capfd):
    lab.office.script.append(error(status))
    hours(lab, 3, 0)
    assert uptimes(entry["sample"] for entry in lab.kept["refused"]) == [3660]
    assert "never (malformed)" in capfd.readouterr().err
    assert lab.do("resend") == 0
    assert 3660 in uptimes(lab.office.samples)


@pytest.mark.parametrize("status", [401, 403, 409, 405])
def test_a_token_that_is_not_taken_keeps_everything_waiting(lab, status, capfd):
    lab.office.script.append(error(status, "unauthenticated", "bring another"))
    hours(lab, 3)
    assert "the next report tries again" in capfd.readouterr().err
    assert (uptimes(lab.kept["pending"]), lab.kept["refused"]) == ([3660], [])
    hours(lab, 0)
    assert uptimes(lab.office.samples) == [60, 3660, 7260]


@pytest.mark.parametrize(
    "body", [b"<html>400 The plain HTTP request was sent to HTTPS port</html>", b"[" * 100_000, b"{}", b'{"error": 1}']
)
def test_a_refusal_by_something_that_is_not_our_server_keeps_everything_waiting(lab, body):
    lab.office.script.append((400, {}, body))
    hours(lab, 3)
    assert (uptimes(lab.kept["pending"]), lab.kept["refused"]) == ([3660], [])


def test_what_is_too_large_goes_in_halves_and_one_bad_sample_costs_itself(lab):
    lab.office.away = True
    hours(lab, *[5] * 9)
    lab.office.away = False
    sizes = []

    def limited(office, path, headers, body):
        samples = json.loads(gzip.decompress(body))["samples"]
        sizes.append(len(samples))
        office.script.append(limited)
        if len(samples) > 3 or 60 + 5 * 3600 in uptimes(samples):
            return error(413, "too_large", "too large")
        return as_ever(office, path, headers, body)

    lab.office.script.append(limited)
    hours(lab, 0)
    lab.office.script.clear()
    assert sizes[0] == 10
    assert uptimes(entry["sample"] for entry in lab.kept["refused"]) == [60 + 5 * 3600]
    assert sorted(uptimes(lab.office.samples)) == [60 + 3600 * n for n in range(11) if n != 5]


def test_an_outage_in_the_middle_of_halves_loses_nothing(lab):
    lab.office.away = True
    hours(lab, *[5] * 3)
    lab.office.away = False
    lab.office.script.extend([error(413), as_ever, *[(503, {}, b"")] * 9])
    hours(lab, 5)
    lab.office.script.clear()
    hours(lab, 0)
    assert sorted(set(uptimes(lab.office.samples))) == pytest.approx([60 + 3600 * n for n in range(6)], abs=2)
    assert lab.office.overlaps() == []


def test_one_bad_heartbeat_stops_no_other_and_is_offered_again(lab, capfd):
    process = lab.folder / "proc/7"
    process.mkdir()
    (process / "cmdline").write_bytes(b"basf2\0")
    (process / "environ").write_bytes(b"DIRACJOBID=1\0")
    lab.office.script.append(error(400, "malformed", "odd"))
    assert lab.do("jobs") == 0
    assert "job-heartbeat: 1 refused" in capfd.readouterr().err
    (process / "environ").write_bytes(b"DIRACJOBID=2\0")
    refused = [{"index": 0, "code": "malformed_job", "message": "no such job"}]
    lab.office.script.append(lambda office, *_: (200, {}, json.dumps(office.receipt(0, 0, refused)).encode()))
    assert lab.do("jobs") == 0
    (process / "environ").write_bytes(b"DIRACJOBID=3\0")
    assert lab.do("jobs") == 0
    assert [beat["jobs"] for beat in lab.office.heartbeats] == [["3"]]
    assert [entry["beat"]["jobs"] for entry in lab.kept["refused"]] == [["1"], ["2"]]
    assert lab.do("resend") == 0
    assert [beat["jobs"] for beat in lab.office.heartbeats] == [["3"], ["1"], ["2"]]
    assert lab.kept["refused"] == []


def test_a_state_of_an_older_version_is_taken_up(lab):
    for path in (lab.state / "state.json", next(lab.run_dir.iterdir())):
        state = json.loads(path.read_text())
        del state["refused"], state["version"]
        path.write_text(json.dumps(state))
    hours(lab, 0)
    assert uptimes(lab.office.samples) == [60, 3660]
    assert lab.kept["version"] == lab.agent().VERSION


@pytest.mark.parametrize("index", [10**400, -1, 1, "x", None, [1], float("inf"), float("nan")])
def test_a_receipt_that_refuses_what_was_not_sent_is_no_receipt(lab, index):
    refused = [{"index": index, "code": "c", "message": "m"}]
    lab.office.script.append(lambda office, *_: (200, {}, json.dumps(office.receipt(0, 0, refused)).encode()))
    hours(lab, 5)
    assert (uptimes(lab.kept["pending"]), lab.kept["refused"]) == ([3660], [])


@pytest.mark.parametrize("refusal", ["x", None, {}, {"index": 0}, {"index": 0, "code": "c"}])
def test_nor_is_one_with_a_refusal_of_another_form(lab, refusal):
    lab.office.script.append(lambda office, *_: (200, {}, json.dumps(office.receipt(0, 0, [refusal])).encode()))
    hours(lab, 5)
    assert (uptimes(lab.kept["pending"]), lab.kept["refused"]) == ([3660], [])


def test_no_escape_of_a_receipt_reaches_terminal_or_console(lab, capfd):
    evil = {"index": 0, "code": "\x1b[31mred", "message": "\x1b]0;owned\x07\u202e\n\x9b2J"}
    lab.office.script.append(lambda office, *_: (200, {}, json.dumps(office.receipt(0, 0, [evil])).encode()))
    hours(lab, 3)
    for text in (capfd.readouterr().err, lab.console.read_text()):
        assert all(" " <= letter <= "~" or letter == "\n" for letter in text), repr(text)
        assert "\\x1b]0;owned" in text


@pytest.mark.parametrize("token", ["with a blank", "new\r\nline", "n\u00e4me", 7, ["t"], "x" * 5000])
def test_a_token_that_is_none_is_not_taken(lab, token):
    lab.office.fresh_token = token
    hours(lab, 0)
    lab.office.fresh_token = None
    hours(lab, 0)
    assert lab.kept["token"] == "t0"
