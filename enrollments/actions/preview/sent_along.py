"""What a device may send along when the certificates are gone that are at hand now (R7).

A leaf alone is enough where its issuers are enrolled. Where a group is deleted, or a CA or helper of it replaced or
removed, the device is refused with what it sends; but their certificates are no secret, and with them it may be
admitted by a group higher up.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import combinations

from django.db.models import Exists, OuterRef, Q, QuerySet

from enrollments.actions.certificates import parsed
from enrollments.actions.preview.effects import Device, Preview, Sides
from enrollments.actions.preview.limits import NO_LIMITS, Limits
from enrollments.actions.preview.rehearsing import preview_of
from enrollments.actions.preview.touched import Entry
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import MAX_SENT, ParsedCertificate, is_signed_by
from enrollments.models import (
    AttestationMechanism,
    CaCertificate,
    Certificate,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationEvidence,
)
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryRef


def held_by(entries: Iterable[Entry]) -> list[HeldCertificate]:
    """The certificates of these groups by which a path may lead further."""
    groups = [one.pk for one in entries if isinstance(one, EnrollmentGroup)]
    held = HeldCertificate.objects.filter(group__in=groups).select_related("certificate").order_by("pk")
    return [one for one in held if not _is_self_signed(parsed(one.certificate.pem))]


def _is_self_signed(one: ParsedCertificate) -> bool:
    """Not all that is self-issued is (RFC 5280, 3.2): a new key that the one before has signed leads further."""
    return one.is_self_issued and is_signed_by(one, one.public_key)


def gone_of(service: ProvisioningService, held: Sequence[HeldCertificate]) -> list[HeldCertificate]:
    """Asked after a change: those of these certificates, each once, that no group holds any more.

    None where no group with certificates is left: there is nothing that they could lead to.
    """
    if not held or _a_group(service) is None:
        return []
    once = {one.certificate_id: one for one in held}
    of_groups = HeldCertificate.objects.filter(service=service, group__isnull=False, certificate__in=once)
    there = set(of_groups.values_list("certificate", flat=True))
    return [one for pk, one in once.items() if pk not in there]


def keep_at_hand(
    service: ProvisioningService, gone: Iterable[HeldCertificate], *, left_out: Collection[int] = ()
) -> None:
    """Hold these as helpers: what a device sends along is at hand, and trusted for nothing (R7). To be rehearsed alone.

    Whose helpers they are makes no difference, so it may be the very group that held them: they lead to nothing but
    what groups hold after the change. left_out: numbers of certificates that the device does not send.
    """
    group = _a_group(service)
    HeldCertificate.objects.bulk_create(
        HeldCertificate(
            service=service,
            certificate=one.certificate,
            role=HeldRole.HELPER,
            group=group,
            subject_sha256=one.subject_sha256,
            spki_sha256=one.spki_sha256,
            subject_key_id=one.subject_key_id,
        )
        for one in gone
        if one.certificate_id not in left_out
    )


def _a_group(service: ProvisioningService) -> EnrollmentGroup | None:
    groups = service.enrollmentgroups.filter(mechanism=AttestationMechanism.X509)
    return groups.without_secrets().order_by("pk").first()


def some_are_out(preview: Preview) -> bool:
    return any(_is_out(one.sides) for one in preview.devices)


def with_what_is_sent_along(preview: Preview, at_hand: Preview) -> Preview:
    """Said of who is out afterwards: through which entry it is in by sending that. at_hand: see keep_at_hand."""
    let_in = {one.registration_id: _lets_in(one.sides) for one in at_hand.devices}
    said: dict[tuple[int, EntryRef], Sides] = {}
    devices = []
    for device in preview.devices:
        through = None
        if _is_out(device.sides) and device.unless is None:
            if device.registration_id in let_in:
                through = let_in[device.registration_id]
            elif not at_hand.not_examined:
                # With these at hand the change makes no difference to it.
                through = _let_in_before(device.sides)
        if through is not None:
            likeness = id(device.sides), through
            if likeness not in said:
                said[likeness] = replace(device.sides, unless=through, is_sent_along=True)
            device = Device.with_sides(device.registration_id, said[likeness])
        devices.append(device)
    return replace(
        preview, devices=tuple(devices), not_examined=max(preview.not_examined, at_hand.not_examined)
    )


def _lets_in(sides: Sides) -> EntryRef | None:
    """By whichever of its credentials."""
    is_in = sides.after is not None and sides.after.admitted and sides.held_after is None
    return sides.through if is_in else sides.unless


def _let_in_before(sides: Sides) -> EntryRef | None:
    is_in = sides.before is not None and sides.before.admitted and sides.held_before is None
    return sides.before.through if sides.before is not None and is_in else None


def _is_out(sides: Sides) -> bool:
    return sides.after is not None and not sides.after.admitted


def certificates_of(entries: Iterable[Entry]) -> tuple[ParsedCertificate, ...]:
    """The certificates of these groups by which a path may lead further."""
    return tuple(parsed(one.certificate.pem) for one in held_by(entries))


def sending_along(
    shown: PresentedCredential, chain: Sequence[ParsedCertificate], more: Sequence[ParsedCertificate]
) -> PresentedCredential:
    """The same with those of these certificates behind its own that may stand above them; no more than are accepted.

    chain: what is shown, parsed.
    """
    sent = list(chain)
    while (
        above := next((one for one in more if one not in sent and _is_above(one, sent)), None)
    ) is not None:
        sent.append(above)
    behind = (one.der for one in sent[len(chain) :])
    return replace(shown, certificates=tuple(dict.fromkeys([*shown.certificates, *behind]))[:MAX_SENT])


def _is_above(one: ParsedCertificate, sent: Iterable[ParsedCertificate]) -> bool:
    return any(
        below.issuer_sha256 == one.subject_sha256
        or (one.subject_key_id and below.authority_key_id == one.subject_key_id)
        for below in sent
    )


# Told, in each rehearsal, what the change has taken from groups (gone_of).
Then = Callable[[list[HeldCertificate]], object]


# Of so many certificates that a device may leave out each choice is looked at: at a glance, and where all is examined.
MOST_LEFT_OUT, MOST_LEFT_OUT_OF_ALL = 3, 6
# Devices of which something is told: of more, the second preview takes longer than to ask whether it can matter.
MANY = 5000


def looked_at_twice(
    service: ProvisioningService, look: Callable[[Then], Preview], limits: Limits | None = None
) -> Preview:
    """The preview that `look` makes of a change; and once more with what is gone at hand, where that can matter.

    Where something of this leads to a bar, a device may leave that out: if it has a choice, each is looked at. If there
    are too many, those devices are not among the examined.
    """
    gone: list[HeldCertificate] = []
    leads_on: list[bool] = []

    def note(taken: list[HeldCertificate]) -> None:
        gone.extend(taken)
        # What the change itself brings is not known any more once that is taken back.
        others = HeldCertificate.objects.filter(service=service)
        # One index each.
        leads_on.extend(others.filter(one).exists() for one in _may_stand_above(taken))

    told = look(note)
    if not gone or not some_are_out(told):
        return told
    if len(told.devices) > MANY and not any(leads_on) and not _is_known_above(service, gone):
        return told
    at_hand = look(partial(keep_at_hand, service))
    said = with_what_is_sent_along(told, at_hand)
    barred = _barred_by_what_is_at_hand(said, at_hand)
    if not barred:
        return said
    optional = _with_others_of_their_keys(service, gone)
    if len(optional) > (MOST_LEFT_OUT_OF_ALL if limits == NO_LIMITS else MOST_LEFT_OUT):
        examined = tuple(one for one in said.devices if one.registration_id not in barred)
        return replace(said, devices=examined, not_examined=said.not_examined + len(barred))
    for number in range(len(optional)):
        for left_out in combinations(optional, number + 1):
            said = with_what_is_sent_along(said, look(partial(keep_at_hand, service, left_out=left_out)))
    return said


def _may_stand_above(gone: Collection[HeldCertificate]) -> tuple[Q, Q]:
    """Of certificates: by the name of the issuer, or by its key identifier (RFC 5280, 6.1.3 a 4 and 4.2.1.1)."""
    issuers = {one.certificate.issuer_sha256 for one in gone}
    key_ids = {one.certificate.authority_key_id for one in gone} - {""}
    return Q(subject_sha256__in=issuers), Q(subject_key_id__in=key_ids)


def _known_to(service: ProvisioningService, certificates: QuerySet[Certificate]) -> QuerySet[Certificate]:
    """Those of these, of which there are few, that this service holds or that a device of it sent.

    What others know is not asked: it would show in the numbers of this one (R1).
    """
    by_number, by_thumbprint = OuterRef("pk"), OuterRef("thumbprint_sha256")
    cas = CaCertificate.objects.filter(service=service)
    attempts = RegistrationAttempt.objects.filter(service=service)
    return certificates.filter(
        Exists(HeldCertificate.objects.filter(service=service, certificate=by_number))
        | Exists(cas.filter(Q(certificate=by_number) | Q(proof=by_number)))
        | Exists(RegistrationEvidence.objects.filter(registration__service=service, certificate=by_number))
        | Exists(attempts.filter(Q(leaf_thumbprint=by_thumbprint) | Q(chain__contains=by_thumbprint)))
    )


def _is_known_above(service: ProvisioningService, gone: Collection[HeldCertificate]) -> bool:
    """Whether a certificate is known, be it that a device sent it, that may stand above these, and is none of them."""
    by_name, by_key_id = _may_stand_above(gone)
    of_gone = [one.certificate_id for one in gone]
    above = Certificate.objects.exclude(pk__in=of_gone).filter(by_name | by_key_id)
    return _known_to(service, above).exists()


def _barred_by_what_is_at_hand(said: Preview, at_hand: Preview) -> set[str]:
    """Those that are out and are barred by that alone."""
    barred = {one.registration_id for one in at_hand.devices if _is_barred(one.sides)}
    out = (one for one in said.devices if _is_out(one.sides) and one.unless is None)
    return {one.registration_id for one in out if one.registration_id in barred and not _is_barred(one.sides)}


def _is_barred(sides: Sides) -> bool:
    return sides.after is not None and sides.after.verdict is Verdict.DISABLED


def _with_others_of_their_keys(service: ProvisioningService, gone: Iterable[HeldCertificate]) -> list[int]:
    """Numbers of those certificates of whose key another one is known: a chain may go by that, and another way."""
    once = {one.certificate_id: one.spki_sha256 for one in gone}
    several = Counter(once.values())
    others = Certificate.objects.filter(spki_sha256__in=once.values()).exclude(pk__in=once).order_by()
    several.update(_known_to(service, others).values_list("spki_sha256", flat=True))
    return sorted(pk for pk, spki in once.items() if several[spki] > 1)


def preview_with_what_is_sent_along(
    service: ProvisioningService,
    change: Callable[[], Iterable[Entry]],
    entries: Sequence[Entry],
    *,
    at: datetime | None = None,
    instead_of: Callable[[], object] | None = None,
    limits: Limits | None = None,
) -> Preview:
    """Of a change that may take certificates from groups, or the groups themselves: see preview_of."""

    def look(then: Then) -> Preview:
        def changed() -> list[Entry]:
            held = held_by(entries)
            added = list(change())
            then(gone_of(service, held))
            return added

        return preview_of(service, changed, entries, at=at, instead_of=instead_of, limits=limits)

    return looked_at_twice(service, look, limits)
