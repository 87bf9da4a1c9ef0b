"""GET /statement: a month's accounting."""

import functions_framework.aio

from skytally import records, web, wiring
from skytally import statement as rules
from skytally.errors import Malformed


@functions_framework.aio.http
@web.endpoint(methods=("GET", "HEAD"))
def statement(request: web.Request) -> web.Reply:
    """Answer the statement of the caller's clouds, or of one of them."""
    reader, query = wiring.caller(request, "reader"), request.query
    month = records.convert(query.get("month", ""), records.Month)
    if query.get("detail", "boots") != "boots" or query.get("format", "json") != "json":
        raise Malformed("detail may be boots; format may be json")
    clouds = wiring.readable_clouds(reader, query.get("cloud"))
    return web.json_reply(rules.statement(month, clouds, wiring.documents(), request.received_at, with_boots="detail" in query))
