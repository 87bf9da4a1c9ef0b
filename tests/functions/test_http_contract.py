"""Every error is JSON with a code, for every path, method, size, type and token; and none of them changes anything."""

import gzip
import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from skytally.deployment.catalog import FUNCTIONS
from skytally.openapi import api_page
from tests.support import builders, described

KIB, MIB = 1_024, 1_024**2
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
GETS = ("statement", "dashboard", "agent/vm.py")


class Post(NamedTuple):
    """What a function takes: its body's bytes and media types (none: any), a token's role (None: no token is read)."""

    most_bytes: int
    media: tuple[str, ...] = ()
    role: str | None = None
    is_gzip_taken: bool = False


POSTS = {
    "alarm-raise": Post(64 * KIB),
    "dirac-collect": Post(64 * KIB),
    "documents-forget": Post(64 * KIB),
    "job-heartbeat": Post(MIB, (JSON,), "reporter"),
    "panda-collect": Post(64 * KIB),
    "placement-report": Post(8 * MIB, (JSON,), "scheduler", is_gzip_taken=True),
    "secret-claim": Post(8 * KIB, (JSON, FORM)),
    "secret-deposit": Post(2 * MIB, (JSON,), "scheduler"),
    "secret-revoke": Post(8 * KIB, (JSON,), "scheduler"),
    "secret-sweep": Post(64 * KIB),
    "usage-report": Post(8 * MIB, (JSON,), "reporter", is_gzip_taken=True),
}
with_body = pytest.mark.parametrize("name", [name for name, post in POSTS.items() if post.media])
with_token = pytest.mark.parametrize("name", [name for name, post in POSTS.items() if post.role])


def code(answer):
    """Return the code of an error body that is as the contract has it."""
    assert answer.headers["content-type"] == "application/json", answer.text
    error = answer.json()["error"]
    assert error["message"]
    return error["code"]


@pytest.fixture
def sent(client, bearer):
    """Post with a token that is good for the function."""

    def send(name, **how):
        role = POSTS[name].role
        token = bearer(role, **({"clouds": ("uvic",)} if role == "reporter" else {})) if role else {}
        return client.post(name, headers=token | how.pop("headers", {}), **how)

    return send


@pytest.mark.parametrize(
    "path",
    [
        "http://skytally.test/",
        "/nothing",
        "/function/",
        "/function/nothing",
        "/function/usage-report/more",
        "/robots.txt",
    ],
)
def test_an_unknown_path_is_404(client, path):
    answer = client.get(path if path.startswith("http") else f"http://skytally.test{path}")
    assert (answer.status_code, code(answer)) == (404, "unknown")


@pytest.mark.parametrize(
    "path",
    ["agent/robots.txt", "agent/../agent/main.py", "agent/main.py", "dashboard/favicon.ico", "dashboard/main.py"],
)
def test_a_file_that_is_not_served_is_404(client, path):
    answer = client.get(path)
    assert (answer.status_code, code(answer)) == (404, "unknown")


