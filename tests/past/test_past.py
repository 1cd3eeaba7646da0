"""Back in time, by plain examples: spells, dates, switches that turn by themselves, keys, and what is not known."""

import importlib
from dataclasses import fields
from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import (
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    change_individual_enrollment,
    delete_enrollments,
    disable_enrollment,
)
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.past import Limits, compare, look_back
from enrollments.actions.past.walking import TooFarBack, changes_since
from enrollments.actions.past.words import through_at
from enrollments.actions.preview import Effect
from enrollments.actions.revocation import deny_device
from enrollments.actions.schedule import settle_due
from enrollments.actions.services import change_settings
from enrollments.errors import Invalid, NotFound
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HistoryEvent,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationRecord,
    Slot,
)
from enrollments.models.services import Standing
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import GroupFacts, IndividualFacts, RegistrationFacts
from tests.certificates import mint, root, self_signed
from tests.clocks import DatabaseClock
from tests.devices import (
    ALICE,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    enroll_tpm,
    new_service,
    register,
    signs,
)

pytestmark = pytest.mark.django_db

ADMIT, DISABLED, UNAUTHORIZED = Verdict.ADMIT, Verdict.DISABLED, Verdict.UNAUTHORIZED


def now():
    return timezone.now()


def told(look):
    return [(one.verdict, one.entry.name if one.entry else None) for one in look.spells]


def causes(look):
    return [one.began_by.event.event if one.began_by.event else one.began_by.words for one in look.spells]


def test_each_spell_names_its_entry_and_the_row_that_began_it(service, ca):
    register(service, ca.leaf("pump-1"))
    at = now()
    deny_device(service, "pump-1", actor=ALICE)
    delete_enrollments(service, ["pump-1"], actor=ALICE)
    disable_enrollment_group(service, "root", actor=ALICE)
    delete_enrollment_groups(service, ["root"], actor=ALICE)

    look = look_back(service, "pump-1", at)

    assert told(look) == [
        (ADMIT, "root"),
        (DISABLED, "pump-1"),
        (ADMIT, "root"),
        (DISABLED, "root"),
        (UNAUTHORIZED, None),
    ]
    assert causes(look) == [
        "the beginning of the period",
        "enrollment.added_disabled",
        "enrollment.deleted",
        "group.disabled",
        "group.deleted",
    ]
    assert look.explanation.entry_words == "enrollment group root"
    assert {ref.name for ref in look.gone} == {"root", "pump-1"}


def test_a_change_at_exactly_that_time_counts_as_made(service, ca):
    register(service, ca.leaf("pump-1"))
    disable_enrollment_group(service, "root", actor=ALICE)
    at = HistoryEvent.objects.latest("pk").at

    assert look_back(service, "pump-1", at, at).first.verdict is DISABLED
    before = at - timedelta(microseconds=1)
    assert look_back(service, "pump-1", before, before).first.verdict is ADMIT


def test_what_cannot_matter_to_a_device_begins_no_spell(service, ca):
    register(service, ca.leaf("pump-1"))
    at = now()
    enroll_ca(service, root("Other"), "other")
    disable_enrollment_group(service, "other", actor=ALICE)
    enroll_device(service, self_signed("else-1"), enabled=False)

    assert told(look_back(service, "pump-1", at)) == [(ADMIT, "root")]


class Written:
    """The time that rows of the history are stamped with."""

    def __init__(self, monkeypatch):
        self.at = None
        stamp = importlib.import_module("enrollments.audit.record")
        monkeypatch.setattr(stamp, "moment_of_change", lambda: self.at or timezone.now())


@pytest.fixture
def written(monkeypatch):
    return Written(monkeypatch)


def test_dates_of_certificates_begin_and_end_spells(written):
    begins, ends = (now() - timedelta(hours=hours) for hours in (2, 1))
    written.at = begins - timedelta(days=1)
    service = new_service()
    short = root("Short", not_before=begins - timedelta(days=1), not_after=ends.replace(microsecond=0))
    enroll_ca(service, short, "short")
    leaf = short.leaf("pump-1", not_before=begins.replace(microsecond=0))
    register(service, leaf, at=ends - timedelta(minutes=5))

    look = look_back(service, "pump-1", begins - timedelta(minutes=5))

    assert [one.verdict for one in look.spells] == [UNAUTHORIZED, ADMIT, UNAUTHORIZED]
    assert causes(look)[1:] == [
        "the certificate CN=pump-1 became valid",
        "the certificate CN=Short expired",
    ]
    assert look.spells[1].begins == leaf.parsed.not_before


