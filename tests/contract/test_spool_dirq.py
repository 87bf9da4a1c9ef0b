"""The spool against dirq itself, with which `ssmsend` reads it."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from dirq.QueueSimple import QueueSimple

from skytally.adapters import spool_dirq
from skytally.core.errors import Malformed

NOW = datetime(2026, 11, 5, 12, 34, 56, 999_999, tzinfo=UTC)


def taken(spool):
    """Take everything out, as ssmsend does."""
    queue = QueueSimple(str(spool))
    texts = []
    for name in queue:
        assert queue.lock(name)
        texts.append(queue.get(name).decode("ascii"))
        queue.remove(name)
    queue.purge()
    return texts


def test_messages_are_read_in_their_order_and_are_gone_when_they_were_sent(tmp_path):
    spool = tmp_path / "outgoing" / "apel"
    messages = [f"message {number}\n" for number in range(50)]
    files = spool_dirq.add(spool, messages, NOW)
    assert len(set(files)) == 50
    spool_dirq.add(spool, ["later\n"], NOW + timedelta(minutes=1))
    assert QueueSimple(str(spool)).count() == 51
    assert taken(spool) == [*messages, "later\n"]
    assert QueueSimple(str(spool)).count() == 0


def test_a_name_that_is_taken_is_not_taken_again(tmp_path):
    for text in ("first", "second"):
        spool_dirq.add(tmp_path, [text], NOW)
    assert taken(tmp_path) == ["first", "second"]


def test_what_dirq_adds_and_what_we_add_lie_in_one_spool(tmp_path):
    QueueSimple(str(tmp_path)).add("theirs")
    spool_dirq.add(tmp_path, ["ours"], datetime.now(UTC) + timedelta(seconds=1))
    assert taken(tmp_path) == ["theirs", "ours"]


def test_where_nothing_can_be_written_it_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Malformed, match="cannot write"):
        spool_dirq.add(tmp_path / "file", ["text"], NOW)


def test_a_writer_that_is_killed_leaves_whole_messages_alone(tmp_path):
    code = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path; from skytally.adapters import "
        "spool_dirq\n"
        "while True: spool_dirq.add(Path(sys.argv[1]), ['x' * 100_000 + chr(10)] * 20, datetime.now(UTC))"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    while not list(tmp_path.glob("*/*")):
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    texts = taken(tmp_path)
    assert texts
    assert set(texts) == {"x" * 100_000 + "\n"}
