"""Enrollment groups: the list, adding and editing one, and the acts of a row."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from enrollments.actions.enrollment_groups import (
    EnrollmentGroupNotFound,
    add_enrollment_group,
    cancel_group_schedule,
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
    reveal_group_keys,
)
from enrollments.actions.judging import group_ref
from enrollments.actions.schedule import switches_now
from enrollments.errors import ChangedMeanwhile, Conflict, Invalid
from enrollments.models import EnrollmentGroup, ProvisioningService
from enrollments.policy.names import registration_key
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.certificate_input import preview_of
from enrollments.portal.confirmation import ReasonForm, show_invalid
from enrollments.portal.entry_links import entry_tabs, entry_url, keys_url, list_url
from enrollments.portal.entry_lists import EntryFilter, SwitchShown, page_of_groups, rows_of, with_row_columns
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
from enrollments.portal.forms_entries import GroupForm
from enrollments.portal.forms_schedule import DisableForm, EnableForm, said_of
from enrollments.portal.htmx import render_page, wants_fragment

SECRET_FIELDS = ("primary_pem", "secondary_pem", "primary_key", "secondary_key", "webhook_url")


@require_safe
@requires(Right.SEE)
def group_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    filters = EntryFilter(request.GET, name="Group ID")
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
    form = GroupForm(service, request.POST, request.FILES)
    if "preview" not in request.POST and saved(
        form,
        lambda: add_enrollment_group(
            service, form.spec(), actor=actor_of(request), reason=form.cleaned_data["reason"]
        ),
    ):
        state = "enabled" if form.cleaned_data["enabled"] else "disabled"
        said = f"Added enrollment group {form.cleaned_data['group_id']}, {state}."
        return done(request, list_url(service, "portal:group-list"), said)
    return _form_answer(request, service, form)


@sensitive_post_parameters(*SECRET_FIELDS)
@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.SEE)
def group_edit(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponseBase:
    """Whoever may see a group sees it here; saving asks for more."""
    if request.method == "POST":
        return _group_save(request, service_name=service.name, group_id=group_id)
    return _form_answer(request, service, GroupForm(service, current=_get(service, group_id)))


@requires(Right.CHANGE_ENTRIES)
def _group_save(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    group = _get(service, group_id)
    form = GroupForm(service, request.POST, request.FILES, current=group)
    if "preview" in request.POST:
        return _form_answer(request, service, form)
    try:
        is_saved = saved(
            form,
            lambda: change_enrollment_group(
                service,
                group_id,
                form.spec(),
                expected_etag=form.cleaned_data["expected_etag"],
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
            ),
        )
    except ChangedMeanwhile as problem:
        form = GroupForm(service, current=_get(service, group_id))
        return _form_answer(request, service, form, conflict=problem.message)
    if is_saved:
        return done(request, list_url(service, "portal:group-list"), f"Saved enrollment group {group}.")
    return _form_answer(request, service, form)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def group_delete(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    groups = list(service.enrollmentgroups.filter(pk__in=chosen_ids(request)).order_by("group_key"))
    return answer_deletion(
        request,
        service,
        groups,
        words=("enrollment group", "enrollment groups"),
        back=list_url(service, "portal:group-list", request.GET.get("back", "")),
        delete=lambda reason, epoch: delete_enrollment_groups(
            service,
            [group.group_id for group in groups],
            actor=actor_of(request),
            reason=reason,
            expected_epoch=epoch,
        ),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def group_disable(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    group = _get(service, group_id)
    form = DisableForm.asked(request, group)
    if request.method == "POST" and form.is_valid():
        try:
            group = disable_enrollment_group(
                service,
                group_id,
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
                **form.times,
            )
        except (Invalid, Conflict) as problem:
            form.show(problem)
        else:
            return _row(request, service, group_id, said_of(group, "enrollment group"))
    return ask_to_switch(
        request,
        form,
        entry=group,
        title=f"Disable enrollment group {group}?",
        body="While it is disabled every device with the key of its CA anywhere on its chain is refused, also where a "
        "group above or below is enabled. Only devices with an enabled individual enrollment still come in. What "
        "hubs know of the devices stays until they are deprovisioned.",
        cancel_url=_back(request, service, group),
        yes="Disable",
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def group_enable(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    group = _get(service, group_id)
    form = EnableForm.asked(request, group)
    if request.method == "POST" and form.is_valid():
        try:
            group = enable_enrollment_group(
                service,
                group_id,
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
                # What was replaced since it was shown is not let in by a click that was meant for the former.
                expected_etag=request.POST.get("version", ""),
                **form.times,
            )
        except Invalid as problem:
            form.show(problem)
        else:
            return _row(request, service, group_id, said_of(group, "enrollment group"))
    return ask_to_switch(
        request,
        form,
        entry=group,
        title=f"Enable enrollment group {group}?",
        body="While it is enabled the devices below its CA are admitted, unless another entry bars them.",
        cancel_url=_back(request, service, group),
        yes="Enable",
        version=request.POST.get("version", group.etag),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def group_cancel_schedule(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    group = _get(service, group_id)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            group = cancel_group_schedule(
                service,
                group_id,
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
                expected_etag=request.POST.get("version", ""),
            )
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            said = f"Nothing is scheduled for enrollment group {group} any more."
            return _row(request, service, group_id, said)
    return ask_to_switch(
        request,
        form,
        entry=group,
        title=f"Drop what is scheduled for enrollment group {group}?",
        body=f"It stays {group.status.label.lower()}, until somebody turns its switch.",
        cancel_url=_back(request, service, group),
        yes="Drop it",
        no="Keep it",
        version=request.POST.get("version", group.etag),
    )


@require_POST
@requires(Right.REVEAL_KEYS)
def group_keys(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    group, primary, secondary = reveal_group_keys(service, group_id, actor=actor_of(request))
    return show_keys(request, service, group_ref(group), primary, secondary)


def _row(request: HttpRequest, service: ProvisioningService, group_id: str, said: str) -> HttpResponse:
    if is_from_its_page(request):
        return done(request, entry_url(service, group_ref(_get(service, group_id))), said)
    if not wants_fragment(request):
        return done(request, list_url(service, "portal:group-list"), said)
    try:
        group = with_row_columns(service.enrollmentgroups.all()).get(group_key=registration_key(group_id))
    except EnrollmentGroup.DoesNotExist:
        raise EnrollmentGroupNotFound(group_id) from None
    return row_answer(request, service, group, "portal/groups/_row.html", said)


def _back(request: HttpRequest, service: ProvisioningService, group: EnrollmentGroup) -> str:
    if is_from_its_page(request):
        return entry_url(service, group_ref(group))
    return list_url(service, "portal:group-list")


def _form_answer(
    request: HttpRequest, service: ProvisioningService, form: GroupForm, *, conflict: str = ""
) -> HttpResponse:
    context = {
        "service": service,
        "form": form,
        "entry": form.current,
        "switch": SwitchShown.of(form.current, switches_now(service)) if form.current else None,
        "kind": "group",
        "previews": preview_of(service, form.given, form.kind, form.current),
        "conflict": conflict,
        "cancel_url": list_url(service, "portal:group-list"),
        "may_change": may(request, Right.CHANGE_ENTRIES, service),
        "keys_url": keys_url(service, group_ref(form.current))
        if isinstance(form.current, EnrollmentGroup)
        else "",
    }
    return render_page(
        request,
        "portal/groups/edit.html",
        "portal/groups/_form.html",
        context,
        status=409 if conflict else form_status(form),
    )


def _get(service: ProvisioningService, group_id: str) -> EnrollmentGroup:
    try:
        return service.enrollmentgroups.by_group_id(group_id)
    except EnrollmentGroup.DoesNotExist:
        raise EnrollmentGroupNotFound(group_id) from None