def test_devices_of_one_ca_with_certificates_of_other_years_are_judged_by_their_own(written):
    """What is above their leaves is looked at once, by one of them, whose own certificate must not decide."""
    then = now() - timedelta(days=10)
    written.at = then - timedelta(days=20)
    service = new_service()
    ca = root("Root", not_before=then - timedelta(days=30))
    enroll_ca(service, ca, "root")
    old = ca.leaf("old-1", not_before=then - timedelta(days=5), not_after=then + timedelta(days=5))
    register(service, old, at=then)
    register(service, ca.leaf("new-1", not_before=now() - timedelta(days=1)))

    said = compare(service, then)

    assert {one.registration_id: one.effect for one in said.preview.devices} == {
        "old-1": Effect.REFUSED,
        "new-1": Effect.COMES_IN,
    }


def test_of_groups_that_admit_alike_the_one_created_first_decides_also_when_it_is_gone(service):
    first, second = root("Root 1"), root("Root 2")
    plant = first.intermediate("Plant")
    crossed = plant.cross_signed_by(second)
    enroll_ca(service, first, "older", helpers=(plant.parsed, crossed.parsed))
    enroll_ca(service, second, "newer")
    register(service, plant.leaf("pump-1"))
    at = now()
    delete_enrollment_groups(service, ["older"], actor=ALICE)
    enroll_ca(service, first, "older", helpers=(plant.parsed, crossed.parsed))

    assert told(look_back(service, "pump-1", at, at)) == [(ADMIT, "older")]
    assert told(look_back(service, "pump-1", now())) == [(ADMIT, "newer")]


def test_clocks_of_nodes_that_differ_do_not_change_the_order(service, ca, written):
    register(service, ca.leaf("pump-1"))
    at = now()
    written.at = at + timedelta(seconds=10)
    disable_enrollment_group(service, "root", actor=ALICE)
    written.at = at + timedelta(seconds=5)
    enable_enrollment_group(service, "root", actor=ALICE)
    changes = changes_since(service, at)

    assert [change.at for change in changes] == [at + timedelta(seconds=5)] * 2
    assert [one.event.event for one in changes] == ["group.enabled", "group.disabled"]


# --- Switches that turn by themselves -------------------------------------------------------------


def test_a_switch_had_turned_when_it_was_due_also_where_that_was_written_down_later(monkeypatch, written):
    clock = DatabaseClock(monkeypatch)
    start = clock.now - timedelta(hours=3)
    clock.set_to(start)
    written.at = start - timedelta(hours=1)
    service = new_service()
    minted = root("Root")
    enroll_ca(service, minted, "root")
    register(service, minted.leaf("pump-1"), at=start)
    written.at = start
    due = start + timedelta(hours=1)
    disable_enrollment_group(service, "root", actor=ALICE, until=due)
    clock.set_to(start + timedelta(hours=2))
    written.at = start + timedelta(hours=2)
    begins = start - timedelta(minutes=1)
    until = start + timedelta(hours=2, minutes=1)
    expected = [(ADMIT, "root"), (DISABLED, "root"), (ADMIT, "root")]

    unwritten = look_back(service, "pump-1", begins, until)
    settle_due(service)
    written_down = look_back(service, "pump-1", begins, until)

    for look in (unwritten, written_down):
        assert told(look) == expected
        assert [one.begins for one in look.spells[1:]] == [start, due]
        assert causes(look)[2] == "what was scheduled fell due"
    for at, verdict in ((begins, ADMIT), (due - timedelta(seconds=1), DISABLED), (due, ADMIT)):
        assert look_back(service, "pump-1", at, at).first.verdict is verdict
        (device,) = compare(service, at, until).preview.devices
        assert device.before.verdict is verdict


# --- Keys ------------------------------------------------------------------------------------------


def test_the_same_key_in_an_entry_that_was_added_again_is_the_same_key(service):
    entry = enroll_keys(service, "key-1")
    register(service, signs(service, "key-1", entry.primary_key), "key-1")
    at = now()
    delete_enrollments(service, ["key-1"], actor=ALICE)
    enroll_keys(service, "key-1", primary_key=entry.primary_key)

    assert told(look_back(service, "key-1", at)) == [(ADMIT, "key-1"), (UNAUTHORIZED, None), (ADMIT, "key-1")]


