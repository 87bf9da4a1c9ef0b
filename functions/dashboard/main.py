"""GET /dashboard: the page, and the JSON it draws."""

from pathlib import Path

import functions_framework.aio

from skytally import evidence, health, openapi, view, web, wiring
from skytally.errors import Malformed, NotFound

VIEWS = ("usage", "secrets", "health")
SECRETS_DAYS = 31
PAGE = Path(__file__).parent / "page"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@functions_framework.aio.http
@web.endpoint(methods=("GET", "HEAD"), paths=True)
def dashboard(request: web.Request) -> web.Reply:
    """Answer a file of the page to anybody, and its data to readers."""
    # The page names its files so that they resolve with and without a slash behind its own address.
    name = request.path.removeprefix("dashboard/") or "index.html"
    if name == "data":
        return _data(request)
    if name == "access":
        return web.json_reply({"token_needed": not wiring.config().open_dashboard})
    if name == "openapi.json":
        return web.json_reply(openapi.description())
    if name not in {path.name for path in PAGE.iterdir()}:
        raise NotFound("the page has no such file")
    media_type = MEDIA_TYPES[Path(name).suffix]
    return web.Reply(
        (PAGE / name).read_bytes(),
        media_type=media_type,
        headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"},
    )


def _data(request: web.Request) -> web.Reply:
    query = request.query
    clouds = wiring.readable_clouds(wiring.dashboard_reader(request), query.get("cloud"))
    if query.get("view", "usage") not in VIEWS:
        raise Malformed(f"view must be one of {', '.join(VIEWS)}", field="view")
    if query.get("view") == "secrets":
        held = [one for one in evidence.history(wiring.objects(), request.received_at, SECRETS_DAYS) if not clouds or one.cloud in clouds]
        return web.json_reply(evidence.secrets_view(held, wiring.documents(), request.received_at))
    if query.get("view") == "health":
        return web.json_reply(health.health_view(clouds, wiring.documents(), request.received_at))
    by = query.get("by", "cloud")
    if by not in view.DIMENSIONS:
        raise Malformed(f"by must be one of {', '.join(view.DIMENSIONS)}", field="by")
    shown = view.window(query.get("window", "day"), query.get("until"), request.received_at)
    where = {name: (query[name],) for name in view.FILTERS if name in query} | ({"cloud": clouds} if clouds else {})
    return web.json_reply(view.usage_view(shown, where, by, wiring.documents(), wiring.site(), request.received_at))
