"""Linked hubs: which there are, linking, changing and unlinking one."""

from django.contrib import messages
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from enrollments.actions.hubs import HubSpec, change_hub, link_hub, unlink_hub
from enrollments.errors import Conflict, Invalid
from enrollments.models import HubDevice, LinkedHub, ProvisioningService
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.confirmation import ReasonForm, ask, show_invalid
from enrollments.portal.forms_services import HubChangeForm, HubForm, latencies_as_text


@require_safe
@requires(Right.SEE)
def hub_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    context = {
        "service": service,
        "hubs": _with_devices_counted(service.hubs.all()),
        "may_change": may(request, Right.ADMINISTER, service),
    }
    return render(request, "portal/hubs/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.ADMINISTER)
def hub_add(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    form = HubForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        reason = form.cleaned_data.pop("reason")
        try:
            hub = link_hub(service, HubSpec(**form.cleaned_data), actor=actor_of(request), reason=reason)
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            messages.success(request, f"Hub {hub} is linked, and devices can be assigned to it.")
            return redirect("portal:hub-list", service_name=service.name)
    context = {"service": service, "form": form}
    return render(request, "portal/hubs/add.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.ADMINISTER)
def hub_edit(request: HttpRequest, service: ProvisioningService, hub_pk: int) -> HttpResponse:
    hub = hub_of(service, hub_pk)
    if request.method == "POST":
        form = HubChangeForm(request.POST)
    else:
        form = HubChangeForm(
            initial={
                "allocation_weight": hub.allocation_weight,
                "latency_ms": hub.latency_ms,
                "region_latencies": latencies_as_text(hub.region_latencies),
                "apply_allocation_policy": hub.apply_allocation_policy,
            }
        )
    if form.is_bound and form.is_valid():
        reason = form.cleaned_data.pop("reason")
        spec = HubSpec(name=hub.name, host_name=hub.host_name, **form.cleaned_data)
        try:
            change_hub(service, hub_pk, spec, actor=actor_of(request), reason=reason)
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            messages.success(request, f"Hub {hub} is changed. Devices notice when they register again.")
            return redirect("portal:hub-list", service_name=service.name)
    context = {"service": service, "hub": hub, "form": form}
    return render(request, "portal/hubs/edit.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.ADMINISTER)
def hub_unlink(request: HttpRequest, service: ProvisioningService, hub_pk: int) -> HttpResponse:
    hub = hub_of(service, hub_pk)
    back = reverse("portal:hub-list", kwargs={"service_name": service.name})
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            unlink_hub(service, hub_pk, actor=actor_of(request), reason=form.cleaned_data["reason"])
        except Conflict as problem:
            messages.error(request, problem.message)
        else:
            messages.success(request, f"Hub {hub} is unlinked.")
        return redirect(back)
    return ask(
        request,
        title=f"Unlink hub {hub}?",
        yes="Unlink",
        body="No device is assigned to it any more. A hub that still holds devices cannot be unlinked: "
        "this is checked when you answer.",
        form=form,
        cancel_url=back,
    )


def hub_of(service: ProvisioningService, hub_pk: int) -> LinkedHub:
    hub = service.hubs.filter(pk=hub_pk).first()
    if hub is None:
        raise Http404("There is no such hub in this service.")
    return hub


def _with_devices_counted(hubs: QuerySet[LinkedHub]) -> QuerySet[LinkedHub]:
    devices = (
        HubDevice.objects.filter(hub=OuterRef("pk"))
        .order_by()
        .values("hub")
        .annotate(n=Count("pk"))
        .values("n")
    )
    return hubs.annotate(device_count=Coalesce(Subquery(devices, output_field=IntegerField()), 0))
