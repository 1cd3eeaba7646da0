"""The OpenAPI 3.1 document, made of what the routes declare."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from enrollments.openapi.routes import Route, routes
from enrollments.openapi.version import project_version
from enrollments.wire.errors import ErrorAnswer
from enrollments.wire.models import Error
from enrollments.wire.operations import (
    ERROR_CODE,
    REQUEST_ID,
    RETRY_AFTER,
    Answer,
    Link,
    Operation,
    Parameter,
)

Json = dict[str, Any]
REF = "#/components/schemas/{model}"
# Headers of so many answers that they are told once.
EVERYWHERE = (REQUEST_ID, ERROR_CODE, RETRY_AFTER)
DIALECT = "https://json-schema.org/draft/2020-12/schema"

SECURITY_SCHEMES: Json = {
    "accessPolicy": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": (
            "`SharedAccessSignature sr={host}&sig={signature}&se={end}&skn={policy}`, signed with a key of a shared "
            "access policy: base64 of HMAC-SHA256 over `sr`, a line feed and `se`, where `se` is in seconds since 1970."
        ),
    },
    "apiToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API token of a person, who makes it in the portal. It gives no more than their role.",
    },
    "deviceToken": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": (
            "`SharedAccessSignature sr={idScope}/registrations/{registrationId}&sig={signature}&se={end}`, signed with "
            "a symmetric key of the device, or with the one that its TPM opened."
        ),
    },
    "deviceCertificate": {
        "type": "mutualTLS",
        "description": (
            "A client certificate whose common name is the registration ID, with the certificates between it and an "
            "enrolled CA."
        ),
    },
}


class _Schemas(GenerateJsonSchema):
    """Without titles, which repeat the names, and without `null` as a default, which says that nothing is said."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: Any) -> Json:
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


@cache
def document(server: str = "/") -> Json:
    """Made once for a process: do not change what this returns."""
    declared = list(routes())
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "dpsportal",
            "version": project_version(),
            "summary": "A device provisioning service to run yourself",
            "description": (
                "Devices register and are assigned to a hub; back ends say which devices may. The protocol is that of "
                "Azure IoT Hub's Device Provisioning Service. A body is JSON without duplicate names, and has at most "
                "96 KiB. Whatever is refused is told in the form of Error, also by the listener itself: what it cannot "
                "read at all (400000, 414000, 417000, 431000, 501000), and what is too much at a time (503000)."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "jsonSchemaDialect": DIALECT,
        "servers": [{"url": server, "description": "The listener for devices and back ends."}],
        "tags": _tags(declared),
        "paths": _paths(declared),
        "components": {
            "schemas": _schemas(declared),
            "headers": {one.name: _header(one) for one in EVERYWHERE},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _tags(declared: Iterable[Route]) -> list[Json]:
    said = {route.api.tag: route.api.says for route in declared}
    return [{"name": tag, "description": says} for tag, says in said.items()]


def _schemas(declared: Iterable[Route]) -> Json:
    models: dict[type[BaseModel], None] = {Error: None}
    for route in declared:
        for model in (route.operation.body, *(answer.model for answer in route.operation.answers)):
            if model is not None:
                models[_model(model)] = None
    made = models_json_schema(
        [(model, "validation") for model in models], ref_template=REF, schema_generator=_Schemas
    )[1]["$defs"]
    for schema in made.values():
        schema.pop("title", None)
        if "properties" in schema:
            # What is required first: a model has its parent's members before its own.
            required = schema.get("required", [])
            schema["properties"] = dict(
                sorted(schema["properties"].items(), key=lambda one: one[0] not in required)
            )
    return dict(sorted(made.items()))


def _model(model: Any) -> type[BaseModel]:
    """Of a list what it holds."""
    held: type[BaseModel] = (get_args(model) or (model,))[0]
    return held


def _paths(declared: Iterable[Route]) -> Json:
    paths: Json = {}
    for route in declared:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return paths


def _operation(route: Route) -> Json:
    operation, roles = route.operation, [str(route.right)] if route.right else []
    needs = f"\n\nNeeds the right {route.right}." if route.right else ""
    return {
        "tags": [route.api.tag],
        "operationId": operation.name,
        "summary": operation.summary,
        "description": operation.says + needs,
        "parameters": [
            *_path_parameters(route),
            *(_parameter(one) for one in (*route.api.takes, *operation.takes)),
        ],
        **({"requestBody": _body(operation)} if operation.body else {}),
        "responses": _responses(route),
        "security": [{name: roles} for name in route.api.security],
    }


def _path_parameters(route: Route) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": one.says,
            "schema": one.schema,
            "example": one.example,
        }
        for name, one in route.api.paths.items()
        if f"{{{name}}}" in route.path
    ]


