"""Explanations: what is judged for whom, which step decides, what another time shows, and how a chain is drawn."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from enrollments.actions.drawn_chains import draw_group
from enrollments.actions.enrollment_groups import change_enrollment_group, disable_enrollment_group
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    change_individual_enrollment,
    delete_enrollments,
    disable_enrollment,
)
from enrollments.actions.explaining import Question, explain
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.registrations import Outcome
from enrollments.actions.revocation import deny_device
from enrollments.errors import Invalid, NotFound
from enrollments.models import (
    AttestationMechanism,
    HistoryEvent,
    IndividualEnrollment,
    RegistrationAttempt,
    RegistrationRecord,
    Slot,
)
from enrollments.policy.decision import Verdict
from enrollments.policy.reasons import Reason
from tests.certificates import EXPIRED, NEXT_YEAR, NOT_YET_VALID, NOW, root, self_signed
from tests.devices import (
    ALICE,
    challenged,
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
from tests.soft_tpm import SoftTpm

pytestmark = pytest.mark.django_db


def about(service, *chain, **question):
    return explain(service, Question(certificates=tuple(one.parsed for one in chain), **question))


def named(service, registration_id, **question):
    return explain(service, Question(registration_id=registration_id, **question))


# --- What stands for the device ---------------------------------------------------------------------


class TestWhatADeviceProvedSinceItWasAdmitted:
    @pytest.fixture
    def ca(self, service):
        ca = root("Plant CA", not_before=EXPIRED["not_before"])
        enroll_ca(service, ca, "plant")
        return ca

    def test_the_newer_certificate_is_judged_and_not_that_of_the_record(self, service, ca):
        register(service, ca.leaf("pump-1", **EXPIRED), at=EXPIRED["not_after"] - timedelta(days=1))
        deny_device(service, "pump-1", actor=ALICE)
        renewed = ca.leaf("pump-1")
        register(service, renewed)
        delete_enrollments(service, ["pump-1"], actor=ALICE)

        told = named(service, "pump-1")

        assert (told.verdict, told.entry_words) == (Verdict.ADMIT, "enrollment group plant")
        assert told.basis == "the chain with which it proved itself last"
        assert told.chain.path[0].certificate.pem == renewed.parsed.pem

    def test_another_that_would_be_admitted_is_told_with_its_entry(self, service, ca):
        own = self_signed("pump-1")
        enroll_device(service, own)
        register(service, own)
        register(service, ca.leaf("pump-1"))

        told = named(service, "pump-1")

        assert (told.verdict, told.reason) == (Verdict.UNAUTHORIZED, Reason.OTHER_CREDENTIAL)
        assert told.note == (
            "It is admitted by individual enrollment pump-1 if it shows something else that is known of it: "
            "a chain with which it proved itself before that."
        )

    def test_a_second_certificate_is_known_although_it_never_came(self, service):
        first, second = self_signed("pump-1", **EXPIRED), self_signed("pump-1")
        pins = {Slot.PRIMARY: first.parsed, Slot.SECONDARY: second.parsed}
        enroll_device(service, first, certificates=pins)

        told = named(service, "pump-1")

        assert told.reason is Reason.LEAF_REFUSED
        assert told.note.endswith("known of it: the second certificate of its individual enrollment.")

    def test_of_an_attempt_alone_another_time_is_judged(self, service, ca):
        leaf = ca.leaf("pump-1", not_after=NOW + timedelta(days=5))
        disable_enrollment_group(service, "plant", actor=ALICE)
        register(service, leaf)
        RegistrationRecord.objects.all().delete()
        later = NOW + timedelta(days=9)

        told = named(service, "pump-1", at=later)

        assert (told.at, told.is_another_time, told.attempt) == (later, True, None)
        assert named(service, "pump-1").verdict is Verdict.DISABLED


class TestWhatADeviceSignedWithLast:
    """The verdict is the one that the device itself would get, by the key that it has."""

    OTHER = ("bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw==", "c2Vjb25kIHNlY3JldCBrZXkgd2l0aCBieXQ=")

    def exchange(self, entry, **keys):
        spec = IndividualSpec(mechanism=AttestationMechanism(entry.mechanism), **keys)
        change_individual_enrollment(
            entry.service, entry.registration_id, spec, expected_etag=entry.etag, actor=ALICE
        )

    def asked_and_live(self, service, shown, name="press-01"):
        told = named(service, name)
        assert (told.verdict is Verdict.ADMIT) == (register(service, shown, name).outcome == "assigned")
        return told

    @pytest.mark.parametrize("which", ["primary_key", "secondary_key"])
    def test_a_key_that_its_entry_holds_no_more_is_refused(self, service, which):
        entry = enroll_keys(service, "press-01")
        shown = signs(service, "press-01", getattr(entry, which))
        register(service, shown, "press-01")
        keys = {"primary_key": entry.primary_key, "secondary_key": entry.secondary_key, which: self.OTHER[0]}
        self.exchange(IndividualEnrollment.objects.get(), **keys)

        told = self.asked_and_live(service, shown)

        assert told.verdict is Verdict.UNAUTHORIZED
        assert "which no entry holds any more" in told.basis
        assert told.note.endswith("known of it: a SAS token by the primary key of its individual enrollment.")

    def test_a_secondary_key_that_it_holds_still_is_admitted(self, service):
        entry = enroll_keys(service, "press-01")
        shown = signs(service, "press-01", entry.secondary_key)
        register(service, shown, "press-01")

        told = self.asked_and_live(service, shown)

        assert (told.verdict, told.basis) == (
            Verdict.ADMIT,
            "a SAS token by the secondary key of its individual enrollment",
        )

    def test_a_key_that_was_derived_from_a_former_key_of_its_group_is_refused(self, service):
        group = enroll_key_group(service)
        shown = signs(service, "press-01", derived_key(group.primary_key, "press-01"))
        register(service, shown, "press-01")
        keys = dict(zip(("primary_key", "secondary_key"), self.OTHER, strict=True))
        spec = GroupSpec(mechanism=AttestationMechanism.SYMMETRIC_KEY, **keys)
        group.refresh_from_db()
        change_enrollment_group(service, group.group_id, spec, expected_etag=group.etag, actor=ALICE)

        told = self.asked_and_live(service, shown)

        assert told.verdict is Verdict.UNAUTHORIZED
        assert "the key that a device derives from the primary key of enrollment group line-9" in told.note

    def test_of_two_keys_that_one_group_derives_each_is_looked_at(self, service):
        """A group that is disabled has the first of its keys, and so bars that one alone."""
        group = enroll_key_group(service)
        by_secondary, by_primary = (
            signs(service, "press-01", derived_key(key, "press-01"))
            for key in (group.secondary_key, group.primary_key)
        )
        register(service, by_secondary, "press-01")
        register(service, by_primary, "press-01")
        enroll_key_group(service, "line-8", primary_key=group.primary_key, enabled=False)

        told = self.asked_and_live(service, by_primary)

        assert (told.verdict, told.entry_words) == (Verdict.DISABLED, "enrollment group line-8")
        assert told.note == (
            "It is admitted by enrollment group line-9 if it shows something else that is known of it: a SAS token by "
            "the key that a device derives from the secondary key of enrollment group line-9."
        )
        assert register(service, by_secondary, "press-01").outcome is Outcome.ASSIGNED

    def test_a_tpm_that_is_enrolled_no_more_is_refused(self, service):
        tpm = SoftTpm()
        entry = enroll_tpm(service, endorsement_key=tpm.keys.endorsement_key)
        register(service, challenged(service, tpm), "press-01")
        entry.refresh_from_db()
        self.exchange(entry, endorsement_key=SoftTpm(1).keys.endorsement_key)

        told = named(service, "press-01")

        assert (told.verdict, told.reason) == (Verdict.UNAUTHORIZED, Reason.TPM_NOT_ENROLLED)
        assert told.note.endswith(
            "the TPM of its individual enrollment, taken as having answered its challenge."
        )

    def test_a_key_that_was_refused_after_a_certificate_was_admitted_is_judged_first(self, service):
        ca = root("Plant CA")
        enroll_ca(service, ca, "plant")
        leaf = ca.leaf("press-01")
        register(service, leaf)
        group = enroll_key_group(service, enabled=False)
        shown = signs(service, "press-01", derived_key(group.secondary_key, "press-01"))
        assert register(service, shown, "press-01").outcome == "disabled"

        told = self.asked_and_live(service, shown)

        assert (told.verdict, told.entry_words) == (Verdict.DISABLED, "enrollment group line-9")
        assert told.note == (
            "It is admitted by enrollment group plant if it shows something else that is known of it: a chain with "
            "which it proved itself before that."
        )

    def test_of_a_device_without_a_record_too(self, service):
        group = enroll_key_group(service, enabled=False)
        shown = signs(service, "press-01", derived_key(group.primary_key, "press-01"))
        register(service, shown, "press-01")
        RegistrationRecord.objects.all().delete()

        told = self.asked_and_live(service, shown)

        assert (told.verdict, told.attempt) == (Verdict.DISABLED, None)


def test_tpm_is_judged_as_if_its_challenge_had_been_answered(service):
    entry = enroll_tpm(service)

    explanation = named(service, "PRESS-01")

    assert (explanation.verdict, explanation.entry.pk) == (Verdict.ADMIT, entry.pk)
    assert "taken as having answered its challenge" in explanation.basis
    assert explanation.steps[0].said == "proves"


def test_disabled_tpm_is_told_disabled_and_not_401(service):
    enroll_tpm(service, enabled=False)

    assert named(service, "press-01").reason is Reason.INDIVIDUAL_DISABLED


def test_device_of_a_key_group_is_judged_by_the_key_that_it_derives(service):
    group = enroll_key_group(service)
    register(service, signs(service, "Gauge-1", derived_key(group.primary_key, "Gauge-1")), "Gauge-1")

    explanation = named(service, "gauge-1")

    assert (explanation.verdict, str(explanation.entry)) == (Verdict.ADMIT, "enrollment group line-9")
    assert explanation.registration_id == "Gauge-1"


def test_device_of_a_key_group_that_was_denied_is_still_judged_by_that_key(service):
    group = enroll_key_group(service)
    shows = signs(service, "gauge-1", derived_key(group.primary_key, "gauge-1"))
    register(service, shows, "gauge-1")
    deny_device(service, "gauge-1", actor=ALICE)
    assert register(service, shows, "gauge-1").outcome is Outcome.DISABLED

    explanation = named(service, "gauge-1")

    assert (explanation.verdict, explanation.reason) == (Verdict.DISABLED, Reason.INDIVIDUAL_DISABLED)


def test_device_of_a_key_group_that_never_came_can_be_asked_about(service):
    enroll_key_group(service)

    assert named(service, "gauge-77", group_id="line-9").verdict is Verdict.ADMIT
    disable_enrollment_group(service, "line-9", actor=ALICE)
    assert named(service, "gauge-77", group_id="line-9").verdict is Verdict.DISABLED


def test_tpm_whose_entry_was_deleted_is_not_enrolled(service):
    enroll_tpm(service)
    RegistrationRecord.objects.create(
        service=service,
        registration_id="press-01",
        status="disabled",
        mechanism="tpm",
        operation_id="op",
        epoch=0,
        created_at=timezone.now(),
        updated_at=timezone.now(),
    )
    delete_enrollments(service, ["press-01"], actor=ALICE)

    assert named(service, "press-01").reason is Reason.TPM_NOT_ENROLLED


def test_explaining_changes_nothing_and_counts_nothing(service):
    ca = root("Plant")
    enroll_ca(service, ca)
    enroll_keys(service, "gauge-1")
    history, epoch = HistoryEvent.objects.count(), type(service).epoch_of(service.pk)

    about(service, ca.leaf("pump-1"))
    named(service, "gauge-1")

    assert HistoryEvent.objects.count() == history
    assert type(service).epoch_of(service.pk) == epoch
    assert not RegistrationAttempt.objects.exists()
    assert not RegistrationRecord.objects.exists()


# --- Another time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "verdict", "validity"),
    [(0, Verdict.ADMIT, "valid"), (40, Verdict.UNAUTHORIZED, "expired")],
    ids=["now", "after it has expired"],
)
def test_a_time_in_the_future_shows_what_will_have_expired(service, days, verdict, validity):
    ca = root("Plant")
    enroll_ca(service, ca)
    leaf = ca.leaf("pump-1", not_after=timezone.now() + timedelta(days=30))

    explanation = about(service, leaf, at=timezone.now() + timedelta(days=days))

    assert explanation.verdict is verdict
    assert explanation.chain.path[0].validity == validity
    assert explanation.is_another_time


def test_a_token_is_taken_as_made_at_the_time_in_question(service):
    enroll_keys(service, "gauge-1")

    assert named(service, "gauge-1", at=datetime(2040, 3, 1, tzinfo=UTC)).verdict is Verdict.ADMIT


# --- What cannot be answered ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "field"),
    [
        (Question(), ""),
        (Question(registration_id="no ID"), "registration_id"),
        (Question(tracking_id="x", registration_id="pump-1"), "tracking_id"),
        (Question(tracking_id="x", at=NEXT_YEAR), "at"),
        (Question(registration_id="pump-1", at=datetime(1, 1, 1, tzinfo=UTC)), "at"),
        (Question(registration_id="pump-1", at=datetime(9999, 1, 1, tzinfo=UTC)), "at"),
        (Question(registration_id="pump-1", group_id="nowhere"), "group"),
        (Question(certificates=(self_signed("one", "two").parsed,)), "registration_id"),
    ],
)
def test_what_is_no_question_says_which_part_is_wrong(service, question, field):
    with pytest.raises(Invalid) as refused:
        explain(service, question)

    assert list(refused.value.errors) == [field]


def test_group_with_certificates_has_no_keys_to_derive_from(service):
    enroll_ca(service, root("Plant"))

    with pytest.raises(Invalid, match="with symmetric keys"):
        named(service, "pump-1", group_id="plant")


def test_a_name_of_another_service_is_not_known(service):
    enroll_keys(new_service("lab"), "gauge-1")

    with pytest.raises(NotFound, match="Nothing is kept"):
        named(service, "gauge-1")


# --- Which step decides -----------------------------------------------------------------------------


def decisive(explanation) -> list[tuple[str, str]]:
    return [(step.candidate, step.said) for step in explanation.steps if step.decides]


def test_disabled_group_decides_and_the_nearer_one_is_not_asked(service):
    ca = root("Plant")
    line = ca.intermediate("Line")
    enroll_ca(service, line)
    enroll_ca(service, ca, enabled=False)

    explanation = about(service, line.leaf("pump-1"), line)

    assert decisive(explanation) == [("enrollment group plant", "bars")]
    assert [(step.candidate, step.because) for step in explanation.not_asked] == [
        ("enrollment group line", "a disabled group on the chain settles it")
    ]


def test_individual_enrollment_decides_and_names_itself(service):
    leaf = self_signed("pump-1")
    entry = enroll_device(service, leaf)

    explanation = about(service, leaf)

    assert decisive(explanation) == [("individual enrollment pump-1", "admits")]
    assert next(step for step in explanation.steps if step.decides).entry.pk == entry.pk


def test_without_proof_that_is_what_decides_whatever_would_bar(service):
    enroll_keys(service, "pump-1", enabled=False)

    assert decisive(about(service, self_signed("pump-1"))) == [
        ("the certificate CN=pump-1", "proves nothing")
    ]


def test_a_kept_trace_is_told_as_it_was_and_names_no_entry_that_is_gone(service):
    ca = root("Plant")
    enroll_ca(service, ca)
    answer = register(service, ca.leaf("pump-1"))
    before = explain(service, Question(tracking_id=answer.tracking_id))
    disable_enrollment_group(service, "plant", actor=ALICE)
    service.enrollmentgroups.update(group_id="renamed", group_key="renamed")

    after = explain(service, Question(tracking_id=answer.tracking_id))

    assert before.entry is not None
    assert after.entry is None
    assert (after.verdict, after.entry_words, after.was_kept) == (
        Verdict.ADMIT,
        "enrollment group plant",
        True,
    )
    assert after.tracking_id == answer.tracking_id
    assert [step.said for step in after.steps] == [step.said for step in before.steps]


# --- The chain, drawn -------------------------------------------------------------------------------


def path(explanation) -> list[str]:
    return [one.certificate.common_names[0] for one in explanation.chain.path]


def test_path_tells_what_was_sent_enrolled_and_helped_with(service):
    ca = root("Plant")
    site = ca.intermediate("Site")
    line = site.intermediate("Line")
    group = enroll_ca(service, ca, helpers=(site.parsed,))

    chain = about(service, line.leaf("pump-1"), line).chain

    assert [(one.sent, one.steps) for one in chain.path] == [(True, 0), (True, 1), (False, 2), (False, 3)]
    assert [str(ref) for ref in chain.path[2].helper_of] == ["enrollment group plant"]
    assert [ref.pk for ref in chain.path[3].enrolled_in] == [group.pk]
    assert [one.held for one in chain.path] == [False, False, True, True]
    assert {one.validity for one in chain.path} == {"valid"}


def test_path_leads_to_what_bars_it_and_says_so(service):
    ca, other = root("Plant"), root("Other")
    line = ca.intermediate("Line")
    enroll_ca(service, ca)
    enroll_ca(service, line.cross_signed_by(other), "barred", enabled=False)

    explanation = about(service, line.leaf("pump-1"), line)

    assert path(explanation)[:2] == ["pump-1", "Line"]
    drawn = [*explanation.chain.path, *explanation.chain.aside]
    lines = [one for one in drawn if one.certificate.common_names == ("Line",)]
    assert [[str(ref) for ref in one.barred_by] for one in lines] == [["enrollment group barred"]] * 2
    assert sorted(len(one.same_key_as) for one in lines) == [0, 1]


def test_key_that_a_denied_device_bars_is_marked_under_another_name(service):
    first = self_signed("pump-1")
    enroll_device(service, first)
    disable_enrollment(service, "pump-1", actor=ALICE)

    chain = about(service, self_signed("pump-2", key=first.key)).chain

    assert [str(ref) for ref in chain.path[0].barred_by] == ["individual enrollment pump-1"]


def test_r8_disabled_group_is_no_bar_on_the_path_of_a_device_that_is_admitted(service):
    ca = root("Plant")
    enroll_ca(service, ca, enabled=False)
    enroll_device(service, ca.leaf("pump-1"))

    explanation = about(service, ca.leaf("pump-2"), ca)
    assert [[str(ref) for ref in one.barred_by] for one in explanation.chain.path] == [
        [],
        ["enrollment group plant"],
    ]

    explanation = explain(service, Question(registration_id="pump-1"))
    assert explanation.verdict is Verdict.ADMIT
    above = explanation.chain.path[-1]
    assert (above.barred_by, [str(ref) for ref in above.not_asked]) == ((), ["enrollment group plant"])


@pytest.mark.parametrize(
    ("options", "validity"),
    [({}, "valid"), (EXPIRED, "expired"), (NOT_YET_VALID, "not yet valid")],
    ids=["valid", "expired", "not yet valid"],
)
def test_each_certificate_has_its_state(service, options, validity):
    ca = root("Plant", **options)
    enroll_ca(service, ca)

    chain = about(service, ca.leaf("pump-1")).chain

    assert [one.validity for one in chain.path] == ["valid", validity]


def test_weak_keys_and_certificates_that_sign_nothing_are_marked(service):
    ca = root("Plant")
    weak = ca.intermediate("Weak", key="RSA 1024")
    stranger = root("Stranger")
    enroll_ca(service, ca)

    chain = about(service, weak.leaf("pump-1"), weak, stranger).chain

    assert [(one.is_weak, bool(one.problems)) for one in chain.path] == [
        (False, False),
        (True, True),
        (False, False),
    ]
    assert [(one.certificate.common_names, one.steps) for one in chain.aside] == [(("Stranger",), None)]


def test_a_search_that_ran_out_is_said_and_what_was_sent_is_drawn(service):
    top = root("Top")
    chain = [top]
    for number in range(10):
        chain.append(chain[-1].intermediate(f"CA {number}"))
    sent = [chain[-1].leaf("pump-1"), *reversed(chain[2:])]
    enroll_ca(service, top)

    explanation = about(service, *sent)

    assert explanation.reason is Reason.SEARCH_EXHAUSTED
    assert "more than 8 signatures" in explanation.chain.problem
    assert len(explanation.chain.path) + len(explanation.chain.aside) == len(sent)


def test_group_is_drawn_with_what_stands_above_it(service):
    ca = root("Plant")
    line = ca.intermediate("Line")
    enroll_ca(service, ca, enabled=False)
    group = enroll_ca(service, line)

    (drawn,), unread = draw_group(service, group, at=timezone.now())

    assert [one.certificate.common_names for one in drawn.path] == [("Line",), ("Plant",)]
    assert [str(ref) for ref in drawn.path[1].barred_by] == ["enrollment group plant"]
    assert not any(one.sent for one in drawn.path)
    assert not unread


class TestNames:
    """R11: who is admitted may not have the name all the same."""

    def test_a_device_whose_name_another_entry_holds_is_admitted_and_fails(self, service):
        ca, other = root("Plant"), root("Strangers")
        enroll_ca(service, ca, "plant")
        enroll_ca(service, other, "strangers")
        register(service, ca.leaf("pump-1"))
        leaf = other.leaf("pump-1")

        foretold = explain(service, Question(certificates=(leaf.parsed,)))
        heard = register(service, leaf)

        assert (foretold.verdict, foretold.fails) == (Verdict.ADMIT, True)
        assert foretold.reason is heard.reason is Reason.NAME_HELD_BY_OTHER_ENTRY
        assert foretold.steps[-1].rule == "R11"
        assert foretold.steps[-1].decides
        assert "enrollment group plant" in foretold.steps[-1].because

    def test_what_it_failed_for_last_is_told_beside(self, service):
        ca, first = root("Plant"), self_signed("valve-1")
        enroll_ca(service, ca, "plant")
        enroll_device(service, first, device_id="pump-1")
        assert register(service, first).outcome is Outcome.ASSIGNED
        assert register(service, ca.leaf("pump-1")).reason is Reason.DEVICE_ID_TAKEN

        told = named(service, "pump-1")

        assert (told.verdict, told.fails) == (Verdict.ADMIT, False), "that is found out when it registers"
        assert "failed all the same: the device ID at the hub belongs to another registration" in told.note
        assert named(service, "valve-1").note == ""
