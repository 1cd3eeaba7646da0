"""Registration records: what became of each device."""

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from enrollments.actions.kept_out import kept_out
from enrollments.actions.key_identifiers import OF_GROUP
from enrollments.models import (
    AttemptOutcome,
    AttestationMechanism,
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
from enrollments.policy.unknown import known
from enrollments.policy.words import as_part
from enrollments.portal.access import may, requires
from enrollments.portal.entry_links import entry_url as url_of
from enrollments.portal.entry_links import shown_deciding_entries
from enrollments.portal.forms_filters import RegistrationFilter
from enrollments.portal.htmx import render_page
from enrollments.portal.paging import paged

SORTS = {"updated": "updated_at", "registration_id": "registration_key"}
LAST_ATTEMPTS = 5

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
    out = kept_out(service, record)
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
        "kept_out": out,
        "kept_out_url": url_of(service, out.by) if out is not None and out.by is not None else "",
        "evidence": [
            one.certificate for one in record.evidence.select_related("certificate").order_by("position")
        ],
        "key_ids": _key_ids(record),
        "attempts": [
            (one, _in_words(one.reason), entry)
            for one, entry in zip(attempts, shown_deciding_entries(service, attempts), strict=True)
        ],
        "failed_attempt": failed,
        "why": _what_the_webhook_said(failed) if failed is not None else "",
        "contested": holder is not None
        and any(one.reason == Reason.NAME_HELD_BY_OTHER_ENTRY for one in attempts),
        "sees_attempts": sees_attempts,
        "may_change": may(request, Right.CHANGE_ENTRIES, service),
    }
    return render(request, "portal/registrations/detail.html", context)


def _key_ids(record: RegistrationRecord) -> list[tuple[str, str]]:
    """What identifies the symmetric key that was proven, as attempts name it, and the one that it is derived from."""
    if record.mechanism != AttestationMechanism.SYMMETRIC_KEY:
        return []
    return [
        (
            "Key of its group, from which its own is derived" if one.startswith(OF_GROUP) else "Key proven",
            one.removeprefix(OF_GROUP),
        )
        for one in record.key_ids.split()
    ]


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
    return known(Reason, reason).in_words if reason else ""


def _what_the_webhook_said(attempt: RegistrationAttempt) -> str:
    """The last step of its trace, which keeps that word for word."""
    if attempt.reason != Reason.WEBHOOK_FAILED or not attempt.trace:
        return ""
    return as_part(str(attempt.trace[-1]["because"]))
