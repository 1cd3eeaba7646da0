"""The document as people read it: nothing is added that is not in it, but the words between."""

import json
import re
import shlex
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any, NamedTuple

from django.utils.html import escape, format_html, format_html_join
from django.utils.safestring import SafeString

from enrollments.openapi.document import document

Json = dict[str, Any]
_CODE = re.compile(r"^- `(\d+)` (.*)$", re.MULTILINE)
_SHOWN = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minimum": "at least {}",
    "maximum": "at most {}",
}
_CREDENTIALS = {
    "accessPolicy": "-H 'Authorization: SharedAccessSignature sr=…&sig=…&se=…&skn=…'",
    # A device may show either; with a certificate the example needs no signature.
    "deviceToken": "--cert pump-042.pem --key pump-042.key",
}


class Word(NamedTuple):
    """A piece of the name of a type; with the anchor of the model that it names."""

    text: str
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """Of a body, or a parameter, or a header of an answer."""

    name: str
    type: tuple[Word, ...]
    required: bool
    says: SafeString
    notes: tuple[str, ...]
    pattern: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    anchor: str
    says: SafeString
    members: tuple[Member, ...]
    type: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Result:
    status: str
    phrase: str
    says: SafeString
    codes: tuple[tuple[str, str], ...]
    type: tuple[Word, ...]
    headers: tuple[Member, ...]
    example: str

    @property
    def is_refusal(self) -> bool:
        return bool(self.codes)


@dataclass(frozen=True, slots=True)
class OperationShown:
    anchor: str
    method: str
    path: str
    summary: str
    says: SafeString
    ways_in: tuple[str, ...]
    parameters: tuple[Member, ...]
    body: tuple[Word, ...]
    body_required: bool
    results: tuple[Result, ...]
    refusals: tuple[Result, ...]
    curl: str


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    anchor: str
    says: SafeString
    operations: tuple[OperationShown, ...]


@dataclass(frozen=True, slots=True)
class Scheme:
    name: str
    anchor: str
    kind: str
    says: SafeString


@dataclass(frozen=True, slots=True)
class Reading:
    version: str
    says: SafeString
    server: str
    groups: tuple[Group, ...]
    schemes: tuple[Scheme, ...]
    models: tuple[Model, ...]


@cache
def reading(server: str) -> Reading:
    made = document(server)
    return Reading(
        version=made["info"]["version"],
        says=_prose(made["info"]["description"]),
        server=server,
        groups=tuple(_group(tag, made, server) for tag in made["tags"]),
        schemes=tuple(_scheme(name, one) for name, one in made["components"]["securitySchemes"].items()),
        models=tuple(_model(name, one) for name, one in made["components"]["schemas"].items()),
    )


def _group(tag: Json, made: Json, server: str) -> Group:
    operations = tuple(
        _operation(path, method, operation, made, server)
        for path, item in made["paths"].items()
        for method, operation in item.items()
        if tag["name"] in operation["tags"]
    )
    anchor = tag["name"].lower().replace(" ", "-")
    return Group(tag["name"], anchor, _prose(tag["description"]), operations)


def _operation(path: str, method: str, operation: Json, made: Json, server: str) -> OperationShown:
    results = tuple(_result(status, one, made) for status, one in operation["responses"].items())
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return OperationShown(
        anchor=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        says=_prose(operation["description"]),
        ways_in=tuple(name for way in operation["security"] for name in way),
        parameters=tuple(
            _member(one["name"], one["schema"], one["required"], one["description"], place=one["in"])
            for one in operation["parameters"]
        ),
        body=_type(content["schema"]) if content else (),
        body_required=operation.get("requestBody", {}).get("required", False),
        results=tuple(one for one in results if not one.is_refusal or one.example),
        refusals=tuple(one for one in results if one.is_refusal),
        curl=_curl(path, method.upper(), operation, content.get("example"), server),
    )


def _result(status: str, answer: Json, made: Json) -> Result:
    content = answer.get("content", {}).get("application/json", {})
    headers = {name: _resolved(one, made) for name, one in answer["headers"].items()}
    return Result(
        status=status,
        phrase=HTTPStatus(int(status)).phrase,
        says=_prose(_CODE.sub("", answer["description"]).strip()),
        codes=tuple(_CODE.findall(answer["description"])),
        type=_type(content["schema"]) if content else (Word("nothing"),),
        headers=tuple(
            _member(name, one["schema"], one["required"], one["description"]) for name, one in headers.items()
        ),
        example=_written(content["example"]) if "example" in content else "",
    )


