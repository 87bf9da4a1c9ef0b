"""POST /usage_report: a vm's samples."""

import functions_framework.aio
import msgspec

from skytally import samples, token, usage, web, wiring


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=8 * web.MIB, media=(web.JSON,), gzip=True)
async def usage_report(request: web.Request) -> web.Reply:
    """Answer what became of each sample, once the good ones are durable."""
    with wiring.tallies().report("usage_report", request.received_at) as count_items:
        reporter = wiring.caller(request, "reporter")
        receipt = await usage.record(samples.parse(request.body), reporter, wiring.register(), wiring.documents(), request.received_at)
        count_items(receipt)
    fresh = token.renewed(request.bearer, reporter, wiring.keys().token, request.received_at)
    return web.json_reply(receipt if fresh is None else msgspec.structs.replace(receipt, token=fresh))
