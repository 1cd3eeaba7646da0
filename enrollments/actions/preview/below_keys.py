"""Devices whose individual enrollments hold certificates that a change of bars may reach (R6), shown or not."""

from collections.abc import Collection, Iterable

from django.db.models import Q

from enrollments.actions.preview.issuers import Issuer
from enrollments.actions.preview.signing import possible_signers
from enrollments.actions.preview.touched import in_portions
from enrollments.models import HeldCertificate, HeldRole, ProvisioningService


def devices_with(service: ProvisioningService, spkis: Collection[str]) -> frozenset[str]:
    """The registration keys of those whose enrolled certificate has one of these keys."""
    of_devices = HeldCertificate.objects.filter(service=service, role=HeldRole.DEVICE).order_by()
    found: set[str] = set()
    for some in in_portions(spkis):
        found.update(_keys(of_devices.filter(spki_sha256__in=some).values_list(_KEY, flat=True)))
    return frozenset(found)


def devices_below(
    service: ProvisioningService, spkis: Collection[str], brought: Collection[Issuer] = ()
) -> frozenset[str]:
    """The same, and of those whose enrolled certificate may lie below one of these keys.

    By names and key identifiers, as the search for paths asks: no signature is checked. brought: what else may lie
    between, besides what is held.
    """
    if not spkis:
        return frozenset()
    held = HeldCertificate.objects.filter(service=service)
    of_devices = held.filter(role=HeldRole.DEVICE).order_by()
    found = set(devices_with(service, spkis))
    named = {(one.subject, one.key_id) for one in brought if one.spki in spkis}
    for some in in_portions(spkis):
        named.update(held.filter(spki_sha256__in=some).values_list("subject_sha256", "subject_key_id"))
    fresh = named
    while fresh:
        between = _issued_among(brought, fresh)
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
    subjects, key_ids = _apart(named)
    return Q(certificate__issuer_sha256__in=subjects) | Q(certificate__authority_key_id__in=key_ids)


def _issued_among(brought: Collection[Issuer], named: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    subjects, key_ids = _apart(named)
    below = (one for one in brought if one.issuer in subjects or one.authority_key_id in key_ids)
    return {(one.subject, one.key_id) for one in below}


def _apart(named: Collection[tuple[str, str]]) -> tuple[set[str], set[str]]:
    """Names, and key identifiers where there are any."""
    return {one for one, _ in named}, {one for _, one in named if one}