@pytest.mark.parametrize("name", POSTS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_wrong_method_is_405_with_allow(client, name, method):
    answer = client.request(method, name)
    assert (answer.status_code, code(answer), answer.headers["allow"]) == (405, "method_not_allowed", "POST")


@pytest.mark.parametrize("name", POSTS)
def test_head_is_405_and_burns_nothing(client, name):
    assert client.head(name).status_code == 405


@pytest.mark.parametrize("path", GETS)
def test_reading_functions_take_no_post(client, path):
    answer = client.post(path)
    assert (answer.status_code, code(answer), answer.headers["allow"]) == (405, "method_not_allowed", "GET, HEAD")


def test_an_odd_method_is_405(client):
    answer = client.request("TRACE", "usage-report")
    assert (answer.status_code, code(answer)) == (405, "method_not_allowed")


def test_every_function_is_in_a_table():
    """A function that nobody entered here would be held to nothing below."""
    reading = {path.partition("/")[0] for path in GETS}
    assert sorted([*POSTS, *reading]) == sorted(function.service for function in FUNCTIONS)


@pytest.mark.parametrize("name", POSTS)
def test_a_body_of_the_most_bytes_is_read_and_another_byte_is_413(sent, name):
    most_bytes = POSTS[name].most_bytes
    assert sent(name, content=b"x" * most_bytes, headers={"content-type": JSON}).status_code in {200, 400}
    answer = sent(name, content=b"x" * (most_bytes + 1), headers={"content-type": JSON})
    assert (answer.status_code, code(answer)) == (413, "too_large")


@pytest.mark.parametrize("name", POSTS)
def test_too_large_a_body_is_413_where_no_length_is_told(sent, name):
    def pieces():
        yield from (b"x" * KIB for _ in range(POSTS[name].most_bytes // KIB))
        yield b"x"

    answer = sent(name, content=pieces(), headers={"content-type": JSON})
    assert (answer.status_code, code(answer)) == (413, "too_large")


GZIP = {"content-type": JSON, "content-encoding": "gzip"}
with_gzip = pytest.mark.parametrize("name", [name for name, post in POSTS.items() if post.is_gzip_taken])


@with_gzip
def test_a_bomb_is_413_and_never_inflated(sent, name):
    answer = sent(name, content=gzip.compress(b" " * (64 * MIB)), headers=GZIP)
    assert (answer.status_code, code(answer)) == (413, "too_large")


@with_gzip
@pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b"{}")[:-3], gzip.compress(b"{}") + b"tail"])
def test_bad_gzip_is_400(sent, name, body):
    answer = sent(name, content=body, headers=GZIP)
    assert (answer.status_code, code(answer)) == (400, "malformed_gzip")


@with_body
@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, gzip"])
def test_an_encoding_that_is_not_allowed_is_415(sent, name, encoding):
    answer = sent(name, content=gzip.compress(b"[]"), headers={"content-type": JSON, "content-encoding": encoding})
    is_taken = encoding == "gzip" and POSTS[name].is_gzip_taken
    assert (answer.status_code, code(answer)) == ((400, "malformed") if is_taken else (415, "unsupported_encoding"))


@with_body
@pytest.mark.parametrize("media", ["text/plain", "multipart/form-data", FORM, ""])
def test_another_media_type_is_415(sent, name, media):
    answer = sent(name, content=b"{}", headers={"content-type": media})
    is_taken = media in POSTS[name].media
    assert (answer.status_code, code(answer)) == ((400, "malformed") if is_taken else (415, "unsupported_media_type"))


@with_body
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"[" * 5_000])
def test_a_body_that_is_not_what_it_must_be_is_400(sent, name, body):
    answer = sent(name, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, code(answer).startswith("malformed")) == (400, True)


@with_body
@pytest.mark.parametrize("body", [{}, {"samples": 1}])
def test_a_body_without_its_fields_is_400_and_one_that_reports_nothing_is_good(sent, name, body):
    answer = sent(name, json=body)
    if name == "placement-report":
        assert (answer.status_code, answer.json()["accepted"]) == (200, 0)
    else:
        assert (answer.status_code, code(answer).startswith("malformed")) == (400, True)


def test_a_missing_field_is_named(sent):
    answer = sent("secret-deposit", json={"vm": "v", "cloud": "c"})
    assert answer.json()["error"]["code"] == "malformed"
    assert "payload" in answer.json()["error"]["message"]
    answer = sent("secret-deposit", json={"vm": "v", "cloud": 7, "payload": ""})
    assert answer.json()["error"]["field"] == "cloud"


@with_token
@pytest.mark.parametrize(
    "header", [None, "", "Basic eA==", "Bearer", "Bearer ", "Bearer x", "Bearer a.b", "Bearer " + "x" * 9_000]
)
def test_no_token_or_none_of_ours_is_401(client, name, header):
    answer = client.post(name, json={}, headers={"Authorization": header} if header is not None else {})
    assert (answer.status_code, code(answer), answer.headers["www-authenticate"]) == (401, "unauthenticated", "Bearer")


@pytest.mark.parametrize("path", ["statement?month=2026-11", "dashboard/data"])
def test_reading_needs_a_reader(client, bearer, path):
    assert code(client.get(path)) == "unauthenticated"
    answer = client.get(path, headers=bearer("scheduler"))
    assert (answer.status_code, code(answer)) == (403, "forbidden")


