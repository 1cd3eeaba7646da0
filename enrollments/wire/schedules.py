"""What a message says of the time at which the switch of its entry turns by itself, and how that is told.

Clients that know of no times leave the members out, or hand them back as they were told beside whatever else they
change. Neither may leave an entry open tomorrow that was disabled today.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from enrollments.actions.schedule import checked_time, in_whole_seconds
from enrollments.audit.record import clean_reason
from enrollments.errors import Invalid
from enrollments.models import EnrollmentGroup, IndividualEnrollment, ProvisioningService
from enrollments.models.switches import AsOf
from enrollments.wire import messages
from enrollments.wire.errors import NOT_ACCEPTED, ApiError

Held = IndividualEnrollment | EnrollmentGroup


@dataclass(frozen=True, slots=True)
class Schedule:
    """As an action takes it: see EntrySpec."""

    for_good: bool
    at: datetime | None = None
    reason: str | None = None


def schedule_of(service: ProvisioningService, message: messages.Entry, current: Held | None) -> Schedule:
    """`current`: the entry that is to be changed. Raises ApiError, Invalid."""
    # Who says "disabled" must not find it open tomorrow because it was to be so only until then.
    without_time = Schedule(for_good=message.provisioning_status == "disabled" or message.drops_schedule)
    if message.switches_at is None:
        if message.schedule_reason is not None:
            raise _refused(
                "scheduleReason",
                "it says why the switch turns at a time: give that time as switchesAt, or leave it out.",
            )
        return without_time
    if "provisioning_status" not in message.model_fields_set:
        raise _refused(
            "switchesAt", "say with provisioningStatus whether the entry is enabled or disabled until then."
        )
    turned = current is not None and current.enabled != (message.provisioning_status != "disabled")
    if turned and is_as_told(message, current):
        return without_time
    _, now = ProvisioningService.epoch_and_time(service.pk)
    return Schedule(
        for_good=False,
        at=checked_time("switches_at", _moment(message.switches_at), now, opens=_opens(message)),
        reason=_reason(message),
    )


def _opens(message: messages.Entry) -> bool:
    return message.provisioning_status == "disabled"


def is_as_told(message: messages.Entry, current: Held | None) -> bool:
    """Whether its time and reason are what is scheduled for the entry, as an answer has told them."""
    if message.switches_at is None or current is None or current.switches_at is None:
        return False
    at = in_whole_seconds(_moment(message.switches_at), opens=_opens(message))
    # Some clients hand back the one member and not the other.
    is_same_reason = message.schedule_reason is None or _reason(message) == current.schedule_reason
    return at == current.switches_at and is_same_reason


def schedule_told(entry: Held, as_of: AsOf) -> dict[str, str | None]:
    """What is due has turned, or keeps out where that cannot be recorded (R16): either way there is no more to come."""
    if entry.switches_at is None or entry.is_due(as_of.at):
        return {}
    return {"switchesAt": time_told(entry.switches_at), "scheduleReason": entry.schedule_reason or None}


def time_told(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refused("switchesAt", "give a time such as 2030-05-03T14:00:00Z.") from None
    raise _refused(
        "switchesAt",
        "say in which zone that time is meant, for instance with Z for UTC: 2030-05-03T14:00:00Z.",
    )


def _reason(message: messages.Entry) -> str | None:
    if message.schedule_reason is None:
        return None
    try:
        return clean_reason(message.schedule_reason)
    except Invalid as problem:
        raise _refused("scheduleReason", problem.message) from None


def _refused(member: str, sentence: str) -> ApiError:
    return ApiError(NOT_ACCEPTED, f"{member}: {sentence}")
