"""Timer /documents_forget: details that are older than the settings say go; months and boots stay."""

import functions_framework.aio

from skytally.app import wiring
from skytally.http import web
from skytally.operation import retention
from skytally.operation.timer import Deadline


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=64 * web.KIB)
def documents_forget(request: web.Request) -> web.Reply:
    """Do a round if one is due, and answer how many documents of each index went;
    what takes longer is left to the next.
    """

    def work(deadline: Deadline) -> dict[str, int]:
        return retention.forget(
            deadline.guard(wiring.documents()), wiring.config().kept_days, request.received_at, deadline.is_over
        )

    return web.json_reply(wiring.timer_round("documents_forget", work))