def _resolved(one: Json, made: Json) -> Json:
    found: Json = made["components"]["headers"][one["$ref"].rsplit("/", 1)[1]] if "$ref" in one else one
    return found


def _model(name: str, schema: Json) -> Model:
    required = schema.get("required", [])
    members = tuple(
        _member(member, one, member in required, one.get("description", ""))
        for member, one in schema.get("properties", {}).items()
    )
    return Model(name, f"model-{name}", _prose(schema.get("description", "")), members, _type(schema))


def _scheme(name: str, one: Json) -> Scheme:
    kinds = {"apiKey": "Authorization header", "http": "Authorization header", "mutualTLS": "TLS handshake"}
    return Scheme(name, f"way-{name}", kinds[one["type"]], _prose(one["description"]))


def _member(name: str, schema: Json, required: bool, says: str, place: str = "") -> Member:
    inner = _inner(schema)
    notes = [
        text.format(f"{inner[key]:,}")
        for key, text in _SHOWN.items()
        if key in inner and (key, inner[key]) != ("minLength", 1)
    ]
    if "default" in schema:
        notes.append(f"default {json.dumps(schema['default'])}")
    if schema.get("writeOnly"):
        notes.append("never in an answer")
    examples = schema.get("examples") or inner.get("examples") or []
    notes += [f"such as {json.dumps(one, ensure_ascii=False)}" for one in examples[:1]]
    return Member(
        name,
        _type(schema),
        required,
        _prose(says),
        tuple(notes),
        pattern=inner.get("pattern", ""),
        place=place,
    )


def _inner(schema: Json) -> Json:
    """What is said of the value where it is not null."""
    others = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    return {**schema, **others[0]} if len(others) == 1 else schema


def _type(schema: Json) -> tuple[Word, ...]:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return (Word(name, f"model-{name}"),)
    if "anyOf" in schema:
        return _joined([_type(one) for one in schema["anyOf"]])
    if "const" in schema:
        return (Word(json.dumps(schema["const"])),)
    if "enum" in schema:
        return _joined([(Word(json.dumps(one)),) for one in schema["enum"]])
    if schema.get("type") == "array":
        return (Word("list of "), *_type(schema.get("items", {})))
    kind = schema.get("type", "any JSON")
    return (Word(f"{kind} ({schema['format']})" if "format" in schema else kind),)


def _joined(types: list[tuple[Word, ...]]) -> tuple[Word, ...]:
    words: list[Word] = []
    for one in types:
        words += [*([Word(" or ")] if words else []), *one]
    return tuple(words)


def _curl(path: str, method: str, operation: Json, body: Any, server: str) -> str:
    """A call with the examples of the document."""
    examples = {one["name"]: str(one.get("example", "")) for one in operation["parameters"]}
    for name, example in examples.items():
        path = path.replace(f"{{{name}}}", example)
    way_in = next(iter(operation["security"][0]))
    lines = [
        f"curl -X {method} '{server.rstrip('/')}{path}?api-version={examples['api-version']}'",
        f"--cacert ca.pem {_CREDENTIALS[way_in]}",
    ]
    if body is not None:
        lines.append(
            f"-H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
        )
    return " \\\n  ".join(lines)


def _written(example: Any) -> str:
    return json.dumps(example, indent=2, ensure_ascii=False)


def _prose(text: str) -> SafeString:
    """Paragraphs, with `code` in them."""
    paragraphs = [part.replace("\n", " ") for part in re.split(r"\n\s*\n", text) if part.strip()]
    return format_html_join("", "<p>{}</p>", ((_with_code(one),) for one in paragraphs))


def _with_code(text: str) -> SafeString:
    pieces = re.split(r"`([^`]*)`", text)
    return format_html_join(
        "",
        "{}",
        ((format_html("<code>{}</code>", one) if at % 2 else escape(one),) for at, one in enumerate(pieces)),
    )
