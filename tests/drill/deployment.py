"""Three server processes on one state: one that nobody ends, one that is killed, and one that is replaced.

Each is what `make serve` runs. Clients take all of them, the first most often: what a server leaks is seen there.
"""

import asyncio
import random
import time
from collections import Counter

from tests.support.local_server import Server

STEADY_SHARE, KILLED_SHARE, REPLACED_SHARE = 3, 1, 1
# A platform stops a server once it has drained it, more or less.
LEAVES_SECONDS, LEAVES_IN_FLIGHT = 0.5, 3


class Deployment:
    """The servers, and which of them clients take."""

    def __init__(self, home, settings):
        self.home = home
        self._settings = settings
        self.steady, self.victim, self.replaced = (started(Server(home, **settings)) for _ in range(3))
        self._killed_ports = set()
        self.in_flight = Counter()

    @property
    def servers(self):
        return (self.steady, self.victim, self.replaced)

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
        """Kill one server and start it again; clients meet its closed port meanwhile."""
        self._killed_ports.add(port_of(self.victim))
        self.victim.kill()
        self.victim.port = 0
        await asyncio.to_thread(started, self.victim)

    async def replace(self):
        """Start a new server, send clients there, and stop the old one as a platform does.

        Return its exit code, and how many requests were in flight when it got SIGTERM.
        """
        new, old = await asyncio.to_thread(started, Server(self.home, **self._settings)), self.replaced
        self.replaced = new
        await asyncio.sleep(LEAVES_SECONDS)
        while self.in_flight[port_of(old)] > LEAVES_IN_FLIGHT:
            await asyncio.sleep(0.01)
        in_flight = self.in_flight[port_of(old)]
        return await asyncio.to_thread(old.stop), in_flight

    def stop(self):
        """Stop all servers; return their exit codes."""
        return [server.stop() for server in self.servers]


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
