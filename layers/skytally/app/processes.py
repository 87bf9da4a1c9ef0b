"""Processes that do the same work side by side, as those do that serve one port.

Invariants: once the first one was ready, each that ends by itself or cannot begin is replaced. All are told to stop
when the parent is, and notice at once when it is gone.
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
# How long a process may take to stop until it is killed: one that was halted never does.
STOPS_SECONDS = 10.0
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
log = logging.getLogger("skytally")

# A forked process shares the memory of what its parent has loaded. The parent must have one thread alone.
_forking = multiprocessing.get_context("fork")
# What each process does: it gets its number, from 0, what to call once it is ready, and a descriptor that can be read
# once its parent is gone.
Work = Callable[[int, Callable[[], None], int], None]


class Processes:
    """A number of processes of one work, and their parent."""

    def __init__(self, work: Work, count: int) -> None:
        self._work, self._count = work, count
        self._running: dict[int, BaseProcess] = {}
        self._is_stopping = False
        # The parent alone keeps the writer open. What multiprocessing offers for this is also held open by every
        # process that begins later.
        self._parent_reader, self._parent_writer = _forking.Pipe(duplex=False)

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
                self._start_or_say_why_not(number)
            self._replace_until_stopped()
        for process in self._running.values():
            process.join(STOPS_SECONDS)
            process.kill()
            process.join()
        return 0 if self._is_stopping else self._running[0].exitcode or 0

    def _start(self, number: int) -> Connection:
        """Start a process and return what it says once it is ready."""
        reader, writer = _forking.Pipe(duplex=False)
        # A daemon is told to stop, however its parent ends.
        process = _forking.Process(target=self._begin, args=(number, writer), daemon=True)
        # Until the process has handlers of its own it would run its parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            process.start()
            self._running[number] = process
            if self._is_stopping:
                process.terminate()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        writer.close()
        return reader

    def _start_or_say_why_not(self, number: int) -> None:
        try:
            self._start(number)
        except OSError as error:
            log.warning(logs.Fields(message=f"no server process can begin ({error.strerror}): tried again in a moment"))

    def _begin(self, number: int, writer: Connection) -> None:
        self._parent_writer.close()
        # A terminal's signals reach the parent alone, which passes them on.
        os.setpgid(0, 0)
        for stop_signal in STOP_SIGNALS:
            signal.signal(stop_signal, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        self._work(number, lambda: _say_ready(writer), self._parent_reader.fileno())

    def _is_ready(self, reader: Connection) -> bool:
        """Wait until a process is ready or has ended; return whether it is ready."""
        with reader:
            try:
                return bool(reader.recv_bytes())
            except EOFError:
                return False

    def _stop(self, stop_signal: int, _frame: FrameType | None) -> None:
        """Pass the signal on: a second SIGINT means more to a process than a second SIGTERM."""
        self._is_stopping = True
        for process in self._running.values():
            if process.pid is not None and process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(process.pid, stop_signal)

    def _replace_until_stopped(self) -> None:
        while not self._is_stopping:
            # One that could not begin has nothing to wait for.
            wait([process.sentinel for process in self._running.values()], AGAIN_SECONDS)
            for number in range(self._count):
                process = self._running.get(number)
                if process is None or not process.is_alive():
                    self._replace(number, process)

    def _replace(self, number: int, ended: BaseProcess | None) -> None:
        if ended is not None and not self._is_stopping:
            log.error(logs.Fields(message=f"a server process ended ({ended.exitcode}): another one begins"))
        time.sleep(AGAIN_SECONDS)
        if not self._is_stopping:
            self._start_or_say_why_not(number)


def _say_ready(writer: Connection) -> None:
    # Nobody listens to any process but the first.
    with writer, suppress(BrokenPipeError):
        writer.send_bytes(b"ready")
