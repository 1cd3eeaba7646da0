"""People and their roles (R17)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet

from enrollments.actions.passwords import set_password
from enrollments.actions.refusals import PERSON, Tried, note_refusal
from enrollments.actions.refused_again import Repeated, note_refused_again
from enrollments.actions.sign_in import end_windows_of
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import clean_reason, record, require_still
from enrollments.errors import Conflict, DpsError, Invalid, NotFound
from enrollments.models import ApiToken, Membership, ProvisioningService
from enrollments.models.locks import take_turn_with_people
from enrollments.policy.roles import Right, Role
from enrollments.policy.unknown import Unknown, known

# ASCII only: elsewhere there are letters that look alike, and databases that disagree about their case.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,149}", re.ASCII)
# What a person is, in the rows of the services in which they have a role, and what led there.
_STATE = {True: "active", False: "deactivated"}
_LED_TO = {
    "active": Event.PERSON_ACTIVATED,
    "deactivated": Event.PERSON_DEACTIVATED,
    "removed": Event.PERSON_REMOVED,
}
# As at sign-in, names that nobody has are not told: people type other things into the wrong field.
_TRIED_A_NAME = "a role for a name that nobody has"
# Not whose: what was typed there was not looked at any more.
_TRIED_TOO_LATE = "a change of a role, as an administrator no more, in service"


class ShutOut(DpsError):
    """Whoever acts was let in, and has lost the right meanwhile (R12). No right: they may not sign in any more."""

    code = "shut_out"

    def __init__(self, right: Right | None) -> None:
        sentence = "You are not let in any more."
        if right is not None:
            sentence = f"Your role does not allow this any more; it needs the right to {right.in_words}."
        super().__init__(sentence)


class NotAdministrator(Conflict):
    code = "not_administrator"

    def __init__(self, service: ProvisioningService) -> None:
        self.service = service
        super().__init__(f"You are not an administrator of service {service.name} any more.")


class LastAdministrator(Conflict):
    code = "last_administrator"

    def __init__(self, user: User, service: ProvisioningService | None) -> None:
        self.username = user.get_username()
        self.service = service
        self.where = f"service {service.name}" if service else "the installation"
        besides = ", or ask an administrator of the installation" if service else ""
        super().__init__(
            f"This is the last administrator of {self.where}. Make somebody else an administrator first{besides}."
        )


class NobodyOfThatName(NotFound):
    """The same whether there is nobody or somebody who is kept out."""

    def __init__(self, username: str) -> None:
        super().__init__(
            f"Nobody named {username[:150]} can be given a role: there is no such person, or they were deactivated."
        )


@contextmanager
def _refusals_told(act: str, *, actor: Actor) -> Iterator[None]:
    """Around the transaction of an act, which is taken back by a refusal: its row comes after (R15)."""
    try:
        yield
    except LastAdministrator as refused:
        what = f"{act}, the last administrator of {refused.where}"
        tried = Tried(what, PERSON, (refused.username,))
        note_refusal(tried, actor=actor, service=refused.service)
        raise
    except NotAdministrator as refused:
        note_refusal(Tried(f"{_TRIED_TOO_LATE} {refused.service}"), actor=actor, service=refused.service)
        raise


def role_in(user: User, service: ProvisioningService | None) -> Role | None:
    """The role of a person in a service: the higher of the one given there and the one given everywhere.

    With no service: the role for the whole installation.
    """
    return roles_in(user, service)[0]


def roles_in(user: User, service: ProvisioningService | None) -> tuple[Role | None, Role | None]:
    """The same, and beside it the role for the whole installation: both by one look."""
    if not user.is_active:
        return None, None
    here, everywhere = [], []
    for membership in Membership.objects.filter(user=user):
        role = known(Role, membership.role)
        if isinstance(role, Unknown):
            continue  # what it allows is known to another version alone
        if membership.service_id is None:
            everywhere.append(role)
        elif service is not None and membership.service_id == service.pk:
            here.append(role)
    return _highest([*here, *everywhere]), _highest(everywhere)


def _highest(roles: list[Role]) -> Role | None:
    return max(roles, key=lambda role: len(role.rights), default=None)


def people_of(service: ProvisioningService) -> QuerySet[User]:
    """Who has a role in this service, by either way, with `memberships_here`. Deactivated people are among them."""
    here = Membership.objects.filter(Q(service=service) | Q(service__isnull=True))
    people = User.objects.filter(Exists(here.filter(user=OuterRef("pk"))))
    return people.prefetch_related(Prefetch("memberships", here.order_by("service"), "memberships_here"))


def has_right(user: User, right: Right, service: ProvisioningService | None) -> bool:
    role = role_in(user, service)
    return role is not None and right in role.rights


def person_now(who: Q) -> User | None:
    """Inside the transaction of an act: the person as they are now, and stay until it ends (R12).

    Whoever changes a role or keeps somebody out locks the person first: the one waits for the other. An act that locks
    rows which those need too, of services or API tokens, asks for the person before.
    """
    return User.objects.filter(who).select_for_update(no_key=True).first()


def may_still(who: Q, right: Right | None, service: ProvisioningService | None) -> bool:
    """The same, and whether they have the right; with none, whether they may sign in."""
    user = person_now(who)
    if user is None or not user.is_active:
        return False
    return right is None or has_right(user, right, service)


def require_person(pk: int, right: Right | None, service: ProvisioningService | None) -> None:
    """The same. Raises ShutOut."""
    if not may_still(Q(pk=pk), right, service):
        raise ShutOut(right)


def _asked(actor: Actor) -> Actor:
    """The actor of a change of people, who was asked in their turn and is not asked again in this transaction.

    What they change may be their own role. They are locked before anybody else is, and before any API token.
    """
    take_turn_with_people()
    require_still(actor)
    return replace(actor, still_may=None)


@transaction.atomic
def add_person(
    username: str,
    *,
    role: Role,
    service: ProvisioningService | None,
    actor: Actor,
    password: str = "",
    reason: str = "",
) -> tuple[User, str]:
    """Add a person with one role. Returns the person and the password, generated unless one is given.

    Raises Invalid. The password is shown to the caller once and kept nowhere in clear.
    """
    actor = _asked(actor)
    username = username.strip()
    field = User._meta.get_field("username")
    if not _NAME.fullmatch(username):
        form = "letters (a to z), digits and . _ - + @, with a letter or digit first"
        raise Invalid({"username": [f"Give a name of {form}."]})
    try:
        field.run_validators(username)
    except ValidationError as problem:
        raise Invalid({"username": list(problem.messages)}) from None
    # Signing in and lock-out compare names without case, so two that differ in case only would be one.
    if User.objects.filter(username__iexact=username).exists():
        raise Invalid({"username": [f"There is a person named {username} already (case does not count)."]})
    user = User(username=username)
    password = set_password(user, password)
    user.save()
    Membership.objects.create(user=user, service=service, role=role.value)
    record(
        Event.PERSON_ADDED,
        subject=user,
        actor=actor,
        service=service,
        reason=clean_reason(reason),
        after={"role": role.value, "where": service.name if service else "whole installation"},
    )
    return user, password


def set_role(
    username: str, role: Role | None, *, service: ProvisioningService | None, actor: Actor, reason: str = ""
) -> tuple[User, bool]:
    """Give a person a role in a service or everywhere; None takes it away. Raises NotFound, LastAdministrator.

    Returns the person, and whether that changed anything.
    """
    with _refusals_told(f"a change of the role of {username}", actor=actor), transaction.atomic():
        actor = _asked(actor)
        return _set_role(_get(username), role, service=service, actor=actor, reason=reason)


def set_role_in_service(
    username: str,
    role: Role | None,
    *,
    service: ProvisioningService,
    by: User,
    actor: Actor,
    reason: str = "",
) -> tuple[User, bool]:
    """As set_role, by somebody who administers this service and perhaps nothing else.

    Whether they do is asked in their turn: a role that was taken away meanwhile gives no other. The last administrator
    of a service does not put themselves out; an administrator of the installation may, who can make another. Raises
    NotAdministrator, LastAdministrator and NobodyOfThatName: by trying names one learns whom the installation has, so
    each try at one that it does not have is told, or added up (R14, R15).
    """
    try:
        with _refusals_told(f"a change of the role of {username}", actor=actor), transaction.atomic():
            return _set_role_in_service(username, role, service=service, by=by, actor=actor, reason=reason)
    except NobodyOfThatName:
        # Who administers the installation sees whom it has, and only mistyped a name.
        if not has_right(by, Right.ADMINISTER, None):
            note_refused_again(Tried(_TRIED_A_NAME), Repeated(_TRIED_A_NAME), actor=actor, service=service)
        raise


def _set_role_in_service(
    username: str, role: Role | None, *, service: ProvisioningService, by: User, actor: Actor, reason: str
) -> tuple[User, bool]:
    take_turn_with_people()
    still = User.objects.filter(pk=by.pk).first()
    if still is None or not has_right(still, Right.ADMINISTER, service):
        raise NotAdministrator(service)
    actor = _asked(actor)
    try:
        user = _get(username)
    except NotFound:
        raise NobodyOfThatName(username) from None
    # Who has a role here is on the page, kept out or not.
    if not user.is_active and not people_of(service).filter(pk=user.pk).exists():
        raise NobodyOfThatName(username)
    given = _set_role(user, role, service=service, actor=actor, reason=reason)
    if not has_right(still, Right.ADMINISTER, None):
        _refuse_without_administrator(user, service)
    return given


def _set_role(
    user: User, role: Role | None, *, service: ProvisioningService | None, actor: Actor, reason: str
) -> tuple[User, bool]:
    membership = Membership.objects.select_for_update().filter(user=user, service=service).first()
    before = membership.role if membership else None
    if before == (role.value if role else None):
        return user, False
    if role is None and membership is not None:
        membership.delete()
    elif role is not None:
        Membership.objects.update_or_create(user=user, service=service, defaults={"role": role.value})
    if service is None:
        _refuse_without_administrator(user, None)
    where = service.name if service else "whole installation"
    if role is None:
        _end_tokens(user, "The owner lost the role.", actor=actor)
    record(
        Event.ROLE_CHANGED,
        subject=user,
        actor=actor,
        service=service,
        reason=clean_reason(reason),
        before={"role": before, "where": where},
        after={"role": role.value if role else None, "where": where},
    )
    return user, True


def set_active(username: str, active: bool, *, actor: Actor, reason: str = "") -> None:
    """Let a person in or keep them out, from their next request on. Their API tokens end, and do not come back.

    Raises NotFound, LastAdministrator.
    """
    with _refusals_told(f"the deactivation of {username}", actor=actor), transaction.atomic():
        actor = _asked(actor)
        _set_active(_get(username), active, actor=actor, reason=reason)


def _set_active(user: User, active: bool, *, actor: Actor, reason: str) -> None:
    if user.is_active == active:
        return
    user.is_active = active
    user.save(update_fields=["is_active"])
    if not active:
        _refuse_without_administrator(user, None)
    _end_tokens(user, "The owner was deactivated.", actor=actor)
    reason = clean_reason(reason)
    _tell_services(user, _STATE[not active], _STATE[active], actor=actor, reason=reason)
    record(
        _LED_TO[_STATE[active]],
        subject=user,
        actor=actor,
        reason=reason,
        before={"active": not active},
        after={"active": active},
    )


def remove_person(username: str, *, actor: Actor, reason: str = "") -> None:
    """Remove a person; what they did stays in the history under their name. Raises NotFound, LastAdministrator."""
    with _refusals_told(f"the removal of {username}", actor=actor), transaction.atomic():
        actor = _asked(actor)
        _remove_person(_get(username), actor=actor, reason=reason)


def _remove_person(user: User, *, actor: Actor, reason: str) -> None:
    before = [
        {"role": one.role, "where": one.service.name if one.service else "whole installation"}
        for one in user.memberships.select_related("service")
    ]
    _end_tokens(user, "The owner was removed.", actor=actor, all_of_them=True)
    reason = clean_reason(reason)
    _tell_services(user, _STATE[user.is_active], "removed", actor=actor, reason=reason)
    record(
        Event.PERSON_REMOVED,
        subject=user,
        actor=actor,
        reason=reason,
        before={"roles": before},
    )
    user.delete()
    _refuse_without_administrator(user, None)


@transaction.atomic
def change_password(username: str, *, actor: Actor, password: str = "", end_tokens: bool = False) -> str:
    """Set a password, generated unless one is given, and return it. Open sessions of the person end.

    end_tokens: whoever had the old password may have made API tokens with it, which open the same without it.
    """
    actor = _asked(actor)
    user = _get(username)
    password = set_password(user, password)
    user.save(update_fields=["password"])
    ended = (
        _end_tokens(user, "The owner has a new password.", actor=actor, all_of_them=True) if end_tokens else 0
    )
    tokens = {"tokens_ended": ended, "tokens_kept": tokens_of(user)}
    record(Event.PASSWORD_CHANGED, subject=user, actor=actor, after=tokens if any(tokens.values()) else None)
    return password


def tokens_of(user: User) -> int:
    """How many API tokens a person has, over all services."""
    return ApiToken.objects.filter(user=user).count()


@transaction.atomic
def restore_administrator(username: str, *, actor: Actor, reason: str, end_tokens: bool = True) -> str:
    """Make somebody an administrator of the installation who can sign in, and return the new password.

    The way back for whoever holds the machine when nobody can sign in any more: the person is added if there is
    none of that name; lock-outs of the name are forgotten. end_tokens: see change_password.
    """
    end_windows_of(username)
    if not User.objects.filter(username__iexact=username).exists():
        return add_person(username, role=Role.ADMINISTRATOR, service=None, actor=actor, reason=reason)[1]
    set_active(username, True, actor=actor, reason=reason)
    set_role(username, Role.ADMINISTRATOR, service=None, actor=actor, reason=reason)
    return change_password(username, actor=actor, end_tokens=end_tokens)


@transaction.atomic
def note_signing(event: Event, user: User, *, actor: Actor) -> None:
    """Signing in and out are history."""
    record(event, subject=user, actor=actor)


def _tell_services(user: User, before: str, after: str, *, actor: Actor, reason: str) -> None:
    """In each service with a role of theirs, a row: what they may do there begins or ends thereby (R15)."""
    for one in user.memberships.filter(service__isnull=False).select_related("service").order_by("pk"):
        role = {"role": one.role, "where": str(one.service)}
        record(
            _LED_TO[after],
            subject=user,
            actor=actor,
            service=one.service,
            reason=reason,
            before={**role, "person": before},
            after={**role, "role": None if after == "removed" else one.role, "person": after},
        )


def _end_tokens(user: User, reason: str, *, actor: Actor, all_of_them: bool = False) -> int:
    """Those for services in which the owner has no role any more, each with its row (R15); how many."""
    ended = 0
    tokens = ApiToken.objects.select_for_update(of=("self",)).filter(user=user)
    for token in tokens.select_related("service", "user").order_by("pk"):
        if not all_of_them and role_in(user, token.service) is not None:
            continue
        record(
            Event.TOKEN_REVOKED,
            subject=token,
            actor=actor,
            service=token.service,
            reason=reason,
            before=token.last_known(),
        )
        token.delete()
        ended += 1
    return ended


def _get(username: str) -> User:
    take_turn_with_people()
    try:
        return User.objects.select_for_update().get(username__iexact=username)
    except User.DoesNotExist:
        raise NotFound(f"There is no person named {username[:150]}.") from None


def _refuse_without_administrator(user: User, service: ProvisioningService | None) -> None:
    """Checked after the change, inside its transaction: whatever led here is undone by the exception.

    user: whose change it was. Of a service those count who were made so there. With no service: of the installation.
    """
    if not _administrators(service).select_for_update().exists():
        raise LastAdministrator(user, service)


def last_administrator(user: User, service: ProvisioningService | None) -> LastAdministrator | None:
    """For who asks before: the refusal to put this person out, as long as nobody else administers the place."""
    administrators = _administrators(service).values_list("user_id", flat=True)[:2]
    return LastAdministrator(user, service) if list(administrators) == [user.pk] else None


def _administrators(service: ProvisioningService | None) -> QuerySet[Membership]:
    return Membership.objects.filter(service=service, role=Role.ADMINISTRATOR.value, user__is_active=True)
