"""Processes that do the same work side by side, as those do that serve one port.

Invariants: once the first one was ready, each that ends by itself is replaced. All are told to stop when the parent
is, and when it is gone.
"""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

from skytally.core import logs

AGAIN_SECONDS = 1.0
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
log = logging.getLogger("skytally")

# A forked process shares the memory of what its parent has loaded. The parent must have one thread alone.
_forking = multiprocessing.get_context("fork")
# What each process does: it gets its number, from 0, and what to call once it is ready.
Work = Callable[[int, Callable[[], None]], None]


class Processes:
    """A number of processes of one work, and their parent."""

    def __init__(self, work: Work, count: int) -> None:
        self._work, self._count = work, count
        self._running: dict[int, BaseProcess] = {}
        self._is_stopping = False

    def run(self, announce: Callable[[], None]) -> int:
        """Run until a stop signal and return 0; `announce` once the first process is ready.

        The others begin then, since the first one prepares the state that all share. Return the first one's exit code
        if it ends before it is ready.
        """
        for stop_signal in STOP_SIGNALS:
            signal.signal(stop_signal, self._stop)
        if self._is_ready(self._start(0)):
            announce()
            for number in range(1, self._count):
                self._start(number)
            self._replace_until_stopped()
        for process in self._running.values():
            process.join()
        return 0 if self._is_stopping else self._running[0].exitcode or 0

    def _start(self, number: int) -> Connection:
        """Start a process and return what it says once it is ready."""
        reader, writer = _forking.Pipe(duplex=False)
        process = _forking.Process(target=self._begin, args=(number, writer))
        # Until the process has handlers of its own it would run its parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        process.start()
        self._running[number] = process
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        if self._is_stopping:
            process.terminate()
        writer.close()
        return reader

    def _begin(self, number: int, writer: Connection) -> None:
        # A terminal's signals reach the parent alone, which passes them on.
        os.setpgid(0, 0)
        for stop_signal in STOP_SIGNALS:
            signal.signal(stop_signal, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        self._work(number, lambda: _say_ready(writer))

    def _is_ready(self, reader: Connection) -> bool:
        """Wait until a process is ready or has ended; return whether it is ready."""
        with reader:
            try:
                return bool(reader.recv_bytes())
            except EOFError:
                return False

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._is_stopping = True
        for process in self._running.values():
            process.terminate()

    def _replace_until_stopped(self) -> None:
        while not self._is_stopping:
            wait([process.sentinel for process in self._running.values()])
            for number, process in list(self._running.items()):
                if not process.is_alive() and not self._is_stopping:
                    log.error(logs.Fields(message=f"a server process ended ({process.exitcode}): another one begins"))
                    time.sleep(AGAIN_SECONDS)
                    self._start(number)


def _say_ready(writer: Connection) -> None:
    # Nobody listens to any process but the first.
    with writer, suppress(BrokenPipeError):
        writer.send_bytes(b"ready")


def parent_sentinel() -> int | None:
    """Return the descriptor that can be read once this process's parent is gone; None in a process without one."""
    parent = multiprocessing.parent_process()
    return None if parent is None else parent.sentinel
