"""Devices of no class of evidence to whom a change could matter, with what may have signed their leaves.

And the keys that devices proved at attempts: no class of evidence has them either.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter

from django.db.models import Q, QuerySet

from enrollments.actions.attempts_certificates import Came, shown_at_attempts
from enrollments.actions.attempts_keys import Signed, keys_at_attempts
from enrollments.actions.certificates import parsed, parsed_once
from enrollments.actions.preview.below_keys import devices_below
from enrollments.actions.preview.credentials import (
    NEVER,
    device_at,
    enrolled_for,
    is_signed_for,
    known_by_key,
    place_of,
)
from enrollments.actions.preview.kinds import (
    BARE,
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
from enrollments.actions.preview.outcomes import Known
from enrollments.actions.preview.secrets import KeyGroup
from enrollments.actions.preview.signing import LeafNames, Twins, joined_twins, twins_of
from enrollments.actions.preview.touched import Touched, in_portions
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import ProvisioningService, RegistrationEvidence
from enrollments.policy.facts import Mechanism

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
        self.note(service, rows, [leaf_names(*one) for one in self.strangers.items()])

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

    def touched(self, touched: Touched, moved: Collection[str], key_groups: Collection[KeyGroup]) -> set[str]:
        """Registration keys of whom one of these is touched.

        moved: places above which something changes. key_groups: the groups with keys, before and after, that change.
        """
        signing = {
            key
            for key, several in self.signed.items()
            if key in touched.keys or any(is_signed_for(one, key_groups) for one in several)
        }
        return signing | {
            device_at(place)
            for place, came in self.strangers.items()
            if place in moved
            or device_at(place) in touched.keys
            or (touched.spkis and came.spki in touched.spkis)
        }

    def known(self, devices: Collection[str]) -> dict[str, list[Known]]:
        """By registration key: of these devices, and of all that have a record; what was shown last is the first."""
        found: dict[str, list[tuple[datetime, Known]]] = {}
        for place, came in self.strangers.items():
            key = device_at(place)
            if came.is_registered or key in devices:
                shown = came.thumbprint, came.spki
                known = Known(
                    key,
                    came.registration_id,
                    Mechanism.X509,
                    BARE,
                    *shown,
                    place=place,
                    is_former=came.was_outlived,
                )
                found.setdefault(key, []).append((came.at or NEVER, known))
        for key, several in self.signed.items():
            for number, signed in enumerate(several):
                if signed.is_registered or key in devices:
                    known = known_by_key(place_of(key, f"key {number}"), signed)
                    found.setdefault(key, []).append((signed.at, known))
        return {
            key: [known for _, known in sorted(several, key=itemgetter(0), reverse=True)]
            for key, several in found.items()
        }
