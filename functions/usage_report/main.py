"""POST /usage_report: a vm's samples."""

import functions_framework.aio
import msgspec

from skytally.access import tokens
from skytally.accounting import samples, usage
from skytally.app import wiring
from skytally.http import web


@functions_framework.aio.http
@web.endpoint(
    methods=("POST",),
    max_bytes=8 * web.MIB,
    media=(web.JSON,),
    gzip=True,
    authorise=wiring.caller("reporter", "usage_report"),
)
async def usage_report(request: web.Request) -> web.Reply:
    """Return what became of each sample, once the good ones are durable."""
    with wiring.tallies().report("usage_report", request.received_at) as count_items:
        items = request.admitted.site.judged(samples.parse(request.body), request.caller)
        receipt = await usage.record(items, request.caller, wiring.register(), wiring.documents(), request.received_at)
        count_items(receipt)
    fresh = tokens.renewed(request.bearer, request.caller, request.admitted.token_keys, request.received_at)
    return web.json_reply(receipt if fresh is None else msgspec.structs.replace(receipt, token=fresh))