def test_another_key_is_another_one_and_no_secret_is_in_the_history(service):
    entry = enroll_keys(service, "key-1")
    secret = entry.primary_key
    register(service, signs(service, "key-1", secret), "key-1")
    at = now()
    spec = IndividualSpec(
        mechanism=AttestationMechanism.SYMMETRIC_KEY, primary_key="bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw=="
    )
    current = IndividualEnrollment.objects.get()
    change_individual_enrollment(service, "key-1", spec, expected_etag=current.etag, actor=ALICE)

    assert told(look_back(service, "key-1", at)) == [(ADMIT, "key-1"), (UNAUTHORIZED, "key-1")]
    kept = str(list(HistoryEvent.objects.values_list("before", "after")))
    assert secret not in kept
    assert spec.primary_key not in kept


def test_a_device_of_a_group_that_was_enrolled_by_its_derived_key_has_one_key(service):
    group = enroll_key_group(service)
    derived = derived_key(group.primary_key, "line-9-1")
    register(service, signs(service, "line-9-1", derived), "line-9-1")
    at = now()
    enroll_keys(service, "line-9-1", primary_key=derived)
    register(service, signs(service, "line-9-1", derived), "line-9-1")
    between = now()
    delete_enrollment_groups(service, ["line-9"], actor=ALICE)

    assert told(look_back(service, "line-9-1", at)) == [(ADMIT, "line-9"), (ADMIT, "line-9-1")]
    said = compare(service, at, between)
    assert through_at(said, first=True) == [("enrollment group line-9", 1)]
    assert said.preview.counts == {Effect.STILL_ADMITTED: 1}


def test_groups_with_keys_admitted_nobody_while_they_were_switched_off(service):
    group = enroll_key_group(service)
    register(service, signs(service, "line-9-1", derived_key(group.primary_key, "line-9-1")), "line-9-1")
    at = now()
    change_settings(service, {"symmetric_key_groups": False}, actor=ALICE)
    change_settings(service, {"symmetric_key_groups": True}, actor=ALICE)

    look = look_back(service, "line-9-1", at)

    assert [one.verdict for one in look.spells] == [ADMIT, UNAUTHORIZED, ADMIT]
    assert causes(look)[1:] == ["service.changed", "service.changed"]


def test_where_an_older_row_does_not_tell_which_key_it_was_the_answer_is_not_known(service):
    """Versions before this one noted that a key was replaced, and not which it was."""
    entry = enroll_keys(service, "key-1")
    register(service, signs(service, "key-1", entry.primary_key), "key-1")
    at = now()
    HistoryEvent.objects.create(
        at=now(),
        event="enrollment.changed",
        service_id=service.pk,
        subject_kind="IndividualEnrollment",
        subject_id=str(entry.pk),
        subject_name="key-1",
        before={"primary_key": "(a key)", "secondary_key": "(a key)"},
        after={"primary_key": "(another key)", "secondary_key": "(another key)"},
    )

    look = look_back(service, "key-1", at)

    assert told(look) == [(None, None), (ADMIT, "key-1")]
    assert "its key was replaced at" in look.first.why
    assert look.explanation is None
    said = compare(service, at)
    assert said.preview.counts == {Effect.UNKNOWN: 1}
    assert "its key was replaced at" in said.unclear["key-1"]


def test_what_was_disabled_kept_its_device_out_whichever_key_it_had(service):
    entry = enroll_keys(service, "key-1")
    register(service, signs(service, "key-1", entry.primary_key), "key-1")
    RegistrationRecord.objects.update(key_ids="")
    disable_enrollment(service, "key-1", actor=ALICE)

    look = look_back(service, "key-1", now())

    assert told(look) == [(DISABLED, "key-1")]


def test_a_tpm_is_the_same_by_its_endorsement_key(service):
    enroll_tpm(service, "press-01")
    at = now()
    delete_enrollments(service, ["press-01"], actor=ALICE)

    assert told(look_back(service, "press-01", at)) == [(ADMIT, "press-01"), (UNAUTHORIZED, None)]


# --- What the history does not tell ------------------------------------------------------------------


def test_a_change_that_no_row_tells_of_makes_everything_before_it_unknown(service, ca):
    register(service, ca.leaf("pump-1"))
    at = now()
    disable_enrollment_group(service, "root", actor=ALICE)
    EnrollmentGroup.objects.update(enabled=True)

    look = look_back(service, "pump-1", at)

    assert look.first.verdict is None
    assert "no row says why" in look.first.why
    assert compare(service, at).preview.counts == {Effect.UNKNOWN: 1}


