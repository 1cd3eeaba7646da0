"""The OpenAPI document, and a page of it. They say what anybody may know, and nothing of an entry or a person."""

import hashlib
import json
from functools import cache
from typing import NamedTuple

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.cache import patch_cache_control
from django.utils.safestring import SafeString
from django.views.decorators.http import condition, require_safe

from enrollments.management.addresses import device_endpoint
from enrollments.openapi.document import document
from enrollments.openapi.reading import reading
from enrollments.wire.errors import CONTENT_TYPE, ErrorAnswer, error_response


class Made(NamedTuple):
    content: bytes
    etag: str


@cache
def _made(server: str) -> Made:
    content = json.dumps(document(server), separators=(",", ":")).encode()
    return Made(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


@login_not_required
def openapi_json(request: HttpRequest, *, is_portal: bool = False) -> HttpResponse:
    """Where it is served by the listener that it describes, that is its server; the portal names that one."""
    if request.method not in ("GET", "HEAD"):
        refusal = error_response(request, ErrorAnswer(405001, "This path takes GET and HEAD."))
        refusal["Allow"] = "GET, HEAD"
        return refusal
    made = _made(device_endpoint() if is_portal else "/")
    return _told(request, made)


def _told(request: HttpRequest, made: Made) -> HttpResponse:
    @condition(etag_func=lambda _: made.etag)
    def told(_: HttpRequest) -> HttpResponse:
        response = HttpResponse(made.content, content_type=CONTENT_TYPE)
        response["Content-Length"] = str(len(made.content))
        return response

    response = told(request)
    patch_cache_control(response, no_cache=True)
    return response


@require_safe
@login_not_required
def api_page(request: HttpRequest) -> HttpResponse:
    """Rendered by the server, so it works without script, and from the same document, so it says the same."""
    server = device_endpoint()
    return render(request, "openapi/page.html", {"api": reading(server), "content": _content(server)})


@cache
def _content(server: str) -> SafeString:
    return render_to_string("openapi/_content.html", {"api": reading(server)})
