"""Letting back ends in: by the key of an access policy, or by an API token of a person (contract 6.1).

Nothing is cached. Who is let in is judged again when the act is recorded, in its transaction, and before the answer
leaves (R12).
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db.models import Q
from django.utils import timezone

from enrollments.actions.access_counts import count_failure
from enrollments.actions.access_failures import NO_POLICY, NO_TOKEN, Claimed
from enrollments.actions.api_tokens import PREFIX, digest_of, hint_of
from enrollments.actions.people import person_now, role_in
from enrollments.actions.refusals import Tried, note_refusal, note_refused_look
from enrollments.attestation.service_token import Host, Place, check_service_token
from enrollments.attestation.symmetric_key import key_bytes, read_token
from enrollments.audit.actor import Actor, Way
from enrollments.errors import DpsError
from enrollments.models import AccessPolicy, ApiToken, ProvisioningService
from enrollments.models.access import policy_key
from enrollments.models.enrollments import new_symmetric_key
from enrollments.models.fields import cipher
from enrollments.policy.access import AccessRight, rights_within
from enrollments.policy.roles import Right
from enrollments.throttling import Caller as RatedCaller
from enrollments.throttling import limiter

MAX_HEADER = 1024
BEARER = "bearer"
READING = frozenset({AccessRight.ENROLLMENT_READ, AccessRight.REGISTRATION_STATUS_READ})
# So often at most is it noted that a token was used.
NOTED_EVERY = timedelta(minutes=1)
# Checked where no policy has the name, so that the time of an answer does not tell whether one has.
_DECOY = cipher().encrypt(new_symmetric_key().encode())
# For the table of rates: no registration ID has a space.
_CLAIM = "service api"


class NotAuthenticated(DpsError):
    """`code` is the cause: for the log and the history, never for the caller.

    claimed: whose credential it was to be; None where there was none at all.
    """

    def __init__(self, code: str, message: str, claimed: Claimed | None) -> None:
        super().__init__(message)
        self.code = code
        self.claimed = claimed


class LacksRight(DpsError):
    """The caller is known, and may not do this. `right`: which was asked for, if it is one of these."""

    code = "lacks_right"

    def __init__(self, message: str, right: AccessRight | None = None) -> None:
        super().__init__(message)
        self.right = right


@dataclass(frozen=True, slots=True)
class Knock:
    """What stands at the door: a request's credential, where it arrived, and from where."""

    authorization: str
    place: Place
    address: str = ""
    request_id: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who was let in. `may_see_keys`: whether keys of entries are told to it at all (R17).

    token: of a person, what people tell the API token apart by.
    """

    knock: Knock
    service: ProvisioningService
    name: str
    kind: str
    rights: frozenset[AccessRight]
    may_see_keys: bool
    token: str = ""

    def require(self, right: AccessRight) -> None:
        if right not in self.rights:
            raise LacksRight(f"This needs the right {right.value}, which was not given.", right)

    def require_sight_of_keys(self) -> None:
        if not self.may_see_keys:
            raise LacksRight(
                f"The role of {self.name} does not allow this; it needs the right to {Right.REVEAL_KEYS.in_words}."
            )

    def require_still(self, right: AccessRight) -> None:
        """Judge once more, on the state as it is now. Raises NotAuthenticated, LacksRight."""
        _judge(self.service.pk, self.knock, timezone.now(), for_update=False).require(right)

    def actor(self, right: AccessRight) -> Actor:
        """For acts under this right: whoever was shut out meanwhile is refused in the transaction of the act."""

        def still_may() -> None:
            _judge(self.service.pk, self.knock, timezone.now(), for_update=True).require(right)

        return replace(self.refused_actor, still_may=still_may)

    @property
    def refused_actor(self) -> Actor:
        """For the row of what was refused: nobody has to be let in for that."""
        return Actor(
            self.kind,
            self.name,
            Way.SERVICE_API,
            self.knock.address,
            self.knock.request_id,
            self.knock.client,
        )


def service_at(host: Host | None) -> ProvisioningService | None:
    """The service with this host name; where there is one service only, that one under any name."""
    if host is not None:
        found = ProvisioningService.objects.filter(host_name__iexact=host.name.strip("[]")).first()
        if found is not None:
            return found
    first_two = list(ProvisioningService.objects.order_by("pk")[:2])
    return first_two[0] if len(first_two) == 1 else None


def let_in(service: ProvisioningService, knock: Knock) -> Caller:
    """Raises NotAuthenticated."""
    return _judge(service.pk, knock, timezone.now(), for_update=False)


def note_lacking_right(tried: Tried, caller: Caller, *, looks: bool) -> None:
    """What is refused is history (R15): each attempt at a change, and of looks one in an hour."""
    note = note_refused_look if looks else note_refusal
    note(tried, actor=caller.refused_actor, service=caller.service)


def note_unknown(
    service: ProvisioningService, knock: Knock, problem: NotAuthenticated, at: datetime
) -> tuple[int, bool]:
    """The seconds to tell somebody who has not proven anything, and whether they came too early (R14).

    Counted per address, after the credential was looked at: nobody is held off by what others at the address do. Who
    comes too early is counted in memory alone, and into the history with the next failure that does not (R15).
    """
    rated = RatedCaller(service.pk, _CLAIM, knock.address, is_proven=False)
    longest, now = service.longest_retry_after_seconds, at.timestamp()
    if wait := limiter().held_back(rated, now, epoch=0, longest=longest):
        return wait, True
    noted = limiter().note_refusal(rated, now, epoch=0, shortest=service.retry_after_seconds, longest=longest)
    if problem.claimed is not None:
        times = 1 + noted.unjudged_before
        count_failure(service, problem.claimed, problem.code, knock.address[:45], at=at, times=times)
    return noted.retry_after, False


def _judge(service_pk: int, knock: Knock, at: datetime, *, for_update: bool) -> Caller:
    service = ProvisioningService.objects.get(pk=service_pk)
    scheme, _, rest = knock.authorization.partition(" ")
    if not knock.authorization:
        raise NotAuthenticated("no_credential", "The request has no Authorization header.", None)
    is_bearer = scheme.lower() == BEARER
    if len(knock.authorization) > MAX_HEADER:
        sentence = f"The Authorization header has more than {MAX_HEADER} characters."
        raise NotAuthenticated("too_long", sentence, NO_TOKEN if is_bearer else NO_POLICY)
    if is_bearer:
        return _by_token(service, knock, rest.strip(), at, for_update=for_update)
    return _by_policy(service, knock, at)


def _by_policy(service: ProvisioningService, knock: Knock, at: datetime) -> Caller:
    try:
        token = read_token(knock.authorization)
    except DpsError as problem:
        raise NotAuthenticated(problem.code, problem.message, NO_POLICY) from None
    name = token.key_name[:64]
    # No policy has any other name, and not every database lets itself be asked for one with a NUL.
    named = (
        service.access_policies.filter(name_key=policy_key(name))
        if name.isascii() and name.isprintable()
        else None
    )
    policy = named.first() if named is not None else None
    keys = [key_bytes(policy.primary_key), key_bytes(policy.secondary_key)] if policy else _decoys()
    place = replace(knock.place, service_host=service.host_name or "")
    try:
        check_service_token(token, place, keys=keys, now=at.timestamp())
    except DpsError as problem:
        if policy is None:
            raise NotAuthenticated("unknown_policy", problem.message, NO_POLICY) from None
        raise NotAuthenticated(problem.code, problem.message, _claims(policy)) from None
    if policy is None:
        raise AssertionError("a SAS token fits a key that was made up in this process")
    if not policy.enabled:
        sentence = f"Access policy {policy} is disabled."
        raise NotAuthenticated("policy_disabled", sentence, _claims(policy))
    if not service.shared_access_keys:
        sentence = "The keys of access policies are switched off."
        raise NotAuthenticated("keys_switched_off", sentence, _claims(policy))
    return Caller(knock, service, policy.name, "service", policy.access_rights, may_see_keys=True)


def _claims(one: AccessPolicy | ApiToken) -> Claimed:
    """A token by what people tell it apart by, which is no secret."""
    return Claimed(type(one).__name__, one.pk, one.hint if isinstance(one, ApiToken) else one.name)


def _decoys() -> list[bytes]:
    return [key_bytes(cipher().decrypt(_DECOY).decode()) for _ in range(2)]


def _by_token(
    service: ProvisioningService, knock: Knock, text: str, at: datetime, *, for_update: bool
) -> Caller:
    token = service.api_tokens.filter(digest=digest_of(text)).first()
    if token is None:
        # One that begins like a token of the service is taken to be meant for it, and is not that.
        hint = hint_of(text) if text.startswith(PREFIX) and text.isascii() and text.isprintable() else ""
        alike = service.api_tokens.filter(hint=hint).order_by("pk").first()
        sentence = "There is no such API token in this service."
        raise NotAuthenticated("unknown_token", sentence, _claims(alike) if alike else NO_TOKEN)
    if token.expires_at <= at:
        raise NotAuthenticated("token_expired", f"API token {token.hint}… has expired.", _claims(token))
    whose = Q(pk=token.user_id)
    user = person_now(whose) if for_update else User.objects.filter(whose).first()
    role = role_in(user, service) if user is not None else None
    if user is None or role is None:
        sentence = f"The owner of API token {token.hint}… has no role any more."
        raise NotAuthenticated("owner_without_role", sentence, _claims(token))
    _note_use(token, knock.address, at)
    return Caller(
        knock,
        service,
        user.get_username(),
        "user",
        token.access_rights & rights_within(role),
        may_see_keys=Right.REVEAL_KEYS in role.rights,
        token=token.hint,
    )


def _note_use(token: ApiToken, address: str, at: datetime) -> None:
    long_ago = Q(last_used_at__isnull=True) | Q(last_used_at__lte=at - NOTED_EVERY)
    if token.last_used_at is None or token.last_used_at <= at - NOTED_EVERY:
        ApiToken.objects.filter(long_ago, pk=token.pk).update(last_used_at=at, last_used_from=address[:45])
