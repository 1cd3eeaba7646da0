"""Devices that are known by their individual enrollments alone, whose certificates a change of bars may reach (R6)."""

from collections.abc import Collection, Iterable

from django.db.models import Q

from enrollments.actions.preview.kinds import possible_signers
from enrollments.actions.preview.touched import in_portions
from enrollments.models import HeldCertificate, HeldRole, ProvisioningService


def devices_below(service: ProvisioningService, spkis: Collection[str]) -> frozenset[str]:
    """The registration keys of those whose enrolled certificate has one of these keys, or may lie below one.

    By names and key identifiers, as the search for paths asks: no signature is checked.
    """
    if not spkis:
        return frozenset()
    held = HeldCertificate.objects.filter(service=service)
    of_devices = held.filter(role=HeldRole.DEVICE).order_by()
    found: set[str] = set()
    for some in in_portions(spkis):
        found.update(_keys(of_devices.filter(spki_sha256__in=some).values_list(_KEY, flat=True)))
    named: set[tuple[str, str]] = set()
    for some in in_portions(spkis):
        named.update(held.filter(spki_sha256__in=some).values_list("subject_sha256", "subject_key_id"))
    fresh = named
    while fresh:
        between: set[tuple[str, str]] = set()
        for issuers in in_portions(fresh):
            below = _issued_by(issuers)
            found.update(_keys(of_devices.filter(below).values_list(_KEY, flat=True)))
            between.update(
                possible_signers(service).filter(below).values_list("subject_sha256", "subject_key_id")
            )
        fresh = between - named
        named |= fresh
    return frozenset(found)


_KEY = "individual__registration_key"


def _keys(values: "Iterable[str | None]") -> set[str]:
    return {one for one in values if one}


def _issued_by(named: Collection[tuple[str, str]]) -> Q:
    subjects, key_ids = {one for one, _ in named}, {one for _, one in named if one}
    return Q(certificate__issuer_sha256__in=subjects) | Q(certificate__authority_key_id__in=key_ids)
