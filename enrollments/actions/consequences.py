"""What deleting entries would do, asked before it is done: deleting can widen access (R7)."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from django.db.models import Q
from django.utils import timezone

from enrollments.actions.certificates import parsed
from enrollments.actions.judging import group_ref, individual_ref, judge
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import (
    MAX_HELD,
    ParsedCertificate,
    PresentedChain,
    SearchExhausted,
    build_chain_graph,
)
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationEvidence,
    RegistrationRecord,
)
from enrollments.models.switches import AsOf
from enrollments.policy.facts import EntryKind, EntryRef

Entry = IndividualEnrollment | EnrollmentGroup

# Each device is judged once more, so a question about a large group looks at its most recent devices only.
MAX_DEVICES = 500
MAX_SECONDS = 2.0
MAX_NAMES = 5


@dataclass(frozen=True, slots=True)
class StillAdmitted:
    """Devices that come in through another entry once the entries are gone."""

    through: EntryRef
    devices: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.devices)

    @property
    def examples(self) -> tuple[str, ...]:
        return self.devices[:MAX_NAMES]

    @property
    def unnamed(self) -> int:
        return max(0, self.count - MAX_NAMES)


@dataclass(frozen=True, slots=True)
class BelowAnother:
    """A group whose CA was itself issued below others: what those say about all devices of the group.

    `barred_by` speaks before `through` does (R7). `uncertain`: the search ran out, so nothing is known.
    """

    group: EntryRef
    through: tuple[EntryRef, ...] = ()
    barred_by: tuple[EntryRef, ...] = ()
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class Consequences:
    """`known`: devices that these entries decided about; `examined`: those of them that were looked at.

    `unknown`: barred devices of which no certificate was ever seen, so that nobody can say who would admit them.
    """

    entries: tuple[EntryRef, ...]
    known: int
    examined: int
    still_admitted: tuple[StillAdmitted, ...]
    refused: int
    unknown: tuple[str, ...]
    no_longer_barring: tuple[EntryRef, ...]
    below_others: tuple[BelowAnother, ...]

    @property
    def admitted(self) -> int:
        return sum(one.count for one in self.still_admitted)

    @property
    def is_partial(self) -> bool:
        return self.examined < self.known

    @property
    def widens_access(self) -> bool:
        """Whether keeping the entries, disabled, would keep out what deleting them lets in."""
        open_groups = any(one.through and not one.barred_by for one in self.below_others)
        return bool(self.still_admitted or self.no_longer_barring or open_groups)


@dataclass(frozen=True, slots=True)
class _Device:
    """A device with everything that it is known to hold; chains are DER, leaf first."""

    registration_id: str
    chains: tuple[tuple[bytes, ...], ...]
    signs: bool


def consequences_of_deleting(
    service: ProvisioningService, entries: Sequence[Entry], *, at: datetime | None = None
) -> Consequences:
    """Judge the devices of these entries as if the entries were not there.

    A device that signs tokens is refused: the entry that goes is the only place that knows its key.
    """
    now = at or timezone.now()
    standing = ProvisioningService.what_decisions_read(service.pk)
    as_of = standing.as_of_now() if at is None else standing.as_of(at)
    gone = [_ref(entry) for entry in entries]
    candidates, known = _devices(service, entries, as_of)
    through: dict[EntryRef, list[str]] = {}
    unknown: list[str] = []
    refused = 0
    for device in _as_many_as_there_is_time_for(candidates):
        if not device.chains and not device.signs:
            unknown.append(device.registration_id)
        elif (entry := _admitting(service, device, gone, now, as_of.at)) is not None:
            through.setdefault(entry, []).append(device.registration_id)
        else:
            refused += 1
    admitted = sum(map(len, through.values()))
    groups = [entry for entry in entries if isinstance(entry, EnrollmentGroup)]
    return Consequences(
        entries=tuple(gone),
        known=known,
        examined=admitted + refused + len(unknown),
        still_admitted=tuple(
            StillAdmitted(entry, tuple(names))
            for entry, names in sorted(through.items(), key=lambda item: -len(item[1]))
        ),
        refused=refused,
        unknown=tuple(unknown),
        no_longer_barring=tuple(_ref(entry) for entry in entries if not as_of.enabled(entry)),
        below_others=tuple(_above(service, group, gone, now, as_of) for group in groups),
    )


def _ref(entry: Entry) -> EntryRef:
    return individual_ref(entry) if isinstance(entry, IndividualEnrollment) else group_ref(entry)


def _admitting(
    service: ProvisioningService,
    device: _Device,
    gone: Collection[EntryRef],
    now: datetime,
    entries_at: datetime,
) -> EntryRef | None:
    for chain in device.chains:
        judgement = judge(
            service,
            device.registration_id,
            PresentedCredential(certificates=chain),
            at=now,
            entries_at=entries_at,
            without=gone,
        )
        if judgement.decision.admitted:
            return judgement.decision.entry
    return None


def _as_many_as_there_is_time_for(devices: Iterable[_Device]) -> Iterator[_Device]:
    """Somebody waits for the answer, and is told how many it rests on. At least one, however slow the machine."""
    end = monotonic() + MAX_SECONDS
    for device in devices:
        yield device
        if monotonic() > end:
            return


# --- Which devices ---------------------------------------------------------------------------


def _devices(
    service: ProvisioningService, entries: Sequence[Entry], as_of: AsOf
) -> tuple[list[_Device], int]:
    """The devices to look at, and how many there are in all."""
    individuals = {one.registration_key: one for one in entries if isinstance(one, IndividualEnrollment)}
    groups = [one.pk for one in entries if isinstance(one, EnrollmentGroup)]
    records = service.registrations.filter(
        Q(group__in=groups)
        | Q(individual__in=[one.pk for one in individuals.values()])
        # A device that was shut out singly may have no record but that of its group.
        | Q(registration_key__in=individuals)
    )
    newest = list(records.order_by("-updated_at", "-id")[:MAX_DEVICES])
    sent = _evidence(newest)
    own = _own_certificates(individuals.values())
    devices = [
        _Device(
            record.registration_id,
            (*sent.get(record.pk, ()), *own.pop(record.registration_key, ())),
            signs=record.mechanism == AttestationMechanism.SYMMETRIC_KEY,
        )
        for record in newest
    ]
    known = len(newest) if len(newest) < MAX_DEVICES else records.count()
    # Whatever is left never registered, and holds the certificates of its entry all the same.
    unseen = [
        _Device(individuals[key].registration_id, chains, signs=_signs(individuals[key], as_of))
        for key, chains in own.items()
    ]
    room = MAX_DEVICES - len(devices)
    return [*devices, *unseen[:room]], known + len(unseen)


def _signs(individual: IndividualEnrollment, as_of: AsOf) -> bool:
    """Whether its keys are all that the device is known to hold. Those of a bar may be nobody's."""
    return as_of.enabled(individual) and individual.mechanism == AttestationMechanism.SYMMETRIC_KEY


