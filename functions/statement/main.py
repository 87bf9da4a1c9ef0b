"""GET /statement: a month's accounting, as JSON, as CSV, as APEL's messages; its boots and its jobs one by one."""

import functions_framework.aio

from skytally.access import callers
from skytally.accounting import apel_export, apel_format, apel_source, closing, cloud_names
from skytally.app import wiring
from skytally.core import records
from skytally.core.errors import Malformed
from skytally.http import csv_table, web
from skytally.jobs import job_list

FORMATS = ("json", "csv", *apel_export.FORMATS)
DETAILS = {None: FORMATS, "boots": ("json", "csv"), "jobs": ("csv",), "signed": ("json",)}
CSV = "text/csv; charset=utf-8"


@functions_framework.aio.http
@web.endpoint(methods=("GET", "HEAD"), authorise=wiring.dashboard_reader)
def statement(request: web.Request) -> web.Reply:
    """Return the statement of the caller's clouds, or of some of them."""
    reader, query, named = request.caller, request.query_besides("cloud"), request.queries("cloud")
    month, detail = records.month(query.get("month", "")), query.get("detail")
    revision = records.revision(query["revision"]) if "revision" in query else None
    decimal = query.get("decimal", ".")
    form = query.get("format", DETAILS.get(detail, FORMATS)[0])
    if (
        form not in DETAILS.get(detail, ())
        or (detail == "signed" and len(named) != 1)
        or (detail == "jobs" and revision is not None)
    ):
        raise Malformed(
            "detail may be boots (json, csv), jobs (csv) or signed (json, one cloud); format may be "
            f"{', '.join(FORMATS)}"
        )
    clouds, documents, site = callers.readable_clouds(reader, named), wiring.documents(), wiring.site()
    cloud_names.check(named, documents, site, reader.clouds)
    if detail == "jobs":
        jobs = job_list.job_rows(month, clouds, documents)
        return as_file(web.stream_reply(csv_table.csv_pieces(jobs, job_list.COLUMNS, decimal), CSV), month, detail)
    if detail == "signed":
        return web.json_reply(closing.signed(month, clouds[0], documents, revision))
    moment = request.received_at
    if form in apel_export.FORMATS:
        whole = closing.statement(month, clouds, documents, site, moment, revision)
        made = apel_export.export(form, whole, clouds, documents, site, moment)
        left_out = {"X-Skytally-Left-Out": apel_source.summary(made.left_out)} if made.left_out else {}
        return web.Reply(
            apel_format.part(made.messages, query.get("part")),
            headers=left_out,
            media_type="text/plain; charset=us-ascii",
        )
    asked = (month, clouds, documents, site, moment, revision)
    totals, boots = closing.statement_parts(*asked) if detail else (closing.statement_totals(*asked), None)
    if form == "csv":
        rows = ({"month": month} | row for row in (boots or totals["clouds"]))
        names = ("month", *closing.COLUMNS[detail or "clouds"])
        return as_file(web.stream_reply(csv_table.csv_pieces(rows, names, decimal), CSV), month, detail)
    return web.json_stream(totals, "boots", boots) if boots else web.json_reply(totals)


def as_file(reply: web.Reply, month: str, detail: str | None) -> web.Reply:
    """Return a reply that browsers keep as a file, named by its month and what it lists."""
    reply.headers["Content-Disposition"] = f'attachment; filename="statement-{month}-{detail or "clouds"}.csv"'
    return reply
