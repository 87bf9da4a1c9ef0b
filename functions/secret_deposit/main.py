"""POST /secret_deposit: the scheduler leaves a payload for one vm, with an expiry."""

import functions_framework.aio

from skytally.app import wiring
from skytally.core import records
from skytally.http import web
from skytally.secrets import deposits


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=2 * web.MIB, media=(web.JSON,), authorise=wiring.caller("scheduler"))
def secret_deposit(request: web.Request) -> web.Reply:
    """Return the claim and the token for the vm's user-data."""
    wanted = records.parse(request.body, records.Deposit)
    wiring.gate().check(wiring.objects())
    request_key = request.headers.get("idempotency-key")
    repeatable = None if request_key is None else deposits.Repeatable(request_key, request.body)
    answer = deposits.deposit(wanted, request.caller, wiring.objects(), wiring.keys(), request.received_at, repeatable)
    return web.json_reply(answer, 201)
