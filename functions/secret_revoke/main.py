"""POST /secret_revoke: the scheduler withdraws what nobody took yet."""

import functions_framework.aio

from skytally import ending, records, web, wiring


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=8 * web.KIB, media=(web.JSON,), authorise=wiring.caller("scheduler"))
def secret_revoke(request: web.Request) -> web.Reply:
    """Answer once nobody can take it any more, or who has it already."""
    revocation = records.parse(request.body, records.Revocation)
    ending.revoke(revocation, request.caller, wiring.objects(), request.received_at)
    answer: ending.RevocationAnswer = {"state": "revoked"}
    return web.json_reply(answer)
