"""Log lines: one JSON object each, with the id of its request, and never the text of an exception.

A library's exception text may hold a body, a header or a password. The log has its class and its frames instead.
"""

import json
import logging
import re
import secrets
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

FRAMES = 8
request_id: ContextVar[str] = ContextVar("request_id", default="")
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


def id_for(caller_id: str) -> str:
    """Return the caller's request id if it is well-formed, else a new one."""
    return caller_id if _SANE.fullmatch(caller_id) else secrets.token_hex(8)


def frames(trace: TracebackType | None) -> list[str]:
    """Return the frames of a traceback, innermost last."""
    passed = []
    while trace is not None:
        passed.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return passed[-FRAMES:]


def incident(crash: BaseException) -> str:
    """Log a crash's class and frames, never its text; return the id of the log line."""
    incident_id = secrets.token_hex(8)
    logging.getLogger("skytally").error(
        Fields(incident=incident_id, kind=type(crash).__name__, at_frames=frames(crash.__traceback__))
    )
    return incident_id


class Fields(dict[str, Any]):
    """The fields of a log line."""

    def __str__(self) -> str:
        return json.dumps(self, default=str)


class JsonLines(logging.Formatter):
    """A formatter that writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line: dict[str, Any] = {"at": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"}
        line |= {"level": record.levelname.lower(), "logger": record.name}
        if request_id.get():
            line["request_id"] = request_id.get()
        line |= record.msg if isinstance(record.msg, Fields) else {"message": _without_traceback(record.getMessage())}
        if record.exc_info and record.exc_info[0] is not None:
            line |= {"kind": record.exc_info[0].__name__, "at_frames": frames(record.exc_info[2])}
        return json.dumps(line, default=str)


def _without_traceback(message: str) -> str:
    """Return a library's message without the traceback, and the exception's text, that it contains."""
    text, traceback, _ = message.partition("Traceback (most recent call last)")
    return text.rstrip() if traceback else message


def to_stream(stream: TextIO = sys.stderr) -> None:
    """Write all log records of this process as JSON lines, in place of earlier handlers."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
