"""POST /secret_deposit: the scheduler leaves a payload for one vm, with an expiry."""

import functions_framework.aio

from skytally import deposit, records, web, wiring


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=2 * web.MIB, media=(web.JSON,))
def secret_deposit(request: web.Request) -> web.Reply:
    """Answer the claim and the token for the vm's user-data."""
    caller = wiring.caller(request, "scheduler")
    wanted = records.parse(request.body, records.Deposit)
    wiring.gate().check(wiring.objects())
    objects, keys, now = wiring.objects(), wiring.keys(), request.received_at
    request_key = request.headers.get("idempotency-key")
    if request_key is None:
        intent = deposit.new_intent(wanted.expires_in_seconds, now)
    else:
        intent = deposit.remembered_intent(request_key, request.body, wanted.expires_in_seconds, caller, objects, keys, now)
    return web.json_reply(deposit.deposit(wanted, caller, objects, keys, now, intent), 201)
