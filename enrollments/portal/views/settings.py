"""The settings of a service: everybody with a role sees them, administrators change them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from enrollments.actions.preview import Preview, coming_by, preview_of_switching, what_switching_did
from enrollments.actions.preview.settings import SWITCHES, switches_of
from enrollments.actions.reach import groups_let_in_by, may_let_groups_in
from enrollments.actions.schedule import switches_now
from enrollments.actions.services import SETTINGS, change_settings, settings_version
from enrollments.errors import ChangedMeanwhile, Invalid, PreviewOutdated
from enrollments.models import AttestationMechanism, EnrollmentGroup, ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.confirmation import ask, show_invalid, without_epoch
from enrollments.portal.entry_conflicts import typed_otherwise
from enrollments.portal.entry_pages import and_what_it_did
from enrollments.portal.forms_services import SettingsForm
from enrollments.portal.preview_changes import Switching, change_url, in_question, shut_out_in_question
from enrollments.portal.previews import comings_shown


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
    values, before = _values(service, form), switches_of(service)
    epoch = ProvisioningService.epoch_of(service.pk)
    waiting = groups_let_in_by(service, values)
    given, mark = request.POST.get("confirmed", ""), _mark(epoch, before, values)
    narrowing = _narrowing(before, values)
    was_asked = _turns(given).items() >= _turns(mark, narrowing).items()
    try:
        if waiting and given != mark:
            return _ask(request, service, values, waiting, outdated=bool(given))
        if narrowing and not waiting and not was_asked:
            return _ask_before_narrowing(request, service, values, mark)
        change_settings(
            service,
            values,
            actor=actor_of(request),
            reason=form.cleaned_data["reason"],
            expected_version=form.cleaned_data["version"],
            # Also where no group waits: one may be enabled before this is done.
            expected_epoch=epoch if may_let_groups_in(service, values) else None,
        )
    except PreviewOutdated:
        return _ask(request, service, values, groups_let_in_by(service, values), outdated=True)
    except ChangedMeanwhile as problem:
        said = _narrowed_all_the_same(request, service, form, narrowing) if was_asked else ""
        return _conflict_page(request, service, form, said or problem.message)
    except Invalid as problem:
        show_invalid(form, problem)
        return _page(request, service, form, 422)
    said = "The settings are saved and hold from now on"
    if narrowing:
        # It was asked about, and is done whatever has changed since: what it did is told afterwards.
        messages.success(request, and_what_it_did(said, what_switching_did(service, before)))
    else:
        messages.success(request, f"{said}.")
    return redirect("portal:service-settings", service_name=service.name)


def _ask(
    request: HttpRequest,
    service: ProvisioningService,
    values: dict[str, Any],
    waiting: list[EnrollmentGroup],
    *,
    outdated: bool,
) -> HttpResponse:
    """Before groups come in by it: the preview, and the form in hidden fields. Raises Invalid."""
    keyed = [group for group in waiting if group.mechanism == AttestationMechanism.SYMMETRIC_KEY]
    unproven = [group for group in waiting if group.mechanism == AttestationMechanism.X509]

    def look(at: datetime | None = None) -> Preview:
        return preview_of_switching(service, values, at=at)

    coming = coming_by(service, look(), look)
    shown = in_question(service, Switching.of_settings(service, values), coming.now)
    as_of = switches_now(service)
    response = ask(
        request,
        title="Let groups with symmetric keys in?" if keyed else "Admit devices without proof of possession?",
        body="",
        body_template="portal/previews/_settings.html",
        cancel_url=reverse("portal:service-settings", args=[service.name]),
        yes="Save",
        danger=False,
        hidden=_kept(request, _mark(coming.now.epoch, switches_of(service), values)),
        extra={
            **shown,
            "comings": comings_shown(coming, shown["all_url"], shown["export_url"]),
            "outdated": outdated,
            "groups": [(group, None if as_of.enabled(group) else group.switches_at) for group in keyed],
            "unproven": [(group, None if as_of.enabled(group) else group.switches_at) for group in unproven],
        },
    )
    response.status_code = 409 if outdated else 200
    return response


def _ask_before_narrowing(
    request: HttpRequest, service: ProvisioningService, values: dict[str, Any], mark: str
) -> HttpResponse:
    """Before groups admit no more by it; whatever changes until the answer, that is done (R12)."""
    keys_off = service.symmetric_key_groups and not values["symmetric_key_groups"]
    return ask(
        request,
        title="Keep groups with symmetric keys out?" if keys_off else "Demand proof of possession?",
        body="",
        body_template="portal/previews/_settings.html",
        cancel_url=reverse("portal:service-settings", args=[service.name]),
        yes="Save",
        hidden=_kept(request, mark),
        extra=shut_out_in_question(service, Switching.of_settings(service, values)),
    )


def _kept(request: HttpRequest, mark: str) -> tuple[tuple[str, str], ...]:
    """The form in hidden fields, with what its confirmation carries."""
    form = SettingsForm(request.POST)
    names = {*form.fields, *(form.add_initial_prefix(name) for name in SETTINGS)}
    kept = [(name, str(text)) for name, text in request.POST.items() if name in names]
    return (*kept, ("confirmed", mark))


def _values(service: ProvisioningService, form: SettingsForm) -> dict[str, Any]:
    """What is to be saved. In a form that is stale, a switch that only somebody else turned is as it now stands."""
    values = {name: form.cleaned_data[name] for name in SETTINGS}
    if form.cleaned_data["version"] == settings_version(service):
        return values
    standing = {name: on for name, on in switches_of(service).items() if form.is_as_opened(name)}
    return {**values, **standing}


def _mark(epoch: int, before: Mapping[str, bool], values: Mapping[str, Any]) -> str:
    """What a confirmation carries: what is saved is what was looked at. Of each switch how it stood and is to stand."""
    return "-".join([str(epoch), *(f"{before[name]:d}{values[name]:d}" for name in SWITCHES)])


def _turns(mark: str, names: Collection[str] = SWITCHES) -> dict[str, str]:
    """What a confirmation says of these switches. What only shuts out waits for no epoch (R12)."""
    said = dict(zip(SWITCHES, without_epoch(mark).split("-"), strict=False))
    return {name: turn for name, turn in said.items() if name in names}


def _narrowing(before: Mapping[str, bool], values: Mapping[str, Any]) -> list[str]:
    """The switches by which groups admit no more that did: those with keys, or those without proof."""
    narrow = {"symmetric_key_groups": False, "proof_of_possession": True}
    return [name for name, on in narrow.items() if values[name] == on != before[name]]


_NARROWED = {
    "symmetric_key_groups": "Groups with symmetric keys are kept out from now on",
    "proof_of_possession": "Proof of possession is demanded from now on",
}


def _narrowed_all_the_same(
    request: HttpRequest, service: ProvisioningService, form: SettingsForm, narrowing: Collection[str]
) -> str:
    """Turns what was confirmed and only shuts out, whatever else was changed meanwhile (R12). What to say of it."""
    before = switches_of(service)
    turned = {name: form.cleaned_data[name] for name in narrowing if form.cleaned_data[name] != before[name]}
    if not turned:
        return ""
    change_settings(service, turned, actor=actor_of(request), reason=form.cleaned_data["reason"])
    done = ". ".join(_NARROWED[name] for name in turned)
    said = and_what_it_did(done, what_switching_did(service, before))
    return (
        f"{said} Somebody else had changed the settings after you opened them, so nothing else of your changes was "
        "saved."
    )


def _looks(service: ProvisioningService) -> list[tuple[str, str]]:
    """What turning each switch would do, to look at before: the words, and the address."""
    turned = [Switching(service, {name: not getattr(service, name)}) for name in SWITCHES]
    return [(one.words, change_url(service, one)) for one in turned]


def _initial(service: ProvisioningService) -> dict[str, Any]:
    return {**{name: getattr(service, name) for name in SETTINGS}, "version": settings_version(service)}


def _conflict_page(
    request: HttpRequest, service: ProvisioningService, form: SettingsForm, said: str
) -> HttpResponse:
    """What this person changed is shown again, beside what now holds: saving it once more is a decision.

    What they left alone is as it now stands: saving that once more would undo what somebody else changed in it.
    """
    service.refresh_from_db()
    now = SettingsForm(initial=_initial(service))
    entered = request.POST.copy()
    entered["version"] = settings_version(service)
    for name in SETTINGS:
        stands = now[name].value()
        text = "" if stands is None else str(stands)
        if form.is_as_opened(name):
            entered[name] = text
        entered[form.add_initial_prefix(name)] = text
    again = SettingsForm(entered)
    again.add_error(None, said)
    kept = [one.label for one in typed_otherwise(form, now, ("reason",))]
    return _page(request, service, again, 409, kept=kept)


def _page(
    request: HttpRequest,
    service: ProvisioningService,
    form: SettingsForm,
    status: int = 200,
    *,
    kept: Sequence[str] = (),
) -> HttpResponse:
    may_change = may(request, Right.ADMINISTER, service)
    if not may_change:
        for field in form.fields.values():
            field.disabled = True
    context = {
        "service": service,
        "form": form,
        "may_change": may_change,
        "looks": _looks(service),
        "current": _current(service) if status == 409 else [],
        "kept": kept,
    }
    return render(request, "portal/settings/settings.html", context, status=status)


def _current(service: ProvisioningService) -> list[tuple[str, Any]]:
    labels = {name: field.label for name, field in SettingsForm.base_fields.items()}
    display = {"allocation_policy": service.get_allocation_policy_display()}
    return [(str(labels[name]), display.get(name, getattr(service, name))) for name in SETTINGS]
