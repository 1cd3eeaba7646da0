"""Devices of no class of evidence to whom a change could matter, with what may have signed their leaves.

And the keys that devices proved at attempts: no class of evidence has them either.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from django.db.models import Q, QuerySet

from enrollments.actions.attempts_certificates import Came, shown_at_attempts
from enrollments.actions.attempts_keys import Signed, keys_at_attempts
from enrollments.actions.certificates import parsed, parsed_once
from enrollments.actions.preview.below_keys import devices_below
from enrollments.actions.preview.besides import Besides
from enrollments.actions.preview.credentials import (
    NEVER,
    device_at,
    enrolled_for,
    is_signed_for,
    place_of,
)
from enrollments.actions.preview.kinds import (
    Kinds,
    Signers,
    add_at_each_time,
    by_a_known_name,
    join_twins,
    signers_named,
    unsigned_evidence,
    with_key_of_a_ca,
)
from enrollments.actions.preview.limits import Limits
from enrollments.actions.preview.looking import Look, Time, look_alone, registered_alone
from enrollments.actions.preview.secrets import KeyGroup
from enrollments.actions.preview.signing import (
    LeafNames,
    Twins,
    joined_twins,
    of_keys,
    possible_signers,
    twins_of,
)
from enrollments.actions.preview.touched import Touched, in_portions
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import ProvisioningService, RegistrationEvidence

_COLUMNS = (
    "pk",
    "registration__registration_key",
    "registration__leaf_spki",
    "registration__leaf_thumbprint",
    "certificate__issuer_sha256",
    "certificate__authority_key_id",
)


def by_place(shown: Mapping[str, Sequence[Came]]) -> dict[str, Came]:
    """What shown_at_attempts tells, by place (place_of); a leaf that was shown with other certificates has several."""
    found: dict[str, Came] = {}
    for key, several in shown.items():
        for one in several:
            place = place_of(key, one.thumbprint)
            found[place if place not in found else f"{place} {len(found)}"] = one
    return found


def leaf_names(place: str, came: Came) -> LeafNames:
    """Who signed a leaf whose class of evidence is known need not be found."""
    if came.classed is None:
        return LeafNames.of(place, parsed(came.pems[0]))
    return LeafNames(place, "", "", came.spki, came.thumbprint)


@dataclass(slots=True)
class Loose:
    """As it is in one state of things, or in several.

    leaves: of records, by the primary key of the evidence. own: places of devices that have the key of a CA.
    strangers: by place (place_of), name and certificates that no record has: what devices have shown at an attempt and,
    of those that the change is about, what is enrolled.
    enrolled: the places of those that nobody has shown. brought: of those that are enrolled after the change alone.
    taken: of those that are enrolled before it alone.
    signers: certificates whose keys may have signed any of these, as PEM. twins: see twins_of.
    signed: by registration key, the keys that no record has, of devices that proved one at an attempt.
    devices, keys: the places of strangers by their registration keys, and by the public keys of their leaves.
    unclassed: what those say of who signed them whose class of evidence is not known.
    """

    strangers: dict[str, Came]
    leaves: set[int] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    enrolled: set[str] = field(default_factory=set)
    brought: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    signers: set[str] = field(default_factory=set)
    twins: Twins = field(default_factory=dict)
    signed: dict[str, list[Signed]] = field(default_factory=dict)
    devices: dict[str, list[str]] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    unclassed: list[LeafNames] = field(default_factory=list)
    _placed: int = 0

    @classmethod
    def of(cls, service: ProvisioningService, limits: Limits, at: datetime) -> "Loose":
        return cls(
            by_place(shown_at_attempts(service, limits.attempts, at=at)),
            signed=keys_at_attempts(service, limits.attempts),
        )

    def read(self, service: ProvisioningService, touched: Touched, *, is_after: bool) -> None:
        """What there is at present; a certificate that was enrolled before is kept to the device."""
        rows = unsigned_evidence(service).filter(
            Q(registration__registration_key__in=touched.keys)
            | Q(registration__leaf_spki__in=touched.spkis)
            | by_a_known_name(service)
        )
        enrolled = self._enrolled(service, touched)
        new = enrolled.keys() - self.strangers.keys()
        self.strangers |= {place: enrolled[place] for place in new}
        self.enrolled |= new
        if is_after:
            self.brought |= new
            self.taken = self.enrolled - enrolled.keys()
        self.find_signers(service, rows)

    def find_signers(self, service: ProvisioningService, rows: "QuerySet[RegistrationEvidence]") -> None:
        """Of all these, and of these leaves of records."""
        self._place()
        # Of other leaves that are classed it is known who signed them, and nothing else can lie above their keys.
        matter = {spki for (spki,) in of_keys(possible_signers(service), self.keys.keys())}
        places = (place for spki in matter for place in self.keys[spki])
        classed = (leaf_names(place, came) for place in places if (came := self.strangers[place]).classed)
        self.note(service, rows, [*self.unclassed, *classed])

    def _place(self) -> None:
        """What has come in since that was done last."""
        for place, came in islice(self.strangers.items(), self._placed, None):
            self.devices.setdefault(device_at(place), []).append(place)
            self.keys.setdefault(came.spki, []).append(place)
            if came.classed is None:
                self.unclassed.append(leaf_names(place, came))
        self._placed = len(self.strangers)

    def note(
        self,
        service: ProvisioningService,
        rows: "QuerySet[RegistrationEvidence]",
        strangers: Collection[LeafNames],
    ) -> None:
        """These leaves of records, and what is held at present that may have signed them or those of strangers."""
        found = list(rows.values_list(*_COLUMNS))
        self.leaves.update(pk for pk, *_ in found)
        leaves = [
            LeafNames(key, issuer, key_id, spki, thumbprint)
            for _, key, spki, thumbprint, issuer, key_id in found
        ]
        self.twins = joined_twins(self.twins, twins_of(service, [*leaves, *strangers]))
        self.own |= with_key_of_a_ca(service, ((one.place, one.spki) for one in strangers))
        subjects = {issuer for *_, issuer, _ in found} | {one.issuer for one in strangers}
        key_ids = {key_id for *_, key_id in found} | {one.authority_key_id for one in strangers}
        self.signers.update(signers_named(service, subjects, key_ids))

    def _enrolled(self, service: ProvisioningService, touched: Touched) -> dict[str, Came]:
        """For the devices that the change is about, and for those whose certificates it may bar."""
        keys = touched.keys | devices_below(service, touched.spkis)
        registered = service.registrations.filter(registration_key__in=keys)
        columns = "registration_key", "leaf_thumbprint", "evidence_class"
        shown = {key: of_record for key, *of_record in registered.values_list(*columns)}
        found = {}
        for key, thumbprint, came in enrolled_for(service, keys):
            leaf, evidence = shown.get(key, (None, None))
            if leaf != thumbprint:
                found[place_of(key, thumbprint)] = came._replace(class_of_record=evidence)
        return found

    def sorted(self, time: Time, deadline: float) -> Kinds:
        (kinds,) = self.sorted_at([time.at], deadline)
        return kinds

    def sorted_at(self, times: Sequence[datetime], deadline: float) -> list[Kinds]:
        """As of several times: each device is looked at once."""
        signers = Signers(map(parsed, self.signers))
        each = [Kinds(signers, at, deadline, self.twins) for at in times]
        columns = ("registration__registration_key", "registration__registration_id", "certificate__pem")
        for some in in_portions(self.leaves):
            rows = RegistrationEvidence.objects.filter(pk__in=some).values_list(*columns)
            for key, name, pem in rows.iterator(chunk_size=1000):
                self._add(each, key, name, (pem,))
        for place, came in self.strangers.items():
            if not came.is_whole:
                for kinds in each:
                    kinds.unexamined.add(place)
            elif came.classed is None:
                self._add(each, place, came.registration_id, came.pems)
            elif place not in self.own:
                for kinds in each:
                    kinds.add_classed(place, came)
        join_twins(each)
        for kinds in each:
            kinds.alone |= self.own
        return each

    def _add(self, each: Sequence[Kinds], place: str, name: str, pems: Sequence[str]) -> None:
        if place not in self.own:
            add_at_each_time(each, place, name, list(map(parsed_once, pems)))

    def alone(self, service: ProvisioningService, places: Iterable[str]) -> Iterable[Look]:
        """Of these."""
        places = set(places)
        yield from registered_alone(service, places - self.strangers.keys())
        for place in places & self.strangers.keys():
            came = self.strangers[place]
            shown = PresentedCredential(certificates=tuple(one.der for one in came.read_chain()))
            yield look_alone(place, came.registration_id, shown)

    def touched(self, touched: Touched, moved: Set[str], key_groups: Collection[KeyGroup]) -> set[str]:
        """Registration keys of whom one of these is touched.

        moved: places above which something changes. key_groups: the groups with keys, before and after, that change.
        """
        signing = {
            key
            for key, several in self.signed.items()
            if key in touched.keys or any(is_signed_for(one, key_groups) for one in several)
        }
        barred = (place for spki in touched.spkis for place in self.keys.get(spki, ()))
        moved = {key for key, places in self.devices.items() if not moved.isdisjoint(places)}
        return signing | moved | set(map(device_at, barred)) | (touched.keys & self.devices.keys())

    def of_classes(self, classes: Collection[str]) -> set[str]:
        """Registration keys of those whose records are of these classes."""
        return {
            key
            for key, places in self.devices.items()
            if self.strangers[places[0]].class_of_record in classes
        }

    def known(self, devices: Collection[str]) -> Besides:
        """By what else these devices are known, and all that have a record."""
        strangers, signed = self.strangers, {}
        found = {
            key: places
            for key, places in self.devices.items()
            if strangers[places[0]].class_of_record is not None or key in devices
        }
        for key, several in self.signed.items():
            for number, one in enumerate(several):
                if one.is_registered or key in devices:
                    signed[place := place_of(key, f"key {number}")] = one
                    found[key] = [*found.get(key, ()), place]

        def at(place: str) -> datetime:
            one = signed.get(place) or strangers[place]
            return one.at or NEVER

        for key, places in found.items():
            if len(places) > 1:
                found[key] = sorted(places, key=at, reverse=True)
        return Besides(found, strangers, signed)
