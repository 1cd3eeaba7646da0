"""What shut one device out: each row at which it turned from admitted, whatever it is about (R3 to R8)."""

from datetime import timedelta
from itertools import pairwise
from time import sleep

import pytest
from django.utils import timezone

from enrollments.actions.ca_certificates import delete_ca_certificate
from enrollments.actions.deleting import delete_and_deny
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
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.past import ALL_OF_DEVICE, Limits, device, look_back, what_shut_out
from enrollments.actions.past.causes import FELL_DUE
from enrollments.actions.past.walking import TooFarBack
from enrollments.actions.past.words import in_between
from enrollments.actions.preview import Act, carry_out
from enrollments.actions.revocation import deny_device
from enrollments.actions.schedule import settle_due
from enrollments.actions.services import change_settings
from enrollments.models import AttestationMechanism, HistoryEvent, RegistrationRecord, Slot
from enrollments.policy.decision import Verdict
from tests.certificates import EXPIRED, mint, root, self_signed
from tests.chance import seeds
from tests.devices import (
    ALICE,
    demand_proof,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    enroll_tpm,
    prove,
    register,
    signs,
)
from tests.past.histories import History, grown
from tests.preview.worlds import PLANT_ALONE

pytestmark = pytest.mark.django_db
OPERATIONS = 120


def found(service, name):
    """Event and subject of the rows that shut a device out, oldest first."""
    rows = what_shut_out(service, name, limits=Limits()).rows
    return list(HistoryEvent.objects.filter(pk__in=rows).order_by("pk").values_list("event", "subject_name"))


def changed(service, entry, **spec):
    entry.refresh_from_db()
    name = entry.registration_id
    spec = IndividualSpec(registration_id=name, **spec)
    return change_individual_enrollment(service, name, spec, expected_etag=entry.etag, actor=ALICE)


class TestItsOwnEntry:
    def test_added_enabled_for_another_certificate(self, service, ca):
        """R5: it alone decides from then on, and the group's certificate is not what it asks for."""
        register(service, ca.leaf("pump-1"))
        enroll_device(service, self_signed("pump-1"))

        assert found(service, "pump-1") == [("enrollment.added", "pump-1")]

    def test_added_enabled_with_another_mechanism(self, service, ca):
        register(service, ca.leaf("pump-1"))
        enroll_keys(service, "pump-1")
        register(service, ca.leaf("pump-2"))
        enroll_tpm(service, "pump-2")

        assert found(service, "pump-1") == [("enrollment.added", "pump-1")]
        assert found(service, "pump-2") == [("enrollment.added", "pump-2")]

    def test_added_enabled_for_its_own_certificate_shuts_nobody_out(self, service, ca):
        leaf = ca.leaf("pump-1")
        register(service, leaf)
        enroll_device(service, leaf)

        assert found(service, "pump-1") == []

    def test_denied_disabled_changed_and_deleted(self, service):
        leaf = self_signed("pump-1")
        entry = enroll_device(service, leaf)
        register(service, leaf)
        changed(service, entry, certificates={Slot.PRIMARY: self_signed("pump-1").parsed})
        changed(service, entry, certificates={Slot.PRIMARY: leaf.parsed})
        changed(service, entry, mechanism=AttestationMechanism.SYMMETRIC_KEY)
        changed(service, entry, certificates={Slot.PRIMARY: leaf.parsed})
        changed(service, entry, certificates={Slot.PRIMARY: leaf.parsed}, enabled=False)
        changed(service, entry, certificates={Slot.PRIMARY: leaf.parsed})
        delete_enrollments(service, ["pump-1"], actor=ALICE)
        enroll_device(service, leaf)
        deny_device(service, "pump-1", actor=ALICE)

        assert [event for event, _ in found(service, "pump-1")] == [
            "enrollment.changed",
            "enrollment.changed",
            "enrollment.disabled",
            "enrollment.deleted",
            "enrollment.disabled",
        ]

    def test_given_another_key(self, service):
        entry = enroll_keys(service, "key-1")
        register(service, signs(service, "key-1", entry.primary_key), "key-1")
        key = "bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw=="
        changed(service, entry, mechanism=AttestationMechanism.SYMMETRIC_KEY, primary_key=key)

        assert found(service, "key-1") == [("enrollment.changed", "key-1")]
        (turn,) = what_shut_out(service, "key-1", limits=Limits()).turns
        assert turn.why == "no key that is enrolled for the device was proven"


