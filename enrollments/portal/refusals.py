"""From failures that we expect to pages and statuses: one table for the whole portal."""

from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.template.loader import render_to_string
from django.urls import Resolver404, resolve
from django.utils.encoding import escape_uri_path
from django_htmx.http import HttpResponseClientRedirect

from enrollments.actions.people import ShutOut
from enrollments.errors import (
    AttestationError,
    Conflict,
    DpsError,
    HubUnavailable,
    Invalid,
    NotFound,
    SecretUnreadable,
)
from enrollments.portal.refused_acts import LOOKS

STATUS: dict[type[DpsError], int] = {
    ShutOut: 403,
    NotFound: 404,
    Invalid: 422,
    Conflict: 409,
    HubUnavailable: 502,
    SecretUnreadable: 503,
    AttestationError: 503,
}


def page_above(request: HttpRequest) -> str:
    """The nearest address above this one that there is. Whether anything is to be seen there is not looked at (R1)."""
    above = request.path_info
    while True:
        above = f"{above.rstrip('/').rpartition('/')[0]}/"
        try:
            resolve(above)
        except Resolver404:
            continue
        return escape_uri_path(above)


def refused_page(request: HttpRequest, message: str, status: int) -> HttpResponse:
    """What could not be done, and a way back to the page of what it was about, unless that is gone or not shown.

    Who looked goes back with what they asked by: an export is of what the list above it shows for the same query.
    """
    above_url = page_above(request) if status not in (403, 404) else ""
    asked = f"?{request.GET.urlencode()}" if request.method in LOOKS and request.GET else ""
    context = {"message": message, "status": status, "above_url": above_url, "asked": asked}
    return render(request, "portal/refused.html", context, status=status)


class PortalErrorsMiddleware:
    """Shows a DpsError that a view let pass as a page with its sentence; anything else stays a 500.

    And a page to who looks at an address that only takes what a form sends: browsers keep it in their address bar.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "\x00" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            # No name of ours holds a NUL, and not every database lets itself be asked for one.
            raise SuspiciousOperation("The address holds a NUL character.")
        response = self.get_response(request)
        if response.status_code == 405 and request.method in LOOKS:
            response.content = render_to_string("405.html", {"above_url": page_above(request)}, request)
            return response
        sign_in = resolve_url(settings.LOGIN_URL)
        if response.status_code != 302 or not response["Location"].startswith(f"{sign_in}?"):
            return response
        if getattr(request, "htmx", False):
            # A fragment must not be replaced by the sign-in page when the session has ended.
            return HttpResponseClientRedirect(sign_in)
        # What was posted is not posted again after signing in, so there is nothing to return to.
        return response if request.method in ("GET", "HEAD") else HttpResponseRedirect(sign_in)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, DpsError):
            return None
        for kind, status in STATUS.items():
            if isinstance(exception, kind):
                return refused_page(request, exception.message, status)
        return None
