"""What stands above a group: through which other entries its devices could come in, those included that nobody knows.

A preview tells of devices that are known. A device below a CA that has never registered is none of them.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils import timezone

from enrollments.actions.certificates import parsed
from enrollments.actions.judging import group_ref, individual_ref
from enrollments.attestation.x509 import (
    MAX_HELD,
    ParsedCertificate,
    PresentedChain,
    SearchExhausted,
    build_chain_graph,
)
from enrollments.models import EnrollmentGroup, HeldRole, IndividualEnrollment, ProvisioningService
from enrollments.models.ca_certificates import with_proof
from enrollments.models.certificates import HeldCertificateQuerySet
from enrollments.models.switches import AsOf, Switch
from enrollments.policy.facts import EntryKind, EntryRef


@dataclass(frozen=True, slots=True)
class BelowAnother:
    """A group whose CA was itself issued below others: what those say about all devices of the group.

    `barred_by` speaks before `through` does (R7). `uncertain`: the search ran out, so nothing is known.
    until: when the last of those that bar is enabled by itself; None where one of them never is. through_then: what
    admits then.
    """

    group: EntryRef
    through: tuple[EntryRef, ...] = ()
    barred_by: tuple[EntryRef, ...] = ()
    uncertain: bool = False
    until: datetime | None = None
    through_then: tuple[EntryRef, ...] = ()

    @property
    def is_open(self) -> bool:
        """Now or later."""
        return bool(self.through_then or (self.through and not self.barred_by))


def below_others(
    service: ProvisioningService,
    groups: Iterable[EnrollmentGroup],
    gone: Collection[EntryRef] = (),
    *,
    at: datetime | None = None,
) -> list[BelowAnother]:
    """Where the CAs of these groups stand below other entries, without those that are `gone`; at a time to come too."""
    now = at or timezone.now()
    as_of = _as_of(service, at)
    return [_below(service, group, gone, now, as_of) for group in groups]


def disabled_groups_above(
    service: ProvisioningService, individuals: Iterable[IndividualEnrollment], *, at: datetime | None = None
) -> tuple[EntryRef, ...]:
    """Disabled groups whose keys stand above certificates of these entries: enabled, they admit all the same (R8)."""
    as_of = _as_of(service, at)
    held = service.held_certificates.all()
    rows = held.filter(individual__in=individuals).exclude(role=HeldRole.HELPER).select_related("certificate")
    try:
        keys = _keys_above(held, [PresentedChain(parsed(one.certificate.pem), ()) for one in rows], as_of)
    except SearchExhausted:
        return ()  # it says what an enabling overrides, and bars nothing
    met = (
        held.anchors()
        .filter(as_of.where(enabled=False, prefix="group__"), spki_sha256__in=keys)
        .select_related("group")
        .order_by("pk")
    )
    return tuple(dict.fromkeys(group_ref(one.group) for one in met if one.group is not None))


def _as_of(service: ProvisioningService, at: datetime | None) -> AsOf:
    standing = ProvisioningService.what_decisions_read(service.pk)
    return standing.as_of_now() if at is None else standing.as_of(at)


def _keys_above(held: HeldCertificateQuerySet, chains: Iterable[PresentedChain], as_of: AsOf) -> set[str]:
    """Public keys that are met as signatures are followed upwards from the first of each chain, its own included."""

    def issuers(
        *, subjects: frozenset[str], key_ids: frozenset[str], spkis: frozenset[str]
    ) -> list[ParsedCertificate]:
        rows = held.that_may_have_issued(subjects, key_ids, spkis, as_of)
        return [parsed(pem) for pem in rows.values_list("certificate__pem", flat=True)[: MAX_HELD + 1]]

    keys: set[str] = set()
    for chain in chains:
        keys |= build_chain_graph(chain, issuers).key_steps().keys()
    return keys


def _below(
    service: ProvisioningService,
    group: EnrollmentGroup,
    gone: Collection[EntryRef],
    now: datetime,
    as_of: AsOf,
) -> BelowAnother:
    """Follow the signatures from the CA of the group upwards, as from a device below it."""
    ref = group_ref(group)
    left_out = {ref, *gone}
    held = service.held_certificates.exclude(
        group__in=[one.pk for one in gone if one.kind is EntryKind.GROUP]
    ).exclude(individual__in=[one.pk for one in gone if one.kind is EntryKind.INDIVIDUAL])

    own = list(group.certificates.select_related("certificate"))
    helpers = tuple(parsed(one.certificate.pem) for one in own if one.role == HeldRole.HELPER)
    anchors = [parsed(one.certificate.pem) for one in own if one.role == HeldRole.ANCHOR]
    try:
        keys = _keys_above(held, [PresentedChain(anchor, helpers) for anchor in anchors], as_of)
    except SearchExhausted:
        return BelowAnother(ref, uncertain=True)
    through, barring = [], []
    demanded = ProvisioningService.what_decisions_read(service.pk).proof_of_possession
    met = held.anchors().filter(spki_sha256__in=keys).select_related("group", "certificate").order_by("pk")
    if demanded:
        met = met.annotate(has_proof=with_proof(service.pk))
    for one in met:
        assert one.group is not None  # a database constraint: held_certificate_has_its_place
        if group_ref(one.group) in left_out:
            continue
        if not as_of.enabled(one.group):
            barring.append((group_ref(one.group), _opens_at(one.group, as_of)))
        elif demanded and not one.has_proof:  # type: ignore[attr-defined]  # the annotation
            continue
        elif one.certificate.not_before <= now <= one.certificate.not_after:
            through.append(group_ref(one.group))
    for one in held.barring_keys(keys, as_of).select_related("individual").order_by("pk"):
        assert one.individual is not None  # the same
        barring.append((individual_ref(one.individual), _opens_at(one.individual, as_of)))
    told = BelowAnother(ref, tuple(dict.fromkeys(through)), tuple(dict.fromkeys(one for one, _ in barring)))
    opening = [at for _, at in barring if at is not None]
    if not barring or len(opening) < len(barring):
        return told
    until = max(opening)
    then = _below(service, group, gone, until, _as_of(service, until))
    return replace(told, until=until, through_then=() if then.barred_by else then.through)


def _opens_at(entry: Switch, as_of: AsOf) -> datetime | None:
    """When one that is disabled as of a time is enabled by itself after it."""
    at = entry.switches_at
    return at if not entry.enabled and at is not None and at > as_of.at else None
