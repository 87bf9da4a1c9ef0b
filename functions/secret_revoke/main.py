"""POST /secret_revoke: the scheduler withdraws what nobody took yet."""

import functions_framework.aio

from skytally.app import wiring
from skytally.core import records
from skytally.http import web
from skytally.secrets import revocations


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=8 * web.KIB, media=(web.JSON,), authorise=wiring.caller("scheduler"))
def secret_revoke(request: web.Request) -> web.Reply:
    """Return once nobody can take it any more, or who has it already."""
    revocation = records.parse(request.body, records.Revocation)
    revocations.revoke(revocation, request.caller, wiring.objects(), request.received_at)
    answer: revocations.RevocationAnswer = {"state": "revoked"}
    return web.json_reply(answer)
