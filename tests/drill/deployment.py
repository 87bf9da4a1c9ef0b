"""Three server processes on one state: one that nobody ends, one that is killed, and one that is replaced.

Each is what `make serve` runs. A client takes any of them, the first as often as the other two together.
"""

import asyncio
import random
import time

from tests.support.local_server import Server

LEAVES_SECONDS = 0.2


class Deployment:
    """The servers, and which of them clients take."""

    def __init__(self, home, settings):
        self.home = home
        self._settings = settings
        self.steady, self.victim, self.replaced = (started(Server(home, **settings)) for _ in range(3))
        self._killed_ports = set()

    @property
    def servers(self):
        return (self.steady, self.victim, self.replaced)

    def port(self):
        """Return the port of a server for the next request."""
        return port_of(random.choice((self.steady, self.steady, self.victim, self.replaced)))

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
        """Start a new server, send clients there, and stop the old one as a platform does; return its exit code."""
        new, old = await asyncio.to_thread(started, Server(self.home, **self._settings)), self.replaced
        self.replaced = new
        await asyncio.sleep(LEAVES_SECONDS)
        return await asyncio.to_thread(old.stop)

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
