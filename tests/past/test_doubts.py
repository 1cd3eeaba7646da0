"""An entry that is not what the history made of it: nothing is told of whom it may decide about, and all of others."""

import random
from dataclasses import replace

import pytest
from django.db import transaction
from django.utils import timezone

from enrollments.actions.enrollment_groups import (
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollments import delete_enrollments, disable_enrollment, enable_enrollment
from enrollments.actions.judging import judge
from enrollments.actions.past import ALL_OF_FLEET, compare
from enrollments.actions.past.putting_back import put_back
from enrollments.actions.past.walking import read_entries
from enrollments.errors import DpsError
from enrollments.models import (
    AttestationMechanism,
    Certificate,
    EnrollmentGroup,
    HistoryEvent,
    IndividualEnrollment,
    RegistrationRecord,
)
from enrollments.models.locks import rehearsal
from enrollments.policy.facts import EntryKind
from tests.certificates import mint, root, self_signed
from tests.chance import seeds
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys, register, signs
from tests.past.histories import History
from tests.past.lives import Lives
from tests.past.test_fleet_and_devices import of_devices, of_fleet

pytestmark = pytest.mark.django_db

CAS = {name: root(name) for name in ("plant", "line")}


def moment():
    at = timezone.now()
    while timezone.now() <= at:
        pass
    return at


@pytest.fixture
def fleet(service):
    """Below each of two groups a device, one with an entry of its own, and one with keys."""
    for name, ca in CAS.items():
        enroll_ca(service, ca, name)
        register(service, ca.leaf(f"{name}-1"))
    own = self_signed("own-1")
    enroll_device(service, own)
    register(service, own)
    entry = enroll_keys(service, "key-1")
    register(service, signs(service, "key-1", entry.primary_key), "key-1")
    return service


def unknown_at(service, at):
    """By registration ID, and that each of the devices is told the same."""
    rows = of_fleet(compare(service, at, limits=ALL_OF_FLEET))
    names = set(service.registrations.values_list("registration_key", flat=True))
    assert {name: rows[name] for name in names} == of_devices(service, names, at, None)
    return {name for name, (before, _) in rows.items() if before is None}


class TestWhoIsMeant:
    def test_whoever_is_below_a_group_that_somebody_wrote_to(self, fleet):
        at = moment()
        disable_enrollment_group(fleet, "plant", actor=ALICE)
        EnrollmentGroup.objects.filter(group_id="plant").update(enabled=True)

        assert unknown_at(fleet, at) == {"plant-1"}
        assert "no row says why" in compare(fleet, at).unclear["plant-1"]

    def test_whose_own_entry_it_is(self, fleet):
        at = moment()
        disable_enrollment(fleet, "own-1", actor=ALICE)
        IndividualEnrollment.objects.filter(registration_id="own-1").update(enabled=True)

        assert unknown_at(fleet, at) == {"own-1"}

    def test_also_where_that_has_keys_and_the_device_a_certificate(self, fleet):
        enroll_keys(fleet, "plant-1")
        at = moment()
        disable_enrollment(fleet, "plant-1", actor=ALICE)
        IndividualEnrollment.objects.filter(registration_id="plant-1").update(enabled=True)

        assert unknown_at(fleet, at) == {"plant-1"}

    def test_who_has_the_key_of_somebody_elses_entry(self, fleet):
        """R6: it may have barred that key."""
        leaf = CAS["line"].leaf("line-2")
        register(fleet, leaf)
        enroll_device(fleet, mint("boss-1", key=leaf.key))
        at = moment()
        disable_enrollment(fleet, "boss-1", actor=ALICE)
        IndividualEnrollment.objects.filter(registration_id="boss-1").update(enabled=True)

        assert unknown_at(fleet, at) == {"line-2", "boss-1"}

    def test_everybody_below_a_ca_whose_key_it_is(self, fleet):
        enroll_device(fleet, mint("boss-1", key=CAS["line"].key))
        at = moment()
        disable_enrollment(fleet, "boss-1", actor=ALICE)
        IndividualEnrollment.objects.filter(registration_id="boss-1").update(enabled=True)

        assert unknown_at(fleet, at) == {"line-1", "boss-1"}

    def test_who_came_with_certificates_that_no_record_has(self, fleet):
        renewed = CAS["plant"].leaf("own-1")
        delete_enrollments(fleet, ["own-1"], actor=ALICE)
        fleet.registrations.filter(registration_id="own-1").update(owner_individual=None)
        assert register(fleet, renewed).outcome in ("assigned", "failed")
        at = moment()
        disable_enrollment_group(fleet, "plant", actor=ALICE)
        EnrollmentGroup.objects.filter(group_id="plant").update(enabled=True)

        assert unknown_at(fleet, at) == {"plant-1", "own-1"}

    def test_who_is_below_what_rows_say_that_it_held(self, fleet):
        """Also where neither the row that it contradicts nor the entry of now tells of that."""
        group = EnrollmentGroup.objects.get(group_id="plant")
        other = root("other")
        row = Certificate.objects.stored(other.parsed)
        at = moment()
        disable_enrollment_group(fleet, "plant", actor=ALICE)
        rewrite(fleet, group, enabled=True, certificates=(("primary", row.thumbprint_sha256),))

        assert unknown_at(fleet, at) == {"plant-1"}

    def test_an_entry_that_no_row_tells_the_beginning_of_may_have_held_anything(self, fleet):
        group = EnrollmentGroup.objects.get(group_id="plant")
        standing = read_entries(fleet, [(EntryKind.GROUP, group.pk)])[EntryKind.GROUP, group.pk]
        other = root("other")
        row = Certificate.objects.stored(other.parsed)
        unaccounted = replace(
            standing, pk=group.pk + 50, name="other", certificates=(("primary", row.thumbprint_sha256),)
        )
        put_back(fleet, {(EntryKind.GROUP, unaccounted.pk): unaccounted})
        at = moment()
        disable_enrollment_group(fleet, "other", actor=ALICE)
        EnrollmentGroup.objects.filter(group_id="other").update(enabled=True)

        assert unknown_at(fleet, at) == {"plant-1", "line-1", "own-1"}

    def test_it_is_in_nobodys_way_where_others_are_looked_at(self, fleet):
        """What it holds now was somebody else's then."""
        at = moment()
        plant, line = (EnrollmentGroup.objects.get(group_id=name) for name in CAS)
        held = read_entries(fleet, [(EntryKind.GROUP, line.pk)])[EntryKind.GROUP, line.pk].certificates
        delete_enrollment_groups(fleet, ["line"], actor=ALICE)
        disable_enrollment_group(fleet, "plant", actor=ALICE)
        rewrite(fleet, plant, enabled=True, certificates=held)

        assert unknown_at(fleet, at) == {"plant-1", "line-1"}

    def test_by_the_name_of_the_issuer_where_certificates_tell_of_no_keys(self, fleet):
        ca = root("bare", subject_key_id=False)
        enroll_ca(fleet, ca, "bare")
        register(fleet, ca.leaf("bare-1", authority_key_id=False))
        at = moment()
        disable_enrollment_group(fleet, "bare", actor=ALICE)
        EnrollmentGroup.objects.filter(group_id="bare").update(enabled=True)

        assert unknown_at(fleet, at) == {"bare-1"}


def rewrite(service, entry, **values):
    """Past the actions, and so without a row."""
    kind = EntryKind.GROUP if isinstance(entry, EnrollmentGroup) else EntryKind.INDIVIDUAL
    subject = kind, entry.pk
    with transaction.atomic():
        put_back(service, {subject: replace(read_entries(service, [subject])[subject], **values)})


# --- Whatever such an entry was -------------------------------------------------------------------------


OPERATIONS, TAMPERED = 60, 12


def told_certificates(service, entry):
    """Each set of certificates of which any row says that the entry held it, and what it holds now."""
    states = {entry.certificates}
    rows = HistoryEvent.objects.of_service(service.pk).filter(subject_id=str(entry.pk))
    for row in rows.filter(
        subject_kind__endswith="Enrollment" if entry.kind is EntryKind.INDIVIDUAL else "Group"
    ):
        for state in (row.before or {}, row.after or {}):
            if "certificates" in state:
                words = [
                    (place, said.split("(SHA-256 ")[1][:64]) for place, said in state["certificates"].items()
                ]
                states.add(
                    tuple(
                        (f"helper {name}" if place.startswith("helper") else place, name)
                        for place, name in words
                    )
                )
    return states


def whatever_it_was(service, entry):
    yield None
    for certificates in told_certificates(service, entry):
        if (
            entry.mechanism == AttestationMechanism.X509
            and not certificates
            and entry.kind is EntryKind.GROUP
        ):
            continue
        for enabled in (True, False):
            yield replace(entry, enabled=enabled, certificates=certificates, switches_at=None)


def turned(service, entry):
    """By a row."""
    acts = {
        (EnrollmentGroup, True): disable_enrollment_group,
        (EnrollmentGroup, False): enable_enrollment_group,
        (IndividualEnrollment, True): disable_enrollment,
        (IndividualEnrollment, False): enable_enrollment,
    }
    try:
        acts[type(entry), entry.enabled](service, str(entry), actor=ALICE)
    except DpsError:
        return False
    return True


@pytest.mark.parametrize("seed", seeds(0, 2, least=1))
def test_whoever_is_told_apart_is_decided_about_alike_whatever_that_entry_was(forest, api, seed):
    history, chance = History(forest, seed, api), random.Random(seed)
    history.run(OPERATIONS, set())
    history.wait_until_nothing_is_due_soon()
    service = history.service
    names = sorted(RegistrationRecord.objects.values_list("registration_key", flat=True))
    with_chains = [name for name in names if name in history.shown and history.shown[name].certificates]
    told = contested = narrowed = 0

    for entry in chance.choices([*history.groups(), *history.individuals()], k=TAMPERED):
        entry.refresh_from_db()
        at = moment()
        if not turned(service, entry):
            continue
        values = {"enabled": entry.enabled, "switches_at": None}
        is_ca = entry.mechanism == AttestationMechanism.X509 and isinstance(entry, EnrollmentGroup)
        if is_ca and chance.random() < 0.5:
            ca = chance.choice(forest.cas[:2]).parsed
            values["certificates"] = (("primary", ca.thumbprint_sha256),)
        try:
            rewrite(service, entry, **values)
        except DpsError:
            continue  # somebody else has that CA
        (stands,) = read_entries(service, [(kind_of(entry), entry.pk)]).values()

        rows = of_fleet(compare(service, at, limits=ALL_OF_FLEET))
        decided = {name: set() for name in with_chains}
        for one in whatever_it_was(service, stands):
            with rehearsal():
                try:
                    put_back(service, {(stands.kind, stands.pk): one})
                except DpsError:
                    continue
                for name, found in decided.items():
                    decision = judge(service, name, history.shown[name], at=at).decision
                    found.add((decision.verdict, str(decision.entry or "")))

        assert {name: rows[name] for name in names} == of_devices(service, names, at, None)
        for name, found in decided.items():
            if rows[name][0] is None:
                contested += len(found) > 1
            else:
                assert found == {rows[name][0]}, (name, str(entry))
                told += 1
        narrowed += any(before is None for before, _ in rows.values()) and any(
            rows[name][0] is not None for name in with_chains
        )

    assert told > 40
    assert contested > 1
    assert narrowed > 1


@pytest.mark.parametrize("seed", seeds(0, 2, least=1))
def test_devices_with_several_credentials_are_told_the_same_of_all_and_alone(forest, api, seed):
    lives, chance = Lives(forest, seed, api), random.Random(seed)
    lives.run(OPERATIONS, set())
    lives.wait_until_nothing_is_due_soon()
    names, unknown, known = sorted(lives.has), 0, 0

    for entry in chance.choices([*lives.groups(), *lives.individuals()], k=TAMPERED):
        entry.refresh_from_db()
        at = moment()
        if not turned(lives.service, entry):
            continue
        type(entry).objects.filter(pk=entry.pk).update(enabled=entry.enabled, switches_at=None)

        said = compare(lives.service, at, limits=ALL_OF_FLEET)

        assert of_fleet(said) == of_devices(lives.service, names, at, said.until), str(entry)
        sides = [before for before, _ in of_fleet(said).values()]
        unknown += sides.count(None)
        known += len(sides) - sides.count(None)

    assert unknown > 3
    assert known > 50


def kind_of(entry):
    return EntryKind.GROUP if isinstance(entry, EnrollmentGroup) else EntryKind.INDIVIDUAL
