"""From failures that we expect to pages and statuses: one table for the whole portal."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render, resolve_url
from django_htmx.http import HttpResponseClientRedirect

from enrollments.errors import Conflict, DpsError, HubUnavailable, Invalid, NotFound

STATUS: dict[type[DpsError], int] = {NotFound: 404, Invalid: 422, Conflict: 409, HubUnavailable: 502}


class PortalErrorsMiddleware:
    """Shows a DpsError that a view let pass as a page with its sentence; anything else stays a 500."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        sign_in = resolve_url(settings.LOGIN_URL)
        is_redirect = getattr(request, "htmx", False) and response.status_code == 302
        if is_redirect and response["Location"].startswith(sign_in):
            # A fragment must not be replaced by the sign-in page when the session has ended.
            return HttpResponseClientRedirect(sign_in)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, DpsError):
            return None
        for kind, status in STATUS.items():
            if isinstance(exception, kind):
                return render(
                    request,
                    "portal/refused.html",
                    {"message": exception.message, "status": status},
                    status=status,
                )
        return None
