"""Building fleets: names, credentials, and what is enrolled for them."""

import pytest

from enrollments.actions.entries import AlreadyEnrolled
from enrollments.audit.actor import Actor, Way
from enrollments.models import EnrollmentGroup, IndividualEnrollment
from enrollments.simulator.building import MIXED, SYMMETRIC, X509, FleetSpec, UnusableSpec, build_fleet
from enrollments.simulator.credentials import CertificateFiles, SharedKey
from enrollments.simulator.pki import PkiFolder, common_name, read_certificates
from tests.devices import new_service

pytestmark = pytest.mark.django_db
CLI = Actor("cli", "tester", Way.COMMAND_LINE)


@pytest.fixture
def plant():
    return new_service()


@pytest.mark.parametrize(("mechanism", "certificates"), [(X509, 5), (MIXED, 3), (SYMMETRIC, 0)])
def test_a_fleet_has_the_credentials_that_are_asked_for(plant, folder, mechanism, certificates):
    devices = build_fleet(plant, folder, FleetSpec(devices=5, mechanism=mechanism, prefix="pump"))

    kinds = [type(device.credential) for device in devices]
    assert sorted(device.registration_id for device in devices) == [f"pump-000{n}" for n in range(1, 6)]
    assert kinds.count(CertificateFiles) == certificates
    assert kinds.count(SharedKey) == 5 - certificates


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
