"""The HTTP description is OpenAPI, says what its words mean, and its examples are what its schemas allow."""

import jsonschema_rs
import pytest
from httpx2 import Request, Response
from openapi_spec_validator import validate

from functions.statement import main
from tests.support.described import DESCRIBED, check, validator


def contents():
    """Every schema with its example, by where it stands."""
    for path, operations in DESCRIBED["paths"].items():
        for operation in operations.values():
            bodies = {"body": operation["requestBody"]} if "requestBody" in operation else {}
            for place, part in (bodies | operation["responses"]).items():
                for media, content in part.get("content", {}).items():
                    yield f"{path} {place} {media}", content
    for name, response in DESCRIBED["components"]["responses"].items():
        for media, content in response["content"].items():
            yield f"{name} {media}", content


CONTENTS = dict(contents())


def test_the_description_is_openapi():
    validate(DESCRIBED)


@pytest.mark.parametrize("place", [place for place, content in CONTENTS.items() if "example" in content])
def test_an_example_is_valid(place):
    validator(CONTENTS[place]["schema"]).validate(CONTENTS[place]["example"])


def test_every_content_has_a_schema_and_json_an_example():
    assert {place for place, content in CONTENTS.items() if "schema" not in content} == set()
    without = {place for place, content in CONTENTS.items() if "example" not in content and place.endswith("json")}
    assert without == {"/function/dashboard/openapi.json 200 application/json"}


def test_every_parameter_is_described():
    for operations in DESCRIBED["paths"].values():
        for operation in operations.values():
            assert all(parameter["description"] for parameter in operation.get("parameters", ()))


def test_no_answer_has_a_field_without_a_name():
    for name, schema in DESCRIBED["components"]["schemas"].items():
        if name.endswith(("Answer", "Round", "Receipt", "Statement", "Totals")):
            assert schema["additionalProperties"] is False, name


def test_the_statement_takes_what_is_described():
    queries = {
        parameter["name"]: parameter["schema"]
        for parameter in DESCRIBED["paths"]["/function/statement"]["get"]["parameters"]
    }
    assert queries["detail"]["enum"] == [detail for detail in main.DETAILS if detail]
    assert queries["format"]["enum"] == list(main.FORMATS)


ROUND = {"state": "done", "expired": 1, "forgotten": 0}


def answered(body, status=200):
    """Return an answer of secret-sweep."""
    return Response(status, json=body, request=Request("POST", "http://skytally.test/function/secret-sweep"))


def test_what_is_described_passes():
    check(answered(ROUND))
    check(answered({"error": {"code": "unavailable", "message": "ask again"}}, 503))


@pytest.mark.parametrize(
    "body",
    [
        ROUND | {"new": 1},
        {"expired": 1},
        ROUND | {"state": "nearly"},
        ROUND | {"expired": "1"},
        ROUND | {"expired": None},
    ],
)
def test_an_answer_that_is_not_as_described_is_seen(body):
    with pytest.raises(jsonschema_rs.ValidationError):
        check(answered(body))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (503, {"code": "taken", "message": "a code of another status"}),
        (503, {"code": "unavailable"}),
        (503, {"code": "unavailable", "message": "ask again", "secret": "a new field"}),
    ],
)
def test_an_error_that_is_not_as_described_is_seen(status, error):
    with pytest.raises(jsonschema_rs.ValidationError):
        check(answered({"error": error}, status))


@pytest.mark.parametrize("status", [201, 402, 418])
def test_a_status_that_is_not_described_is_seen(status):
    with pytest.raises(AssertionError, match=f"{status} is not described"):
        check(answered(ROUND, status))
