"""The revocation history: who did what to what, when, why and from where; of a service, and of the installation."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from enrollments.models import ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import requires, requires_everywhere
from enrollments.portal.history_pages import history_page, place_of, row_page


@require_safe
@requires(Right.SEE)
def history_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return history_page(request, place_of(service))


@require_safe
@requires_everywhere(Right.SEE)
def installation_history(request: HttpRequest) -> HttpResponse:
    """All services, and what belongs to none of them: people, sign-ins, roles for the whole installation."""
    return history_page(request, place_of(None))


@require_safe
@requires(Right.SEE)
def history_row(request: HttpRequest, service: ProvisioningService, event_pk: int) -> HttpResponse:
    return row_page(request, service, event_pk)


@require_safe
@requires_everywhere(Right.SEE)
def installation_history_row(request: HttpRequest, event_pk: int) -> HttpResponse:
    return row_page(request, None, event_pk)
