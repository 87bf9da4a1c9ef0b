"""GET /dashboard: the page, and the JSON it draws."""

from pathlib import Path

import functions_framework.aio

from skytally import callers, metrics, openapi, openapi_page, page, web, wiring
from skytally import dashboard as rules

HTML = "text/html; charset=utf-8"
PAGE = Path(__file__).parent / "page"


def reader(request: web.Request) -> callers.Admission | None:
    """Admit readers to the page's data; its files are anybody's."""
    return wiring.dashboard_reader(request) if page.name_of(request.path) in {"data", "metrics"} else None


@functions_framework.aio.http
@web.endpoint(methods=("GET", "HEAD"), paths=True, authorise=reader)
def dashboard(request: web.Request) -> web.Reply:
    """Answer a file of the page to anybody, and its data to readers."""
    name = page.name_of(request.path)
    if name == "data":
        return page.data_reply(rules.data(asked(request)), request.query, request.headers)
    if name == "metrics":
        told, off = asked(request), wiring.config().timers_off
        rules.check_cloud(told)
        text = metrics.metrics(told.clouds, off, told.documents, told.objects, told.site_fault, told.now)
        return web.Reply(text, media_type=metrics.MEDIA)
    if name == "access":
        return web.json_reply({"token_needed": not wiring.config().open_dashboard})
    if name == "openapi.json":
        return web.json_reply(openapi.description())
    if name == "openapi.html":
        return web.Reply(openapi_page.page(), headers={"Content-Security-Policy": openapi_page.POLICY}, media_type=HTML)
    return page.file_reply(PAGE, name, request.headers)


def asked(request: web.Request) -> rules.Asked:
    """Bring together what is asked, by whom, and where the answer lies."""
    clouds = callers.readable_clouds(request.caller, request.queries("cloud"))
    return rules.Asked(
        query=request.query,
        clouds=clouds,
        visible=request.caller.clouds,
        documents=wiring.documents(),
        objects=wiring.objects(),
        notes=wiring.notes(),
        site=wiring.site(),
        site_fault=wiring.site_fault(),
        now=request.received_at,
    )
