"""Deleting entries and keeping out, one by one, the devices that another entry would then let in (R7)."""

from collections.abc import Sequence
from dataclasses import dataclass

from enrollments.actions.certificates import parsed
from enrollments.actions.entries import check_epoch
from enrollments.actions.newcomers import Examined, Newcomers, times_examined
from enrollments.actions.preview import (
    NO_LIMITS,
    Act,
    Entry,
    Preview,
    carry_out,
    names_left_open,
    preview_of_act,
    preview_to_come,
    ref_of,
)
from enrollments.actions.preview.acts import NOBODY
from enrollments.actions.preview.to_come import ALL_TIMES
from enrollments.actions.preview.touched import in_portions, still_there
from enrollments.actions.revocation import deny_device, in_slots, proven_leaves
from enrollments.actions.schedule import standing_now, switches_now
from enrollments.attestation.x509 import ParsedCertificate
from enrollments.audit.actor import Actor
from enrollments.audit.record import clean_reason
from enrollments.errors import Conflict, PreviewOutdated
from enrollments.models import (
    EnrollmentGroup,
    HeldCertificate,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.models.locks import change_lock, rehearsal
from enrollments.policy.names import registration_key
from enrollments.policy.words import counted

# Each deny entry is some ten statements, and admissions wait for as long as the change lock is held.
DENIED_AT_ONCE = 100
# So many devices that came meanwhile are judged while nobody else is admitted: fewer, where each is for several times.
EXAMINED_UNDER_LOCK = 20
# For one call: somebody waits for the answer. Called again, it goes on with those that are left.
MAX_DENIED = 1000
# So often those are examined that registered meanwhile, before it is given up.
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Deleted:
    """`left`: devices that are still to be denied. Until there are none, nothing is deleted."""

    deleted: int
    denied: int
    left: int = 0


def delete_and_deny(
    service: ProvisioningService,
    entries: Sequence[Entry],
    *,
    actor: Actor,
    reason: str = "",
    expected_epoch: int | None = None,
) -> Deleted:
    """Delete entries, and shut out the devices that are known to come in through another entry without them.

    So are the names of individual enrollments which that leaves open (names_left_open), and the keys of the
    certificates that those held.

    Those are kept out too that another entry would let in later, when a switch turns that is scheduled, or would keep
    in past the time at which one of the entries is to be disabled (see to_come): from now on, since nothing keeps a
    device out from a time on but the entry that is deleted. So are those that register through the entries until they
    are gone (see Newcomers).

    Up to DENIED_AT_ONCE devices it is one transaction. Of more, the others are denied before it in transactions of
    that size, while the entries are there, so that nobody comes in between; what was done then stays done, and
    calling again does the rest. A device of a group that nobody knows yet is not kept out: disabling does that.

    All devices are examined, however many there are: whoever was not looked at would come back in (R16).

    Raises NotFound, Invalid; PreviewOutdated if something else changed, before or between (see check_epoch); Conflict
    where more devices register meanwhile than can be examined, and where it is not known by what else some may come in,
    since certificates that they sent are not kept any more. Nothing is deleted then.
    """
    reason = clean_reason(reason)
    newcomers = Newcomers.from_now_on(service, entries)
    preview = preview_of_act(service, Act.DELETE, entries, limits=NO_LIMITS)
    if expected_epoch is not None and preview.epoch != expected_epoch:
        raise PreviewOutdated(str(service))
    coming = preview_to_come(service, Act.DELETE, entries, preview, limits=NO_LIMITS, most=ALL_TIMES)
    if coming.unsure:
        number = max(one.not_examined for one in (preview, *coming.looks.values()))
        raise Conflict(
            f"Of {counted(number, 'device')} it is not known by what else they may come in: they have "
            "sent certificates that are not kept any more. Nothing was deleted. Disable instead: that keeps them out."
        )
    gone = {ref_of(one) for one in entries}
    passing = coming.passing_to_others(gone)
    # Who has an entry of its own among them is denied by another one, once that is gone.
    own = {one.registration_key for one in entries if isinstance(one, IndividualEnrollment)}
    names = [one.registration_id for one in passing]
    others = [name for name in names if registration_key(name) not in own]
    kept = [name for name in names if registration_key(name) in own]
    kept += names_left_open(service, preview, entries).names
    afterwards = list({registration_key(name): name for name in kept}.values())

    epoch, denied = preview.epoch, 0
    for _ in range(ROUNDS):
        while len(others) - denied > DENIED_AT_ONCE and denied < MAX_DENIED:
            batch = others[denied : denied + DENIED_AT_ONCE]
            with change_lock(service):
                check_epoch(service, epoch)
                _deny(service, batch, actor, reason)
                epoch = _epoch_at_its_end(service)
            denied += len(batch)
        if len(others) - denied > DENIED_AT_ONCE:
            return Deleted(0, denied, len(others) - denied)
        later = Newcomers.from_now_on(service, entries)
        came = newcomers.names(besides=own.union(map(registration_key, others)))
        if len(came) <= _for_its_times(service, entries, EXAMINED_UNDER_LOCK):
            break
        # Too many to be examined while all others wait.
        newcomers = later
        others += _passing_once_gone(service, entries, came)
    rest = others[denied:]
    if len(rest) > DENIED_AT_ONCE:
        return Deleted(0, denied, len(rest))
    with change_lock(service):
        check_epoch(service, epoch)
        came = newcomers.names(besides=own.union(map(registration_key, others)))
        if len(came) > _for_its_times(service, entries, EXAMINED_UNDER_LOCK):
            raise Conflict(
                f"{len(came):,} devices registered meanwhile that may have to be kept out too: nothing was deleted. "
                "Run it again, or disable first what is to be deleted."
            )
        examined = Examined(service, came, entries)
        _deny(service, rest, actor, reason)
        held, bars = _certificates_of(entries), _bars_of(service, entries)
        carry_out(service, Act.DELETE, entries, actor=actor, reason=reason)
        for name in afterwards:
            key = registration_key(name)
            proven, enrolled = proven_leaves(service, name), held.get(key, [])
            leaves = [*enrolled, *proven] if key in bars else [*proven, *enrolled]
            deny_device(service, name, actor=actor, reason=reason, certificates=in_slots(leaves))
        others += (last := examined.passing_to_others(gone))
        _deny(service, last, actor, reason)
    return Deleted(len(entries), len(others) + len(afterwards))


def _for_its_times(service: ProvisioningService, entries: Sequence[Entry], most: int) -> int:
    """How many devices take as long to examine as so many do for one time."""
    return max(1, most // len(times_examined(service, entries)))


def _passing_once_gone(
    service: ProvisioningService, entries: Sequence[Entry], registration_ids: Sequence[str]
) -> list[str]:
    """Of these devices those that another entry would let in: rehearsed, a few at a time."""
    passing: list[str] = []
    for names in in_portions(registration_ids, _for_its_times(service, entries, DENIED_AT_ONCE)):
        with rehearsal():
            examined = Examined(service, names, entries)
            carry_out(service, Act.DELETE, entries, actor=NOBODY)
            passing += examined.passing_to_others({ref_of(one) for one in entries})
    return passing


def preview_if_it_only_narrows(service: ProvisioningService, entries: Sequence[Entry]) -> Preview | None:
    """Of deleting enabled entries, where that lets nobody in, known or unknown; else None.

    Such a deletion is never held up (R12): it may be made on the epoch of this preview, whatever was shown before.
    Where another group is there, it may admit somebody whose name or key becomes free (R5, R7, R11).
    """
    epoch = standing_now(service).epoch
    gone = [one.pk for one in entries if isinstance(one, EnrollmentGroup)]
    if service.enrollmentgroups.ever_enabled().exclude(pk__in=gone).exists():
        return None
    as_of = switches_now(service)
    now = still_there(entries)
    if len(now) < len(entries) or not all(map(as_of.enabled, now)):
        return None  # a bar ends
    preview = preview_of_act(service, Act.DELETE, now)
    coming = preview_to_come(service, Act.DELETE, now, preview)
    lets_in = coming.unsure or coming.passing_to_others([ref_of(one) for one in now])
    # Whatever was read above was so on that epoch.
    return None if lets_in or coming.now.epoch != epoch else coming.now


def _deny(service: ProvisioningService, names: Sequence[str], actor: Actor, reason: str) -> None:
    for name in names:
        deny_device(service, name, actor=actor, reason=reason)


def _certificates_of(entries: Sequence[Entry]) -> dict[str, list[ParsedCertificate]]:
    """What individual enrollments pin, by registration key."""
    rows = HeldCertificate.objects.filter(
        individual__in=[one.pk for one in entries if isinstance(one, IndividualEnrollment)]
    ).order_by("individual", "slot")
    held: dict[str, list[ParsedCertificate]] = {}
    for key, pem in rows.values_list("individual__registration_key", "certificate__pem"):
        held.setdefault(key or "", []).append(parsed(pem))
    return held


def _bars_of(service: ProvisioningService, entries: Sequence[Entry]) -> set[str]:
    """The registration keys of those that are disabled: what bars a device goes on barring its keys (R6)."""
    as_of = switches_now(service)
    individuals = [one for one in entries if isinstance(one, IndividualEnrollment)]
    return {one.registration_key for one in individuals if not as_of.enabled(one)}


def _epoch_at_its_end(service: ProvisioningService) -> int:
    """The epoch that this change leaves behind: the lock raises it once more when it is given back."""
    return ProvisioningService.epoch_of(service.pk) + 1
