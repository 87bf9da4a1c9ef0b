"""Timer /panda_collect: what changed in PanDA since the last round, joined to clouds."""

import functions_framework.aio

from skytally.app import wiring
from skytally.http import web
from skytally.jobs.panda_collector import Collection, PandaCounts
from skytally.operation.timer import Deadline


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=64 * web.KIB)
def panda_collect(_: web.Request) -> web.Reply:
    """Do a round if one is due; what takes longer than a round is left to the next, and without a monitor it is off."""
    source = wiring.panda()
    if source is None:
        return web.json_reply({"state": "off"})

    def work(deadline: Deadline) -> PandaCounts:
        return Collection(source, wiring.panda_queues(), deadline.guard(wiring.documents()), deadline).run()

    return web.json_reply(wiring.timer_round("panda_collect", work))