class TestAnything:
    def test_a_group_disabled_changed_and_deleted(self, service, ca):
        register(service, ca.leaf("pump-1"))
        enroll_ca(service, root("Other"), "other")
        disable_enrollment_group(service, "other", actor=ALICE)
        group = disable_enrollment_group(service, "root", actor=ALICE)
        spec = GroupSpec(certificates={Slot.PRIMARY: ca.parsed})
        group = change_enrollment_group(service, "root", spec, expected_etag=group.etag, actor=ALICE)
        spec = GroupSpec(certificates={Slot.PRIMARY: root("New").parsed})
        group = change_enrollment_group(service, "root", spec, expected_etag=group.etag, actor=ALICE)
        spec = GroupSpec(certificates={Slot.PRIMARY: ca.parsed})
        change_enrollment_group(service, "root", spec, expected_etag=group.etag, actor=ALICE)
        delete_enrollment_groups(service, ["root"], actor=ALICE)

        assert found(service, "pump-1") == [
            ("group.disabled", "root"),
            ("group.changed", "root"),
            ("group.deleted", "root"),
        ]

    @pytest.mark.parametrize(
        "options",
        [
            pytest.param(EXPIRED, id="expired"),
            pytest.param({"extensions": [(PLANT_ALONE, True)]}, id="constrained"),
            pytest.param({"path_length": 0}, id="short"),
        ],
    )
    def test_an_enabled_group_that_was_added_in_between_shuts_nobody_out(self, service, ca, options):
        """R7: whichever of the groups has a valid path admits."""
        plant = ca.intermediate("Plant")
        register(service, plant.leaf("pump-1"))
        enroll_ca(service, plant.reissued(**options), "plant")

        said = what_shut_out(service, "pump-1", limits=Limits())
        assert (said.turns, said.look.spells[-1].admitted) == ((), True)

    def test_a_group_that_bars_above_or_from_the_start(self, service, ca):
        plant = ca.intermediate("Plant")
        register(service, plant.leaf("pump-1"))
        enroll_ca(service, plant, "plant", enabled=False)

        assert found(service, "pump-1") == [("group.added_disabled", "plant")]

    def test_another_device_with_its_key_that_was_disabled(self, service, ca):
        leaf = ca.leaf("pump-1")
        register(service, leaf)
        enroll_device(service, mint("pump-2", key=leaf.key))
        disable_enrollment(service, "pump-2", actor=ALICE)

        assert found(service, "pump-1") == [("enrollment.disabled", "pump-2")]

    def test_settings_and_proofs(self, service, ca):
        register(service, ca.leaf("pump-1"))
        demand_proof(service)
        row = prove(service, ca)
        delete_ca_certificate(service, row.name, actor=ALICE)

        assert found(service, "pump-1") == [
            ("service.changed", str(service)),
            ("ca_certificate.deleted", row.name),
        ]

    def test_groups_with_keys_switched_off(self, service):
        group = enroll_key_group(service)
        key = derived_key(group.primary_key, "line-9-1")
        register(service, signs(service, "line-9-1", key), "line-9-1")
        change_settings(service, {"symmetric_key_groups": False}, actor=ALICE)

        assert found(service, "line-9-1") == [("service.changed", str(service))]

    def test_one_act_on_several_entries_is_told_by_the_row_of_the_one_that_decides(self, service, ca):
        register(service, ca.leaf("pump-1"))
        enroll_device(service, self_signed("valve-1"))
        other = enroll_ca(service, root("Other"), "other")
        group = service.enrollmentgroups.get(group_id="root")
        carry_out(service, Act.DISABLE, [group, other], actor=ALICE)

        assert found(service, "pump-1") == [("group.disabled", "root")]


