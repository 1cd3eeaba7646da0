"""What a device may send along when the certificates are gone that are at hand now (R7).

A leaf alone is enough where its issuers are enrolled. Without these the device is refused with what it sends; but their
certificates are no secret, and with them it may be admitted by a group higher up.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from django.db.models import Q

from enrollments.actions.certificates import parsed
from enrollments.actions.preview.effects import Device, Preview, Sides
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.rehearsing import preview_of
from enrollments.actions.preview.touched import Entry
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import MAX_SENT, ParsedCertificate, is_signed_by
from enrollments.models import (
    AttestationMechanism,
    Certificate,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    ProvisioningService,
)
from enrollments.policy.facts import EntryRef

# Devices of which something is told.
MANY = 5000


def held_by(entries: Iterable[Entry]) -> list[HeldCertificate]:
    """The certificates of these groups by which a path may lead further."""
    groups = [one.pk for one in entries if isinstance(one, EnrollmentGroup)]
    held = HeldCertificate.objects.filter(group__in=groups).select_related("certificate").order_by("pk")
    return [one for one in held if not _is_self_signed(parsed(one.certificate.pem))]


def _is_self_signed(one: ParsedCertificate) -> bool:
    """Not all that is self-issued is (RFC 5280, 3.2): a new key that the one before has signed leads further."""
    return one.is_self_issued and is_signed_by(one, one.public_key)


def and_keep_at_hand(
    service: ProvisioningService, change: Callable[[], list[Entry]], entries: Sequence[Entry]
) -> Callable[[], list[Entry]] | None:
    """The change that deletes these, after which their certificates are at hand all the same: to be rehearsed alone.

    None where that makes no difference: they lead nowhere, or no other group is there that could admit anybody.
    """
    held = held_by(entries)
    gone = [one.pk for one in entries if isinstance(one, EnrollmentGroup)]
    others = service.enrollmentgroups.filter(mechanism=AttestationMechanism.X509).exclude(pk__in=gone)
    other = others.without_secrets().order_by("pk").first() if held else None
    if other is None:
        return None

    def changed() -> list[Entry]:
        left = change()
        there = set(other.certificates.values_list("certificate", flat=True))
        HeldCertificate.objects.bulk_create(
            HeldCertificate(
                service=service,
                certificate=one.certificate,
                role=HeldRole.HELPER,
                group=other,
                subject_sha256=one.subject_sha256,
                spki_sha256=one.spki_sha256,
                subject_key_id=one.subject_key_id,
            )
            for one in {one.certificate_id: one for one in held}.values()
            if one.certificate_id not in there
        )
        return left

    return changed


def _may_lead_on(gone: Collection[HeldCertificate]) -> bool:
    """Whether a certificate is known that may stand above one of these, and is none of them (RFC 5280, 6.1.3 a 4)."""
    certificates = [one.certificate for one in gone]
    named = Q(subject_sha256__in={one.issuer_sha256 for one in certificates})
    named |= Q(subject_key_id__in={one.authority_key_id for one in certificates} - {""})
    others = Certificate.objects.exclude(
        thumbprint_sha256__in=[one.thumbprint_sha256 for one in certificates]
    )
    return others.filter(named).exists()


def some_are_out(preview: Preview) -> bool:
    return any(_is_out(one.sides) for one in preview.devices)


def with_what_is_sent_along(preview: Preview, at_hand: Preview) -> Preview:
    """Said of who is out afterwards: through which entry it is in by sending that. at_hand: see and_keep_at_hand."""
    let_in = ((one.registration_id, _lets_in(one.sides)) for one in at_hand.devices)
    admitted: dict[str, EntryRef] = {name: through for name, through in let_in if through is not None}
    said: dict[tuple[int, EntryRef], Sides] = {}
    devices = []
    for device in preview.devices:
        through = admitted.get(device.registration_id) if _is_out(device.sides) else None
        if through is not None and device.unless is None:
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


def preview_of_deleting(
    service: ProvisioningService,
    change: Callable[[], list[Entry]],
    entries: Sequence[Entry],
    *,
    at: datetime | None = None,
    limits: Limits | None = None,
) -> Preview:
    """Of a change that deletes these: see preview_of."""
    told = preview_of(service, change, entries, at=at, limits=limits)
    if not some_are_out(told) or (kept := and_keep_at_hand(service, change, entries)) is None:
        return told
    # Of many devices the second preview takes as long as the first one; of few, longer than to look for those.
    if len(told.devices) > MANY and not _may_lead_on(held_by(entries)):
        return told
    return with_what_is_sent_along(told, preview_of(service, kept, entries, at=at, limits=limits))
