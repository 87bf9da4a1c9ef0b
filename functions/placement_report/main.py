"""POST /placement_report: which cloud and vm each batch job ran on."""

import functions_framework.aio

from skytally.app import wiring
from skytally.http import web
from skytally.jobs import placements


@functions_framework.aio.http
@web.endpoint(
    methods=("POST",),
    max_bytes=8 * web.MIB,
    media=(web.JSON,),
    gzip=True,
    authorise=wiring.caller("scheduler", "placement_report"),
)
def placement_report(request: web.Request) -> web.Reply:
    """Return what became of each item,
    once the good ones are durable and the jobs that they concern are on their clouds.
    """
    with wiring.tallies().report("placement_report", request.received_at) as count_items:
        receipt = placements.record(request.body, request.caller, wiring.documents(), request.received_at)
        count_items(receipt)
    return web.json_reply(receipt)
