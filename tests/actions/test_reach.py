"""Which changes can let somebody in, and so rest on a preview; which only shut out; which do neither (R12)."""

import base64
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet

from enrollments.actions.enrollment_groups import (
    add_enrollment_group,
    change_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    add_individual_enrollment,
    change_individual_enrollment,
    disable_enrollment,
    drop_certificates,
    enable_enrollment,
)
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.preview import Act, carry_out
from enrollments.actions.reach import Reach, reach_of
from enrollments.actions.registrations import Outcome
from enrollments.actions.revocation import deny_device
from enrollments.attestation.credential import PresentedCredential
from enrollments.errors import ChangedMeanwhile, NotFound, PreviewOutdated
from enrollments.models import AttestationMechanism, HistoryEvent, ProvisioningService, Slot
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys, register
from tests.factories import a_service

pytestmark = pytest.mark.django_db
KEY = base64.b64encode(b"another key of so many bytes").decode()


@pytest.fixture
def service():
    return a_service()


@pytest.fixture(scope="module")
def ca():
    return root("Root")


def test_adding_may_widen_unless_it_is_disabled(ca):
    certificates = {Slot.PRIMARY: ca.parsed}

    assert reach_of(None, GroupSpec(certificates=certificates)) is Reach.MAY_WIDEN
    assert reach_of(None, GroupSpec(certificates=certificates, enabled=False)) is Reach.NARROWS
    assert reach_of(None, IndividualSpec()) is Reach.MAY_WIDEN
    assert reach_of(None, IndividualSpec(enabled=False)) is Reach.NARROWS


def test_a_helper_of_a_disabled_group_may_close_a_gap_for_an_enabled_one(ca):
    plant = ca.intermediate("Plant 7")
    spec = GroupSpec(certificates={Slot.PRIMARY: plant.parsed}, enabled=False)

    assert reach_of(None, replace(spec, helpers=(ca.parsed,))) is Reach.MAY_WIDEN
    assert reach_of(None, replace(spec, helpers=(plant.parsed,))) is Reach.NARROWS


def as_it_is(entry, leaf):
    return IndividualSpec(certificates={Slot.PRIMARY: leaf.parsed}, enabled=entry.enabled)


@pytest.mark.parametrize(
    ("was", "becomes", "reach"),
    [
        (True, True, Reach.NONE),
        (False, False, Reach.NONE),
        (True, False, Reach.NARROWS),
        (False, True, Reach.MAY_WIDEN),
    ],
)
def test_the_switch_decides_where_nothing_else_of_access_changes(service, was, becomes, reach):
    leaf = self_signed("pump-042")
    entry = enroll_device(service, leaf, enabled=was)
    spec = replace(as_it_is(entry, leaf), enabled=becomes, device_id="dev-9", iot_edge=True)

    assert reach_of(entry, spec) is reach


def test_other_certificates_or_keys_may_widen_even_where_the_entry_is_disabled_along(service):
    leaf = self_signed("pump-042")
    entry, keyed = enroll_device(service, leaf), enroll_keys(service, "key-1")
    of_keys = IndividualSpec(mechanism=AttestationMechanism.SYMMETRIC_KEY)
    other = {Slot.PRIMARY: self_signed("pump-042").parsed}

    assert reach_of(entry, replace(as_it_is(entry, leaf), certificates=other)) is Reach.MAY_WIDEN
    assert reach_of(entry, IndividualSpec(certificates=other, enabled=False)) is Reach.MAY_WIDEN
    # Without its certificates it bars no keys, and never did.
    assert reach_of(entry, IndividualSpec(enabled=False)) is Reach.NARROWS
    assert reach_of(entry, of_keys) is Reach.MAY_WIDEN
    assert reach_of(keyed, of_keys) is Reach.NONE
    assert reach_of(keyed, replace(of_keys, primary_key=keyed.primary_key)) is Reach.NONE
    assert reach_of(keyed, replace(of_keys, secondary_key=KEY)) is Reach.MAY_WIDEN
    assert reach_of(keyed, replace(of_keys, enabled=False)) is Reach.NARROWS


@pytest.fixture
def two_pins(service):
    one, two = self_signed("pump-042"), self_signed("pump-042")
    certificates = {Slot.PRIMARY: one.parsed, Slot.SECONDARY: two.parsed}
    return enroll_device(service, one, certificates=certificates), one, two


