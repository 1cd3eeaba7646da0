"""Individual enrollments: the list, adding and editing one, and the acts of a row."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from enrollments.actions.enrollments import (
    EnrollmentNotFound,
    add_individual_enrollment,
    cancel_enrollment_schedule,
    change_individual_enrollment,
    delete_enrollments,
    disable_enrollment,
    enable_enrollment,
    reveal_enrollment_keys,
)
from enrollments.actions.judging import individual_ref
from enrollments.actions.schedule import switches_now
from enrollments.errors import ChangedMeanwhile, Conflict, Invalid
from enrollments.models import AttestationMechanism, IndividualEnrollment, ProvisioningService
from enrollments.policy.names import registration_key
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.certificate_input import preview_of
from enrollments.portal.confirmation import ReasonForm, show_invalid
from enrollments.portal.entry_links import entry_tabs, entry_url, keys_url, list_url
from enrollments.portal.entry_lists import (
    EntryFilter,
    SwitchShown,
    page_of_individuals,
    rows_of,
    with_row_columns,
)
from enrollments.portal.entry_pages import (
    answer_deletion,
    ask_to_switch,
    chosen_ids,
    done,
    form_status,
    is_from_its_page,
    row_answer,
    saved,
    show_keys,
)
from enrollments.portal.forms_entries import IndividualForm
from enrollments.portal.forms_schedule import DisableForm, EnableForm, said_of
from enrollments.portal.htmx import render_page, wants_fragment

SECRET_FIELDS = ("primary_pem", "secondary_pem", "primary_key", "secondary_key", "webhook_url")


@require_safe
@requires(Right.SEE)
def enrollment_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    filters = EntryFilter(request.GET, name="Registration ID")
    as_of = switches_now(service)
    page = page_of_individuals(service, request.GET, filters, as_of)
    context = {
        "service": service,
        "tabs": entry_tabs(service, "enrollment-list"),
        "filters": filters,
        "page": page,
        "rows": rows_of(service, page.rows, as_of),
        "query": request.GET.urlencode(),
    }
    return render_page(request, "portal/enrollments/list.html", "portal/enrollments/_results.html", context)


@sensitive_post_parameters(*SECRET_FIELDS)
@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def enrollment_add(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    if request.method != "POST":
        return _form_answer(request, service, IndividualForm(service))
    form = IndividualForm(service, request.POST, request.FILES)
    if "preview" not in request.POST:
        added: list[IndividualEnrollment] = []
        if saved(
            form,
            lambda: added.append(
                add_individual_enrollment(
                    service, form.spec(), actor=actor_of(request), reason=form.cleaned_data["reason"]
                )
            ),
        ):
            return _after_adding(request, service, added[0])
    return _form_answer(request, service, form)


def _after_adding(
    request: HttpRequest, service: ProvisioningService, enrollment: IndividualEnrollment
) -> HttpResponse:
    said = f"Added individual enrollment {enrollment}, {enrollment.status.label.lower()}."
    if enrollment.mechanism != AttestationMechanism.SYMMETRIC_KEY:
        return done(request, list_url(service, "portal:enrollment-list"), said)
    if may(request, Right.REVEAL_KEYS, service):
        where = "Its keys can be shown below."
    else:
        where = "An administrator can show its keys on this page."
    return done(request, entry_url(service, individual_ref(enrollment)), f"{said} {where}")


@sensitive_post_parameters(*SECRET_FIELDS)
@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.SEE)
def enrollment_edit(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponseBase:
    """Whoever may see an entry sees it here; saving asks for more."""
    if request.method == "POST":
        return _enrollment_save(request, service_name=service.name, registration_id=registration_id)
    enrollment = _get(service, registration_id)
    return _form_answer(request, service, IndividualForm(service, current=enrollment))


@requires(Right.CHANGE_ENTRIES)
def _enrollment_save(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    enrollment = _get(service, registration_id)
    form = IndividualForm(service, request.POST, request.FILES, current=enrollment)
    if "preview" in request.POST:
        return _form_answer(request, service, form)
    try:
        is_saved = saved(
            form,
            lambda: change_individual_enrollment(
                service,
                registration_id,
                form.spec(),
                expected_etag=form.cleaned_data["expected_etag"],
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
            ),
        )
    except ChangedMeanwhile as problem:
        current = _get(service, registration_id)
        form = IndividualForm(service, current=current)
        return _form_answer(request, service, form, conflict=problem.message)
    if is_saved:
        return done(
            request,
            list_url(service, "portal:enrollment-list"),
            f"Saved individual enrollment {enrollment}.",
        )
    return _form_answer(request, service, form)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def enrollment_delete(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    chosen = service.individualenrollments.filter(pk__in=chosen_ids(request)).order_by("registration_key")
    entries = list(chosen.without_secrets())
    return answer_deletion(
        request,
        service,
        entries,
        words=("individual enrollment", "individual enrollments"),
        back=list_url(service, "portal:enrollment-list", request.GET.get("back", "")),
        delete=lambda reason, epoch: delete_enrollments(
            service,
            [entry.registration_id for entry in entries],
            actor=actor_of(request),
            reason=reason,
            expected_epoch=epoch,
        ),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def enrollment_disable(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    enrollment = _get_without_keys(service, registration_id)
    form = DisableForm.asked(request, enrollment)
    if request.method == "POST" and form.is_valid():
        try:
            enrollment = disable_enrollment(
                service,
                registration_id,
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
                **form.times,
            )
        except (Invalid, Conflict) as problem:
            form.show(problem)
        else:
            return _row(request, service, registration_id, said_of(enrollment, "individual enrollment"))
    return ask_to_switch(
        request,
        form,
        entry=enrollment,
        title=f"Disable individual enrollment {enrollment}?",
        body="While it is disabled the device is refused, also where a group would admit it, and the keys of its "
        "certificates are barred. What its hub knows of it stays until it is deprovisioned.",
        cancel_url=_back(request, service, enrollment),
        yes="Disable",
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def enrollment_enable(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    enrollment = _get_without_keys(service, registration_id)
    form = EnableForm.asked(request, enrollment)
    if request.method == "POST" and form.is_valid():
        try:
            enrollment = enable_enrollment(
                service,
                registration_id,
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
                # What was replaced since it was shown is not let in by a click that was meant for the former.
                expected_etag=request.POST.get("version", ""),
                **form.times,
            )
        except Invalid as problem:
            form.show(problem)
        else:
            return _row(request, service, registration_id, said_of(enrollment, "individual enrollment"))
    return ask_to_switch(
        request,
        form,
        entry=enrollment,
        title=f"Enable individual enrollment {enrollment}?",
        body="While it is enabled the device is admitted by its own credential.",
        cancel_url=_back(request, service, enrollment),
        yes="Enable",
        version=request.POST.get("version", enrollment.etag),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def enrollment_cancel_schedule(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    enrollment = _get_without_keys(service, registration_id)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            enrollment = cancel_enrollment_schedule(
                service,
                registration_id,
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
                expected_etag=request.POST.get("version", ""),
            )
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            said = f"Nothing is scheduled for individual enrollment {enrollment} any more."
            return _row(request, service, registration_id, said)
    return ask_to_switch(
        request,
        form,
        entry=enrollment,
        title=f"Drop what is scheduled for individual enrollment {enrollment}?",
        body=f"It stays {enrollment.status.label.lower()}, until somebody turns its switch.",
        cancel_url=_back(request, service, enrollment),
        yes="Drop it",
        no="Keep it",
        version=request.POST.get("version", enrollment.etag),
    )


@require_POST
@requires(Right.REVEAL_KEYS)
def enrollment_keys(request: HttpRequest, service: ProvisioningService, registration_id: str) -> HttpResponse:
    enrollment, primary, secondary = reveal_enrollment_keys(service, registration_id, actor=actor_of(request))
    return show_keys(request, service, individual_ref(enrollment), primary, secondary)


def _row(request: HttpRequest, service: ProvisioningService, registration_id: str, said: str) -> HttpResponse:
    if is_from_its_page(request):
        return done(request, entry_url(service, individual_ref(_get(service, registration_id))), said)
    if not wants_fragment(request):
        return done(request, list_url(service, "portal:enrollment-list"), said)
    entries = with_row_columns(service.individualenrollments.all())
    try:
        entry = entries.get(registration_key=registration_key(registration_id))
    except IndividualEnrollment.DoesNotExist:
        raise EnrollmentNotFound(registration_id) from None
    return row_answer(request, service, entry, "portal/enrollments/_row.html", said)


def _back(request: HttpRequest, service: ProvisioningService, enrollment: IndividualEnrollment) -> str:
    if is_from_its_page(request):
        return entry_url(service, individual_ref(enrollment))
    return list_url(service, "portal:enrollment-list")


def _form_answer(
    request: HttpRequest, service: ProvisioningService, form: IndividualForm, *, conflict: str = ""
) -> HttpResponse:
    context = {
        "service": service,
        "form": form,
        "entry": form.current,
        "switch": SwitchShown.of(form.current, switches_now(service)) if form.current else None,
        "kind": "individual",
        "previews": preview_of(service, form.given, form.kind, form.current),
        "conflict": conflict,
        "cancel_url": list_url(service, "portal:enrollment-list"),
        "may_change": may(request, Right.CHANGE_ENTRIES, service),
        "keys_url": keys_url(service, individual_ref(form.current))
        if isinstance(form.current, IndividualEnrollment)
        else "",
    }
    return render_page(
        request,
        "portal/enrollments/edit.html",
        "portal/enrollments/_form.html",
        context,
        status=409 if conflict else form_status(form),
    )


def _get(service: ProvisioningService, registration_id: str) -> IndividualEnrollment:
    try:
        return service.individualenrollments.by_registration_id(registration_id)
    except IndividualEnrollment.DoesNotExist:
        raise EnrollmentNotFound(registration_id) from None


def _get_without_keys(service: ProvisioningService, registration_id: str) -> IndividualEnrollment:
    """R16: shutting out works without the key of the installation that decrypts an entry's keys."""
    try:
        entries = service.individualenrollments.without_secrets()
        return entries.by_registration_id(registration_id)
    except IndividualEnrollment.DoesNotExist:
        raise EnrollmentNotFound(registration_id) from None
