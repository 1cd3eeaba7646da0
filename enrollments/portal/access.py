"""Who may see and do what in the portal: each view declares its right, and is refused without one (R17)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial, wraps
from typing import Any, NoReturn

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase

from enrollments.actions.people import ShutOut, has_right, require_person, role_in, roles_in
from enrollments.actions.refusals import Tried, note_refusal, note_refused_look
from enrollments.actions.refused_again import note_refused_again
from enrollments.audit.actor import Actor, Way
from enrollments.models import ProvisioningService
from enrollments.policy.roles import Right, Role
from enrollments.portal.refused_acts import LOOKS, is_of_something_known, repeated, tried

View = Callable[..., HttpResponseBase]


def requires(right: Right) -> Callable[[View], View]:
    """For views of one service: `service_name` in the URL becomes the service. Without any role it is 404 (R1)."""

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(request: HttpRequest, service_name: str, **rest: Any) -> HttpResponseBase:
            service = ProvisioningService.objects.filter(name=service_name).first()
            role, everywhere = roles_in(person(request), service)
            if service is None or role is None:
                if everywhere is None and request.method not in LOOKS:
                    _note_stranger(request, service, service_name)
                raise Http404("There is no provisioning service of that name, or it is not yours to see.")
            request.current_service = service  # type: ignore[attr-defined]  # read by the context processor
            request.current_role = role  # type: ignore[attr-defined]  # the same
            request.role_everywhere = everywhere  # type: ignore[attr-defined]  # the same
            if right not in role.rights:
                _refuse(_lacking(right), request, service, rest)
            request.let_in_by = right, service  # type: ignore[attr-defined]  # read by actor_of
            try:
                return view(request, service, **rest)
            except ShutOut as problem:
                _refuse(problem.message, request, service, rest)

        wrapped.declared_right = right  # type: ignore[attr-defined]  # a test reads it from every view
        return wrapped

    return decorate


def requires_everywhere(right: Right) -> Callable[[View], View]:
    """For views of the whole installation."""

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(request: HttpRequest, **rest: Any) -> HttpResponseBase:
            if not has_right(person(request), right, None):
                _refuse(_lacking(right, everywhere=True), request, None, rest)
            request.let_in_by = right, None  # type: ignore[attr-defined]  # read by actor_of
            try:
                return view(request, **rest)
            except ShutOut as problem:
                _refuse(problem.message, request, None, rest)

        wrapped.declared_right = right  # type: ignore[attr-defined]  # a test reads it from every view
        return wrapped

    return decorate


def for_every_person(view: View) -> View:
    """For what everybody who is signed in may see; the view itself shows only what is theirs."""
    view.declared_right = None  # type: ignore[attr-defined]  # a test reads it from every view
    return view


def person(request: HttpRequest) -> User:
    user = request.user
    if not isinstance(user, User):
        raise PermissionDenied("Sign in first.")
    return user


def may(request: HttpRequest, right: Right, service: ProvisioningService | None) -> bool:
    """For what a page offers. It protects nothing: the view behind the offer declares its own right."""
    return right in rights_of(request, service)


def rights_of(request: HttpRequest, service: ProvisioningService | None) -> frozenset[Right]:
    """As `may`, for pages that offer several things."""
    here = service is not None and getattr(request, "current_service", None) == service
    role: Role | None = getattr(request, "current_role", None) if here else role_in(person(request), service)
    return role.rights if role else frozenset()


def actor_of(request: HttpRequest, right: Right | None = None) -> Actor:
    """Whoever acts, as long as they still may: in the transaction of the act they are asked about again (R12).

    By the right that the view declares, or by this one where the act needs another; where the view declares none,
    whether they may sign in. Who may not any more is refused as if they had come later.
    """
    user = person(request)
    declared, service = getattr(request, "let_in_by", (None, None))
    still_may = partial(require_person, user.pk, right or declared, service)
    return replace(actor_named(request, user), still_may=still_may)


def actor_named(request: HttpRequest, user: User | AnonymousUser) -> Actor:
    """For what nobody has to be let in for: the row of what was refused, or coming and going."""
    return Actor(
        kind="user",
        name=user.get_username() or "nobody",
        way=Way.PORTAL,
        address=request.META.get("REMOTE_ADDR", ""),
        request_id=getattr(request, "request_id", ""),
        client=request.META.get("HTTP_USER_AGENT", ""),
    )


def note_not_ones_own(request: HttpRequest, service: ProvisioningService | None, which: str = "") -> None:
    """An attempt at what is another's or not there, which is answered alike and so leaves the same (R15, R17).

    Whoever looks may invent numbers without end, so looks are added up. `which`: what the address names in its query.
    """
    what, actor = tried(request, None, {}), actor_named(request, request.user)
    if request.method not in LOOKS:
        note_refusal(Tried(f"{what.what}{which}"), actor=actor, service=service)
    else:
        same = repeated(request, service.name if service else "")
        note_refused_again(what, same, actor=actor, service=service)


def _note_stranger(request: HttpRequest, service: ProvisioningService | None, service_name: str) -> None:
    """An attempt at an act by somebody to whom the service does not exist (R1), whether it does or not.

    The same is done in both cases. Places in the history count over all services, so from a row that is left in one
    case alone somebody could tell by their own rows whether there is a service of this name. So it is added up by the
    name that was given, and what is beyond the bound is of no service.
    """
    same = repeated(request, service_name)
    note_refused_again(
        tried(request, None, {}), same, actor=actor_named(request, request.user), service=service
    )


def _lacking(right: Right, *, everywhere: bool = False) -> str:
    where = ", in the whole installation" if everywhere else ""
    return f"Your role does not allow this; it needs the right to {right.in_words}{where}."


def _refuse(
    sentence: str, request: HttpRequest, service: ProvisioningService | None, named: Mapping[str, Any]
) -> NoReturn:
    what, actor = tried(request, service, named), actor_named(request, request.user)
    if request.method not in LOOKS:
        note_refusal(what, actor=actor, service=service)
    elif is_of_something_known(service, named):
        note_refused_look(what, actor=actor, service=service)
    else:
        same = repeated(request, service.name if service else "")
        note_refused_again(what, same, actor=actor, service=service)
    raise PermissionDenied(sentence)
