"""Shared access policies: which there are, adding and changing one, and their keys. For administrators."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from enrollments.actions.access_policies import (
    Which,
    add_policy,
    change_policy,
    delete_policy,
    regenerate_policy_key,
    reveal_policy_keys,
)
from enrollments.errors import ChangedMeanwhile, Conflict, Invalid
from enrollments.models import AccessPolicy, ProvisioningService
from enrollments.models.access import policy_key
from enrollments.policy.roles import Right
from enrollments.portal.access import actor_of, requires
from enrollments.portal.addresses import service_host
from enrollments.portal.confirmation import ReasonForm, ask, show_invalid
from enrollments.portal.forms_access import PolicyChangeForm, PolicyForm
from enrollments.portal.htmx import render_page


@require_safe
@requires(Right.ADMINISTER)
def policy_list(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    policies = service.access_policies.defer("primary_key", "secondary_key")
    return render(request, "portal/policies/list.html", {"service": service, "policies": policies})


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.ADMINISTER)
def policy_add(request: HttpRequest, service: ProvisioningService) -> HttpResponse:
    """The keys are on the page that answers; afterwards they are shown only to who says so, and recorded."""
    form = PolicyForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            policy = add_policy(
                service,
                form.cleaned_data["name"],
                form.chosen,
                actor=actor_of(request),
                reason=form.cleaned_data["reason"],
            )
        except Invalid as problem:
            show_invalid(form, problem)
        else:
            return _keys_page(request, policy, policy.primary_key, policy.secondary_key)
    context = {"service": service, "form": form}
    return render(request, "portal/policies/add.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.ADMINISTER)
def policy_edit(request: HttpRequest, service: ProvisioningService, policy_name: str) -> HttpResponse:
    policy = _get(service, policy_name)
    if request.method != "POST":
        return _edit_page(request, policy, _form_of(policy))
    form = PolicyChangeForm(request.POST)
    if not form.is_valid():
        return _edit_page(request, policy, form, 422)
    try:
        change_policy(
            service,
            policy.name,
            rights=form.chosen,
            enabled=form.cleaned_data["enabled"],
            expected_etag=form.cleaned_data["version"],
            actor=actor_of(request),
            reason=form.cleaned_data["reason"],
        )
    except ChangedMeanwhile as problem:
        form = _form_of(_get(service, policy_name))
        messages.error(request, problem.message)
        return _edit_page(request, policy, form, 409)
    except Invalid as problem:
        show_invalid(form, problem)
        return _edit_page(request, policy, form, 422)
    messages.success(request, f"Access policy {policy} is saved, and holds from now on.")
    return redirect("portal:policy-list", service_name=service.name)


@require_POST
@requires(Right.REVEAL_KEYS)
def policy_keys(request: HttpRequest, service: ProvisioningService, policy_name: str) -> HttpResponse:
    policy, primary, secondary = reveal_policy_keys(service, policy_name, actor=actor_of(request))
    return _keys_page(request, policy, primary, secondary)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.REVEAL_KEYS)
def policy_regenerate(
    request: HttpRequest, service: ProvisioningService, policy_name: str, which: Which
) -> HttpResponse:
    policy = _get(service, policy_name)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        policy, key = regenerate_policy_key(
            service, policy.name, which, actor=actor_of(request), reason=form.cleaned_data["reason"]
        )
        return _keys_page(request, policy, *((key, "") if which == "primary" else ("", key)))
    other = {"primary": "secondary", "secondary": "primary"}[which]
    return ask(
        request,
        title=f"Make a new {which} key for {policy}?",
        yes="Make a new key",
        body=f"Whoever uses the present {which} key is shut out at once. The {other} key goes on working: let "
        "everybody change to it first. The new key is shown to you when it is made.",
        form=form,
        cancel_url=_url("policy-edit", policy),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Right.ADMINISTER)
def policy_delete(request: HttpRequest, service: ProvisioningService, policy_name: str) -> HttpResponse:
    policy = _get(service, policy_name)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            delete_policy(service, policy.name, actor=actor_of(request), reason=form.cleaned_data["reason"])
        except Conflict as problem:
            messages.error(request, problem.message)
            return redirect(_url("policy-edit", policy))
        messages.success(request, f"Access policy {policy} is deleted, and its keys with it.")
        return redirect("portal:policy-list", service_name=service.name)
    return ask(
        request,
        title=f"Delete access policy {policy}?",
        yes="Delete",
        body="Its keys are lost for good. What was done with them stays in the history. Only a disabled policy can "
        "be deleted: disabled, it can be enabled again if somebody misses it.",
        form=form,
        cancel_url=_url("policy-edit", policy),
    )


def _get(service: ProvisioningService, name: str) -> AccessPolicy:
    policies = service.access_policies.defer("primary_key", "secondary_key")
    policy = policies.filter(name_key=policy_key(name)).select_related("service").first()
    if policy is None:
        raise Http404("There is no such access policy in this service.")
    return policy


def _url(view: str, policy: AccessPolicy) -> str:
    return reverse(f"portal:{view}", args=[policy.service.name, policy.name])


def _form_of(policy: AccessPolicy) -> PolicyChangeForm:
    return PolicyChangeForm(
        initial={"rights": policy.rights, "enabled": policy.enabled, "version": policy.etag}
    )


def _edit_page(
    request: HttpRequest, policy: AccessPolicy, form: PolicyChangeForm, status: int = 200
) -> HttpResponse:
    context = {"service": policy.service, "policy": policy, "form": form}
    return render(request, "portal/policies/edit.html", context, status=status)


def _keys_page(request: HttpRequest, policy: AccessPolicy, primary: str, secondary: str) -> HttpResponse:
    """Empty: not shown. The connection string holds the first that is."""
    host, key = service_host(policy.service, request), primary or secondary
    context = {
        "service": policy.service,
        "policy": policy,
        "primary": primary,
        "secondary": secondary,
        "connection_string": f"HostName={host};SharedAccessKeyName={policy.name};SharedAccessKey={key}"
        if host
        else "",
    }
    return render_page(request, "portal/policies/keys.html", "portal/policies/_keys.html", context)
