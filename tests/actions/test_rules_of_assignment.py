"""R10, R11, R13 with real rows: what an admission leaves, what passes on, what stays at the hub."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from enrollments.actions.attempts import Peer
from enrollments.actions.enrollment_groups import (
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    change_individual_enrollment,
    delete_enrollments,
    disable_enrollment,
)
from enrollments.actions.explaining import Question, explain
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.hubs import HubSpec, link_hub
from enrollments.actions.registrations import (
    Outcome,
    look_up_registration,
    poll_operation,
    register_device,
)
from enrollments.actions.revocation import (
    delete_registration,
    deny_device,
    deprovision_device,
    deregister_device,
    release_registration,
)
from enrollments.audit.events import Event
from enrollments.errors import HubUnavailable, NotFound
from enrollments.hubs import CONNECTORS, DeviceIdentity
from enrollments.models import (
    Certificate,
    HistoryEvent,
    HubDevice,
    LinkedHub,
    RegistrationEvidence,
    RegistrationRecord,
    Slot,
)
from enrollments.policy.reasons import Reason
from tests.certificates import mint, root, self_signed
from tests.devices import (
    ALICE,
    asks,
    enroll_ca,
    enroll_device,
    enroll_keys,
    register,
    shows,
    signs,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def top():
    return root("Root A")


# --- R10 ---------------------------------------------------------------------------------------


def test_r10_assigned_record_says_hub_device_entry_and_keeps_the_evidence(service, top):
    plant = top.intermediate("Plant 7")
    leaf = plant.leaf("pump-042")
    twin = {"tags": {"plant": 7}, "properties": {"desired": {"interval": 30}}}
    group = enroll_ca(service, top, initial_twin=twin)

    record = register(service, leaf).record

    assert (record.status, record.hub.name, record.device_id) == ("assigned", "built-in", "pump-042")
    assert (record.group, record.owner_group, record.leaf_thumbprint) == (
        group,
        group,
        leaf.parsed.thumbprint_sha256,
    )
    assert [one.certificate.pem for one in record.evidence.all()] == [leaf.parsed.pem, plant.parsed.pem]
    device = HubDevice.objects.get()
    assert (device.device_id, device.twin, device.thumbprint_sha256) == (
        "pump-042",
        twin,
        record.leaf_thumbprint,
    )


def test_r10_each_certificate_is_stored_once(service, top):
    plant = top.intermediate("Plant 7")
    enroll_ca(service, top)
    enroll_ca(service, plant)

    for number in range(3):
        register(service, plant.leaf(f"pump-{number}"))

    assert Certificate.objects.count() == 5


def test_r10_unrelated_certificates_that_were_sent_are_not_kept(service, top):
    leaf = top.leaf("pump-042")
    enroll_ca(service, top)

    register(service, shows(leaf, root("Stranger")), "pump-042")

    assert not Certificate.objects.filter(subject="CN=Stranger").exists()


def test_r10_device_id_of_the_entry_comes_first(service):
    device = self_signed("pump-042")
    enroll_device(service, device, device_id="Line-3-Pump")

    assert register(service, device).record.device_id == "Line-3-Pump"


def test_r10_second_registration_that_arrives_while_one_runs_joins_it(service, top):
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    arrived = timezone.now()

    first = register(service, leaf, at=arrived)
    beside = register(service, leaf, at=arrived)
    later = register(service, leaf, at=timezone.now() + timedelta(seconds=5))

    assert beside.operation_id == first.operation_id
    assert later.operation_id != first.operation_id


def test_r10_without_an_eligible_hub_it_fails_and_says_so(service, top):
    enroll_ca(service, top)
    LinkedHub.objects.update(apply_allocation_policy=False)

    answer = register(service, top.leaf("pump-042"))

    assert (answer.outcome, answer.reason) == (Outcome.FAILED, Reason.NO_HUB)
    assert RegistrationRecord.objects.get().status == "failed"


def test_r10_poll_tells_the_outcome_to_the_device_and_to_nobody_else(service, top):
    enroll_ca(service, top)
    leaf, sibling = top.leaf("pump-042"), top.leaf("pump-043")
    operation = register(service, leaf).operation_id

    assert poll_operation(service, operation, asks("pump-042", shows(leaf))).outcome is Outcome.ASSIGNED
    assert (
        poll_operation(service, operation, asks("pump-042", shows(sibling))).outcome is Outcome.UNAUTHORIZED
    )
    with pytest.raises(NotFound):
        poll_operation(service, operation, asks("pump-043", shows(sibling)))


@pytest.mark.parametrize("operation", ["", "5", "5..", "5.x.y", "4.0123456789abcdef.guid", "5.é.é"])
def test_r10_operation_that_was_never_given_out_is_not_found(service, top, operation):
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    register(service, leaf)

    with pytest.raises(NotFound):
        poll_operation(service, operation, asks("pump-042", shows(leaf)))


def test_r10_look_up_tells_the_last_result_and_registers_nothing(service, top):
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")

    before = look_up_registration(service, asks("pump-042", shows(leaf)))
    register(service, leaf)
    after = look_up_registration(service, asks("pump-042", shows(leaf)))

    assert (before.outcome, after.outcome) == (Outcome.UNASSIGNED, Outcome.ASSIGNED)


def test_r10_poll_of_a_device_with_its_other_certificate_is_judged_for_that_one(service):
    old, new = self_signed("pump-042"), self_signed("pump-042")
    enroll_device(service, old, certificates={Slot.PRIMARY: old.parsed, Slot.SECONDARY: new.parsed})
    operation = register(service, old).operation_id

    assert poll_operation(service, operation, asks("pump-042", shows(new))).outcome is Outcome.ASSIGNED
    assert HubDevice.objects.get().thumbprint_sha256 == new.parsed.thumbprint_sha256


def made_up(*keys):
    """Anybody can write the key of a leaf, or of a CA, into a certificate of their own."""
    return [mint(f"made-up-{number}", key=key, ca=True) for number, key in enumerate(keys)]


def test_r10_of_certificates_that_a_device_made_up_itself_the_latest_are_kept(service, top):
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    before = Certificate.objects.count()

    for _ in range(3):
        sent = shows(leaf, *made_up(leaf.key, leaf.key, top.key))
        register(service, sent, "pump-042", at=timezone.now() + timedelta(seconds=5))

    assert Certificate.objects.count() == before + 4
    assert register(service, leaf, at=timezone.now() + timedelta(seconds=5)).record.evidence.count() == 1
    assert Certificate.objects.count() == before + 1


@pytest.mark.usefixtures("time_stands_still")
def test_r10_made_up_certificates_stay_while_another_device_has_them_or_they_are_enrolled(service, top):
    enroll_ca(service, top)
    leaves = [top.leaf(f"pump-{number}") for number in range(2)]
    shared, pinned = made_up(top.key, top.key)
    for leaf in leaves:
        register(service, shows(leaf, shared), leaf.parsed.common_names[0])
    register(service, shows(leaves[0], pinned), "pump-0", at=timezone.now() + timedelta(seconds=5))
    assert RegistrationEvidence.objects.filter(certificate__subject="CN=made-up-0").count() == 1
    enroll_device(service, pinned)
    delete_enrollments(service, ["made-up-1"], actor=ALICE)

    for leaf in leaves:
        register(service, leaf, at=timezone.now() + timedelta(seconds=5))

    # The history names what was enrolled once.
    assert [
        *Certificate.objects.filter(subject__startswith="CN=made-up").values_list("subject", flat=True)
    ] == ["CN=made-up-1"]


# --- R11 ---------------------------------------------------------------------------------------


def test_r11_another_suppliers_ca_cannot_take_a_name_and_disturbs_nothing(service, top):
    enroll_ca(service, top)
    good = top.leaf("pump-042")
    register(service, good)
    other = root("Other supplier")
    enroll_ca(service, other)
    impostor = other.leaf("pump-042")
    before = RegistrationRecord.objects.values().get()

    answer = register(service, impostor)
    poll = poll_operation(service, answer.operation_id, asks("pump-042", shows(impostor)))

    assert (answer.outcome, answer.reason) == (Outcome.FAILED, Reason.NAME_HELD_BY_OTHER_ENTRY)
    assert (poll.outcome, poll.reason) == (Outcome.FAILED, Reason.NAME_HELD_BY_OTHER_ENTRY)
    assert RegistrationRecord.objects.values().get() == before
    assert register(service, good).outcome is Outcome.ASSIGNED


def test_r11_explanation_says_by_whom_the_name_is_held_and_that_this_decided(service, top):
    enroll_ca(service, top, "first-supplier")
    register(service, top.leaf("pump-042"))
    other = root("Other supplier")
    enroll_ca(service, other, "other-supplier")

    answer = register(service, other.leaf("pump-042"))

    *decision, step = explain(service, Question(tracking_id=answer.tracking_id)).steps
    assert [one.said for one in decision if one.entry] == ["admits"]
    assert (step.rule, step.candidate, step.said) == ("R11", "registration ID pump-042", "fails")
    assert "held through enrollment group first-supplier" in step.because
    assert (step.decides, any(one.decides for one in decision)) == (True, False)


def test_r11_barred_supplier_cannot_mark_somebody_elses_device_as_disabled(service, top):
    enroll_ca(service, top)
    register(service, top.leaf("pump-042"))
    other = root("Other supplier")
    enroll_ca(service, other, enabled=False)

    answer = register(service, other.leaf("pump-042"))

    assert answer.outcome is Outcome.DISABLED
    assert RegistrationRecord.objects.get().status == "assigned"


def test_r11_barred_supplier_hears_nothing_of_somebody_elses_record(service, top):
    enroll_ca(service, top)
    register(service, top.leaf("Pump-042"))
    other = root("Other supplier")
    enroll_ca(service, other, enabled=False)
    impostor = other.leaf("pump-042")

    operation = register(service, impostor).operation_id
    poll = poll_operation(service, operation, asks("pump-042", shows(impostor)))

    assert (poll.outcome, poll.record) == (Outcome.DISABLED, None)


def test_r11_name_passes_to_an_individual_enrollment(service, top):
    enroll_ca(service, top)
    register(service, top.leaf("pump-042"))
    entry = enroll_keys(service, "pump-042")

    answer = register(service, signs(service, "pump-042", entry.primary_key), "pump-042")

    assert answer.outcome is Outcome.ASSIGNED
    assert answer.record.owner_individual == entry


def test_r11_name_passes_when_the_former_entry_is_deleted(service, top):
    enroll_ca(service, top)
    register(service, top.leaf("pump-042"))
    other = root("Other supplier")
    enroll_ca(service, other)

    delete_enrollment_groups(service, ["root-a"], actor=ALICE)

    assert register(service, other.leaf("pump-042")).outcome is Outcome.ASSIGNED


def test_r11_name_passes_to_the_group_that_names_its_predecessor(service, top):
    old = enroll_ca(service, top)
    register(service, top.leaf("pump-042"))
    new = root("Root B")
    enroll_ca(service, new, predecessor=old)

    assert register(service, new.leaf("pump-042")).outcome is Outcome.ASSIGNED


def test_r11_name_passes_when_the_former_ca_is_on_the_proven_path_too(service, top):
    plant = top.intermediate("Plant 7")
    enroll_ca(service, top)
    leaf = plant.leaf("pump-042")
    register(service, leaf)
    nearer = enroll_ca(service, plant)

    assert register(service, leaf).record.owner_group == nearer


def test_r11_name_passes_after_an_operator_released_it(service, top):
    enroll_ca(service, top)
    register(service, top.leaf("pump-042"))
    other = root("Other supplier")
    enroll_ca(service, other)
    assert register(service, other.leaf("pump-042")).outcome is Outcome.FAILED

    release_registration(service, "pump-042", actor=ALICE, reason="sold")

    assert register(service, other.leaf("pump-042")).outcome is Outcome.ASSIGNED
    assert HistoryEvent.objects.filter(event="registration.released", reason="sold").count() == 1


def test_r11_device_id_at_a_hub_belongs_to_one_registration(service):
    first, second = self_signed("pump-042"), self_signed("pump-043")
    enroll_device(service, first, device_id="line-3")
    enroll_device(service, second, device_id="LINE-3")

    assert register(service, first).outcome is Outcome.ASSIGNED
    answer = register(service, second)

    assert (answer.outcome, answer.reason) == (Outcome.FAILED, Reason.DEVICE_ID_TAKEN)
    assert HubDevice.objects.get().registration_key == "pump-042"
    step = explain(service, Question(tracking_id=answer.tracking_id)).steps[-1]
    assert (step.rule, step.candidate, step.said, step.decides) == ("R11", "device ID LINE-3", "fails", True)


def test_r11_the_database_holds_that_too(service):
    hub = service.hubs.get()
    HubDevice.objects.create(hub=hub, device_id="a", device_key="a", registration_key="one")

    with pytest.raises(IntegrityError), transaction.atomic():
        HubDevice.objects.create(hub=hub, device_id="A", device_key="a", registration_key="two")


@pytest.fixture
def moved(service):
    """A device with data at one hub, whose entry then names another."""
    there = link_hub(service, HubSpec(name="there", host_name="there.example"), actor=ALICE)
    here = service.hubs.get(name="built-in")
    device = self_signed("pump-042")

    def move(policy: str) -> HubDevice:
        entry = enroll_device(
            service,
            device,
            hubs=(here,),
            reprovisioning_policy=policy,
            initial_twin={"tags": {"from": "entry"}, "properties": {"desired": {}}},
        )
        register(service, device)
        HubDevice.objects.update(twin={"tags": {"from": "life"}, "properties": {"desired": {}}})
        spec = IndividualSpec(
            certificates={Slot.PRIMARY: device.parsed},
            hubs=(there,),
            reprovisioning_policy=policy,
            initial_twin=entry.initial_twin,
        )
        change_individual_enrollment(service, "pump-042", spec, expected_etag=entry.etag, actor=ALICE)
        answer = register(service, device)
        identity = HubDevice.objects.get()
        return (
            answer.record.hub.name,
            identity.hub.name,
            identity.twin["tags"]["from"],
            answer.record.substatus,
        )

    return move


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("migrate", ("there", "there", "life", "deviceDataMigrated")),
        ("reset", ("there", "there", "entry", "deviceDataReset")),
        ("never", ("built-in", "built-in", "life", "initialAssignment")),
    ],
)
def test_r11_reprovisioning_policy_decides_what_a_returning_device_keeps(moved, policy, expected):
    assert moved(policy) == expected


def test_r11_returning_device_keeps_its_twin(service, top):
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    register(service, leaf)
    HubDevice.objects.update(twin={"tags": {"from": "life"}, "properties": {"desired": {}}})

    register(service, top.leaf("pump-042"))

    assert HubDevice.objects.get().twin["tags"] == {"from": "life"}


def test_r15_row_of_an_assignment_tells_from_where_the_device_called_and_by_what(service, top):
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    peer = Peer("192.0.2.9", "pump-agent/1.0\x1b[31m" + "x" * 900)

    register_device(service, replace(asks("pump-042", shows(leaf)), peer=peer))

    row = HistoryEvent.objects.get(event="device.assigned")
    assert row.address == "192.0.2.9"
    assert row.client.startswith("pump-agent/1.0[31mxxx")
    assert len(row.client) == 200


def test_r15_each_changed_assignment_is_history_and_an_unchanged_one_is_not(service, top):
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")

    register(service, leaf)
    register(service, leaf, at=timezone.now() + timedelta(seconds=9))

    row = HistoryEvent.objects.get(event="device.assigned")
    assert (row.actor_kind, row.actor_name, row.way) == ("device", "pump-042", "device")
    assert row.after["hub"] == "plant.hub.internal"


def test_r15_identity_that_its_hub_makes_anew_is_history_and_the_registrations_after_it_are_not(service, top):
    """Whoever reads that it was deregistered reads as well that its hub knows it again, and since when."""
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    register(service, leaf)
    deregister_device(service, HubDevice.objects.get(), actor=ALICE, reason="sold")

    answers = [register(service, leaf, at=timezone.now() + timedelta(seconds=9 * n)) for n in (1, 2)]

    assert [answer.record.substatus for answer in answers] == [
        "reprovisionedToInitialAssignment",
        "initialAssignment",
    ]
    rows = HistoryEvent.objects.filter(event__startswith="device.").order_by("pk")
    assert [row.event for row in rows] == ["device.assigned", "device.deregistered", "device.assigned_anew"]
    anew = rows[2]
    assert (anew.actor_kind, anew.actor_name, anew.subject_name) == ("device", "pump-042", "pump-042")
    assert anew.before == {"hub": None, "device_id": None}
    assert anew.after == {"hub": "plant.hub.internal", "device_id": "pump-042"}
    assert "its hub did not know it" in Event(anew.event).in_words


def test_r15_identity_that_is_made_anew_at_another_hub_is_told_with_the_former_one(service, top):
    group = enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    register(service, leaf)
    deregister_device(service, HubDevice.objects.get(), actor=ALICE, reason="sold")
    hub = LinkedHub.objects.get(service=service)
    hub.pk, hub.name, hub.host_name = None, "other", "other.hub.internal"
    hub.save()
    group.hubs.set([hub])

    register(service, leaf, at=timezone.now() + timedelta(seconds=20))

    anew = HistoryEvent.objects.filter(event__startswith="device.assigned").latest("pk")
    assert (anew.before["hub"], anew.after["hub"]) == ("plant.hub.internal", "other.hub.internal")


# --- R13 ---------------------------------------------------------------------------------------


def test_r13_disabling_and_deleting_leave_what_the_hub_knows(service):
    device = self_signed("pump-042")
    enroll_device(service, device)
    register(service, device)

    disable_enrollment(service, "pump-042", actor=ALICE)
    register(service, device)
    delete_enrollments(service, ["pump-042"], actor=ALICE)

    record = RegistrationRecord.objects.get()
    assert (record.status, record.hub.name, record.entry_name) == ("disabled", "built-in", "pump-042")
    assert HubDevice.objects.count() == 1


def test_r13_deprovisioning_disenrolls_and_deregisters(service, top):
    enroll_ca(service, top)
    leaf, sibling = top.leaf("pump-042"), top.leaf("pump-043")
    register(service, leaf)
    register(service, sibling)

    result = deprovision_device(service, "pump-042", actor=ALICE, reason="scrapped")

    assert result.done
    assert not result.entry.enabled
    assert [device.device_id for device in HubDevice.objects.all()] == ["pump-043"]
    assert register(service, leaf).outcome is Outcome.DISABLED
    assert register(service, sibling).outcome is Outcome.ASSIGNED
    assert HistoryEvent.objects.filter(event="device.deprovisioned", reason="scrapped").count() == 1


def test_r13_deprovisioning_twice_changes_nothing_and_records_nothing(service, top):
    enroll_ca(service, top)
    register(service, top.leaf("pump-042"))
    first = deprovision_device(service, "pump-042", actor=ALICE, reason="scrapped")
    rows, etag = HistoryEvent.objects.count(), service.registrations.get().etag

    second = deprovision_device(service, "pump-042", actor=ALICE, reason="scrapped")

    assert (first.deregistered, second.deregistered) == (True, False)
    assert second.done
    assert (HistoryEvent.objects.count(), service.registrations.get().etag) == (rows, etag)


def test_r13_denied_device_of_a_group_is_barred_with_its_key(service, top):
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    register(service, leaf)

    deny_device(service, "PUMP-042", actor=ALICE)

    assert register(service, leaf).outcome is Outcome.DISABLED
    assert register(service, top.leaf("pump-099", key=leaf.key)).reason is Reason.KEY_BARRED


def test_r13_deleting_a_record_leaves_entry_and_identity(service, top):
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    register(service, leaf)

    delete_registration(service, "pump-042", actor=ALICE)

    assert HubDevice.objects.count() == 1
    assert register(service, leaf).outcome is Outcome.ASSIGNED


# --- A hub that is not ours: R12, R13, R16 ---------------------------------------------------------


class RemoteHub:
    """A hub in memory: asked outside of transactions, failing when told to, and letting a test act meanwhile."""

    transactional = False

    def __init__(self) -> None:
        self.identities: dict[str, DeviceIdentity] = {}
        self.meanwhile: Any = lambda: None
        self.answers = True

    def _ask(self) -> None:
        if not self.answers:
            raise HubUnavailable("The hub does not answer.")

    def provision(self, hub, identity, held=None):
        self._ask()
        self.identities[identity.device_id] = identity
        self.meanwhile()

    def twin_of(self, hub, device_id, registration_key):
        return self.identities[device_id].twin if device_id in self.identities else None

    def deregister(self, hub, device_id, registration_key):
        self._ask()
        return self.identities.pop(device_id, None) is not None


@pytest.fixture
def remote(service, monkeypatch):
    hub = RemoteHub()
    monkeypatch.setitem(CONNECTORS, "remote", hub)
    LinkedHub.objects.update(kind="remote")
    return hub


def test_r12_remote_hub_confirms_before_the_record_says_assigned(service, top, remote):
    enroll_ca(service, top)
    seen = []
    remote.meanwhile = lambda: seen.append(RegistrationRecord.objects.get().status)

    answer = register(service, top.leaf("pump-042"))

    assert (seen, answer.outcome, answer.record.status) == (["assigning"], Outcome.ASSIGNED, "assigned")


def test_r12_device_disabled_while_the_remote_hub_was_asked_is_undone_there(service, top, remote):
    enroll_ca(service, top)
    remote.meanwhile = lambda: disable_enrollment_group(service, "root-a", actor=ALICE)

    answer = register(service, top.leaf("pump-042"))

    assert answer.outcome is Outcome.DISABLED
    assert remote.identities == {}
    assert RegistrationRecord.objects.get().status == "disabled"


def test_r12_device_whose_entry_was_deleted_meanwhile_is_undone_and_hears_401(service, top, remote):
    enroll_ca(service, top)
    remote.meanwhile = lambda: delete_enrollment_groups(service, ["root-a"], actor=ALICE)

    answer = register(service, top.leaf("pump-042"))

    assert answer.outcome is Outcome.UNAUTHORIZED
    assert remote.identities == {}
    assert RegistrationRecord.objects.get().status == "failed"


def test_r10_second_registration_joins_the_one_that_waits_for_a_remote_hub(service, top, remote):
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    beside = []
    remote.meanwhile = lambda: beside.append(register_device(service, asks("pump-042", shows(leaf))))

    first = register(service, leaf)

    assert beside[0].outcome is Outcome.ASSIGNING
    assert beside[0].operation_id == first.operation_id


def test_r12_operation_that_was_taken_over_takes_nothing_back(service, top, remote):
    """The hub was so slow that a second registration took over and finished; its identity is not the first's."""
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")

    def second_takes_over() -> None:
        remote.meanwhile = lambda: None
        RegistrationRecord.objects.update(updated_at=timezone.now() - timedelta(minutes=5))
        assert register(service, leaf).outcome is Outcome.ASSIGNED

    remote.meanwhile = second_takes_over
    register(service, leaf)

    assert RegistrationRecord.objects.get().status == "assigned"
    assert list(remote.identities) == ["pump-042"]


