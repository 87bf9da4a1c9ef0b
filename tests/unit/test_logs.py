"""Log lines: one JSON object each, with the request's id, and nothing of what an exception said."""

import io
import json
import logging
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytally.core import logs


@pytest.fixture
def written():
    """Log into memory for a while, as a process does."""
    stream, root = io.StringIO(), logging.getLogger()
    before = list(root.handlers), root.level
    logs.to_stream(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level = before


def test_fields_are_fields_and_text_is_a_message(written):
    log = logging.getLogger("skytally")
    logs.request_id.set("r-1")
    log.info(logs.Fields(function="statement", status=404))
    log.warning("timer %s answered %s", "secret_sweep", 503)
    logs.request_id.set("")
    first, second = written()
    assert (first["function"], first["status"], first["request_id"], first["level"]) == (
        "statement",
        404,
        "r-1",
        "info",
    )
    assert (second["message"], second["level"], second["logger"]) == (
        "timer secret_sweep answered 503",
        "warning",
        "skytally",
    )
    assert first["at"].endswith("Z")


def test_an_exception_is_told_by_kind_and_place_only(written):
    try:
        int("the password is hunter2")
    except ValueError:
        logging.getLogger("somebody.else").exception("it failed")
    (line,) = written()
    assert (line["kind"], line["message"], "request_id" in line) == ("ValueError", "it failed", False)
    assert "test_logs.py" in line["at_frames"][-1]
    assert "hunter2" not in json.dumps(line)


def test_an_exception_that_a_library_writes_into_its_message_is_left_out(written):
    try:
        int("the password is hunter2")
    except ValueError:
        logging.getLogger("somebody.else").exception("Exception on %s\n%s", "/claim", traceback.format_exc())
    (line,) = written()
    assert line["message"] == "Exception on /claim"
    assert "hunter2" not in json.dumps(line)


@pytest.mark.parametrize("told", ["abc-1", "0f8fad5b-d9cb-469f-a165-70867728950e", "a" * 64])
def test_a_sane_id_is_kept(told):
    assert logs.id_for(told) == told


@given(st.text())
def test_an_id_never_breaks_a_line_or_a_header(told):
    made = logs.id_for(told)
    assert made.isascii()
    assert made.replace("-", "").replace("_", "").replace(".", "").replace(":", "").isalnum()
    assert len(made) <= 64


def test_an_id_that_is_too_long_or_missing_is_made():
    made = {logs.id_for(told) for told in ("", "a" * 65, "-x", "x y", "x\r\nSet-Cookie: y")}
    assert len(made) == 5
    assert all(len(one) == 16 for one in made)
