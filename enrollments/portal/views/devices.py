"""Devices of a hub: identity and twin, keys for those who may see them, deregistering."""

import json

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from enrollments.actions.hubs import reveal_device_keys
from enrollments.actions.revocation import deregister_device
from enrollments.models import HubDevice, ProvisioningService
from enrollments.models.keyset import starting_with
from enrollments.policy.names import registration_key
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, may, requires
from enrollments.portal.confirmation import ReasonForm, ask
from enrollments.portal.forms_filters import DeviceFilter
from enrollments.portal.htmx import render_page
from enrollments.portal.paging import paged
from enrollments.portal.views.hubs import hub_of


@require_safe
@requires(Right.SEE)
def device_list(request: HttpRequest, service: ProvisioningService, hub_pk: int) -> HttpResponse:
    hub = hub_of(service, hub_pk)
    form = DeviceFilter(request.GET)
    devices = hub.devices.none()
    if form.is_valid():
        devices = hub.devices.defer("primary_key", "secondary_key", "twin")
        if search := form.cleaned_data["q"]:
            devices = devices.filter(starting_with("device_key", registration_key(search)))
    page = paged(devices, request.GET, {"device_id": "device_key"}, default="device_id")
    context = {
        "service": service,
        "hub": hub,
        "form": form,
        "page": page,
        "filtered": bool(form.errors or form.chosen),
    }
    return render_page(request, "portal/devices/list.html", "portal/devices/_results.html", context)


@require_safe
@requires(Right.SEE)
def device_detail(
    request: HttpRequest, service: ProvisioningService, hub_pk: int, device_id: str
) -> HttpResponse:
    return _page(request, service, device_of(service, hub_pk, device_id))


@require_POST
@requires(Right.REVEAL_KEYS)
def device_keys(
    request: HttpRequest, service: ProvisioningService, hub_pk: int, device_id: str
) -> HttpResponse:
    """The keys are on the page that answers, and nowhere else: asking again is another row in the history."""
    device = device_of(service, hub_pk, device_id)
    keys = reveal_device_keys(service, device, actor=actor_of(request))
    return _page(request, service, device, keys)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.CHANGE_ENTRIES)
def device_deregister(
    request: HttpRequest, service: ProvisioningService, hub_pk: int, device_id: str
) -> HttpResponse:
    device = device_of(service, hub_pk, device_id)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        deregister_device(service, device, actor=actor_of(request), reason=form.cleaned_data["reason"])
        messages.success(request, f"Device {device} is deregistered at hub {device.hub}.")
        return redirect("portal:device-list", service_name=service.name, hub_pk=hub_pk)
    return ask(
        request,
        title=f"Deregister {device} at hub {device.hub}?",
        body="The identity and its twin are removed from the hub. The device stays enrolled and comes back "
        "as soon as it registers again: to shut it out for good, deprovision its registration record instead.",
        form=form,
        cancel_url=reverse("portal:device-detail", args=[service.name, hub_pk, device.device_id]),
        yes="Deregister",
    )


def device_of(service: ProvisioningService, hub_pk: int, device_id: str) -> HubDevice:
    device = (
        HubDevice.objects.filter(hub__service=service, hub=hub_pk, device_key=registration_key(device_id))
        .select_related("hub")
        .defer("primary_key", "secondary_key")
        .first()
    )
    if device is None:
        raise Http404("The hub does not know such a device.")
    return device


def _page(
    request: HttpRequest,
    service: ProvisioningService,
    device: HubDevice,
    keys: tuple[str, str] | None = None,
) -> HttpResponse:
    twin = device.twin
    context = {
        "service": service,
        "device": device,
        "record": service.registrations.filter(registration_key=device.registration_key).first(),
        "has_keys": HubDevice.objects.filter(pk=device.pk).exclude(primary_key="").exists(),
        "keys": keys,
        "tags": _pretty(twin.get("tags", {})),
        "desired": _pretty(twin.get("properties", {}).get("desired", {})),
        "may_reveal": may(request, Right.REVEAL_KEYS, service),
        "may_deregister": may(request, Right.CHANGE_ENTRIES, service),
    }
    return render(request, "portal/devices/detail.html", context)


def _pretty(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True)