def test_r16_remote_hub_that_does_not_answer_is_a_failure(service, top, remote):
    enroll_ca(service, top)
    remote.answers = False

    answer = register(service, top.leaf("pump-042"))

    assert (answer.outcome, answer.reason) == (Outcome.FAILED, Reason.HUB_FAILED)


def test_r13_deprovisioning_is_not_done_before_the_hub_confirmed(service, top, remote):
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")
    register(service, leaf)
    remote.answers = False

    unconfirmed = deprovision_device(service, "pump-042", actor=ALICE)
    after_failure = register(service, leaf).outcome
    remote.answers = True
    confirmed = deprovision_device(service, "pump-042", actor=ALICE)

    assert (unconfirmed.done, unconfirmed.hub_problem) == (False, "The hub does not answer.")
    assert after_failure is Outcome.DISABLED
    assert confirmed.done
    assert remote.identities == {}
    assert HistoryEvent.objects.filter(event="device.deprovisioned").count() == 1


def test_r11_group_rollover_in_one_group_keeps_the_device(service, top):
    """CA rollover inside one group: the new CA goes into the secondary slot."""
    group = enroll_ca(service, top)
    register(service, top.leaf("pump-042"))
    new = root("Root A2")
    spec = GroupSpec(certificates={Slot.PRIMARY: top.parsed, Slot.SECONDARY: new.parsed})

    change_enrollment_group(service, "root-a", spec, expected_etag=group.etag, actor=ALICE)

    assert register(service, new.leaf("pump-042")).outcome is Outcome.ASSIGNED


