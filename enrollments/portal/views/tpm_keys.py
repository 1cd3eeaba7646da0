"""Keys of a TPM before they are saved: what was given, and what was read of it."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST
from django_htmx.http import trigger_client_event

from enrollments.models import ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import requires
from enrollments.portal.htmx import render_page
from enrollments.portal.tpm_input import preview_of_keys, read_tpm_keys


@sensitive_post_parameters("endorsement_key", "storage_root_key")
@require_POST
@requires(Right.CHANGE_ENTRIES)
def tpm_preview(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    """Nothing is stored. 422 where something cannot be read, with one sentence about it."""
    previews = preview_of_keys(read_tpm_keys(request.POST, request.FILES))
    problems = [one.problem for one in previews if one.problem]
    response = render_page(
        request,
        "portal/tpm_keys/preview.html",
        "portal/tpm_keys/_preview.html",
        {"service": service, "tpm_previews": previews, "with_problems": True},
        status=422 if problems else 200,
    )
    read = [f"Read the {one.label.lower()}." for one in previews if one.card is not None]
    return trigger_client_event(
        response, "announce", {"value": " ".join([*problems, *read]) or "Nothing was given."}
    )
