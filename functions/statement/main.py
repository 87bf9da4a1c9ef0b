"""GET /statement: a month's accounting."""

import functions_framework.aio

from skytally import records, table, web, wiring
from skytally import statement as rules
from skytally.errors import Malformed

FORMATS = ("json", "csv")


@functions_framework.aio.http
@web.endpoint(methods=("GET", "HEAD"))
def statement(request: web.Request) -> web.Reply:
    """Answer the statement of the caller's clouds, or of one of them."""
    reader, query = wiring.caller(request, "reader"), request.query
    month = records.convert(query.get("month", ""), records.Month)
    if query.get("detail", "boots") != "boots" or query.get("format", "json") not in FORMATS:
        raise Malformed(f"detail may be boots; format may be {', '.join(FORMATS)}")
    clouds = wiring.readable_clouds(reader, query.get("cloud"))
    whole = rules.statement(month, clouds, wiring.documents(), wiring.site(), request.received_at)
    rows = "boots" if "detail" in query else "clouds"
    if query.get("format") == "csv":
        return web.Reply(table.csv(whole[rows]), media_type="text/csv; charset=utf-8")
    return web.json_reply(whole if rows == "boots" else {name: value for name, value in whole.items() if name != "boots"})