def test_r11_device_that_is_never_moved_stays_where_no_hub_could_be_chosen(service, top):
    enroll_ca(service, top, reprovisioning_policy="never")
    leaf = top.leaf("pump-042")
    register(service, leaf)
    LinkedHub.objects.update(apply_allocation_policy=False)

    again = register(service, leaf, at=timezone.now() + timedelta(seconds=5))
    newcomer = register(service, top.leaf("pump-043"))

    assert (again.outcome, again.record.hub.name) == (Outcome.ASSIGNED, "built-in")
    assert newcomer.reason is Reason.NO_HUB


def test_r12_poll_after_an_unrelated_change_leaves_the_device_where_its_payload_led(service, top):
    """A poll says nothing of the payload, so it decides no allocation again (contract 1.3)."""
    enroll_ca(service, top, allocation_policy="geoLatency")
    LinkedHub.objects.update(latency_ms=10)
    link_hub(
        service,
        HubSpec(name="east", host_name="east.example", latency_ms=50, region_latencies={"eu": 1}),
        actor=ALICE,
    )
    leaf = top.leaf("pump-042")
    request = replace(asks("pump-042", shows(leaf)), payload={"region": "EU"})
    answer = register_device(service, request)
    assert answer.record.hub.name == "east"
    enroll_keys(service, "somebody-else")

    told = poll_operation(service, answer.operation_id, asks("pump-042", shows(leaf)))

    assert (told.outcome, told.record.hub.name) == (Outcome.ASSIGNED, "east")
    again = register_device(service, asks("pump-042", shows(leaf), timezone.now() + timedelta(seconds=30)))
    assert again.record.hub.name == "built-in"
