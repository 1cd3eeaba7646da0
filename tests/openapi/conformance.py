"""Holds an answer against the OpenAPI document: whatever a test of the APIs provokes has to be declared."""

import json
import re
from functools import cache
from typing import Any

from django.http import HttpResponse
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from enrollments.openapi.document import document

DOCUMENT = "urn:dpsportal:openapi"


@cache
def _operations() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    """The fixed paths first, as OpenAPI has it. The service API alone takes a slash at the end."""
    paths = sorted(document()["paths"].items(), key=lambda item: item[0].count("{"))
    return [
        (
            re.compile(
                re.sub(r"\{\w+\}", "[^/]+", path) + ("" if path.startswith("/{") else "/?"), re.IGNORECASE
            ),
            item,
        )
        for path, item in paths
    ]


@cache
def _registry() -> Registry:
    return Registry().with_resource(DOCUMENT, Resource(document(), DRAFT202012))


def operation_of(method: str, path: str) -> dict[str, Any] | None:
    """None where no operation of the document is meant."""
    for pattern, item in _operations():
        if pattern.fullmatch(path) and method.lower() in item:
            return item[method.lower()]
    return None


def problems_with(schema: dict[str, Any], value: Any) -> list[str]:
    validator = Draft202012Validator(_absolute(schema), registry=_registry(), format_checker=FormatChecker())
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]


def check_answer(method: str, path: str, response: HttpResponse) -> None:
    """Status, codes, body and headers are as declared."""
    operation = operation_of(method, path)
    if operation is None:
        return
    told = f"{method} {path}: {response.status_code}"
    declared = operation["responses"].get(str(response.status_code))
    assert declared is not None, f"{told} is not declared"
    for name, header in declared["headers"].items():
        header = _resolved(header)
        assert not header["required"] or name in response, f"{told} has no {name}"
        if name in response:
            value = response[name]
            read = int(value) if header["schema"].get("type") == "integer" else value
            assert problems_with(header["schema"], read) == [], f"{told}, {name}"
    if "content" not in declared:
        assert response.content == b"", told
        return
    assert response["Content-Type"].split(";")[0] in declared["content"]
    schema = declared["content"]["application/json"]["schema"]
    assert problems_with(schema, json.loads(response.content)) == [], f"{told} {response.content[:500]!r}"


def _resolved(one: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in one:
        return one
    return document()["components"]["headers"][one["$ref"].rsplit("/", 1)[1]]


def _absolute(schema: Any) -> Any:
    """With references as they read from outside of the document."""
    if isinstance(schema, list):
        return [_absolute(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: DOCUMENT + value if name == "$ref" else _absolute(value) for name, value in schema.items()}
