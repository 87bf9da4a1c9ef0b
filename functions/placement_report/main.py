"""POST /placement_report: which cloud and vm each batch job ran on."""

import functions_framework.aio

from skytally import placement, web, wiring


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=8 * web.MIB, media=(web.JSON,), gzip=True)
def placement_report(request: web.Request) -> web.Reply:
    """Answer what became of each item, once the good ones are durable and the jobs that they concern are on their clouds."""
    scheduler = wiring.caller(request, "scheduler")
    return web.json_reply(placement.record(request.body, scheduler, wiring.documents(), request.received_at))