def test_a_schedule_tells_who_made_it_and_that_it_fell_due(service, ca):
    register(service, ca.leaf("pump-1"))
    due = timezone.now().replace(microsecond=0) + timedelta(seconds=2)
    disable_enrollment_group(service, "root", actor=ALICE, at=due, reason="lease ends")
    while timezone.now() <= due:
        sleep(0.05)

    unwritten = what_shut_out(service, "pump-1", limits=Limits())
    settle_due(service)
    written = what_shut_out(service, "pump-1", limits=Limits())

    for said in (unwritten, written):
        (turn,) = said.turns
        assert (turn.verdict, turn.began_by.words, turn.begins) == (Verdict.DISABLED, FELL_DUE, due)
        by = turn.began_by.told_by
        assert (by.event, by.actor_name, by.reason) == ("group.disabling_scheduled", "alice", "lease ends")
        assert said.by_time == said.turns
    assert [row.event for row in unwritten.turns[0].began_by.rows] == ["group.disabling_scheduled"]
    assert found(service, "pump-1") == [("group.disabling_scheduled", "root"), ("group.disabled", "root")]


class Looked:
    """What was decided after an operation, from when until when that was looked at, and the newest row by then."""

    def __init__(self, history):
        self.newest = newest()
        self.begun = timezone.now()
        self.told = history.decided()
        self.done = timezone.now()


@pytest.mark.parametrize("seed", seeds(0, 2, least=1))
def test_whoever_is_shut_out_by_an_operation_finds_its_row(api, seed):
    history = History(grown(), seed, api)
    strangers = {leaf.parsed.common_names[0] for leaf in history.forest.strangers}
    names = sorted({*history.shown, *history.tpms} - strangers)
    looks = [Looked(history)]
    for _ in range(OPERATIONS):
        history.operate()
        looks.append(Looked(history))

    turned = 0
    for name in names:
        said = what_shut_out(history.service, name, limits=ALL_OF_DEVICE)
        for step, (before, after) in enumerate(pairwise(looks), start=1):
            if before.told[name][0] is Verdict.ADMIT and after.told[name][0] is not Verdict.ADMIT:
                written = set(range(before.newest + 1, after.newest + 1))
                # A switch may turn while it is being looked at what is decided, which takes its time.
                passed = [one for one in said.by_time if before.begun <= one.begins <= after.done]
                # Whose name another entry held could not have come in before either (R11).
                held = [
                    one for one in said.look.spells if one.held_by and one.begins <= before.done <= one.ends
                ]
                assert written & said.rows or passed or held, (name, step)
                turned += bool(written & said.rows)
    assert turned > 20


@pytest.mark.parametrize("seed", seeds(2, 4, least=1))
def test_of_a_device_the_rows_that_can_matter_tell_the_same_as_all_rows(api, seed, monkeypatch):
    """Where there are too many to go back over all of them."""
    history = History(grown(), seed, api)
    history.run(OPERATIONS, set())
    history.wait_until_nothing_is_due_soon()
    begun = HistoryEvent.objects.earliest("pk").at
    until = timezone.now()
    known = {*history.shown, *history.tpms} & set(record_names())
    whole = {name: look_back(history.service, name, begun, until, limits=ALL_OF_DEVICE) for name in known}
    walked = []
    changes_since = device.changes_since

    def too_many(service, at, most, names=None, held=""):
        if names is None:
            raise TooFarBack(0)
        walked.append(names)
        return changes_since(service, at, most, names, held)

    monkeypatch.setattr(device, "changes_since", too_many)

    for name in sorted(known):
        narrow = look_back(history.service, name, begun, until, limits=Limits())
        assert spells(narrow) == spells(whole[name]), name
    assert any(len(names) > 1 for names in walked), "somebody else's entry could have its key"


def record_names():
    return RegistrationRecord.objects.values_list("registration_key", flat=True)


