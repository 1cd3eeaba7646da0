"""API tokens of people: made, shown once, revoked. A token never opens more than its owner's role does (R17)."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta

from django.contrib.auth.models import User
from django.db.models import Q
from django.utils import timezone

from enrollments.actions.people import person_now, role_in
from enrollments.actions.refusals import Tried, note_refusal
from enrollments.actions.validation import validate
from enrollments.audit.actor import Actor
from enrollments.audit.events import Event
from enrollments.audit.record import clean_reason, record, require_still
from enrollments.errors import Invalid, NotFound
from enrollments.models import ApiToken, HistoryEvent, ProvisioningService
from enrollments.models.locks import change_lock
from enrollments.policy.access import AccessRight, rights_within

# So that it is known for what it is where it has no business to be: in a log, in a repository.
PREFIX = "dpst_"
RANDOM_BYTES = 32
MAX_DAYS = 366
MAX_TOKENS = 50


class BeyondRole(Invalid):
    """A token never opens more than the role of its owner does."""

    def __init__(self, beyond: list[AccessRight]) -> None:
        super().__init__(
            {"rights": [f"Your role in this service does not reach as far as {', '.join(beyond)}."]}
        )
        self.beyond = beyond


def add_api_token(
    service: ProvisioningService,
    user: User,
    name: str,
    rights: Iterable[AccessRight],
    *,
    days: int,
    actor: Actor,
) -> tuple[ApiToken, str]:
    """A token and its text, which is kept nowhere: the caller shows it this once.

    Raises Invalid, and BeyondRole, which is a refused act and leaves its row (R15).
    """
    try:
        return _add_api_token(service, user, name, rights, days=days, actor=actor)
    except BeyondRole as refused:
        tried = Tried(f"an API token that opens more than their role: {', '.join(refused.beyond)}")
        note_refusal(tried, actor=actor, service=service)
        raise


def _add_api_token(
    service: ProvisioningService,
    user: User,
    name: str,
    rights: Iterable[AccessRight],
    *,
    days: int,
    actor: Actor,
) -> tuple[ApiToken, str]:
    name, chosen = " ".join(name.split()), frozenset(rights)
    text = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    if not 1 <= days <= MAX_DAYS:
        raise Invalid({"days": [f"A token is valid for 1 to {MAX_DAYS} days."]})
    if not chosen:
        raise Invalid({"rights": ["Choose at least one right: a token without any opens nothing."]})
    with change_lock(service, raises_epoch=False):
        require_still(actor)
        owner = person_now(Q(pk=user.pk))
        if beyond := sorted(chosen - rights_within(role_in(owner, service) if owner else None)):
            raise BeyondRole(beyond)
        if service.api_tokens.filter(user=user).count() >= MAX_TOKENS:
            raise Invalid(
                {"name": [f"A person has at most {MAX_TOKENS} tokens in a service: revoke one first."]}
            )
        token = ApiToken(
            service=service,
            user=user,
            name=name,
            hint=hint_of(text),
            digest=digest_of(text),
            rights=sorted(chosen),
            expires_at=timezone.now() + timedelta(days=days),
        )
        _refuse_taken_name(token)
        validate(token)
        token.save()
        record(
            Event.TOKEN_ADDED,
            subject=token,
            actor=actor,
            service=service,
            after={"rights": token.rights, "expires": token.expires_at.isoformat(timespec="seconds")},
        )
    return token, text


def revoke_api_token(
    service: ProvisioningService, pk: int, *, actor: Actor, owner: User | None = None, reason: str = ""
) -> ApiToken:
    """End a token. `owner`: only if it is theirs. Raises NotFound."""
    reason = clean_reason(reason)
    tokens = service.api_tokens.select_for_update(of=("self",)).select_related("user")
    if owner is not None:
        tokens = tokens.filter(user=owner)
    with change_lock(service, raises_epoch=False):
        require_still(actor)  # before the token is locked, as whoever keeps its owner out does it
        token = tokens.filter(pk=pk).first()
        if token is None:
            raise NotFound("There is no such API token in this service.")
        record(
            Event.TOKEN_REVOKED,
            subject=token,
            actor=actor,
            service=service,
            reason=reason,
            before=token.last_known(),
        )
        token.delete()
    return token


def token_revoked_before(service: ProvisioningService, pk: int, *, owner: User | None = None) -> str | None:
    """The name of a token that was revoked, which its row of the history keeps; None where there was none.

    `owner`: only if it was theirs. Names can be given again: what a former person of this name had is not theirs.
    """
    rows = HistoryEvent.objects.of_service(service.pk).filter(
        event=Event.TOKEN_REVOKED.value, subject_kind=ApiToken.__name__, subject_id=str(pk)
    )
    if owner is not None:
        rows = rows.filter(before__of=owner.get_username(), at__gte=owner.date_joined)
    return rows.values_list("subject_name", flat=True).first()


def digest_of(text: str) -> str:
    """256 random bits need no slow hash: nobody can go through them."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def hint_of(text: str) -> str:
    """What people tell tokens apart by; of what is shown of it nobody learns the rest."""
    return text[: len(PREFIX) + 4]


def _refuse_taken_name(token: ApiToken) -> None:
    if not token.name:
        raise Invalid({"name": ["Give the token a name by which you will know it."]})
    if ApiToken.objects.filter(service=token.service, user=token.user, name=token.name).exists():
        raise Invalid({"name": [f"You have a token named {token.name} already."]})