@with_token
@pytest.mark.parametrize("role", ["scheduler", "reporter", "reader"])
def test_a_token_for_another_role_is_403(client, bearer, name, role):
    answer = client.post(name, json=[], headers=bearer(role, **({"clouds": ("uvic",)} if role == "reporter" else {})))
    is_admitted = role == POSTS[name].role
    assert (answer.status_code, code(answer)) == ((400, "malformed") if is_admitted else (403, "forbidden"))


@with_token
def test_a_body_is_read_after_the_token(client, sent, bearer, name):
    read = []

    def pieces():
        read.append(name)
        yield b"[]"

    for headers, status in (({}, 401), (bearer("reader"), 403)):
        answer = client.post(name, content=pieces(), headers=headers | {"content-type": JSON})
        assert (answer.status_code, read) == (status, [])
    assert sent(name, content=pieces(), headers={"content-type": JSON}).status_code == 400
    assert read == [name]


def test_an_expired_or_tampered_token_is_401(client, bearer):
    old = bearer("scheduler", issued=datetime.now(UTC) - timedelta(days=2))
    assert code(client.post("secret-deposit", json={}, headers=old)) == "unauthenticated"
    good = bearer("scheduler")["Authorization"]
    middle = len(good) // 2
    bad = good[:middle] + ("A" if good[middle] != "A" else "B") + good[middle + 1 :]
    assert code(client.post("secret-deposit", json={}, headers={"Authorization": bad})) == "unauthenticated"


def test_a_limited_reader_sees_its_clouds_only(client, bearer):
    mine = bearer("reader", clouds=("uvic",))
    for path in ("statement?month=2026-11&cloud=cern", "dashboard/data?cloud=cern"):
        answer = client.get(path, headers=mine)
        assert (answer.status_code, code(answer)) == (403, "not_yours")


def test_a_good_sample_is_kept_whatever_its_neighbours_are(client, bearer):
    now = datetime.now(UTC).replace(microsecond=0)
    vm = builders.FakeVm("vm-1", boot_at=now - timedelta(minutes=10))
    good = vm.sample(now)
    bad = {**good, "counters": {**good["counters"], "user_seconds": -1}}
    other = builders.FakeVm("vm-2").sample(now)
    body = {"samples": [bad, good, other, None, 7, "x", [], {}]}
    receipt = client.post("usage-report", json=body, headers=bearer("reporter", vm="vm-1", clouds=("uvic",))).json()
    assert (receipt["accepted"], receipt["stale"]) == (1, 0)
    assert [(r["index"], r["code"]) for r in receipt["rejected"]] == [
        (0, "malformed"),
        (2, "not_yours"),
        *((index, "malformed") for index in range(3, 8)),
    ]
    assert "counters.user_seconds" in receipt["rejected"][0]["message"]


def test_a_crash_answers_an_incident_and_logs_no_body(client, bearer, monkeypatch, caplog):
    def crash(*_):
        raise RuntimeError("the payload was hunter2")

    monkeypatch.setattr("skytally.secrets.deposits.deposit", crash)
    body = {"vm": "v", "cloud": "c", "payload": "aHVudGVyMg=="}
    answer = client.post("secret-deposit", json=body, headers=bearer("scheduler"))
    assert (answer.status_code, code(answer)) == (500, "internal")
    incident = answer.json()["error"]["incident"]
    assert incident in caplog.text
    assert "hunter2" not in caplog.text
    assert "aHVudGVyMg" not in caplog.text


def test_a_store_that_is_away_is_503_with_retry_after(client, bearer, home):
    (home / "keys").rename(home / "elsewhere")
    answer = client.post("secret-deposit", json={}, headers=bearer_after_keys_left(home))
    assert (answer.status_code, code(answer)) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


def bearer_after_keys_left(home):
    return {"Authorization": f"Bearer {(home / 'tokens' / 'scheduler').read_text()}"}


@pytest.mark.parametrize(
    "query",
    [
        "month=2026-13",
        "month=11-2026",
        "",
        "month=2026-11&month=2026-10",
        "month=2026-11&detail=all",
        "month=2026-11&format=xml",
    ],
)
def test_a_bad_statement_query_is_400(client, reader, query):
    answer = client.get(f"statement?{query}", headers=reader)
    assert (answer.status_code, code(answer)) == (400, "malformed")


def test_what_is_no_month_is_named_with_how_one_is_written(client, reader):
    error = client.get("statement?month=2026-13", headers=reader).json()["error"]
    assert (error["field"], "YYYY-MM" in error["message"]) == ("month", True)


