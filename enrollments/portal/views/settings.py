"""The settings of a service: everybody with a role sees them, administrators change them."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from enrollments.actions.preview.proofs import preview_of_settings, what_demanding_did
from enrollments.actions.services import SETTINGS, change_settings, settings_version
from enrollments.errors import ChangedMeanwhile, Invalid, PreviewOutdated
from enrollments.models import ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.confirmation import ask, show_invalid
from enrollments.portal.entry_pages import and_what_it_did
from enrollments.portal.forms_services import SettingsForm
from enrollments.portal.previews import lines_of


@require_safe
@requires(Right.SEE)
def service_settings(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return _page(request, service, SettingsForm(initial=_initial(service)))


@require_POST
@requires(Right.ADMINISTER)
def service_settings_change(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    form = SettingsForm(request.POST)
    if not form.is_valid():
        return _page(request, service, form, 422)
    values = {name: form.cleaned_data[name] for name in SETTINGS}
    # Read first: whatever changes while a preview is worked out makes the answer void.
    epoch = ProvisioningService.epoch_of(service.pk)
    service.refresh_from_db()
    was, demanded = service.proof_of_possession, values["proof_of_possession"]
    widens, given = was and not demanded, request.POST.get("epoch", "")
    try:
        if widens and given != str(epoch):
            return _ask(request, service, form, values, epoch, outdated=bool(given))
        change_settings(
            service,
            values,
            actor=actor_of(request),
            reason=form.cleaned_data["reason"],
            expected_version=form.cleaned_data["version"],
            expected_epoch=epoch if widens else None,
        )
    except PreviewOutdated:
        # Between the look at the epoch and the lock: asked anew, with what then holds.
        messages.warning(request, "Something was changed while you answered: nothing was saved. Look again.")
        return redirect("portal:service-settings", service_name=service.name)
    except ChangedMeanwhile as problem:
        # What was typed is shown again, beside what now holds: saving it once more is a decision, not an accident.
        service.refresh_from_db()
        entered = request.POST.copy()
        entered["version"] = settings_version(service)
        form = SettingsForm(entered)
        form.add_error(None, problem.message)
        return _page(request, service, form, 409)
    except Invalid as problem:
        show_invalid(form, problem)
        return _page(request, service, form, 422)
    said = "The settings are saved and hold from now on"
    # What only narrows is not held up: what it did is told afterwards.
    told = and_what_it_did(said, what_demanding_did(service)) if demanded and not was else f"{said}."
    messages.success(request, told)
    return redirect("portal:service-settings", service_name=service.name)


def _ask(
    request: HttpRequest,
    service: ProvisioningService,
    form: SettingsForm,
    values: dict[str, Any],
    epoch: int,
    *,
    outdated: bool,
) -> HttpResponse:
    """Devices may come in where proof of possession is demanded no longer. Raises what saving raises."""
    preview = preview_of_settings(service, values, expected_version=form.cleaned_data["version"])
    sent = ((name, value) for name in form.fields if (value := request.POST.get(name)) is not None)
    response = ask(
        request,
        title="Admit devices without proof of possession?",
        body="",
        body_template="portal/settings/_without_proof.html",
        danger=False,
        yes="Save",
        cancel_url=reverse("portal:service-settings", args=[service.name]),
        hidden=(*sent, ("epoch", str(epoch))),
        extra={"preview": preview, "lines": lines_of(preview), "outdated": outdated, "no": "Cancel"},
    )
    if outdated:
        response.status_code = 409
    return response


def _initial(service: ProvisioningService) -> dict[str, Any]:
    return {**{name: getattr(service, name) for name in SETTINGS}, "version": settings_version(service)}


def _page(
    request: HttpRequest, service: ProvisioningService, form: SettingsForm, status: int = 200
) -> HttpResponse:
    may_change = may(request, Right.ADMINISTER, service)
    if not may_change:
        for field in form.fields.values():
            field.disabled = True
    context = {
        "service": service,
        "form": form,
        "may_change": may_change,
        "current": _current(service) if status == 409 else [],
    }
    return render(request, "portal/settings/settings.html", context, status=status)


def _current(service: ProvisioningService) -> list[tuple[str, Any]]:
    labels = {name: field.label for name, field in SettingsForm.base_fields.items()}
    display = {"allocation_policy": service.get_allocation_policy_display()}
    return [(str(labels[name]), display.get(name, getattr(service, name))) for name in SETTINGS]
