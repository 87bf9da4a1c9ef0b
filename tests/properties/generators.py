"""Edits: any value at any place of a body that would be accepted, and what else may be done to a place.

An edit is small and readable, so that what an example shrinks to is the report of a fault.
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hypothesis import strategies as st

from skytally.deployment.catalog import service_of
from skytally.openapi import api_document
from tests.properties.json_edges import KEYS, MOMENTS, TEXTS, json_values

Path = tuple[str | int, ...]
Schema = dict[str, Any]


class Change(Enum):
    """What is done to a place where no value is put."""

    REMOVE = "remove"
    REPEAT = "repeat"


@dataclass(frozen=True)
class Edit:
    """A place, and what is put there; where an earlier edit took the place away, nothing happens."""

    path: Path
    value: Any

    def apply(self, body: Any) -> Any:
        """Return the body as it is after this; what it was may have changed with it."""
        if not self.path:
            return body if isinstance(self.value, Change) else self.value
        *above, last = self.path
        parent = body
        for step in above:
            parent = child(parent, step)
        is_there = _has(parent, last)
        if not isinstance(self.value, Change) and (is_there or isinstance(parent, dict)):
            parent[last] = self.value
        elif self.value is Change.REMOVE and is_there:
            del parent[last]
        elif self.value is Change.REPEAT and is_there and isinstance(parent, list):
            parent.insert(last, deepcopy(parent[last]))
        return body


def child(parent: Any, step: str | int) -> Any:
    """Return what stands one step further, None where nothing does."""
    return parent[step] if _has(parent, step) else None


def _has(parent: Any, step: str | int) -> bool:
    if isinstance(parent, list):
        return isinstance(step, int) and step < len(parent)
    return isinstance(parent, dict) and step in parent


def edited(body: Any, edits: tuple[Edit, ...]) -> Any:
    """Return another body: this one after some edits, one after another."""
    body = deepcopy(body)
    for edit in edits:
        body = edit.apply(body)
    return body


@dataclass(frozen=True)
class Place:
    """A place of a body that the description knows: what may stand there, and what does."""

    path: Path
    schema: Schema
    value: Any


def places(function: str, body: Any) -> list[Place]:
    """List every place of a function's body, those too at which this body has nothing."""
    description = api_document.description()
    schemas = description["components"]["schemas"]

    def walk(schema: Schema, path: Path, value: Any) -> Iterator[Place]:
        schema = _resolved(schema, schemas)
        yield Place(path, schema, value)
        for name, inner in schema.get("properties", {}).items():
            yield from walk(inner, (*path, name), child(value, name))
        if "additionalProperties" in schema:
            for name in value:
                yield from walk(schema["additionalProperties"], (*path, name), value[name])
        if "items" in schema:
            yield from walk(schema["items"], (*path, 0), child(value, 0))

    content = description["paths"][f"/function/{service_of(function)}"]["post"]["requestBody"]["content"]
    return list(walk(content["application/json"]["schema"], (), body))


def _resolved(schema: Schema, schemas: dict[str, Schema]) -> Schema:
    """Follow references, and of two alternatives take the one that is not null."""
    while "$ref" in schema or "anyOf" in schema:
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rpartition("/")[2]]
        else:
            schema = next(one for one in schema["anyOf"] if one.get("type") != "null")
    return schema


@st.composite
def edits(draw: st.DrawFn, function: str, body: Any, names: tuple[str, ...]) -> tuple[Edit, ...]:
    """Draw a few edits of a body; `names` are texts that mean something to somebody else."""
    known = places(function, body)
    return tuple(_edit(draw, draw(st.sampled_from(known)), names) for _ in range(draw(st.integers(1, 3))))


def _edit(draw: st.DrawFn, place: Place, names: tuple[str, ...]) -> Edit:
    is_item, is_object = place.path[-1:] == (0,), isinstance(place.value, dict)
    what = draw(st.sampled_from(["put"] * 8 + ["remove"] + ["repeat"] * is_item + ["add"] * is_object))
    if what == "add":
        return Edit((*place.path, draw(KEYS)), draw(json_values()))
    return Edit(place.path, draw(_values(place, names)) if what == "put" else Change(what))


def _values(place: Place, names: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """Draw a value near the one that stands there, at an edge of its schema, of another type or owner, or any."""
    there = place.value
    others = (*_bounds(place.schema), *_near(there), [there], {"value": there}, str(there), None, True, False, [], {})
    kinds = [st.sampled_from(others), json_values()]
    if place.schema.get("format") == "date-time":
        kinds += [MOMENTS] * 3
    elif isinstance(there, str):
        kinds += [st.sampled_from(names), st.sampled_from(TEXTS)]
    return st.sampled_from(kinds).flatmap(lambda kind: kind)


def _bounds(schema: Schema) -> Iterator[Any]:
    """List the values at and just beyond what a schema allows."""
    for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if (bound := schema.get(name)) is not None:
            step = 1 if schema.get("type") == "integer" else abs(bound) * 1e-9 or 1e-9
            yield from (bound, bound - step, bound + step)
    for name in ("minLength", "maxLength"):
        if (length := schema.get(name)) is not None:
            yield from ("x" * length, "x" * (length + 1))


def _near(value: Any) -> Iterator[Any]:
    """List values that resemble one."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 1, value - 1, -value, math.nextafter(value, math.inf))
        yield from (value * factor for factor in (0.5, 1.05, 2, 1_000, 1e6, 1e9, 1e12))
    elif isinstance(value, str):
        yield from (value[:-1], value + "x", value.upper(), f" {value} ", value + "\n", "=" + value)
