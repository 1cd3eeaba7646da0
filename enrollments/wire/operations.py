"""What a route says of itself, beside its view: the OpenAPI document is made of this and of nothing else.

Method, path and right are not repeated here: they are read where the route itself has them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from enrollments.wire.errors import ErrorAnswer

V = TypeVar("V", bound=Callable[..., Any])
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """In the query or a header of a request, or a header of an answer; `says` is a sentence for people."""

    name: str
    says: str
    schema: Schema
    place: Literal["query", "header"] = "header"
    required: bool = False
    example: Any = None


@dataclass(frozen=True, slots=True)
class Link:
    """What can be called next, with the same path and version. `parameters`: others, as OpenAPI writes expressions."""

    operation: str
    says: str
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A result. `model`: whatever pydantic makes a schema of; None where the answer has no body."""

    status: int
    says: str
    model: Any = None
    headers: Sequence[Parameter] = ()
    always: Sequence[str] = ()
    """Members of the model that may be left out in a request, and are in each such answer."""
    example: Any = None
    leads_to: Sequence["Link"] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """`refusals`: each code that this route may answer with, beside those that all routes of its API share."""

    name: str
    summary: str
    says: str
    answers: Sequence[Answer]
    body: Any = None
    body_required: bool = True
    body_example: Any = None
    takes: Sequence[Parameter] = ()
    refusals: Sequence[ErrorAnswer] = ()


@dataclass(frozen=True, slots=True)
class Path:
    """A parameter in a path, of any route that has it."""

    says: str
    schema: Schema
    example: str


@dataclass(frozen=True, slots=True)
class Api:
    """What the routes of one API have in common. `security`: alternatives, by the names of schemes."""

    tag: str
    says: str
    security: Sequence[str]
    takes: Sequence[Parameter]
    refusals: Sequence[ErrorAnswer]
    paths: dict[str, Path]
    headers: dict[int, Sequence[Parameter]] = field(default_factory=dict)
    """Of refusals, by status."""


def declares(operation: Operation) -> Callable[[V], V]:
    def decorate(view: V) -> V:
        view.operation = operation  # type: ignore[attr-defined]  # read by `enrollments.openapi`, which every route needs
        return view

    return decorate


API_VERSION = Parameter(
    "api-version",
    "A date. Any will do: all versions are served alike.",
    {"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?$"},
    place="query",
    required=True,
    example="2021-10-01",
)
REQUEST_ID = Parameter(
    "x-ms-request-id",
    "The tracking ID: administrators find the request by it.",
    {"type": "string", "format": "uuid"},
    required=True,
)
ERROR_CODE = Parameter(
    "x-ms-error-code",
    "The `errorCode` of the body.",
    {"type": "integer"},
    required=True,
)
RETRY_AFTER = Parameter(
    "Retry-After", "Seconds to wait before the next call.", {"type": "integer", "minimum": 1}, required=True
)
