"""A list of one kind of change tells of the same devices the same as the act, or the form, that does the like."""

import random

import pytest

from enrollments.actions.enrollment_groups import change_enrollment_group
from enrollments.actions.enrollments import IndividualSpec, change_individual_enrollment
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.preview import Act, deciding, limits, preview_of, preview_of_act
from enrollments.actions.preview.limits import NO_LIMITS
from enrollments.actions.preview.sent_along import preview_with_what_is_sent_along
from enrollments.models import AttestationMechanism, EnrollmentGroup, IndividualEnrollment, Slot
from enrollments.transfer.foreseen import foresee
from tests.chance import seeds
from tests.devices import ALICE
from tests.preview.worlds import World, grown, only, side_by_name
from tests.transfer.lists import below, checked, json_lines, pinned

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def forest():
    return grown()


@pytest.fixture(scope="module")
def barring(forest):
    """Certificates of devices with the keys of CAs, and with those of other devices."""
    first, plant, line = (forest.cas[number] for number in (0, 2, 4))
    own = first.leaf("bars-plant", key=plant.key), plant.leaf("bars-line", key=line.key)
    return [*own, *(line.leaf(f"again-{number}", key=forest.leaves[number].key) for number in (0, 4, 8, 12))]


@pytest.mark.parametrize("seed", seeds(0, 30))
def test_a_list_tells_what_the_act_tells(forest, barring, seed, monkeypatch):
    monkeypatch.setattr(deciding, "PORTION", 5)
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)  # however busy this machine is
    chance = random.Random(seed)
    world = World(forest, chance, renewing=seed % 2 == 0)
    world.enroll_unshown(barring)
    lines, preview = [disabling, enabling, changing][seed % 3](world, chance)
    run = checked(world.service, json_lines(*lines))
    assert run.bad_lines == 0

    seen, said = foresee(run, NO_LIMITS).now, preview()

    listed, acted = told_by(seen), told_by(said)
    assert {name: acted.get(name) for name in listed} == listed
    # An act names all that share a key with its entries; a list those whose key is barred before it or after it.
    assert all(acted[name][0] == acted[name][1] for name in acted.keys() - listed.keys())
    assert (seen.not_examined, said.not_examined) == (0, 0)


@pytest.mark.parametrize("seed", seeds(500, 516))
def test_so_it_does_of_what_a_group_holds_no_more(forest, seed, monkeypatch):
    """And of who comes in by sending that along."""
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)
    monkeypatch.setattr(World, "sends", lambda _, leaf: only(leaf))
    chance = random.Random(seed)
    world = World(forest, chance, renewing=seed % 2 == 0)
    service = world.service
    groups = EnrollmentGroup.objects.filter(service=service, mechanism=AttestationMechanism.X509)
    group = chance.choice(list(groups.order_by("pk")) or [world.add_group(forest.cas[2])])
    others = service.trust_anchors.exclude(group=group).values_list("subject_sha256", "spki_sha256")
    taken = set(others)
    free = [one for one in forest.cas if (one.parsed.subject_sha256, one.parsed.spki_sha256) not in taken]
    ca = chance.choice(free)
    helpers = chance.sample([one for one in forest.cas if one is not ca], k=1)
    run = checked(service, json_lines(below(group.group_id, ca, *helpers, operation="update")))
    assert run.bad_lines == 0

    def change():
        current = EnrollmentGroup.objects.get(pk=group.pk)
        spec = GroupSpec(
            certificates={Slot.PRIMARY: ca.parsed},
            helpers=tuple(one.parsed for one in helpers),
            predecessor=current.predecessor,  # a list leaves it
        )
        change_enrollment_group(service, group.group_id, spec, expected_etag=current.etag, actor=ALICE)
        return []

    seen = foresee(run, NO_LIMITS).now
    said = preview_with_what_is_sent_along(service, change, [group], limits=NO_LIMITS)

    listed, acted = told_by(seen), told_by(said)
    assert {name: acted.get(name) for name in listed} == listed
    assert all(acted[name][0] == acted[name][1] for name in acted.keys() - listed.keys())
    assert otherwise(seen) == otherwise(said)


def otherwise(preview):
    return {
        one.registration_id.lower(): (str(one.unless), one.sides.is_sent_along)
        for one in preview.devices
        if one.unless is not None
    }


def told_by(preview):
    return {one.registration_id.lower(): sides(one) for one in preview.devices}


def sides(device):
    outcomes = (device.before, device.held_before), (device.after, device.held_after)
    return tuple(one and side_by_name(one.verdict, one.through, held) for one, held in outcomes)


def some_of(chance, entries):
    return chance.sample(entries, k=min(len(entries), chance.randint(1, 4)))


def disabling(world, chance):
    individuals = IndividualEnrollment.objects.filter(service=world.service).order_by("pk")
    groups = EnrollmentGroup.objects.filter(service=world.service, enabled=True).order_by("pk")
    chosen, group = some_of(chance, list(individuals)), some_of(chance, list(groups))[:1]
    lines = [{"registrationId": one.registration_id, "operation": "disable"} for one in chosen]
    lines += [{"enrollmentGroupId": one.group_id, "operation": "disable"} for one in group]
    return lines, lambda: preview_of_act(world.service, Act.DISABLE, [*chosen, *group], limits=NO_LIMITS)


def enabling(world, chance):
    chosen = some_of(chance, list(IndividualEnrollment.objects.filter(service=world.service).order_by("pk")))
    lines = [{**as_it_is(one), "operation": "update", "provisioningStatus": "enabled"} for one in chosen]
    kept = [(line, one) for line, one in zip(lines, chosen, strict=True) if "attestation" in line]
    if not kept:
        pytest.skip("none of these can be enabled by a list")
    entries = [one for _, one in kept]
    return (
        [line for line, _ in kept],
        lambda: preview_of_act(world.service, Act.ENABLE, entries, limits=NO_LIMITS),
    )


def as_it_is(entry):
    """A line that keeps what an entry holds; one without an attestation where it holds nothing."""
    line = {"registrationId": entry.registration_id}
    if entry.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        return {**line, "attestation": {"type": "symmetricKey"}}
    held = entry.certificates.select_related("certificate")
    pair = {one.slot: {"certificate": one.certificate.pem} for one in held}
    return {**line, "attestation": {"type": "x509", "x509": {"clientCertificates": pair}}} if pair else line


def changing(world, chance):
    """Other certificates for entries that have some."""
    entries = IndividualEnrollment.objects.filter(service=world.service, mechanism=AttestationMechanism.X509)
    able = [one for one in entries.order_by("pk") if one.registration_id in world.forest.renewed]
    if not able:
        pytest.skip("nothing can be exchanged here")
    chosen, enabled = some_of(chance, able), chance.random() < 0.6
    given = {
        one.registration_id: chance.sample(world.forest.renewed[one.registration_id], k=2) for one in chosen
    }
    status = "enabled" if enabled else "disabled"
    lines = [pinned(*leaves, operation="update", provisioningStatus=status) for leaves in given.values()]

    def change():
        for name, leaves in given.items():
            current = IndividualEnrollment.objects.get(service=world.service, registration_id=name)
            pins = dict(zip(Slot, [one.parsed for one in leaves], strict=False))
            spec = IndividualSpec(certificates=pins, enabled=enabled)
            change_individual_enrollment(world.service, name, spec, expected_etag=current.etag, actor=ALICE)
        return []

    return lines, lambda: preview_of(world.service, change, chosen, limits=NO_LIMITS)
