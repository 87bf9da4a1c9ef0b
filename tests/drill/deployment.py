"""Three servers on one state: one that nobody ends, one that is killed, and one of two processes that is replaced.

Each is what `make serve` runs. Clients take all of them, the first most often: what a server leaks is seen there.
"""

import asyncio
import random
import subprocess
import time
from collections import Counter

from tests.support.local_server import Server

STEADY_SHARE, KILLED_SHARE, REPLACED_SHARE = 3, 1, 1
# A platform stops a server once it has drained it, more or less.
LEAVES_SECONDS, LEAVES_IN_FLIGHT, PLATFORM_WAITS_SECONDS = 0.5, 3, 30


class Deployment:
    """The servers, and which of them clients take."""

    def __init__(self, home, settings):
        self.home = home
        self._settings = settings
        self._running = []
        self._killed_ports = set()
        self._is_starting = False
        self.in_flight = Counter()

    def start(self):
        """Start all three."""
        self.steady, self.victim, self.replaced = (self._start_new(processes) for processes in (1, 1, 2))

    def _start_new(self, processes):
        server = Server(self.home, processes, **self._settings)
        self._running.append(server)
        return started(server)

    @property
    def servers(self):
        return (self.steady, self.victim, self.replaced)

    def pids(self):
        """Return the processes that answer of the servers that have started."""
        started_ones = [server for server in self.servers if server is not self.victim or not self._is_starting]
        return [pid for server in started_ones for pid in server.pids]

    def port(self):
        """Return the port of a server for the next request."""
        shares = (STEADY_SHARE, KILLED_SHARE, REPLACED_SHARE)
        return port_of(random.choices(self.servers, shares)[0])

    def name(self, port):
        """Return the name of the server on a port, for an example in the report."""
        names = ("never ended", "killed", "replaced")
        return next((name for name, server in zip(names, self.servers, strict=True) if port_of(server) == port), "old")

    def may_lose(self, port):
        """Return whether a server on this port was killed, so that an answer of it may be lost."""
        return port in self._killed_ports

    async def kill(self):
        """Kill one server and start it again; clients meet its closed port meanwhile.

        Return the exit code of a server that had ended by itself, None of one that had not.
        """
        code = self.victim._process.poll()
        self._killed_ports.add(port_of(self.victim))
        self.victim.kill()
        self.victim.port = 0
        self._is_starting = True
        await asyncio.to_thread(started, self.victim)
        self._is_starting = False
        return code

    async def replace(self):
        """Start a new server, send clients there, and stop the old one as a platform does.

        Return its exit code, and how many requests were in flight when it got SIGTERM.
        """
        new, old = await asyncio.to_thread(self._start_new, 2), self.replaced
        self.replaced = new
        await asyncio.sleep(LEAVES_SECONDS)
        while self.in_flight[port_of(old)] > LEAVES_IN_FLIGHT:
            await asyncio.sleep(0.01)
        in_flight = self.in_flight[port_of(old)]
        code = await asyncio.to_thread(ended, old)
        self._running.remove(old)
        return code, in_flight

    def stop(self):
        """Stop all servers, also one that was about to replace another."""
        for server in self._running:
            if hasattr(server, "_process"):
                ended(server)


def ended(server):
    """End a server as a platform does; return its exit code, also that of a server which had to be killed."""
    server._process.terminate()
    try:
        return server._process.wait(PLATFORM_WAITS_SECONDS)
    except subprocess.TimeoutExpired:
        server._process.kill()
        return server._process.wait()
    finally:
        server._process.stdout.close()


def port_of(server):
    """Return the port on which a server listens, or listened until it was killed."""
    return int(server.base.rpartition(":")[2])


def started(server):
    """Start a server, again and again where it cannot start because a store is away, as a supervisor does."""
    while True:
        try:
            return server.start()
        except AssertionError:
            server._process.wait()
            server._process.stdout.close()
            time.sleep(0.5)