@pytest.mark.parametrize(
    "query", ["view=nothing", "window=year", "until=yesterday", "until=2026-11-25", "until=2026-11-25T10:00:00"]
)
def test_a_bad_view_is_400(client, reader, query):
    answer = client.get(f"dashboard/data?{query}", headers=reader)
    assert (answer.status_code, code(answer)) == (400, "malformed")


@pytest.mark.parametrize("encoding", ["", "br", "gzip"])
def test_what_takes_no_body_does_not_care_how_one_is_written(client, reader, encoding):
    assert client.get("dashboard/access", headers={"content-encoding": encoding}).status_code == 200
    assert client.post("secret-sweep", headers={"content-encoding": encoding}).status_code == 200


def test_a_trailing_slash_reaches_the_same_function(client):
    assert code(client.post("usage-report/", json={})) == "unauthenticated"


@pytest.mark.parametrize("name", [f.name for f in FUNCTIONS if "_" in f.name])
def test_a_name_with_underscores_is_404_and_told_the_right_one(client, name):
    answer = client.post(name, json={})
    assert (answer.status_code, code(answer)) == (404, "unknown")
    assert name.replace("_", "-") in answer.json()["error"]["message"]


def test_every_answer_says_that_it_is_not_to_be_sniffed_or_cached(client, reader):
    for answer in (
        client.get("statement?month=2026-11", headers=reader),
        client.get("nothing/at/all"),
        client.post("secret-claim"),
    ):
        if answer.status_code != 404:
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("view", ["usage", "jobs", "secrets", "health"])
def test_every_view_has_what_the_contract_says(client, reader, view):
    answer = client.get(f"dashboard/data?view={view}&window=week", headers=reader).json()
    assert answer.keys() >= {"from", "until", "table", "series", "coverage"}
    assert isinstance(answer["table"], list)
    assert isinstance(answer["series"], list)


def test_timers_take_anybodys_post_and_do_no_more_for_many(client):
    first = client.post("secret-sweep")
    assert (first.status_code, first.json()["state"]) == (200, "done")
    assert {client.post("secret-sweep", content=b"anything").json()["state"] for _ in range(20)} == {"not_due"}


def test_the_description_names_every_function(client):
    description = client.get("dashboard/openapi.json").json()
    assert description["openapi"] == "3.1.0"
    assert {path.split("/")[2] for path in description["paths"]} == {f.service for f in FUNCTIONS} | {"{function}"}


def test_the_description_is_a_page_that_needs_nothing_else(client):
    answer = client.get("dashboard/openapi.html")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == api_page.POLICY
    assert not re.findall(r"<script|<link|<img|src=|url\(|href=\"(?!#|openapi\.json)", answer.text)
    links, targets = (
        set(re.findall(rf'{word}="{mark}([^"]+)"', answer.text)) for word, mark in (("href", "#"), ("id", ""))
    )
    assert links <= targets
    assert {
        operation["operationId"] for methods in described.DESCRIBED["paths"].values() for operation in methods.values()
    } <= links


OPERATIONS = [
    (path, method, operation)
    for path, methods in described.DESCRIBED["paths"].items()
    for method, operation in methods.items()
]


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=[path for path, _, _ in OPERATIONS])
def test_a_function_is_as_the_description_says(client, bearer, path, method, operation):
    """Ask without a token, with each role's, and with the other method;
    the client holds each answer to the description.
    """
    where = f"http://skytally.test{path.replace('{file}', 'vm.py').replace('{function}', 'statement')}"
    roles = [role for requirement in operation["security"] for role in requirement["bearer"]]
    headers = {"content-type": next(iter(operation.get("requestBody", {"content": [""]})["content"]))}
    answer = client.request(method.upper(), where, headers=headers)
    assert (answer.status_code == 401) == bool(roles)
    for role in ("scheduler", "reporter", "reader") if roles else ():
        cloud = {"clouds": ("uvic",)} if role == "reporter" else {}
        answer = client.request(method.upper(), where, headers=headers | bearer(role, **cloud))
        assert (answer.status_code == 403) == (role not in roles), role
    if path.split("/")[2] != "{function}":
        assert client.request("GET" if method == "post" else "POST", where).status_code == 405
