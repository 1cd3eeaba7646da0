"""A registration ID that one entry holds and others want (R11): what it would allow to free it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max, Sum

from enrollments.actions.judging import group_ref, individual_ref
from enrollments.actions.name_holders import holder_of
from enrollments.actions.schedule import as_text, switches_now
from enrollments.errors import PreviewOutdated
from enrollments.models import ProvisioningService, RegistrationRecord
from enrollments.policy.facts import EntryRef
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason

# Whoever tries more often than a device that somebody looks at is among the latest.
MAX_TOLD = 5


@dataclass(frozen=True, slots=True)
class Claim:
    """An entry that admits a device of this name, which was refused the name. `times`: as far as attempts are kept."""

    entry: EntryRef
    times: int
    last_at: datetime


def claims_on(record: RegistrationRecord) -> list[Claim]:
    """The entries of now that would have the name if they could, the latest first."""
    held_by = holder_of(record)
    tried = (
        record.service.attempts.filter(
            registration_key=record.registration_key, reason=Reason.NAME_HELD_BY_OTHER_ENTRY.value
        )
        .order_by()
        .values_list("entry_kind", "entry_name")
        .annotate(times=Sum("count"), last=Max("last_at"))
        .order_by("-last")
    )
    claims = []
    for kind, name, times, last_at in tried:
        entry = _entry(record.service, kind, name)
        if entry is not None and entry != held_by:
            claims.append(Claim(entry, times, last_at))
    return claims


def freeing_allows(record: RegistrationRecord) -> Iterator[str]:
    """What becomes of the name when nobody holds it any more, in sentences."""
    held_by = holder_of(record)
    if held_by is None:
        yield "No entry holds the name now: whichever entry admits a device of this name next takes it over."
        return
    yield f"It is held through {held_by}."
    claims = claims_on(record)
    for claim in claims[:MAX_TOLD]:
        times = "once" if claim.times == 1 else f"{claim.times:,} times"
        yield (
            f"A device that {claim.entry} admits was refused the name {times}, the last time at "
            f"{as_text(claim.last_at)}: it has the name from its next call on, if the entry still admits it."
        )
    if len(claims) > MAX_TOLD:
        yield f"So were devices of {len(claims) - MAX_TOLD:,} further entries."
    if not claims:
        yield (
            "No other device is known to want it. Whichever entry admits a device of this name next takes it over."
        )


def name_version(record: RegistrationRecord) -> str:
    """Names the state on which freeing the name was looked at: the epoch, and the holder, which a device may change."""
    epoch = ProvisioningService.epoch_of(record.service_id)
    return f"{epoch}-{record.owner_individual_id or 0}-{record.owner_group_id or 0}"


def check_name_version(record: RegistrationRecord, expected: str) -> None:
    """Inside the change lock. Raises PreviewOutdated. Empty: to be done on whatever the state is (see check_epoch)."""
    if expected and name_version(record) != expected:
        raise PreviewOutdated(str(record.service))


def _entry(service: ProvisioningService, kind: str, name: str) -> EntryRef | None:
    """The entry of that name as it is now; None where it is gone, or disabled and so admits nobody."""
    as_of = switches_now(service)
    if kind == "group":
        groups = service.enrollmentgroups.without_secrets().filter(as_of.where(enabled=True))
        group = groups.filter(group_key=registration_key(name)).first()
        return group_ref(group) if group is not None else None
    individuals = service.individualenrollments.without_secrets().filter(as_of.where(enabled=True))
    individual = individuals.filter(registration_key=registration_key(name)).first()
    return individual_ref(individual) if individual is not None else None
