"""Registration records: what became of each device, and what can be done about it."""

from collections.abc import Callable
from typing import NamedTuple

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from enrollments.actions.name_claims import freeing_allows, name_version
from enrollments.actions.revocation import (
    delete_registration,
    deny_device,
    deprovision_device,
    release_registration,
)
from enrollments.actions.schedule import switches_now
from enrollments.errors import Invalid, PreviewOutdated
from enrollments.models import (
    AttemptOutcome,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
)
from enrollments.models.enrollments import secrets_of
from enrollments.models.keyset import starting_with
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.confirmation import ReasonForm, ask, show_invalid
from enrollments.portal.denying import denying_record
from enrollments.portal.forms_filters import RegistrationFilter
from enrollments.portal.htmx import render_page
from enrollments.portal.paging import paged

SORTS = {"updated": "updated_at", "registration_id": "registration_key"}
LAST_ATTEMPTS = 5

_OUTDATED = (
    "Something in this service was changed after the question was asked, so nothing was done. This holds now:"
)

Entry = IndividualEnrollment | EnrollmentGroup


@require_safe
@requires(Right.SEE)
def registration_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    form = RegistrationFilter(request.GET)
    valid = form.is_valid()
    entry = _entry_named(service, form.cleaned_data["entry"]) if valid else None
    records = _filtered(service, form, entry) if valid else service.registrations.none()
    records = records.select_related("hub", "individual", "group").defer(*secrets_of("individual", "group"))
    page = paged(records, request.GET, SORTS, default="-updated")
    context = {
        "service": service,
        "form": form,
        "page": page,
        "entry": entry,
        "entry_url": entry_url(service, entry) if entry else "",
        "filtered": valid and bool(form.chosen),
        "rows": [(one, entry_url(service, one.entry)) for one in page.rows],
    }
    return render_page(
        request, "portal/registrations/list.html", "portal/registrations/_results.html", context
    )


