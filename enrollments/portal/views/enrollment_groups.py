"""Enrollment groups: the list, adding and editing one, and the acts of a row."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from enrollments.actions.enrollment_groups import (
    EnrollmentGroupNotFound,
    add_enrollment_group,
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
    reveal_group_keys,
)
from enrollments.actions.judging import group_ref
from enrollments.errors import ChangedMeanwhile, Invalid
from enrollments.models import EnrollmentGroup, ProvisioningService
from enrollments.policy.names import registration_key
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.certificate_input import preview_of
from enrollments.portal.confirmation import ReasonForm, show_invalid
from enrollments.portal.entry_links import entry_tabs, keys_url, list_url
from enrollments.portal.entry_lists import EntryFilter, page_of_groups, rows_of, with_row_columns
from enrollments.portal.entry_pages import (
    answer_deletion,
    ask_to_disable,
    chosen_ids,
    done,
    form_status,
    row_answer,
    saved,
    show_keys,
)
from enrollments.portal.forms_entries import GroupForm
from enrollments.portal.htmx import render_page, wants_fragment

SECRET_FIELDS = ("primary_pem", "secondary_pem", "primary_key", "secondary_key", "webhook_url")


@require_safe
@requires(Right.SEE)
def group_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    filters = EntryFilter(request.GET, name="Group ID")
    page = page_of_groups(service, request.GET, filters)
    context = {
        "service": service,
        "tabs": entry_tabs(service, "group-list"),
        "filters": filters,
        "page": page,
        "rows": rows_of(service, page.rows),
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
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            disable_enrollment_group(
                service, group_id, actor=actor_of(request), reason=form.cleaned_data["reason"]
            )
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            return _row(request, service, group_id, f"Disabled enrollment group {group}.")
    return ask_to_disable(
        request,
        form,
        entry=group,
        words="enrollment group",
        body="Every device with the key of its CA anywhere on its chain is refused from now on, also where a "
        "group above or below is enabled. Only devices with an enabled individual enrollment still come in. What "
        "hubs know of the devices stays until they are deprovisioned.",
        cancel_url=list_url(service, "portal:group-list"),
    )


@require_POST
@requires(Right.CHANGE_ENTRIES)
def group_enable(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    # What was replaced since the row was shown is not let in by a click that was meant for the former.
    version = request.POST.get("version", "")
    group = enable_enrollment_group(service, group_id, actor=actor_of(request), expected_etag=version)
    return _row(request, service, group_id, f"Enabled enrollment group {group}.")


@require_POST
@requires(Right.REVEAL_KEYS)
def group_keys(request: HttpRequest, service: ProvisioningService, group_id: str) -> HttpResponse:
    group, primary, secondary = reveal_group_keys(service, group_id, actor=actor_of(request))
    return show_keys(request, service, group_ref(group), primary, secondary)


def _row(request: HttpRequest, service: ProvisioningService, group_id: str, said: str) -> HttpResponse:
    if not wants_fragment(request):
        return done(request, list_url(service, "portal:group-list"), said)
    try:
        group = with_row_columns(service.enrollmentgroups.all()).get(group_key=registration_key(group_id))
    except EnrollmentGroup.DoesNotExist:
        raise EnrollmentGroupNotFound(group_id) from None
    return row_answer(request, service, group, "portal/groups/_row.html", said)


def _form_answer(
    request: HttpRequest, service: ProvisioningService, form: GroupForm, *, conflict: str = ""
) -> HttpResponse:
    context = {
        "service": service,
        "form": form,
        "entry": form.current,
        "kind": "group",
        "previews": preview_of(
            service, form.given, form.kind, form.current, told=form.told, told_of=form.in_the_way
        ),
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
        "portal/groups/_form_answer.html",
        context,
        status=409 if conflict else form_status(form),
    )


def _get(service: ProvisioningService, group_id: str) -> EnrollmentGroup:
    try:
        return service.enrollmentgroups.by_group_id(group_id)
    except EnrollmentGroup.DoesNotExist:
        raise EnrollmentGroupNotFound(group_id) from None
