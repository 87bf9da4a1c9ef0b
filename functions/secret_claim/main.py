"""POST /secret_claim: a vm takes the secret that was left for it. Once."""

import functions_framework.aio

from skytally.app import wiring
from skytally.core import clock, records
from skytally.http import web
from skytally.secrets import claims


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=8 * web.KIB, media=(web.FORM, web.JSON))
def secret_claim(request: web.Request) -> web.Reply:
    """Return the bundle to whoever is first and proves that it holds the claim secret."""
    claim = records.convert(request.fields, records.Claim, strict=False)
    origin = claims.Origin(wiring.address(request), request.headers.get("user-agent", "")[:200])
    return web.tar_reply(claims.claim(claim, wiring.objects(), wiring.keys(), origin, clock.now))