def test_times_of_which_nothing_is_known_are_refused(service, ca):
    register(service, ca.leaf("pump-1"))

    for ask in (lambda at: look_back(service, "pump-1", at), lambda at: compare(service, at)):
        with pytest.raises(Invalid, match="nothing is known from before"):
            ask(now() - timedelta(days=1))
        with pytest.raises(Invalid, match="still to come"):
            ask(now() + timedelta(days=1))
    with pytest.raises(NotFound, match="Nothing is known about"):
        look_back(service, "nobody", now())


def test_too_many_changes_are_refused_with_the_way_out(service, ca):
    register(service, ca.leaf("pump-1"))
    at = now()
    for _ in range(2):
        disable_enrollment_group(service, "root", actor=ALICE)
        enable_enrollment_group(service, "root", actor=ALICE)

    with pytest.raises(TooFarBack, match=r"manage.py as_of"):
        look_back(service, "pump-1", at, limits=Limits(rows=3))
    assert len(look_back(service, "pump-1", at, limits=Limits(rows=None, judged=None)).spells) == 5


def test_another_services_entries_are_not_looked_at(service, ca):
    register(service, ca.leaf("pump-1"))
    elsewhere = new_service("elsewhere")
    enroll_ca(elsewhere, ca, "root")
    at = now()
    disable_enrollment_group(elsewhere, "root", actor=ALICE)

    assert told(look_back(service, "pump-1", at)) == [(ADMIT, "root")]
    assert compare(elsewhere, at).preview.devices == ()


def test_looking_back_changes_nothing(service, ca):
    register(service, ca.leaf("pump-1"))
    at = now()
    spec = GroupSpec(certificates={Slot.PRIMARY: root("Other").parsed})
    current = EnrollmentGroup.objects.get()
    change_enrollment_group(service, "root", spec, expected_etag=current.etag, actor=ALICE)
    epoch, rows = ProvisioningService.epoch_of(service.pk), HistoryEvent.objects.count()

    look_back(service, "pump-1", at)
    compare(service, at)

    assert (ProvisioningService.epoch_of(service.pk), HistoryEvent.objects.count()) == (epoch, rows)
    assert list(EnrollmentGroup.objects.values_list("group_id", "etag")) != [("root", current.etag)]
    assert register(service, ca.leaf("pump-1")).outcome == "unauthorized"


def test_what_decisions_read_is_what_comes_back():
    """Whoever lets a decision read something new has to bring it back here too, or the past is judged by the present.

    Then: undo its rows in past/walking.py or past/entries.py, put it back in past/putting_back.py, let the random
    histories of test_past_property.py change it, and name it here.
    """
    assert Standing._fields == (
        "epoch",
        "groups_with_keys_admit",
        "proof_of_possession",
        "now",
        "next_switch",
    )
    assert {one.name for one in fields(GroupFacts)} == {
        *("ref", "enabled", "created", "steps_to_key", "path", "path_problem", "path_thumbprints"),
        *("signed", "switched_off", "lacks_proof"),
    }
    assert {one.name for one in fields(IndividualFacts)} == {
        *("ref", "enabled", "mechanism", "own_credential_proven", "detail", "problem"),
    }
    assert {one.name for one in fields(RegistrationFacts)} == {
        *("claimed_registration_id", "credential", "individual", "barred_keys", "groups"),
    }


# --- All devices ---------------------------------------------------------------------------------


def test_devices_that_never_registered_are_judged_by_what_was_enrolled_for_them(service):
    at = now()
    enroll_device(service, self_signed("own-1"))
    enroll_keys(service, "key-1")
    enroll_tpm(service, "press-01")

    said = compare(service, at)

    assert said.preview.counts == {Effect.COMES_IN: 3}
    assert through_at(said, first=False) == [("individual enrollments of their own", 3)]


def test_disabling_one_device_bars_its_key_for_others_then_and_not_before(service, ca):
    leaf = ca.leaf("pump-1")
    register(service, leaf)
    twin = mint("pump-2", key=leaf.key, issuer=ca)
    register(service, twin)
    at = now()
    deny_device(service, "pump-1", actor=ALICE)
    between = now()
    delete_enrollments(service, ["pump-1"], actor=ALICE)

    said = compare(service, at, between)
    assert said.preview.counts == {Effect.REFUSED: 2}
    assert compare(service, between).preview.counts == {Effect.COMES_IN: 2}
    assert told(look_back(service, "pump-2", at)) == [(ADMIT, "root"), (DISABLED, "pump-1"), (ADMIT, "root")]