def _evidence(records: Iterable[RegistrationRecord]) -> dict[int, tuple[tuple[bytes, ...]]]:
    rows = (
        RegistrationEvidence.objects.filter(registration__in=[record.pk for record in records])
        .order_by("registration", "position")
        .values_list("registration__pk", "certificate__pem")
    )
    chains: dict[int, list[bytes]] = {}
    for pk, pem in rows:
        chains.setdefault(pk, []).append(parsed(pem).der)
    return {pk: (tuple(chain),) for pk, chain in chains.items()}


def _own_certificates(
    individuals: Iterable[IndividualEnrollment],
) -> dict[str, tuple[tuple[bytes, ...], ...]]:
    by_pk = {one.pk: one.registration_key for one in individuals}
    chains: dict[str, list[tuple[bytes, ...]]] = {key: [] for key in by_pk.values()}
    held = HeldCertificate.objects.filter(individual__in=by_pk, role=HeldRole.DEVICE).order_by("slot")
    for individual, pem in held.values_list("individual", "certificate__pem"):
        assert individual is not None  # filtered by it
        chains[by_pk[individual]].append((parsed(pem).der,))
    return {key: tuple(value) for key, value in chains.items()}


# --- What stands above a group ---------------------------------------------------------------


def _above(
    service: ProvisioningService,
    group: EnrollmentGroup,
    gone: Collection[EntryRef],
    now: datetime,
    as_of: AsOf,
) -> BelowAnother:
    """Follow the signatures from the CA of the group upwards, as from a device below it."""
    held = service.held_certificates.exclude(
        group__in=[ref.pk for ref in gone if ref.kind is EntryKind.GROUP]
    ).exclude(individual__in=[ref.pk for ref in gone if ref.kind is EntryKind.INDIVIDUAL])

    def issuers(
        *, subjects: frozenset[str], key_ids: frozenset[str], spkis: frozenset[str]
    ) -> list[ParsedCertificate]:
        rows = held.that_may_have_issued(subjects, key_ids, spkis, as_of)
        return [parsed(pem) for pem in rows.values_list("certificate__pem", flat=True)[: MAX_HELD + 1]]

    own = list(group.certificates.select_related("certificate"))
    helpers = tuple(parsed(one.certificate.pem) for one in own if one.role == HeldRole.HELPER)
    keys: set[str] = set()
    try:
        for anchor in own:
            if anchor.role == HeldRole.ANCHOR:
                chain = PresentedChain(parsed(anchor.certificate.pem), helpers)
                keys |= build_chain_graph(chain, issuers).key_steps().keys()
    except SearchExhausted:
        return BelowAnother(group_ref(group), uncertain=True)
    through, barred_by = [], []
    met = held.anchors().filter(spki_sha256__in=keys).select_related("group", "certificate").order_by("pk")
    for one in met:
        assert one.group is not None  # a database constraint: held_certificate_has_its_place
        if not as_of.enabled(one.group):
            barred_by.append(group_ref(one.group))
        elif one.certificate.not_before <= now <= one.certificate.not_after:
            through.append(group_ref(one.group))
    for one in held.barring_keys(keys, as_of).select_related("individual").order_by("pk"):
        assert one.individual is not None  # the same
        barred_by.append(individual_ref(one.individual))
    return BelowAnother(group_ref(group), tuple(dict.fromkeys(through)), tuple(dict.fromkeys(barred_by)))
