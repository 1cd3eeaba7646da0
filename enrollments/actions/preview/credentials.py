"""The credentials by which one device is known, and what they make of it together.

What its record has as evidence; what it proved itself with since; what its individual enrollment holds for it. Each is
decided about by itself, and that counts which the device showed last of those that let it in: nobody here knows which
of them it shows next.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from enrollments.actions.attempts_certificates import Came
from enrollments.actions.attempts_keys import Signed
from enrollments.actions.preview.effects import Device, Effect, Outcome
from enrollments.actions.preview.outcomes import Known
from enrollments.actions.preview.secrets import MADE, NO_SECRETS, KeyGroup
from enrollments.actions.preview.world import Individual, World
from enrollments.models import HeldCertificate, HeldRole, ProvisioningService
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryRef, Mechanism

Side = tuple[Outcome | None, EntryRef | None]


def place_of(key: str, thumbprint: str) -> str:
    """Under which a certificate that is not in the record of a device is looked at. No registration key has a space."""
    return f"{key} {thumbprint}"


def device_at(place: str) -> str:
    """The registration key of the device; of what is in its record, that is the place."""
    return place.partition(" ")[0]


def enrolled_for(service: ProvisioningService, keys: Collection[str]) -> Iterator[tuple[str, str, Came]]:
    """What individual enrollments hold for devices, as if these had shown it: registration key, thumbprint, and that.

    Of one device the primary certificate first.
    """
    held = HeldCertificate.objects.filter(
        service=service, role=HeldRole.DEVICE, individual__registration_key__in=keys
    ).order_by("individual", "slot")
    columns = (
        "individual__registration_key",
        "individual__registration_id",
        "certificate__thumbprint_sha256",
        "certificate__pem",
    )
    for key, name, thumbprint, pem in held.values_list(*columns):
        yield key or "", thumbprint, Came(name or "", (pem,))


def keys_enrolled(
    key: str, before: Individual | None, after: Individual | None
) -> tuple[list[Known], list[Known]]:
    """What else a device may sign with: what its entry holds before the change, and what the change brings."""
    held, brought = [], []
    if before is not None and before.secrets:
        held.append(Known(key, before.ref.name, before.mechanism, readings=(before.secrets,)))
    if after is not None and after.secrets:
        new = after.secrets - MADE - (before.secrets if before is not None else NO_SECRETS)
        if new:
            brought.append(Known(key, after.ref.name, after.mechanism, readings=(new,)))
    return held, brought


# Of what is enrolled and was not shown.
NEVER = datetime.min.replace(tzinfo=UTC)


def known_by_key(place: str, signed: Signed) -> Known:
    """By a key that it proved at an attempt."""
    readings = tuple(frozenset({one}) for one in signed.key_ids)
    return Known(
        device_at(place),
        signed.registration_id,
        signed.mechanism,
        readings=readings,
        place=place,
        is_former=signed.was_outlived,
    )


def is_signed_for(signed: Signed, groups: Collection[KeyGroup]) -> bool:
    """Whether the device may have from one of these groups the key that it signed with."""
    if not signed.key_ids:
        return bool(groups)
    return signed.mechanism is Mechanism.SYMMETRIC_KEY and any(
        group.signs_for(signed.registration_id, frozenset({one}))
        for one in signed.key_ids
        for group in groups
    )


def with_derived(known: Known, groups: Collection[KeyGroup]) -> Known:
    """With the key that such a device has from one of these groups, be it that its entry holds that one.

    What an attempt keeps of a key that is derived from a group's is which of the group's it was.
    """
    if known.mechanism is not Mechanism.SYMMETRIC_KEY:
        return known
    readings = tuple(
        secrets.union(*(group.derived_by(known.registration_id, secrets) for group in groups))
        for secrets in known.readings
    )
    return replace(known, readings=readings)


def is_settled(device: Device | None, key: str, worlds: Sequence[World], *, is_last: bool) -> bool:
    """Whether no other credential could make another thing of the device, before the change or after it.

    is_last: whether it showed that one last, as far as is known.
    """
    if device is None or not (is_last or device.after is None or not device.after.admitted):
        return False
    return all(
        _is_best(outcome, held, world.individuals.get(key))
        for (outcome, held), world in zip(_sides(device), worlds, strict=True)
    )


def _is_best(outcome: Outcome | None, held: EntryRef | None, individual: Individual | None) -> bool:
    if outcome is None:
        return False
    if outcome.admitted:
        return held is None
    # R5: whatever it shows.
    return outcome.verdict is Verdict.DISABLED and individual is not None and not individual.enabled


def together(
    name: str,
    shown: Sequence[Device | None],
    held: Sequence[Device | None],
    brought: Sequence[Device | None],
) -> Device | None:
    """What these credentials make of one device. None: it was not examined.

    shown: what it has shown, that which it showed last first. Of those that let it in before the change or after it the
    first counts, be it that by another one (`unless`) it comes in all the same: nobody knows whether it still has that.
    held: what its entry holds, and it never showed. That counts where nothing that it has shown does.
    brought: what the change gives to its entry. Until somebody hands that to the device, it shows what it has; so who
    is admitted before and refused with that is refused. Whoever was out may come in by it.
    """
    for one in shown:
        if one is None:
            return None
        if _is_in(one):
            return _unless(name, one, [*shown, *held]) if one.effect is Effect.REFUSED else one.of(name)
    told = _best(name, [*shown, *held])
    if told is not None and _admitted(_sides(told)[0]) and told.held_before is None:
        return told
    return _best(name, [*shown, *held, *brought])


def _is_in(device: Device) -> bool:
    """Whether it lets the device in, before the change or after it; under a name that is another's it does not."""
    return any(_admitted(side) and side[1] is None for side in _sides(device))


def _unless(name: str, refused: Device, known: Sequence[Device | None]) -> Device | None:
    """Where it is not known whether another one lets it in, nor is what becomes of the device."""
    through = None
    after, is_known = refused.after, True
    for one in known:
        if one is None:
            return None
        if through is None and _admitted(_sides(one)[1]) and one.held_after is None:
            through = one.through
        is_known = is_known and one.after is not None
    if through is None and not is_known:
        after = None
    return Device(name, refused.before, after, refused.held_before, refused.held_after, through)


def _best(name: str, devices: Sequence[Device | None]) -> Device | None:
    examined = [one for one in devices if one is not None]
    if not examined:
        return None
    before, after = (
        _best_side([_sides(one)[0] for one in examined]),
        _best_side([_sides(one)[1] for one in examined]),
    )
    if len(examined) < len(devices) and (_rank(before), _rank(after)) != (_BEST, _BEST):
        return None
    return Device(name, before[0], after[0], before[1], after[1])


def _best_side(sides: Sequence[Side]) -> Side:
    """Of those that are alike the first."""
    return min(sides, key=_rank)


_BEST = 0


def _rank(side: Side) -> int:
    outcome, held = side
    if outcome is None:
        return 2  # it may be admitted
    if outcome.admitted:
        return _BEST if held is None else 1
    return 3 if outcome.verdict is Verdict.DISABLED else 4


def _admitted(side: Side) -> bool:
    return side[0] is not None and side[0].admitted


def _sides(device: Device) -> tuple[Side, Side]:
    return (device.before, device.held_before), (device.after, device.held_after)
