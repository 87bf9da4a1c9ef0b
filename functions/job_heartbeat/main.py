"""POST /job_heartbeat: the DIRAC jobs that run on a vm now."""

import functions_framework.aio

from skytally.app import wiring
from skytally.core import records
from skytally.http import web
from skytally.jobs import heartbeats


@functions_framework.aio.http
@web.endpoint(
    methods=("POST",), max_bytes=web.MIB, media=(web.JSON,), authorise=wiring.caller("reporter", "job_heartbeat")
)
def job_heartbeat(request: web.Request) -> web.Reply:
    """Return what became of each job, once the good ones are durable."""
    with wiring.tallies().report("job_heartbeat", request.received_at) as count_items:
        report = records.parse_report(request.body, records.HeartbeatReport)
        request.admitted.site.check_vm(request.caller, report.vm)
        receipt = heartbeats.record(report, request.caller, wiring.documents(), request.received_at)
        count_items(receipt)
    return web.json_reply(receipt)
