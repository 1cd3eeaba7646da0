"""Building fleets: names, credentials, and what is enrolled for them."""

from dataclasses import replace

import pytest

from enrollments.actions.entries import AlreadyEnrolled
from enrollments.audit.actor import Actor, Way
from enrollments.models import EnrollmentGroup, IndividualEnrollment
from enrollments.simulator.building import (
    MIXED,
    SYMMETRIC,
    SYMMETRIC_GROUP,
    TPM,
    X509,
    FleetSpec,
    UnusableSpec,
    build_fleet,
)
from enrollments.simulator.credentials import CertificateFiles, SharedKey, derived_key
from enrollments.simulator.pki import PkiFolder, common_name, read_certificates
from enrollments.simulator.profiles import PROFILES
from tests.devices import new_service

pytestmark = pytest.mark.django_db
CLI = Actor("cli", "tester", Way.COMMAND_LINE)


@pytest.fixture
def plant():
    return new_service()


def test_r4_setting_for_groups_with_keys_is_switched_on_only_where_that_was_asked_for(plant, folder):
    spec = FleetSpec(devices=1, mechanism=SYMMETRIC_GROUP, prefix="pump", enroll_as=CLI)

    with pytest.raises(UnusableSpec, match="--allow-key-groups switches it on"):
        build_fleet(plant, folder, spec)
    plant.refresh_from_db()
    assert (plant.symmetric_key_groups, EnrollmentGroup.objects.exists()) == (False, False)

    build_fleet(plant, folder, replace(spec, allow_key_groups=True))
    plant.refresh_from_db()
    assert (plant.symmetric_key_groups, EnrollmentGroup.objects.exists()) == (True, True)


@pytest.mark.parametrize(("mechanism", "certificates"), [(X509, 5), (MIXED, 3), (SYMMETRIC, 0)])
def test_a_fleet_has_the_credentials_that_are_asked_for(plant, folder, mechanism, certificates):
    devices = build_fleet(plant, folder, FleetSpec(devices=5, mechanism=mechanism, prefix="pump"))

    kinds = [type(device.credential) for device in devices]
    assert sorted(device.registration_id for device in devices) == [f"pump-000{n}" for n in range(1, 6)]
    assert kinds.count(CertificateFiles) == certificates
    assert kinds.count(SharedKey) == 5 - certificates


def test_a_fleet_of_a_group_derives_each_key_from_the_one_that_is_kept(plant, folder):
    spec = FleetSpec(devices=3, mechanism=SYMMETRIC_GROUP, prefix="pump")

    devices = build_fleet(plant, folder, spec)

    key = folder.symmetric_key("pump-group")
    assert {one.registration_id: one.credential for one in devices} == {
        f"pump-000{number}": derived_key(key, f"pump-000{number}") for number in (1, 2, 3)
    }
    assert len({one.credential.key for one in devices} | {key}) == 4


def test_a_derived_key_is_as_the_protocol_computes_it():
    group_key = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="

    derived = derived_key(group_key, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6")

    assert derived == SharedKey("Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=")


def test_each_device_has_a_tpm_of_its_own_that_a_kept_fleet_has_again(plant, folder):
    spec = FleetSpec(devices=2, mechanism=TPM, prefix="pump")

    first, again = (
        {one.registration_id: one.credential.tpm.endorsement_key for one in build_fleet(plant, folder, spec)}
        for _ in range(2)
    )

    assert first == again
    assert len(set(first.values())) == 2


@pytest.mark.parametrize("mechanism", [X509, SYMMETRIC, MIXED, SYMMETRIC_GROUP, TPM])
def test_profiles_go_round_by_number_and_not_by_chance(plant, folder, mechanism):
    profiles = (PROFILES["c"], PROFILES["edge"])

    devices = build_fleet(
        plant, folder, FleetSpec(devices=3, mechanism=mechanism, prefix="pump", profiles=profiles)
    )

    assert {one.registration_id: one.profile.name for one in devices} == {
        "pump-0001": "c",
        "pump-0002": "edge",
        "pump-0003": "c",
    }


def test_the_same_seed_makes_the_same_fleet_again(plant, tmp_path):
    def told(run: str, seed: int) -> list[tuple[str, str]]:
        spec = FleetSpec(devices=6, intermediates=3, seed=seed)
        devices = build_fleet(plant, PkiFolder(tmp_path / run), spec)
        return [
            (one.registration_id, common_name(read_certificates(one.credential.chain)[1])) for one in devices
        ]

    first = told("first", 7)

    assert told("second", 7) == first
    assert told("third", 8) != first


def test_the_folder_remembers_whose_fleet_it_keeps(plant, folder, tmp_path):
    def ids(kept: PkiFolder, **spec) -> list[str]:
        return sorted(one.registration_id for one in build_fleet(plant, kept, FleetSpec(devices=2, **spec)))

    first = ids(folder)

    assert ids(PkiFolder(folder.path)) == first
    assert ids(PkiFolder(tmp_path / "another")) != first
    assert ids(folder, prefix="pump") == ids(folder) == ["pump-0001", "pump-0002"]
    with pytest.raises(UnusableSpec):
        ids(folder, prefix="has space")
    assert ids(folder) == ["pump-0001", "pump-0002"]


def test_nothing_is_enrolled_unless_that_is_asked_for(plant, folder):
    build_fleet(plant, folder, FleetSpec(devices=2, mechanism=MIXED))

    assert not EnrollmentGroup.objects.exists()
    assert not IndividualEnrollment.objects.exists()


def test_a_fleet_can_be_enrolled_twice_but_not_over_somebody_elses_keys(plant, folder, tmp_path):
    spec = FleetSpec(devices=2, mechanism=SYMMETRIC, prefix="gauge", enroll_as=CLI)
    build_fleet(plant, folder, spec)
    build_fleet(plant, folder, spec)

    with pytest.raises(AlreadyEnrolled):
        build_fleet(plant, PkiFolder(tmp_path / "other"), spec)

    assert IndividualEnrollment.objects.count() == 2


@pytest.mark.parametrize("prefix", ["has space", "é", "x" * 60])
def test_a_prefix_that_makes_no_names_is_refused(plant, folder, prefix):
    with pytest.raises(UnusableSpec):
        build_fleet(plant, folder, FleetSpec(devices=1, prefix=prefix))
