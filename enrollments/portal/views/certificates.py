"""Certificates before they are saved: what was given, what was parsed of it, and what is wrong with it."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST
from django_htmx.http import trigger_client_event

from enrollments.actions.entry_specs import Kind
from enrollments.actions.preview import Entry
from enrollments.models import ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import requires
from enrollments.portal.certificate_input import preview_of, read_slots
from enrollments.portal.htmx import render_page


@sensitive_post_parameters("primary_pem", "secondary_pem")
@require_POST
@requires(Right.CHANGE_ENTRIES)
def certificate_preview(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    """Nothing is stored. 422 where something cannot be read, with one sentence about it."""
    kind: Kind = "ca" if request.POST.get("kind") == "group" else "device"
    slots = read_slots(request.POST, request.FILES, kind)
    previews = preview_of(service, slots, kind, _current(request, service, kind))
    problems = [given.problem for given in slots.values() if given.problem]
    response = render_page(
        request,
        "portal/certificates/preview.html",
        "portal/certificates/_preview.html",
        {"service": service, "previews": previews, "kind": request.POST.get("kind"), "with_problems": True},
        status=422 if problems else 200,
    )
    subjects = [one.cards[0].certificate.subject for one in previews if one.cards and not one.problem]
    said = " ".join([*problems, *(f"Read {subject}." for subject in subjects)]) or "Nothing was given."
    return trigger_client_event(response, "announce", {"value": said})


def _current(request: HttpRequest, service: ProvisioningService, kind: Kind) -> Entry | None:
    """The entry that is being edited: that it holds its own certificate is no news."""
    pk = request.POST.get("current", "")
    if not (pk.isascii() and pk.isdigit() and len(pk) < 19):
        return None
    if kind == "ca":
        return service.enrollmentgroups.filter(pk=pk).first()
    return service.individualenrollments.filter(pk=pk).without_secrets().first()
