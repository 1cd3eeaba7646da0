"""What is done about a registration record: deleting it, denying and deprovisioning its device, releasing its name."""

from collections.abc import Callable
from typing import NamedTuple

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from enrollments.actions.denying import StoodBefore
from enrollments.actions.name_claims import freeing_allows, name_version
from enrollments.actions.revocation import (
    delete_registration,
    deny_device,
    deprovision_device,
    release_registration,
)
from enrollments.errors import Invalid, PreviewOutdated
from enrollments.models import ProvisioningService, RegistrationRecord
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, requires
from enrollments.portal.confirmation import ReasonForm, ask, show_invalid
from enrollments.portal.denying import denial_in_question, denying_record, what_came_of_denying, what_stays
from enrollments.portal.preview_changes import Denial
from enrollments.portal.views.registrations import record_of

_OUTDATED = (
    "Something in this service was changed after the question was asked, so nothing was done. This holds now:"
)


class Question(NamedTuple):
    """What is asked before one of the acts on a registration record.

    frees_name: others may have the name by it, so the answer holds for the state that was looked at.
    denies: what is denied by it, whose preview is shown.
    """

    title: str
    body: str
    yes: str
    danger: bool = True
    frees_name: bool = False
    denies: Denial | None = None


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def registration_delete(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    record = record_of(service, registration_id)
    hub = f"Hub {record.hub} still knows the device" if record.hub else "No hub knows the device"
    question = Question(
        f"Delete the registration record of {record}?",
        f"The record is lost, and with it the name's hold by its entry. {' '.join(freeing_allows(record))} {hub}, no "
        "entry changes, and the device may register again.",
        "Delete the record",
        frees_name=True,
    )

    def act(reason: str) -> str:
        delete_registration(
            service,
            record.registration_id,
            actor=actor_of(request),
            reason=reason,
            expected_name=request.POST.get("name_version", ""),
        )
        messages.success(request, f"The registration record of {record} is deleted.")
        return reverse("portal:registration-list", kwargs={"service_name": service.name})

    return _asked(request, service, record, question, act)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def registration_deny(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    record = record_of(service, registration_id)
    question = Question(
        f"Deny device {record}?",
        f"{denying_record(service, record)} {what_stays(record)}",
        "Deny",
        denies=Denial(service, record.registration_id),
    )

    def act(reason: str) -> str:
        before = StoodBefore.of(service, [record.registration_id])
        entry = deny_device(service, record.registration_id, actor=actor_of(request), reason=reason)
        came = what_came_of_denying(service, before, entry)
        said = f"Device {record} is denied from now on, by a disabled individual enrollment."
        messages.success(request, f"{said} {came}")
        return _detail_url(service, record)

    return _asked(request, service, record, question, act)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def registration_deprovision(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    record = record_of(service, registration_id)
    hub = (
        f"Then device {record.device_id} is deregistered at hub {record.hub}, with its twin. "
        "It is not done before the hub has confirmed."
        if record.hub
        else "No hub holds the device, so there is nothing to deregister."
    )
    question = Question(
        f"Deprovision {record}?",
        f"{denying_record(service, record)} {hub}",
        "Deprovision",
        denies=Denial(service, record.registration_id),
    )

    def act(reason: str) -> str:
        before = StoodBefore.of(service, [record.registration_id])
        result = deprovision_device(service, record.registration_id, actor=actor_of(request), reason=reason)
        came = what_came_of_denying(service, before, result.entry)
        if result.done:
            messages.success(
                request,
                f"Device {record} is deprovisioned: it is disenrolled, and its hub holds it no more. {came}",
            )
        else:
            messages.error(
                request,
                f"Not done: {record} is disenrolled, but its hub has not confirmed that it is gone. "
                f"{result.hub_problem} Deprovision it again when the hub answers. {came}",
            )
        return _detail_url(service, record)

    return _asked(request, service, record, question, act)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def registration_release(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    record = record_of(service, registration_id)
    question = Question(
        f"Release registration ID {record}?",
        f"{' '.join(freeing_allows(record))} Do this only if you expect another device or another CA to have the name.",
        "Release",
        frees_name=True,
    )

    def act(reason: str) -> str:
        release_registration(
            service,
            record.registration_id,
            actor=actor_of(request),
            reason=reason,
            expected_name=request.POST.get("name_version", ""),
        )
        messages.success(request, f"Registration ID {record} is released to the next entry that admits it.")
        return _detail_url(service, record)

    return _asked(request, service, record, question, act)


def _asked(
    request: HttpRequest,
    service: ProvisioningService,
    record: RegistrationRecord,
    question: Question,
    act: Callable[[str], str],
) -> HttpResponse:
    """Ask; when that is answered, act, and go where the act says."""
    form = ReasonForm(request.POST if request.method == "POST" else None)
    version = name_version(record) if question.frees_name else ""
    outdated = form.is_bound and question.frees_name and request.POST.get("name_version") != version
    if form.is_bound and not outdated and form.is_valid():
        try:
            return redirect(act(form.cleaned_data["reason"]))
        except Invalid as problem:
            show_invalid(form, problem)
        except PreviewOutdated:
            messages.warning(
                request, "Something was changed while you answered: nothing was done. Look again."
            )
            return redirect(_detail_url(service, record))
    denies = question.denies
    response = ask(
        request,
        title=question.title,
        body=f"{_OUTDATED} {question.body}" if outdated else question.body,
        body_template="portal/previews/_act.html" if denies else "",
        extra=denial_in_question(denies, question.body) if denies else None,
        hidden=(("name_version", version),) if question.frees_name else (),
        yes=question.yes,
        danger=question.danger,
        form=form,
        cancel_url=_detail_url(service, record),
    )
    if outdated:
        response.status_code = 409
    return response


def _detail_url(service: ProvisioningService, record: RegistrationRecord) -> str:
    return reverse("portal:registration-detail", args=[service.name, record.registration_id])
