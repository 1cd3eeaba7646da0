"""Devices of no class of evidence to whom a change could matter, with what may have signed their leaves."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from django.db.models import Q, QuerySet

from enrollments.actions.attempts import Came, devices_that_came
from enrollments.actions.certificates import parsed, parsed_once
from enrollments.actions.preview.kinds import (
    Kinds,
    Signers,
    add_at_each_time,
    by_a_known_name,
    shown_by_entries,
    signers_named,
    unsigned_evidence,
    with_key_of_a_ca,
)
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.looking import Look, Time, look_alone, registered_alone
from enrollments.actions.preview.touched import Touched, in_portions
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import ProvisioningService, RegistrationEvidence


class LeafNames(NamedTuple):
    """What the leaf of a device says of who signed it, and its public key."""

    registration_key: str
    issuer: str
    authority_key_id: str
    spki: str


@dataclass(slots=True)
class Loose:
    """As it is in one state of things, or in several.

    leaves: of records, by the primary key of the evidence. own: registration keys of devices that have the key of a CA.
    strangers: by registration key, name and certificates of devices without a record: what they have shown at an
    attempt or, of those that the change is about, else what is enrolled.
    signers: certificates whose keys may have signed any of these, as PEM.
    """

    strangers: dict[str, Came]
    leaves: set[int] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    signers: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, service: ProvisioningService, limits: Limits) -> "Loose":
        return cls(devices_that_came(service, limits.attempts))

    def read(self, service: ProvisioningService, touched: Touched) -> None:
        """What there is at present; a certificate that was enrolled before is kept to the device."""
        rows = unsigned_evidence(service).filter(
            Q(registration__registration_key__in=touched.keys)
            | Q(registration__leaf_spki__in=touched.spkis)
            | by_a_known_name(service)
        )
        registered = service.registrations.filter(registration_key__in=touched.keys)
        known = {*registered.values_list("registration_key", flat=True), *self.strangers}
        self.strangers |= shown_by_entries(service, touched.keys - known)
        leaves = ((key, parsed(one.pems[0])) for key, one in self.strangers.items())
        names = [
            LeafNames(key, leaf.issuer_sha256, leaf.authority_key_id or "", leaf.spki_sha256)
            for key, leaf in leaves
        ]
        self.note(service, rows, names)

    def note(
        self,
        service: ProvisioningService,
        rows: "QuerySet[RegistrationEvidence]",
        strangers: Collection[LeafNames],
    ) -> None:
        """These leaves of records, and what is held at present that may have signed them or those of strangers."""
        found = list(rows.values_list("pk", "certificate__issuer_sha256", "certificate__authority_key_id"))
        self.leaves.update(pk for pk, _, _ in found)
        self.own |= with_key_of_a_ca(service, ((one.registration_key, one.spki) for one in strangers))
        subjects = {issuer for _, issuer, _ in found} | {one.issuer for one in strangers}
        key_ids = {key_id for *_, key_id in found} | {one.authority_key_id for one in strangers}
        self.signers.update(signers_named(service, subjects, key_ids))

    def sorted(self, time: Time, deadline: float) -> Kinds:
        (kinds,) = self.sorted_at([time.at], deadline)
        return kinds

    def sorted_at(self, times: Sequence[datetime], deadline: float) -> list[Kinds]:
        """As of several times: each device is looked at once."""
        signers = Signers(map(parsed, self.signers))
        each = [Kinds(signers, at, deadline) for at in times]
        columns = ("registration__registration_key", "registration__registration_id", "certificate__pem")
        for some in in_portions(self.leaves):
            rows = RegistrationEvidence.objects.filter(pk__in=some).values_list(*columns)
            for key, name, pem in rows.iterator(chunk_size=1000):
                self._add(each, key, name, (pem,))
        for key, came in self.strangers.items():
            self._add(each, key, *came)
        for kinds in each:
            kinds.alone |= self.own
        return each

    def _add(self, each: Sequence[Kinds], key: str, name: str, pems: Sequence[str]) -> None:
        if key not in self.own:
            add_at_each_time(each, key, name, list(map(parsed_once, pems)))

    def alone(self, service: ProvisioningService, keys: Iterable[str]) -> Iterable[Look]:
        """Of these devices."""
        keys = set(keys)
        yield from registered_alone(service, keys - self.strangers.keys())
        for key in keys & self.strangers.keys():
            name, pems = self.strangers[key]
            shown = PresentedCredential(certificates=tuple(parsed(pem).der for pem in pems))
            yield look_alone(key, name, shown)