def spells(look):
    return [
        (one.begins, one.ends, one.verdict, one.why, one.entry, {row.pk for row in one.began_by.rows})
        for one in look.spells
    ]


def test_changes_of_others_do_not_count_where_a_device_signs(service):
    entry = enroll_keys(service, "key-1")
    register(service, signs(service, "key-1", entry.primary_key), "key-1")
    for number in range(4):
        enroll_device(service, self_signed(f"valve-{number}"))
    disable_enrollment(service, "key-1", actor=ALICE)

    rows = what_shut_out(service, "key-1", limits=Limits(rows=2, certificates=0)).rows

    assert [row.event for row in HistoryEvent.objects.filter(pk__in=rows)] == ["enrollment.disabled"]


@pytest.mark.parametrize("of_ca", [False, True], ids=["its own key", "the key of its CA"])
def test_who_once_barred_its_key_is_found_among_many_others(service, ca, of_ca):
    """R6: also where that entry is gone, so that nothing but its certificate is left of it."""
    leaf = ca.leaf("pump-1")
    register(service, leaf)
    for number in range(9):
        enroll_device(service, self_signed(f"valve-{number}"))
    enroll_device(service, mint("boss-1", key=ca.key if of_ca else leaf.key), enabled=False)
    delete_enrollments(service, ["boss-1"], actor=ALICE)

    said = what_shut_out(service, "pump-1", limits=Limits(rows=8))

    rows = HistoryEvent.objects.filter(pk__in=said.rows)
    assert [(row.event, row.subject_name) for row in rows] == [("enrollment.added_disabled", "boss-1")]
    assert said.look.spells[-1].admitted


def test_where_there_are_too_many_certificates_it_is_said(service, ca):
    register(service, ca.leaf("pump-1"))
    for number in range(4):
        enroll_device(service, self_signed(f"valve-{number}"))
    disable_enrollment_group(service, "root", actor=ALICE)

    with pytest.raises(TooFarBack, match="More than 4 changes"):
        what_shut_out(service, "pump-1", limits=Limits(rows=4, certificates=2))
    rows = what_shut_out(service, "pump-1", limits=Limits(rows=4, certificates=100)).rows
    assert [row.event for row in HistoryEvent.objects.filter(pk__in=rows)] == ["group.disabled"]


def newest():
    return HistoryEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


class TestWhatIsDoneAtOnce:
    """Nobody is admitted between two rows of one change, so there is no state between them."""

    def test_who_is_kept_out_when_its_bar_is_deleted_was_never_let_in(self, service, ca):
        register(service, ca.leaf("pump-1"))
        entry = deny_device(service, "pump-1", actor=ALICE)
        since = timezone.now()

        assert delete_and_deny(service, [entry], actor=ALICE).denied == 1

        assert in_between(look_back(service, "pump-1", since)).startswith("At no time between")
        assert found(service, "pump-1") == [("enrollment.added_disabled", "pump-1")]

    @pytest.mark.parametrize("names", [("plant", "root"), ("root", "plant")])
    def test_nor_who_was_below_two_groups_that_are_deleted(self, service, ca, names):
        plant = ca.intermediate("Plant")
        enroll_ca(service, plant, "plant")
        register(service, plant.leaf("pump-1"))
        disable_enrollment_group(service, "plant", actor=ALICE)
        since = timezone.now()
        groups = [service.enrollmentgroups.get(group_id=name) for name in names]

        carry_out(service, Act.DELETE, groups, actor=ALICE)

        assert in_between(look_back(service, "pump-1", since)).startswith("At no time between")

    def test_all_rows_of_it_tell_the_same_time_and_those_of_the_next_another(self, service, ca):
        group = enroll_ca(service, ca.intermediate("Plant"), "plant")
        for act in (Act.DISABLE, Act.ENABLE):
            carry_out(service, act, [group, service.enrollmentgroups.get(group_id="root")], actor=ALICE)

        times = HistoryEvent.objects.order_by("-pk").values_list("at", flat=True)[:4]
        assert times[0] == times[1] > times[2] == times[3]
