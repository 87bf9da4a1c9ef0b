"""The HTTP description, held against what the functions answer."""

import json
import re
from functools import cache

import jsonschema_rs

from skytally.openapi import api_document

DESCRIBED = api_document.description()
PREFIX = "/function/"


def validator(schema):
    """Return what checks a value against a schema of the description, with the formats of its texts."""
    return jsonschema_rs.validator_for(schema | {"components": DESCRIBED["components"]}, validate_formats=True)


ERROR = validator({"$ref": "#/components/schemas/ErrorAnswer"})


@cache
def path_of(path):
    """Return the described path that an address is one of: full names come before parameters, health before files."""
    path = path.removesuffix("/")
    for described in sorted(DESCRIBED["paths"], key=lambda known: (known.count("{"), known.endswith("}"))):
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(described)), path):
            return described
    return None


@cache
def body_validator(path, method, status, media):
    """Return what checks a body, and fail where no such answer is described."""
    answers = DESCRIBED["paths"][path][method]["responses"]
    assert status in answers, f"{method} {path}: {status} is not described"
    answer = answers[status]
    if "$ref" in answer:
        answer = DESCRIBED["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    content = answer.get("content", {})
    if not content and not media:
        return None
    assert media in content, f"{method} {path}: {status} is not described as {media}"
    return validator(content[media]["schema"])


def check(response):
    """Fail where an answer is not as described; of a path or method that there is not, it is an error like others."""
    if response.status_code == 499:
        return
    method, path = response.request.method.lower(), path_of(response.request.url.path)
    response.read()
    media = response.headers.get("content-type", "").partition(";")[0]
    body = json.loads(response.content) if media == "application/json" and response.content else response.text
    operations = DESCRIBED["paths"].get(path, {})
    method = "get" if method == "head" and "get" in operations else method
    if method not in operations:
        assert response.status_code in {404, 405, 429, 503}, (
            f"{method} {response.request.url.path}: {response.status_code}"
        )
        if response.content:
            ERROR.validate(body)
        return
    checked = body_validator(path, method, str(response.status_code), media)
    if checked is not None and (response.content or response.request.method != "HEAD"):
        checked.validate(body)
