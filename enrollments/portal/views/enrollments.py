"""Individual enrollments: the list, adding and editing one, and the acts of a row."""

from collections.abc import Sequence
from functools import partial

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from enrollments.actions.empty_entries import admits_nobody, holding_nothing
from enrollments.actions.enrollments import (
    add_individual_enrollment,
    change_individual_enrollment,
    reveal_enrollment_keys,
)
from enrollments.actions.entries import EnrollmentNotFound
from enrollments.actions.judging import individual_ref
from enrollments.actions.preview import Act, Entry, Preview
from enrollments.actions.schedule import settle_if_possible, switches_now
from enrollments.errors import ChangedMeanwhile
from enrollments.models import IndividualEnrollment, ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, person, requires
from enrollments.portal.certificate_input import preview_of
from enrollments.portal.entry_choosing import answer_chosen
from enrollments.portal.entry_conflicts import Typed, settled_conflict, typed_otherwise
from enrollments.portal.entry_links import entry_tabs, keys_url, list_url
from enrollments.portal.entry_lists import EntryFilter, page_of_individuals, rows_of
from enrollments.portal.entry_pages import (
    INDIVIDUALS,
    after_adding,
    after_saving,
    show_keys,
)
from enrollments.portal.entry_saving import (
    Question,
    Save,
    answer_preview,
    answer_save,
    form_status,
    show_errors,
)
from enrollments.portal.entry_switching import answer_cancel, answer_switch, switch_context
from enrollments.portal.forms_individuals import IndividualForm
from enrollments.portal.htmx import render_page

SECRET_FIELDS = (
    "primary_pem",
    "secondary_pem",
    "primary_key",
    "secondary_key",
    "endorsement_key",
    "storage_root_key",
    "webhook_url",
    "typed_keys",
)


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
    form = _posted(request, service)
    if "preview" in request.POST:
        return _form_answer(request, service, form)
    return answer_save(
        request,
        form,
        _save(request, form),
        show=partial(_form_answer, request, service),
        after=partial(after_adding, request, service, pages=INDIVIDUALS),
    )


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
    form = _posted(request, service, enrollment)
    if "preview" in request.POST:
        return _form_answer(request, service, form)

    def after(entry: Entry, *, preview: Preview | None, is_told: bool) -> HttpResponse:
        seen = form.cleaned_data["expected_etag"]
        return after_saving(request, service, seen, entry, INDIVIDUALS, preview, is_told=is_told)

    show = partial(_form_answer, request, service)
    try:
        return answer_save(request, form, _save(request, form), show=show, after=after)
    except ChangedMeanwhile as problem:
        said = settled_conflict(request, form, _get(service, registration_id), INDIVIDUALS, problem)
        fresh = IndividualForm(service, current=_get(service, registration_id))
        typed = typed_otherwise(form, fresh, SECRET_FIELDS)
        return _form_answer(request, service, fresh, conflict=said, typed=typed)


@sensitive_post_parameters(*SECRET_FIELDS)
@require_POST
@requires(Right.CHANGE_ENTRIES)
def enrollment_add_preview(request: HttpRequest, service: ProvisioningService) -> HttpResponseBase:
    """All devices that adding what is in the form would touch. Nothing is stored."""
    form = _posted(request, service)
    return answer_preview(request, form, _save(request, form))


@sensitive_post_parameters(*SECRET_FIELDS)
@require_POST
@requires(Right.CHANGE_ENTRIES)
def enrollment_edit_preview(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponseBase:
    """The same of saving it."""
    current = _get(service, registration_id)
    form = _posted(request, service, current)
    return answer_preview(request, form, _save(request, form))


def _posted(
    request: HttpRequest, service: ProvisioningService, current: IndividualEnrollment | None = None
) -> IndividualForm:
    return IndividualForm(service, request.POST, request.FILES, current=current, person=person(request).pk)


def _save(request: HttpRequest, form: IndividualForm) -> Save:
    """Add or change what the form says, when it is called."""

    def save(expected_epoch: int | None) -> Entry:
        actor, reason = actor_of(request), form.cleaned_data["reason"]
        if not isinstance(form.current, IndividualEnrollment):
            return add_individual_enrollment(
                form.service, form.spec(), actor=actor, reason=reason, expected_epoch=expected_epoch
            )
        return change_individual_enrollment(
            form.service,
            form.current.registration_id,
            form.spec(),
            expected_etag=form.cleaned_data["expected_etag"],
            actor=actor,
            reason=reason,
            expected_epoch=expected_epoch,
        )

    return save


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def enrollment_delete(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return answer_chosen(request, service, Act.DELETE, INDIVIDUALS)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def enrollment_disable_chosen(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return answer_chosen(request, service, Act.DISABLE, INDIVIDUALS)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def enrollment_enable_chosen(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return answer_chosen(request, service, Act.ENABLE, INDIVIDUALS)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def enrollment_disable(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    entry = _get(service, registration_id)
    return answer_switch(request, service, Act.DISABLE, entry, INDIVIDUALS)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def enrollment_enable(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    entry = _get(service, registration_id)
    return answer_switch(request, service, Act.ENABLE, entry, INDIVIDUALS)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def enrollment_cancel_schedule(
    request: HttpRequest, service: ProvisioningService, registration_id: str
) -> HttpResponse:
    entry = _get(service, registration_id)
    return answer_cancel(request, service, entry, INDIVIDUALS)


@require_POST
@requires(Right.REVEAL_KEYS)
def enrollment_keys(request: HttpRequest, service: ProvisioningService, registration_id: str) -> HttpResponse:
    enrollment, primary, secondary = reveal_enrollment_keys(service, registration_id, actor=actor_of(request))
    return show_keys(request, service, individual_ref(enrollment), primary, secondary)


def _form_answer(
    request: HttpRequest,
    service: ProvisioningService,
    form: IndividualForm,
    *,
    conflict: str = "",
    typed: Sequence[Typed] = (),
    question: Question | None = None,
    status: int = 0,
) -> HttpResponse:
    form.say_what_is_not_shown_again()
    context = {
        "service": service,
        "form": form,
        "entry": form.current,
        **(switch_context(service, form.current) if form.current else {}),
        "kind": "individual",
        "empty": admits_nobody(holding_nothing(service, [form.current])) if form.current else "",
        "previews": preview_of(
            service, form.given, form.kind, form.current, told=form.told, told_of=form.in_the_way
        ),
        "conflict": conflict,
        "typed": typed,
        "question": question,
        "cancel_url": list_url(service, "portal:enrollment-list"),
        "may_change": may(request, Right.CHANGE_ENTRIES, service),
        "keys_url": keys_url(service, individual_ref(form.current))
        if isinstance(form.current, IndividualEnrollment)
        else "",
    }
    response = render_page(
        request,
        "portal/enrollments/edit.html",
        "portal/enrollments/_form_answer.html",
        context,
        status=status or (409 if conflict else form_status(form)),
    )
    return show_errors(response)


def _get(service: ProvisioningService, registration_id: str) -> IndividualEnrollment:
    """R16: shutting out works without the key of the installation that decrypts an entry's keys."""
    settle_if_possible(service)  # what has happened by itself by now is shown as done
    try:
        entries = service.individualenrollments.without_secrets()
        return entries.by_registration_id(registration_id)
    except IndividualEnrollment.DoesNotExist:
        raise EnrollmentNotFound(registration_id) from None
