"""What a device may send along when the certificates are gone that are at hand now (R7).

A leaf alone is enough where its issuers are enrolled. Without these the device is refused with what it sends; but their
certificates are no secret, and with them it may be admitted by a group higher up.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from ssl import PEM_cert_to_DER_cert

from django.db.models import F

from enrollments.actions.preview.effects import Device, Preview, Sides
from enrollments.actions.preview.touched import Entry
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import MAX_SENT
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    ProvisioningService,
)
from enrollments.policy.facts import EntryRef


def held_by(entries: Iterable[Entry]) -> list[HeldCertificate]:
    """The certificates of these groups by which a path may lead further."""
    groups = [one.pk for one in entries if isinstance(one, EnrollmentGroup)]
    held = HeldCertificate.objects.filter(group__in=groups).select_related("certificate").order_by("pk")
    return list(held.exclude(certificate__issuer_sha256=F("certificate__subject_sha256")))


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


def some_are_out(preview: Preview) -> bool:
    return any(_is_out(one.sides) for one in preview.devices)


def with_what_is_sent_along(preview: Preview, at_hand: Preview) -> Preview:
    """Said of who is out afterwards: through which entry it is in by sending that. at_hand: see and_keep_at_hand."""
    admitted: dict[str, EntryRef] = {
        one.registration_id: one.through
        for one in at_hand.devices
        if one.through is not None and one.after is not None and one.after.admitted and one.held_after is None
    }
    said: dict[tuple[int, EntryRef], Sides] = {}
    devices = []
    for device in preview.devices:
        through = admitted.get(device.registration_id) if _is_out(device.sides) else None
        if through is not None and device.unless is None:
            likeness = id(device.sides), through
            if likeness not in said:
                said[likeness] = replace(device.sides, unless=through)
            device = Device.with_sides(device.registration_id, said[likeness])
        devices.append(device)
    return replace(
        preview, devices=tuple(devices), not_examined=max(preview.not_examined, at_hand.not_examined)
    )


def _is_out(sides: Sides) -> bool:
    return sides.after is not None and not sides.after.admitted


def ders_of(entries: Iterable[Entry]) -> tuple[bytes, ...]:
    """The certificates of these groups, as DER."""
    return tuple(PEM_cert_to_DER_cert(one.certificate.pem) for one in held_by(entries))


def sending_along(shown: PresentedCredential, more: Sequence[bytes]) -> PresentedCredential:
    """The same with these certificates behind its own; no more than are accepted."""
    if not shown.certificates:
        return shown
    return replace(shown, certificates=tuple(dict.fromkeys([*shown.certificates, *more]))[:MAX_SENT])
