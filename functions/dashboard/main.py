"""GET /dashboard: the page, and the JSON it draws."""

from pathlib import Path

import functions_framework.aio

from skytally.access import callers
from skytally.app import wiring
from skytally.dashboard import metrics
from skytally.dashboard import query as rules
from skytally.http import page_files, web
from skytally.openapi import api_document, api_page

HTML = "text/html; charset=utf-8"
PAGE = Path(__file__).parent / "page"


async def reader(request: web.Request) -> callers.Admission | None:
    """Admit readers to the page's data; its files are anybody's."""
    return await wiring.dashboard_reader(request) if page_files.name_of(request.path) in {"data", "metrics"} else None


@functions_framework.aio.http
@web.endpoint(methods=("GET", "HEAD"), paths=True, authorise=reader)
def dashboard(request: web.Request) -> web.Reply:
    """Return a file of the page to anybody, and its data to readers."""
    name = page_files.name_of(request.path)
    if name == "data":
        return page_files.data_reply(rules.data(asked(request)), request.query, request.headers)
    if name == "metrics":
        told = asked(request)
        rules.check_cloud(told)
        text = metrics.metrics(told.clouds, told.off, told.documents, told.objects, told.site_fault, told.now)
        return web.Reply(text, media_type=metrics.MEDIA)
    if name == "access":
        return web.json_reply({"token_needed": not wiring.config().open_dashboard})
    if name == "openapi.json":
        return web.json_reply(api_document.description())
    if name == "openapi.html":
        return web.Reply(api_page.page(), headers={"Content-Security-Policy": api_page.POLICY}, media_type=HTML)
    return page_files.file_reply(PAGE, name, request.headers)


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
        panda_url=wiring.config().panda_url,
        off=wiring.config().timers_off,
        now=request.received_at,
    )
