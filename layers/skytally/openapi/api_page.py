"""The HTTP description as one page: no script, no other file, and nothing that the description does not say."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from html import escape
from typing import Any

from skytally.openapi import api_document

Schema = dict[str, Any]
STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; width: 100%; margin: .5em 0 1em }
td, th { border-bottom: 1px solid #8884; padding: .25em .6em .25em 0; text-align: left; vertical-align: top }
code, pre { font: 13px/1.45 ui-monospace, monospace }
pre { background: #8881; padding: .7em; overflow: auto }
h3 { margin: 2em 0 .2em; border-top: 1px solid #8886; padding-top: .8em }
h3 code { font-size: 1em }
nav ul { padding: 0 }
nav li { display: inline-block; margin-right: 1.2em }
"""
# The page may be styled by its own rules, and do nothing else.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
COLUMNS_OF_PARAMETERS, COLUMNS_OF_ANSWERS = ("parameter", "type", "meaning"), ("status", "meaning", "body")


@cache
def page() -> str:
    """Return the description as HTML."""
    description = api_document.description()
    info, title = description["info"], escape(description["info"]["title"])
    return "".join(
        (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: HTTP</title>',
            f"<style>{STYLE}</style></head><body>",
            f'<h1>{title}: HTTP</h1><p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>',
            *(f"<p>{_prose(text)}</p>" for text in info["description"].split("\n\n")),
            *_contents(description),
            *(_tag(tag, description) for tag in description["tags"]),
            "<h2>Bodies</h2>",
            *(_component(name, schema) for name, schema in sorted(description["components"]["schemas"].items())),
            "</body></html>\n",
        )
    )


def _prose(text: str) -> str:
    """Return text whose words in backticks are code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _operations(description: Schema, tag: str) -> Iterator[tuple[str, str, Schema]]:
    """List the path, method and operation of a tag."""
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            if tag in operation["tags"]:
                yield path, method, operation


def _contents(description: Schema) -> Iterator[str]:
    yield "<nav>"
    for tag in description["tags"]:
        links = (
            f'<li><a href="#{operation["operationId"]}"><code>{escape(path.removeprefix("/function/"))}</code></a></li>'
            for path, _, operation in _operations(description, tag["name"])
        )
        yield f"<b>{escape(tag['name'])}</b><ul>{''.join(links)}</ul>"
    yield "</nav>"


def _tag(tag: Schema, description: Schema) -> str:
    shown = (
        _operation(*operation, description["components"]["responses"])
        for operation in _operations(description, tag["name"])
    )
    return f"<h2>{escape(tag['name'])}</h2><p>{escape(tag['description'])}</p>{''.join(shown)}"


def _operation(path: str, method: str, operation: Schema, errors: Schema) -> str:
    roles = [role for requirement in operation["security"] for role in requirement["bearer"]]
    who = f"needs a {' or '.join(roles)}'s token" if roles else "needs no token"
    head = f'<h3 id="{operation["operationId"]}"><code>{method.upper()} {escape(path)}</code></h3>'
    return "".join(
        (
            f"{head}<p>{escape(operation['summary'])}; {who}</p>",
            _table(COLUMNS_OF_PARAMETERS, (_parameter(one) for one in operation.get("parameters", ()))),
            *_content("body", operation.get("requestBody", {})),
            _table(
                COLUMNS_OF_ANSWERS, (_answer(status, one, errors) for status, one in operation["responses"].items())
            ),
            *(part for status, one in operation["responses"].items() for part in _examples(status, one)),
        )
    )


def _table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """Return a table of cells that are HTML already; nothing where it has no rows."""
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    heads = "".join(f"<th>{column}</th>" for column in columns)
    return f"<table><tr>{heads}</tr>{lines}</table>" if lines else ""


def _parameter(parameter: Schema) -> tuple[str, str, str]:
    place = "" if parameter["in"] == "query" else f" ({parameter['in']})"
    required = ", required" if parameter["required"] else ""
    return (
        f"<code>{escape(parameter['name'])}</code>{place}",
        type_of(parameter["schema"]) + required,
        escape(parameter["description"]),
    )


def _answer(status: str, answer: Schema, errors: Schema) -> tuple[str, str, str]:
    whole = errors[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
    bodies = (f"{escape(media)}: {type_of(content['schema'])}" for media, content in whole.get("content", {}).items())
    headers = "".join(
        f"<br>{escape(name)}: {escape(one['description'])}" for name, one in whole.get("headers", {}).items()
    )
    return status, escape(whole["description"]) + headers, "<br>".join(bodies)


def _content(title: str, part: Schema) -> Iterator[str]:
    """Describe a body by its types; as it is the same in each, its example stands there once."""
    content = part.get("content", {})
    if content:
        first = next(iter(content.values()))
        yield f"<p>{title} ({escape(', '.join(content))}): {type_of(first['schema'])}</p>"
        yield from _examples(title, part)


def _examples(title: str, part: Schema) -> Iterator[str]:
    examples = [content["example"] for content in part.get("content", {}).values() if "example" in content]
    for example in examples[:1]:
        yield (
            f"<details><summary>{title}, an "
            f"example</summary><pre>{escape(json.dumps(example, indent=1))}</pre></details>"
        )


def _component(name: str, schema: Schema) -> str:
    required = schema.get("required", ())
    rows = (
        (
            f"<code>{escape(field)}</code>",
            type_of(one) + ("" if field in required else ", optional"),
            escape(one.get("description", "")),
        )
        for field, one in schema.get("properties", {}).items()
    )
    table = _table(("field", "type", "meaning"), rows)
    return f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{escape(schema.get("description", ""))}</p>{table}'


def type_of(schema: Schema) -> str:
    """Return in a few words of HTML what a schema allows, with links to the bodies that it names."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(type_of(one) for one in schema[word])
    if "allOf" in schema:
        return type_of(schema["allOf"][0])
    if "enum" in schema:
        return _words(schema["enum"])
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    return _plain_type(schema)


def _words(values: list[Any]) -> str:
    return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _plain_type(schema: Schema) -> str:
    bounds = (
        f"{sign}{_number(schema[word])}" for word, sign in (("minimum", "≥ "), ("maximum", "≤ ")) if word in schema
    )
    details = [*bounds, *([schema["format"]] if "format" in schema else [])]
    named = schema.get("type", "anything")
    examples = f", such as {_words(schema['examples'])}" if "examples" in schema else ""
    return escape(f"{named} ({', '.join(details)})" if details else named) + examples