@require_safe
@requires(Right.SEE)
def registration_detail(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    record = record_of(service, registration_id)
    sees_attempts = may(request, Right.SEE_HISTORY, service)
    tried = service.attempts.filter(registration_key=record.registration_key).order_by("-last_at", "-id")
    attempts = list(tried[:LAST_ATTEMPTS]) if sees_attempts else []
    device = (
        record.hub.devices.defer("primary_key", "secondary_key")
        .filter(device_key=registration_key(record.device_id), registration_key=record.registration_key)
        .first()
        if record.hub
        else None
    )
    holder = record.owner_individual or record.owner_group
    barred_by = _barred_by(service, record)
    failed = next(
        (one for one in attempts if one.outcome == AttemptOutcome.FAILED and one.reason == record.reason),
        None,
    )
    context = {
        "service": service,
        "record": record,
        "reason_words": _in_words(record.reason),
        "entry": record.entry,
        "entry_url": entry_url(service, record.entry),
        "holder": holder,
        "holder_url": entry_url(service, holder),
        "device": device,
        "barred_by": _named(barred_by) if barred_by else "",
        "barred_by_url": entry_url(service, barred_by),
        "is_denied": isinstance(barred_by, IndividualEnrollment),
        "evidence": [
            one.certificate for one in record.evidence.select_related("certificate").order_by("position")
        ],
        "attempts": [(one, _in_words(one.reason)) for one in attempts],
        "failed_attempt": failed,
        "why": _what_the_webhook_said(failed) if failed is not None else "",
        "contested": holder is not None
        and any(one.reason == Reason.NAME_HELD_BY_OTHER_ENTRY for one in attempts),
        "sees_attempts": sees_attempts,
        "may_change": may(request, Right.CHANGE_ENTRIES, service),
    }
    return render(request, "portal/registrations/detail.html", context)


class Question(NamedTuple):
    """What is asked before one of the acts on a registration record.

    frees_name: others may have the name by it, so the answer holds for the state that was looked at.
    """

    title: str
    body: str
    yes: str
    danger: bool = True
    frees_name: bool = False


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
        f"Deny device {record}?", f"{denying_record(service, record)} {_what_stays(record)}", "Deny"
    )

    def act(reason: str) -> str:
        deny_device(service, record.registration_id, actor=actor_of(request), reason=reason)
        messages.success(
            request, f"Device {record} is denied from now on, by a disabled individual enrollment."
        )
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
    question = Question(f"Deprovision {record}?", f"{denying_record(service, record)} {hub}", "Deprovision")

    def act(reason: str) -> str:
        result = deprovision_device(service, record.registration_id, actor=actor_of(request), reason=reason)
        if result.done:
            messages.success(
                request, f"Device {record} is deprovisioned: it is disenrolled, and its hub holds it no more."
            )
        else:
            messages.error(
                request,
                f"Not done: {record} is disenrolled, but its hub has not confirmed that it is gone. "
                f"{result.hub_problem} Deprovision it again when the hub answers.",
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


def record_of(service: ProvisioningService, registration_id: str) -> RegistrationRecord:
    entries = ("individual", "group", "owner_individual", "owner_group")
    records = service.registrations.select_related("hub", *entries).defer(*secrets_of(*entries))
    try:
        return records.by_registration_id(registration_id)
    except RegistrationRecord.DoesNotExist:
        raise Http404("There is no registration record of that name.") from None


def entry_url(service: ProvisioningService, entry: Entry | None) -> str:
    if isinstance(entry, IndividualEnrollment):
        return reverse("portal:enrollment-edit", args=[service.name, entry.registration_id])
    if isinstance(entry, EnrollmentGroup):
        return reverse("portal:group-edit", args=[service.name, entry.group_id])
    return ""


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
    response = ask(
        request,
        title=question.title,
        body=f"{_OUTDATED} {question.body}" if outdated else question.body,
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


def _filtered(
    service: ProvisioningService, form: RegistrationFilter, entry: Entry | None
) -> QuerySet[RegistrationRecord]:
    records = service.registrations.all()
    chosen = form.chosen
    if "entry" in chosen:
        records = records.of_entry(entry) if entry is not None else records.none()
    if "status" in chosen:
        records = records.filter(status=chosen["status"])
    if "q" in chosen:
        records = records.filter(starting_with("registration_key", registration_key(chosen["q"])))
    return records


def _entry_named(service: ProvisioningService, text: str) -> Entry | None:
    """The entry that `individual:pump-042` or `group:plant-7` names."""
    kind, _, name = text.partition(":")
    if kind == "individual":
        return _individual(service, registration_key(name))
    if kind == "group":
        groups = service.enrollmentgroups.without_secrets()
        return groups.filter(group_key=registration_key(name)).first()
    return None


def _individual(service: ProvisioningService, key: str) -> IndividualEnrollment | None:
    entries = service.individualenrollments.without_secrets()
    return entries.filter(registration_key=key).first()


def _in_words(reason: str) -> str:
    return Reason(reason).in_words if reason in set(Reason) else reason


def _what_the_webhook_said(attempt: RegistrationAttempt) -> str:
    """The last step of its trace, which keeps that word for word."""
    if attempt.reason != Reason.WEBHOOK_FAILED or not attempt.trace:
        return ""
    return str(attempt.trace[-1]["because"])


def _named(entry: Entry) -> str:
    kind = "individual enrollment" if isinstance(entry, IndividualEnrollment) else "enrollment group"
    return f"{kind} {entry}"


def _barred_by(service: ProvisioningService, record: RegistrationRecord) -> Entry | None:
    """The disabled entry that keeps the device out from now on, whatever its record still says (R5, R7)."""
    as_of = switches_now(service)
    individual = _individual(service, record.registration_key)
    if individual is not None:
        return None if as_of.enabled(individual) else individual
    return record.group if record.group is not None and not as_of.enabled(record.group) else None


def _what_stays(record: RegistrationRecord) -> str:
    if record.hub is None:
        return "No hub holds the device."
    return f"Hub {record.hub} goes on knowing the device: to take it off there as well, deprovision it."
