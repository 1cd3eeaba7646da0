"""Creating, changing and deleting one entry, for a single call as for an item of a bulk operation."""

from collections.abc import Callable
from typing import Any

from enrollments.actions.reach import Reach, reach_of
from enrollments.actions.schedule import settle_if_possible, switches_now
from enrollments.actions.service_access import Caller
from enrollments.audit.actor import Actor
from enrollments.errors import ChangedMeanwhile, SecretUnreadable
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.policy.access import AccessRight
from enrollments.service_api.conditions import Condition, condition_of_etag
from enrollments.service_api.kinds import E, Kind, M
from enrollments.wire import messages
from enrollments.wire.errors import ApiError
from enrollments.wire.schedules import is_as_told

# How often "whatever is there" is tried, where somebody else keeps changing it.
TRIES = 5


def writer(caller: Caller) -> Actor:
    return caller.actor(AccessRight.ENROLLMENT_WRITE)


def save(
    caller: Caller, kind: Kind[M, E], message: M, condition: Condition | None, *, is_told: bool = False
) -> E:
    """Without a condition add, with one change. Raises ApiError, and what the actions raise.

    is_told: the answer will hold the entry, with its keys where the caller may see any.
    """
    service, name = caller.service, message.name
    if condition is None:
        if kind.find(service, name) is not None:
            raise ApiError(*kind.exists)
        return kind.add(
            service,
            kind.spec(service, message, None),
            actor=writer(caller),
            tells_keys=is_told and caller.may_see_keys,
        )

    def change(current: E) -> E:
        return kind.change(
            service,
            name,
            kind.spec(service, message, current),
            expected_etag=current.etag,
            actor=writer(caller),
        )

    return _changed(
        service, message, lambda: kind.find(service, name), change, condition, kind.not_found(name)
    )


def only_shuts_out(caller: Caller, kind: Kind[M, E], message: M, condition: Condition | None) -> bool:
    """Whether saving it, as things stand now, lets nobody in, now or at a time: then nothing holds it up (R12)."""
    current = kind.find(caller.service, message.name) if condition is not None else None
    if (condition is not None and current is None) or message.switches_at is not None:
        return False
    reach = reach_of(current, kind.spec(caller.service, message, current))
    # Of what is disabled, that it stays so: also where this is the second call, since the answer to the first was lost.
    stays_out = reach is Reach.NONE and current is not None and not current.enabled
    return stays_out or reach is Reach.NARROWS


def delete(caller: Caller, kind: Kind[Any, Any], name: str, condition: Condition | None) -> None:
    etags = condition.etags if condition else ()
    kind.delete(caller.service, [name], actor=writer(caller), expected_etags=etags)


def saved_body(caller: Caller, kind: Kind[M, E], message: M, entry: E, *, is_new: bool) -> dict[str, Any]:
    with_keys = caller.may_see_keys
    if not is_new and _tells_kept_keys(caller, message, entry):
        with_keys = _revealed(lambda: kind.reveal(caller.service, str(entry), actor=writer(caller)))
    return _echo(message, kind.body(entry, switches_now(caller.service), with_keys=with_keys))


def _changed(
    service: ProvisioningService,
    message: messages.Entry,
    find: Callable[[], E | None],
    change: Callable[[E], E],
    condition: Condition,
    missing: Exception,
) -> E:
    """What is kept of an entry was read before the lock, so it is written only if that is still what is there."""
    for left in reversed(range(TRIES)):
        settle_if_possible(service)  # it changes what is there
        current = find()
        if current is None:
            raise missing
        _of_what_time_is(message, current, condition).check(current.etag, str(current))
        try:
            return change(current)
        except ChangedMeanwhile:
            if condition.etags or not left:
                raise
    raise AssertionError("the last try either returns or raises")


def _of_what_time_is(
    message: messages.Entry, current: IndividualEnrollment | EnrollmentGroup, condition: Condition
) -> Condition:
    """A time that is not what is scheduled is meant for the version that the message says it was made of.

    Where whatever is there is to be changed, one that is handed back would else bring back what was scheduled once; and
    that nothing was, told as null, would drop what somebody has scheduled since.
    """
    says_nothing = message.switches_at is None and not message.drops_schedule
    drops_nothing = message.drops_schedule and current.switches_at is None
    if condition.etags or says_nothing or drops_nothing or is_as_told(message, current):
        return condition
    return condition_of_etag(message.etag) or condition


def _tells_kept_keys(
    caller: Caller, message: messages.Entry, entry: IndividualEnrollment | EnrollmentGroup
) -> bool:
    """Whether the answer to a change holds keys that the caller did not give: that is a disclosure (R17)."""
    if entry.mechanism != AttestationMechanism.SYMMETRIC_KEY or not caller.may_see_keys:
        return False
    given = message.attestation.symmetric_key
    return not (given and given.primary_key and given.secondary_key)


def _revealed(reveal: Callable[[], object]) -> bool:
    """R16: a change that was made is not called failed because the keys, which it left alone, cannot be decrypted."""
    try:
        reveal()
    except SecretUnreadable:
        return False
    return True


def _echo(message: messages.Entry, body: dict[str, Any]) -> dict[str, Any]:
    """The contract (6.5): a status that was sent as null comes back as null, this once."""
    if message.provisioning_status is None:
        return {**body, "provisioningStatus": None}
    return body
