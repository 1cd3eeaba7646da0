"""Every route of both APIs with its declaration, read from the tables of paths that the listener serves."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.urls import URLPattern
from pydantic.alias_generators import to_camel

from enrollments.device_api import urls as device_urls
from enrollments.device_api.declarations import DEVICE_API
from enrollments.service_api import urls as service_urls
from enrollments.service_api.operations import SERVICE_API
from enrollments.wire.operations import Api, Operation


class Undeclared(LookupError):
    """A route does not say what it takes and answers."""


class Route(NamedTuple):
    """`right`: what back ends need, empty for devices."""

    api: Api
    method: str
    path: str
    right: str
    operation: Operation


def routes() -> Iterator[Route]:
    """Raises Undeclared."""
    for pattern in device_urls.urlpatterns:
        yield from _routes(DEVICE_API, pattern, vars(pattern.callback)["methods"])
    for pattern in service_urls.urlpatterns:
        handlers = vars(pattern.callback)["handlers"]
        # PUT, GET and DELETE of an entry that happens to be called query are those of any other name.
        if "POST" in handlers:
            handlers = {"POST": handlers["POST"]}
        yield from _routes(SERVICE_API, pattern, handlers)


def _routes(api: Api, pattern: URLPattern, handlers: dict[str, Any]) -> Iterator[Route]:
    for method, handler in handlers.items():
        path = _template(pattern)
        operation = getattr(handler, "operation", None)
        if operation is None:
            raise Undeclared(f"{method} {path} declares no operation (enrollments/wire/operations.py).")
        yield Route(api, method, path, getattr(handler, "needed_right", ""), operation)


def _template(pattern: URLPattern) -> str:
    template = getattr(pattern.callback, "template", "")
    return template or "/" + re.sub(
        r"<(\w+)>", lambda match: f"{{{to_camel(match[1])}}}", str(pattern.pattern)
    )
