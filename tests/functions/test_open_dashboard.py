"""A local server whose dashboard is open answers this machine alone, whatever pages its browsers show."""

import asyncio
import json

import pytest

from tests.support import slow_senders
from tests.support.slow_senders import converse

DATA = "/function/dashboard/data"


def ask(server, *headers, path=DATA, method="GET", version="1.1"):
    lines = [f"{method} {path} HTTP/{version}", *headers, "Connection: close"]
    return asyncio.run(converse(server.port, [("\r\n".join(lines) + "\r\n\r\n").encode()]))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    settings = {"SKYTALLY_OPEN_DASHBOARD": "true", "SKYTALLY_LOCAL_NAMES": "laptop.example.org, [fd00::1]"}
    with slow_senders.served(tmp_path_factory.mktemp("open"), **settings) as server:
        yield server


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8080",
        "laptop.example.org:8080",
        "[fd00::1]:80",
    ],
)
def test_whoever_calls_it_by_this_machines_name_is_answered(server, host):
    answer = ask(server, f"Host: {host}")
    assert answer.status == 200
    assert "table" in json.loads(answer.body)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.org",
        "evil.example.org:8080",
        "localhost.evil.example.org",
        "evil.example.org#localhost",
        "x@evil.org",
        "127.0.0.2",
        "",
        "[",
    ],
)
@pytest.mark.parametrize("path", [DATA, "/function/dashboard", "/function/secret-sweep", "/function/nothing", "/"])
def test_a_page_whose_name_was_made_to_lead_here_gets_nothing(server, host, path):
    answer = ask(server, f"Host: {host}", path=path)
    assert (answer.status, answer.code) == (421, "misdirected")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_whoever_says_no_host_gets_nothing(server):
    assert ask(server, version="1.0").status == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Origin: http://evil.example.org"], 403),
        (["Origin: null"], 403),
        (["Sec-Fetch-Site: cross-site"], 403),
        (["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"], 403),
        (["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"], 200),
        (["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors"], 200),
        (["Sec-Fetch-Site: none"], 200),
        (["Origin: http://localhost:8080"], 200),
    ],
)
def test_a_page_of_another_site_may_link_here_and_no_more(server, headers, status):
    assert ask(server, "Host: localhost", *headers).status == status


def test_a_dashboard_that_asks_for_a_token_is_called_by_any_name(tmp_path):
    with slow_senders.served(tmp_path) as server:
        assert ask(server, "Host: sky.example.org", path="/function/dashboard").status == 200
        assert ask(server, "Host: sky.example.org", "Origin: http://other.example.org").status == 401
