"""A role that is taken away, asked before; and what is said of one that was given or taken away."""

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse

from enrollments.actions.people import last_administrator, role_in
from enrollments.models import Membership, ProvisioningService
from enrollments.policy.roles import Right, Role
from enrollments.policy.unknown import known
from enrollments.portal.access import may
from enrollments.portal.confirmation import ask


def tell_of_role(
    request: HttpRequest,
    user: User,
    role: Role | None,
    service: ProvisioningService | None,
    *,
    is_changed: bool,
) -> None:
    """The message after it. `user`: as stored, however somebody typed the name."""
    where = _place(service)
    if is_changed:
        now = role.label.lower() if role else "without a role of their own"
        messages.success(request, f"{user} is now {now} in {where}.")
    elif role:
        messages.info(request, f"{user} is {role.label.lower()} in {where} already: nothing was changed.")
    else:
        messages.info(request, f"{user} has no role of their own in {where}: nothing was changed.")


def ask_to_take_away(
    request: HttpRequest, membership: Membership, form: forms.Form, *, cancel_url: str
) -> HttpResponse:
    user, service = membership.user, membership.service
    where = _place(service)
    is_own, role = user == request.user, known(Role, membership.role).label.lower()
    whose = "This is your own role: you are" if is_own else f"{user} is"
    # Who administers the installation may leave a service without an administrator of its own.
    is_held = service is None or not may(request, Right.ADMINISTER, None)
    left = (is_held and last_one_stays(user, service)) or _what_is_left(membership, is_own=is_own)
    return ask(
        request,
        title=f"Take away the role of {user} in {where}?",
        yes="Take away",
        body=f"{whose} {role} in {where}. {left}",
        form=form,
        cancel_url=cancel_url,
    )


def last_one_stays(user: User, service: ProvisioningService | None) -> str:
    """What is asked here would be refused as things are now; empty where it is done."""
    refusal = last_administrator(user, service)
    return f"{refusal.message} Until then the last one stays." if refusal else ""


def _place(service: ProvisioningService | None) -> str:
    return f"service {service}" if service else "the whole installation"


def _what_is_left(membership: Membership, *, is_own: bool) -> str:
    they, them, their = ("you", "you", "your") if is_own else ("they", "them", "their")
    if membership.service is None:
        return (
            f"From {their} next click on, {they} see and do only what {their} roles in single services allow; {their} "
            "API tokens for all other services end."
        )
    if everywhere := role_in(membership.user, None):
        stays = f"{their.capitalize()} role in the whole installation stays"
        return f"{stays}, so {they} go on there as {everywhere.label.lower()}."
    return f"From {their} next click on, the service is not there for {them} any more; {their} API tokens for it end."
