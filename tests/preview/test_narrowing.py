"""What is never held up because nobody comes in by it: held against what devices then hear."""

import random

import pytest

from enrollments.actions.certificates import parsed
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import change_individual_enrollment
from enrollments.actions.reach import Reach, reach_of
from enrollments.actions.registrations import Outcome
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import AttestationMechanism, IndividualEnrollment, Slot
from enrollments.policy.decision import Verdict
from tests.certificates import root
from tests.chance import seeds
from tests.devices import ALICE, enroll_ca, enroll_device, register
from tests.preview.worlds import World, grown

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def forest():
    return grown()


def with_a_second_pin(world):
    """An enrollment of a random world, with a certificate more, and by what its device is known then."""
    leaf = world.chance.choice(world.forest.leaves)
    name = leaf.parsed.common_names[0]
    world.try_to(world.add_individual, leaf)
    entry = IndividualEnrollment.objects.get(service=world.service, registration_key=name.lower())
    same_key = {"key": leaf.key} if world.chance.random() < 0.5 else {}
    another = world.chance.choice(world.forest.cas).leaf(name, **same_key)
    spec = IndividualSpec(certificates={Slot.PRIMARY: leaf.parsed, Slot.SECONDARY: another.parsed})
    change_individual_enrollment(world.service, name, spec, expected_etag=entry.etag, actor=ALICE)
    known = world.credentials()
    for one in (leaf, another):
        whole = PresentedCredential(certificates=tuple(each.der for each in one.chain))
        known[name.lower()][f"whole {one.parsed.thumbprint_sha256}"] = whole
    # The same key under other names, which an entry that bars it would keep out.
    for other in world.forest.leaves[:4]:
        theirs = world.chance.choice(world.forest.cas).leaf(other.parsed.common_names[0], key=another.key)
        mine = PresentedCredential(certificates=tuple(each.der for each in theirs.chain))
        known.setdefault(other.parsed.common_names[0].lower(), {})["by that key"] = mine
    entry.refresh_from_db()
    return entry, known


def admitted(judged):
    return {
        (key, credential)
        for key, several in judged.items()
        for credential, (verdict, _, _) in several.items()
        if verdict is Verdict.ADMIT
    }


@pytest.mark.parametrize("enabled", [True, False], ids=["stays enabled", "disabled along"])
@pytest.mark.parametrize("seed", seeds(0, 12))
def test_a_certificate_less_of_an_enabled_enrollment_lets_nobody_in(forest, seed, enabled):
    world = World(forest, random.Random(seed))
    entry, known = with_a_second_pin(world)
    left = world.chance.choice(list(entry.certificates.select_related("certificate")))
    spec = IndividualSpec(certificates={Slot.PRIMARY: parsed(left.certificate.pem)}, enabled=enabled)
    before = admitted(world.judged(known))

    reach = reach_of(entry, spec)
    change_individual_enrollment(world.service, str(entry), spec, expected_etag=entry.etag, actor=ALICE)

    assert (entry.mechanism, reach) == (AttestationMechanism.X509, Reach.NARROWS)
    assert admitted(world.judged(known)) <= before


def test_a_certificate_less_of_a_disabled_enrollment_lifts_a_bar_and_is_asked_about(service):
    """R6, so the property above can fail."""
    ca = root("Plant")
    enroll_ca(service, ca)
    one, two = ca.leaf("pump-1"), ca.leaf("pump-1")
    other = ca.leaf("pump-2", key=two.key)
    certificates = {Slot.PRIMARY: one.parsed, Slot.SECONDARY: two.parsed}
    entry = enroll_device(service, one, certificates=certificates, enabled=False)
    spec = IndividualSpec(certificates={Slot.PRIMARY: one.parsed}, enabled=False)

    barred = register(service, other).outcome
    reach = reach_of(entry, spec)
    change_individual_enrollment(service, "pump-1", spec, expected_etag=entry.etag, actor=ALICE)

    assert reach is Reach.MAY_WIDEN
    assert (barred, register(service, other).outcome) == (Outcome.DISABLED, Outcome.ASSIGNED)