def test_an_enabled_enrollment_that_holds_fewer_certificates_only_shuts_out(service, two_pins):
    """R5, R6: it alone decides about its device, and bars no key."""
    entry, one, two = two_pins
    both = IndividualSpec(certificates={Slot.PRIMARY: one.parsed, Slot.SECONDARY: two.parsed})
    only_two = replace(both, certificates={Slot.PRIMARY: two.parsed})

    assert reach_of(entry, both) is Reach.NONE
    assert reach_of(entry, only_two) is Reach.NARROWS
    assert reach_of(entry, replace(only_two, enabled=False)) is Reach.NARROWS
    other = {Slot.PRIMARY: two.parsed, Slot.SECONDARY: self_signed("pump-042").parsed}
    assert reach_of(entry, replace(both, certificates=other)) is Reach.MAY_WIDEN


@pytest.mark.parametrize("how", ["now", "at a time"])
def test_a_pin_less_of_what_bars_or_is_to_bar_its_keys_may_widen(service, database_clock, two_pins, how):
    entry, one, _ = two_pins
    times = {} if how == "now" else {"at": database_clock.ahead(hours=1)}
    (entry,) = carry_out(service, Act.DISABLE, [entry], actor=ALICE, **times)
    spec = IndividualSpec(certificates={Slot.PRIMARY: one.parsed}, enabled=entry.enabled)

    assert reach_of(entry, spec) is Reach.MAY_WIDEN


def test_a_ca_less_of_a_group_may_end_a_chain_below_a_disabled_one(service, ca):
    """R7: with the middle CA at hand, the device is barred; without it nothing leads from its CA to the barred key."""
    middle = ca.intermediate("Middle")
    lower = middle.intermediate("Lower")
    enroll_ca(service, ca, "barred", enabled=False)
    both = {Slot.PRIMARY: lower.parsed, Slot.SECONDARY: middle.parsed}
    group = enroll_ca(service, lower, "plant-7", certificates=both)
    leaf = lower.leaf("pump-042")
    alone = PresentedCredential(certificates=(leaf.der,))
    spec = GroupSpec(certificates={Slot.PRIMARY: lower.parsed})

    barred = register(service, alone, "pump-042").outcome
    assert reach_of(group, spec) is Reach.MAY_WIDEN
    change_enrollment_group(service, "plant-7", spec, expected_etag=group.etag, actor=ALICE)

    assert (barred, register(service, alone, "pump-042").outcome) == (
        Outcome.DISABLED,
        Outcome.ASSIGNED,
    )


def test_keys_are_looked_at_only_where_others_are_given(service, settings):
    """R16: what only narrows is known to, although nothing can be decrypted."""
    enroll_keys(service, "pump-042")
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()
    current = service.individualenrollments.without_secrets().get()
    spec = IndividualSpec(
        registration_id="pump-042", mechanism=AttestationMechanism.SYMMETRIC_KEY, enabled=False
    )

    assert reach_of(current, spec) is Reach.NARROWS
    assert reach_of(current, replace(spec, primary_key=KEY)) is Reach.MAY_WIDEN


def test_predecessor_and_helpers_of_a_group_are_part_of_it(service, ca):
    former = enroll_ca(service, root("Former"), "former")
    middle = ca.intermediate("Middle")
    plant = middle.intermediate("Plant 7")
    group = enroll_ca(service, plant, "plant-7", helpers=(middle.parsed,), predecessor=former)
    spec = GroupSpec(certificates={Slot.PRIMARY: plant.parsed}, helpers=(middle.parsed,), predecessor=former)

    assert reach_of(group, spec) is Reach.NONE
    assert reach_of(group, replace(spec, helpers=())) is Reach.MAY_WIDEN
    assert reach_of(group, replace(spec, predecessor=None)) is Reach.MAY_WIDEN
    assert reach_of(group, replace(spec, enabled=False)) is Reach.NARROWS


# --- What rests on a preview holds only as long as the state that it was of ------------------


def acts(service, ca):
    """Each act that may widen, with the epoch that it expects."""
    leaf = self_signed("pump-042")
    entry = enroll_device(service, leaf, enabled=False)
    group = enroll_ca(service, ca, "plant-7", enabled=False)
    spec = replace(as_it_is(entry, leaf), enabled=True)
    of_group = GroupSpec(certificates={Slot.PRIMARY: ca.parsed})
    return {
        "add": lambda **on: add_individual_enrollment(
            service, IndividualSpec(certificates={Slot.PRIMARY: self_signed("new").parsed}), actor=ALICE, **on
        ),
        "add group": lambda **on: add_enrollment_group(
            service,
            GroupSpec(group_id="new", certificates={Slot.PRIMARY: root("New").parsed}),
            actor=ALICE,
            **on,
        ),
        "change": lambda **on: change_individual_enrollment(
            service, "pump-042", spec, expected_etag=entry.etag, actor=ALICE, **on
        ),
        "change group": lambda **on: change_enrollment_group(
            service, "plant-7", of_group, expected_etag=group.etag, actor=ALICE, **on
        ),
        "enable": lambda **on: enable_enrollment(service, "pump-042", actor=ALICE, **on),
        "enable group": lambda **on: enable_enrollment_group(service, "plant-7", actor=ALICE, **on),
        "several": lambda **on: carry_out(service, Act.ENABLE, [entry, group], actor=ALICE, **on),
    }


