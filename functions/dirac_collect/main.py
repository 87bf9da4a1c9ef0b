"""Timer /dirac_collect: what became of DIRAC jobs that no vm names any more."""

import functions_framework.aio

from skytally.app import wiring
from skytally.http import web
from skytally.jobs import dirac_collector
from skytally.operation.timer import Deadline


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=64 * web.KIB)
def dirac_collect(_: web.Request) -> web.Reply:
    """Do a round if one is due;
    what takes longer than a round is left to the next, and without a door to DIRAC it is off.
    """
    door = wiring.dirac()
    if door is None:
        return web.json_reply({"state": "off"})

    def work(deadline: Deadline) -> dirac_collector.DiracCounts:
        return dirac_collector.settle(door, deadline.guard(wiring.documents()), deadline)

    return web.json_reply(wiring.timer_round("dirac_collect", work))
