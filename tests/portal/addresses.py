"""Every address of the portal, read from its URL configuration, so that no page is forgotten by a test."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver

from enrollments.policy.roles import Right
from enrollments.portal.urls import urlpatterns


@dataclass(frozen=True)
class Address:
    name: str
    parameters: tuple[str, ...]
    right: Right | None
    declares: bool

    @property
    def of_service(self) -> bool:
        return "service_name" in self.parameters


def _walk(patterns: list[Any], outer: tuple[str, ...] = ()) -> Iterator[Address]:
    for pattern in patterns:
        parameters = (*outer, *pattern.pattern.converters)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, parameters)
        elif isinstance(pattern, URLPattern):
            view = pattern.callback
            declares = hasattr(view, "declared_right")
            yield Address(str(pattern.name), parameters, getattr(view, "declared_right", None), declares)


ADDRESSES = list(_walk(urlpatterns))