ACTS = ("add", "add group", "change", "change group", "enable", "enable group", "several")


@pytest.mark.parametrize("name", ACTS)
def test_r12_an_act_on_the_preview_of_a_former_state_is_refused_and_changes_nothing(service, ca, name):
    act = acts(service, ca)[name]
    epoch = ProvisioningService.epoch_of(service.pk)
    deny_device(service, "somebody-else", actor=ALICE)
    then = ProvisioningService.epoch_of(service.pk)

    with pytest.raises(PreviewOutdated, match="changed after the preview was made"):
        act(expected_epoch=epoch)

    assert ProvisioningService.epoch_of(service.pk) == then
    act(expected_epoch=then)
    assert ProvisioningService.epoch_of(service.pk) > then


@pytest.mark.parametrize("name", ACTS)
def test_r12_a_program_may_act_on_whatever_the_state_is(service, ca, name):
    act = acts(service, ca)[name]
    deny_device(service, "somebody-else", actor=ALICE)
    epoch = ProvisioningService.epoch_of(service.pk)

    act(expected_epoch=None)

    assert ProvisioningService.epoch_of(service.pk) > epoch


@pytest.fixture
def pins(service, settings):
    """Two certificates of a device whose enrollment holds more than them."""
    settings.DPS_WEBHOOK_HOSTS = ["hooks.example"]
    first, second = self_signed("pump-042"), self_signed("pump-042")
    enroll_device(
        service,
        first,
        certificates={Slot.PRIMARY: first.parsed, Slot.SECONDARY: second.parsed},
        device_id="pump-of-hall-3",
        allocation_policy="custom",
        webhook_url="https://hooks.example/hub?code=secret",
        hubs=tuple(service.hubs.all()),
        initial_twin={"tags": {"hall": 3}, "properties": {"desired": {}}},
        iot_edge=True,
        device_information={"made": 2020},
    )
    return {Slot.PRIMARY: first.parsed.thumbprint_sha256, Slot.SECONDARY: second.parsed.thumbprint_sha256}


@pytest.mark.parametrize("slot", Slot)
def test_a_certificate_is_taken_away_and_nothing_else(service, pins, slot, settings):
    etag, epoch = service.individualenrollments.get().etag, ProvisioningService.epoch_of(service.pk)
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()

    left = drop_certificates(service, "PUMP-042", {slot: pins[slot]}, actor=ALICE, reason="lost")

    assert [one.slot for one in left.certificates.all()] == [str(one) for one in Slot if one != slot]
    row = HistoryEvent.objects.latest("pk")
    assert (row.event, row.reason, set(row.before), set(row.after)) == (
        "enrollment.changed",
        "lost",
        {"certificates"},
        {"certificates"},
    )
    assert (len(row.before["certificates"]), len(row.after["certificates"])) == (2, 1)
    assert ProvisioningService.epoch_of(service.pk) > epoch
    after = service.individualenrollments.without_secrets().get()
    assert after.etag != etag


@pytest.mark.parametrize("state", ["another", "both", "none", "disabled", "to be disabled"])
def test_a_certificate_is_left_where_less_is_not_certain_to_shut_out(service, pins, state, database_clock):
    asked = {Slot.SECONDARY: pins[Slot.SECONDARY]}
    if state == "another":
        asked = {Slot.SECONDARY: pins[Slot.PRIMARY]}
    if state in ("both", "none"):
        asked = pins if state == "both" else {}
    if state == "disabled":
        disable_enrollment(service, "pump-042", actor=ALICE)
    if state == "to be disabled":
        disable_enrollment(service, "pump-042", at=database_clock.ahead(days=1), actor=ALICE)
    rows = HistoryEvent.objects.count()

    with pytest.raises(ChangedMeanwhile):
        drop_certificates(service, "pump-042", asked, actor=ALICE)

    assert service.individualenrollments.get().certificates.count() == 2
    assert HistoryEvent.objects.count() == rows


def test_several_entries_are_disabled_together_or_not_at_all(service, ca):
    entry, group = enroll_device(service, self_signed("pump-042")), enroll_ca(service, ca, "plant-7")
    gone = enroll_ca(service, root("Gone"), "gone")
    type(gone).objects.filter(pk=gone.pk).delete()

    with pytest.raises(NotFound):
        carry_out(service, Act.DISABLE, [entry, group, gone], actor=ALICE)
    assert service.individualenrollments.get().enabled

    carry_out(service, Act.DISABLE, [entry, group], actor=ALICE)
    assert not service.individualenrollments.get().enabled
    assert not service.enrollmentgroups.get().enabled