def _parameter(one: Parameter) -> Json:
    return {
        "name": one.name,
        "in": one.place,
        "required": one.required,
        "description": one.says,
        "schema": one.schema,
        **({"example": one.example} if one.example is not None else {}),
    }


def _body(operation: Operation) -> Json:
    content: Json = {"schema": _schema(operation.body)}
    if operation.body_example is not None:
        content["example"] = operation.body_example
    return {"required": operation.body_required, "content": {"application/json": content}}


def _responses(route: Route) -> Json:
    """Results and refusals by status; where both have one, the body is either."""
    responses: Json = {}
    for answer in route.operation.answers:
        made, told = _answer(answer), str(answer.status)
        if answer.leads_to:
            made["links"] = {link.operation: _link(route, link) for link in answer.leads_to}
        responses[told] = _either(responses[told], made) if told in responses else made
    for status, refusals in _by_status((*route.api.refusals, *route.operation.refusals)).items():
        refused = _refused(refusals, route.api.headers.get(status, ()))
        if (result := responses.get(str(status))) is not None:
            refused = _either(result, refused)
        responses[str(status)] = refused
    return dict(sorted(responses.items()))


def _answer(answer: Answer) -> Json:
    content: Json = {}
    if answer.model is not None:
        content = {"schema": _schema(answer.model, answer.always)}
    if answer.example is not None:
        content["example"] = answer.example
    return {
        "description": answer.says,
        "headers": _headers((REQUEST_ID, *answer.headers)),
        **({"content": {"application/json": content}} if content else {}),
    }


def _link(route: Route, link: Link) -> Json:
    same = {name: f"$request.path.{name}" for name in route.api.paths if f"{{{name}}}" in route.path}
    same["api-version"] = "$request.query.api-version"
    return {
        "operationId": link.operation,
        "description": link.says,
        "parameters": {**same, **link.parameters},
    }


def _by_status(refusals: Iterable[ErrorAnswer]) -> dict[int, dict[int, list[str]]]:
    """The codes of each status with what they mean. One code may have several meanings."""
    found: dict[int, dict[int, list[str]]] = {}
    for refusal in refusals:
        said = found.setdefault(refusal.status, {}).setdefault(refusal.code, [])
        if refusal.message not in said:
            said.append(refusal.message)
    return {status: dict(sorted(codes.items())) for status, codes in found.items()}


def _refused(codes: dict[int, list[str]], headers: Sequence[Parameter]) -> Json:
    return {
        "description": "\n".join(f"- `{code}` {' '.join(said)}" for code, said in codes.items()),
        "headers": _headers((REQUEST_ID, ERROR_CODE, *headers)),
        "content": {
            "application/json": {
                "schema": {**_schema(Error), "properties": {"errorCode": {"enum": list(codes)}}}
            }
        },
    }


def _either(one: Json, other: Json) -> Json:
    """A header that only one of the two has is not in each such answer."""
    first, second = one["content"]["application/json"], other["content"]["application/json"]
    headers = {**one["headers"], **other["headers"]}
    for name in one["headers"].keys() ^ other["headers"].keys():
        headers[name] = {**_resolved(headers[name]), "required": False}
    return {
        "description": f"{one['description']}\n\n{other['description']}",
        "headers": headers,
        "content": {"application/json": {**first, "schema": {"anyOf": [first["schema"], second["schema"]]}}},
    }


def _resolved(header: Json) -> Json:
    return next(
        (_header(one) for one in EVERYWHERE if header.get("$ref", "").endswith(f"/{one.name}")), header
    )


def _headers(headers: Iterable[Parameter]) -> Json:
    return {
        one.name: {"$ref": f"#/components/headers/{one.name}"} if one in EVERYWHERE else _header(one)
        for one in headers
    }


def _header(one: Parameter) -> Json:
    return {"description": one.says, "required": one.required, "schema": one.schema}


def _schema(model: Any, always: Sequence[str] = ()) -> Json:
    one: Json = {"$ref": REF.format(model=_model(model).__name__)}
    if always:
        one["required"] = list(always)
        # What we write is a time, whatever is handed back.
        times = {name: {"format": "date-time"} for name in always if name.endswith("DateTimeUtc")}
        one.update({"properties": times} if times else {})
    return {"type": "array", "items": one} if get_args(model) else one
