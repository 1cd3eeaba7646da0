"""Enrollment groups: the list, adding and editing one, and the acts of a row."""

from collections.abc import Sequence
from functools import partial

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from enrollments.actions.enrollment_groups import (
    add_enrollment_group,
    change_enrollment_group,
    reveal_group_keys,
)
from enrollments.actions.entries import EnrollmentGroupNotFound
from enrollments.actions.judging import group_ref
from enrollments.actions.preview import Act, Entry, Preview
from enrollments.actions.schedule import settle_if_possible, switches_now
from enrollments.errors import ChangedMeanwhile
from enrollments.models import EnrollmentGroup, ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, person, requires
from enrollments.portal.certificate_input import preview_of
from enrollments.portal.entry_choosing import answer_chosen
from enrollments.portal.entry_conflicts import Typed, settled_conflict, typed_otherwise
from enrollments.portal.entry_links import entry_tabs, keys_url, list_url
from enrollments.portal.entry_lists import EntryFilter, page_of_groups, rows_of
from enrollments.portal.entry_pages import (
    GROUPS,
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
from enrollments.portal.explanations import possession_marks
from enrollments.portal.forms_groups import OF_GROUPS, GroupForm
from enrollments.portal.htmx import render_page

SECRET_FIELDS = ("primary_pem", "secondary_pem", "primary_key", "secondary_key", "webhook_url", "typed_keys")


@require_safe
@requires(Right.SEE)
def group_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    filters = EntryFilter(request.GET, name="Group ID", mechanisms=OF_GROUPS)
    as_of = switches_now(service)
    page = page_of_groups(service, request.GET, filters, as_of)
    context = {
        "service": service,
        "tabs": entry_tabs(service, "group-list"),
        "filters": filters,
        "page": page,
        "rows": rows_of(service, page.rows, as_of),
        "query": request.GET.urlencode(),
    }
    return render_page(request, "portal/groups/list.html", "portal/groups/_results.html", context)


@sensitive_post_parameters(*SECRET_FIELDS)
@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def group_add(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    if request.method != "POST":
        return _form_answer(request, service, GroupForm(service))
    form = _posted(request, service)
    if "preview" in request.POST:
        return _form_answer(request, service, form)
    return answer_save(
        request,
        form,
        _save(request, form),
        show=partial(_form_answer, request, service),
        after=partial(after_adding, request, service, pages=GROUPS),
    )


@sensitive_post_parameters(*SECRET_FIELDS)
@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.SEE)
def group_edit(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponseBase:
    """Whoever may see a group sees it here; saving asks for more."""
    if request.method == "POST":
        return _group_save(request, service_name=service.name, group_id=group_id)
    group = _get(service, group_id)
    return _form_answer(request, service, GroupForm(service, current=group))


@requires(Right.CHANGE_ENTRIES)
def _group_save(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    group = _get(service, group_id)
    form = _posted(request, service, group)
    if "preview" in request.POST:
        return _form_answer(request, service, form)

    def after(entry: Entry, *, preview: Preview | None, is_told: bool) -> HttpResponse:
        seen = form.cleaned_data["expected_etag"]
        return after_saving(request, service, seen, entry, GROUPS, preview, is_told=is_told)

    show = partial(_form_answer, request, service)
    try:
        return answer_save(request, form, _save(request, form), show=show, after=after)
    except ChangedMeanwhile as problem:
        said = settled_conflict(request, form, _get(service, group_id), GROUPS, problem)
        fresh = GroupForm(service, current=_get(service, group_id))
        typed = typed_otherwise(form, fresh, SECRET_FIELDS)
        return _form_answer(request, service, fresh, conflict=said, typed=typed)


@sensitive_post_parameters(*SECRET_FIELDS)
@require_POST
@requires(Right.CHANGE_ENTRIES)
def group_add_preview(request: HttpRequest, service: ProvisioningService) -> HttpResponseBase:
    """All devices that adding what is in the form would touch. Nothing is stored."""
    form = _posted(request, service)
    return answer_preview(request, form, _save(request, form))


@sensitive_post_parameters(*SECRET_FIELDS)
@require_POST
@requires(Right.CHANGE_ENTRIES)
def group_edit_preview(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponseBase:
    """The same of saving it."""
    current = _get(service, group_id)
    form = _posted(request, service, current)
    return answer_preview(request, form, _save(request, form))


def _posted(
    request: HttpRequest, service: ProvisioningService, current: EnrollmentGroup | None = None
) -> GroupForm:
    return GroupForm(service, request.POST, request.FILES, current=current, person=person(request).pk)


def _save(request: HttpRequest, form: GroupForm) -> Save:
    """Add or change what the form says, when it is called."""

    def save(expected_epoch: int | None) -> Entry:
        actor, reason = actor_of(request), form.cleaned_data["reason"]
        if not isinstance(form.current, EnrollmentGroup):
            return add_enrollment_group(
                form.service, form.spec(), actor=actor, reason=reason, expected_epoch=expected_epoch
            )
        return change_enrollment_group(
            form.service,
            form.current.group_id,
            form.spec(),
            expected_etag=form.cleaned_data["expected_etag"],
            actor=actor,
            reason=reason,
            expected_epoch=expected_epoch,
        )

    return save


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def group_delete(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return answer_chosen(request, service, Act.DELETE, GROUPS)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def group_disable_chosen(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return answer_chosen(request, service, Act.DISABLE, GROUPS)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def group_enable_chosen(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    return answer_chosen(request, service, Act.ENABLE, GROUPS)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def group_disable(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    entry = _get(service, group_id)
    return answer_switch(request, service, Act.DISABLE, entry, GROUPS)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def group_enable(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    entry = _get(service, group_id)
    return answer_switch(request, service, Act.ENABLE, entry, GROUPS)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def group_cancel_schedule(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    entry = _get(service, group_id)
    return answer_cancel(request, service, entry, GROUPS)


@require_POST
@requires(Right.REVEAL_KEYS)
def group_keys(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    group, primary, secondary = reveal_group_keys(service, group_id, actor=actor_of(request))
    return show_keys(request, service, group_ref(group), primary, secondary)


def _form_answer(
    request: HttpRequest,
    service: ProvisioningService,
    form: GroupForm,
    *,
    conflict: str = "",
    typed: Sequence[Typed] = (),
    question: Question | None = None,
    status: int = 0,
) -> HttpResponse:
    form.say_what_is_not_shown_again()
    possession = possession_marks(service, form.held)
    context = {
        "service": service,
        "form": form,
        "entry": form.current,
        **(switch_context(service, form.current) if form.current else {}),
        "kind": "group",
        "previews": preview_of(
            service, form.given, form.kind, form.current, told=form.told, told_of=form.in_the_way
        ),
        "possession": possession,
        "lacks_proof": service.proof_of_possession
        and bool(possession)
        and all(mark.tone != "good" for mark in possession.values()),
        "conflict": conflict,
        "typed": typed,
        "question": question,
        "cancel_url": list_url(service, "portal:group-list"),
        "may_change": may(request, Right.CHANGE_ENTRIES, service),
        "keys_url": keys_url(service, group_ref(form.current))
        if isinstance(form.current, EnrollmentGroup)
        else "",
    }
    response = render_page(
        request,
        "portal/groups/edit.html",
        "portal/groups/_form_answer.html",
        context,
        status=status or (409 if conflict else form_status(form)),
    )
    return show_errors(response)


def _get(service: ProvisioningService, group_id: str) -> EnrollmentGroup:
    """R16: shutting out works without the key of the installation that decrypts a group's keys."""
    settle_if_possible(service)  # what has happened by itself by now is shown as done
    try:
        return service.enrollmentgroups.without_secrets().by_group_id(group_id)
    except EnrollmentGroup.DoesNotExist:
        raise EnrollmentGroupNotFound(group_id) from None
