"""Whoever is shut out with what it showed last is told, also where an older credential would be admitted still."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import pairwise

import pytest
from django.core.management import call_command
from django.utils import timezone

from enrollments.actions.certificates import parsed
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
from enrollments.actions.judging import judge
from enrollments.actions.name_holders import may_take
from enrollments.actions.past import (
    ALL_OF_DEVICE,
    ALL_OF_FLEET,
    Limits,
    compare,
    look_back,
    what_shut_out,
)
from enrollments.actions.past.showing import Showings, shown_last
from enrollments.actions.past.words import comparison_as_json, look_as_json, shut_out_otherwise, table
from enrollments.actions.preview import Effect
from enrollments.actions.revocation import release_registration
from enrollments.models import (
    HistoryEvent,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationAttempt,
    Slot,
)
from enrollments.policy.decision import Verdict
from tests.certificates import root, self_signed
from tests.chance import seeds
from tests.devices import ALICE, derived_key, enroll_ca, enroll_device, enroll_key_group, register, signs
from tests.past.lives import Lives

pytestmark = pytest.mark.django_db


def now():
    return timezone.now()


def found(service, name="pump-1"):
    """Event and subject of the rows that shut a device out, oldest first, each with whether it could come otherwise."""
    said = what_shut_out(service, name, limits=Limits())
    return [
        (row.event, row.subject_name, bool(turn.otherwise))
        for turn in said.turns
        for row in turn.began_by.rows
    ]


def of_row(service):
    """What the newest row of the history let in or shut out."""
    row = HistoryEvent.objects.latest("pk")
    return compare(service, row.at - timedelta(microseconds=1), row.at)


def effects(said):
    return {one.registration_id: said.effect_of(one) for one in said.in_order()}


def thumbprint(leaf):
    return leaf.parsed.thumbprint_sha256


def follow(service, group_id, predecessor):
    group = service.enrollmentgroups.get(group_id=group_id)
    spec = GroupSpec(
        certificates={Slot.PRIMARY: parsed(group.certificates.get().certificate.pem)},
        predecessor=service.enrollmentgroups.get(group_id=predecessor) if predecessor else None,
    )
    change_enrollment_group(service, group_id, spec, expected_etag=group.etag, actor=ALICE)


@pytest.fixture
def renewed(service):
    """A device that has come below one CA, and then with another certificate below the one that follows it.

    The name may go back too (R11), so that it could come with either.
    """
    old, new = root("RN-1"), root("RN-2")
    enroll_ca(service, old, "rn-1")
    enroll_ca(service, new, "rn-2", predecessor=service.enrollmentgroups.get())
    follow(service, "rn-1", "rn-2")
    leaves = old.leaf("pump-1"), new.leaf("pump-1")
    for leaf in leaves:
        assert register(service, leaf).outcome == "assigned"
    return leaves


class TestOneDevice:
    def test_is_shut_out_with_its_new_certificate_and_it_is_said_by_which_other_one_it_could_come(
        self, service, renewed
    ):
        old, new = renewed
        disable_enrollment_group(service, "rn-2", actor=ALICE)
        assert register(service, new).outcome == "disabled"

        assert found(service) == [("group.disabled", "rn-2", True)]
        (turn,) = what_shut_out(service, "pump-1", limits=Limits()).turns
        assert (turn.verdict, turn.entry.name) == (Verdict.DISABLED, "rn-2")
        assert thumbprint(new) in turn.shown
        assert thumbprint(old) in turn.otherwise
        assert turn.otherwise.endswith("through enrollment group rn-1")

    def test_with_all_that_it_has_where_the_name_does_not_go_back(self, service, renewed):
        """R11: the former certificate is refused too, since the name was held by the entry that was disabled."""
        old, _ = renewed
        follow(service, "rn-1", None)
        disable_enrollment_group(service, "rn-2", actor=ALICE)
        assert register(service, old).outcome == "failed"

        assert found(service) == [("group.disabled", "rn-2", False)]
        said = of_row(service)
        assert effects(said) == {"pump-1": Effect.REFUSED}
        assert said.turns == {}

    def test_also_where_both_certificates_came_again_since(self, service, renewed):
        """So that of neither the first and the last time alone tell which it showed last by then."""
        disable_enrollment_group(service, "rn-2", actor=ALICE)
        for leaf in renewed:
            register(service, leaf)

        assert found(service) == [("group.disabled", "rn-2", True)]

    def test_is_shut_out_once_more_when_the_last_that_it_had_is(self, service, renewed):
        disable_enrollment_group(service, "rn-2", actor=ALICE)
        disable_enrollment_group(service, "rn-1", actor=ALICE)

        assert found(service) == [("group.disabled", "rn-2", True), ("group.disabled", "rn-1", False)]

    def test_is_not_shut_out_where_what_it_showed_before_is(self, service, renewed):
        disable_enrollment_group(service, "rn-1", actor=ALICE)

        assert found(service) == []
        assert effects(of_row(service)) == {"pump-1": Effect.STILL_ADMITTED}

    def test_is_not_shut_out_by_showing_what_was_never_admitted(self, service, renewed):
        other = root("Other")
        enroll_ca(service, other, "other", enabled=False)
        at = now()
        assert register(service, other.leaf("pump-1")).outcome == "disabled"

        assert found(service) == []
        assert effects(compare(service, at)) == {"pump-1": Effect.STILL_ADMITTED}

    def test_whoever_comes_under_its_name_with_something_else_hides_nothing(self, service, renewed):
        """R11: that one fails, and it may be somebody else's."""
        other = root("Other")
        enroll_ca(service, other, "other")
        assert register(service, other.leaf("pump-1")).outcome == "failed"
        disable_enrollment_group(service, "rn-2", actor=ALICE)

        assert ("group.disabled", "rn-2", True) in found(service)
        assert effects(of_row(service)) == {"pump-1": Effect.REFUSED}

    def test_by_its_own_entry_that_pins_another_certificate_now(self, service):
        first, second = self_signed("pump-1"), self_signed("pump-1")
        slots = {Slot.PRIMARY: first.parsed, Slot.SECONDARY: second.parsed}
        enroll_device(service, first, certificates=slots)
        register(service, first)
        register(service, second)
        entry = IndividualEnrollment.objects.get()
        spec = IndividualSpec(certificates={Slot.PRIMARY: first.parsed})
        change_individual_enrollment(service, "pump-1", spec, expected_etag=entry.etag, actor=ALICE)

        assert found(service) == [("enrollment.changed", "pump-1", True)]

    def test_by_a_key_after_a_certificate(self, service):
        group = enroll_key_group(service)
        name = "line-9-1"
        enroll_device(service, leaf := self_signed(name))
        register(service, leaf)
        delete_enrollments(service, [name], actor=ALICE)
        ca = root("Plant")
        enroll_ca(service, ca, "plant", predecessor=group)
        register(service, ca.leaf(name))
        release_registration(service, name, actor=ALICE)
        register(service, signs(service, name, derived_key(group.primary_key, name)), name)
        disable_enrollment_group(service, "line-9", actor=ALICE)

        assert found(service, name)[-1] == ("group.disabled", "line-9", True)
        assert effects(of_row(service)) == {name: Effect.REFUSED}

    def test_also_where_it_is_on_record_with_what_it_had_not_shown_yet(self, service):
        """Of a device that was turned away since, a record keeps what it had shown, and the time of its first hub."""
        group = enroll_key_group(service)
        ca = root("Plant")
        enroll_ca(service, ca, "plant")
        name, leaf = "line-9-1", ca.leaf("line-9-1")
        assert register(service, signs(service, name, derived_key(group.primary_key, name)), name).outcome
        delete_enrollment_groups(service, ["line-9"], actor=ALICE)
        deleted = now()
        assert register(service, leaf).outcome == "assigned"
        disable_enrollment_group(service, "plant", actor=ALICE)
        assert register(service, leaf).outcome == "disabled"

        assert found(service, name) == [("group.deleted", "line-9", True), ("group.disabled", "plant", False)]
        began = HistoryEvent.objects.get(event="group.deleted").at - timedelta(microseconds=1)
        assert effects(compare(service, began, deleted)) == {name: Effect.REFUSED}

    def test_also_where_the_attempt_by_which_it_came_is_forgotten_already(self, service):
        """A row that counts attempts from before and after it is kept for longer, and tells nothing of that time."""
        old, new = root("Old"), root("New")
        enroll_ca(service, new, "b")
        enroll_ca(service, old, "a", enabled=False, predecessor=service.enrollmentgroups.get())
        follow(service, "b", "a")
        before, then = old.leaf("pump-1"), new.leaf("pump-1")
        assert register(service, before).outcome == "disabled"
        assert register(service, then).outcome == "assigned"
        came = service.attempts.get(outcome="assigned")
        assert register(service, before).outcome == "disabled"
        enable_enrollment_group(service, "a", actor=ALICE)
        disable_enrollment_group(service, "b", actor=ALICE)
        assert register(service, then).outcome == "disabled"
        shut_out = found(service)
        assert ("group.disabled", "b") in [turn[:2] for turn in shut_out]

        service.attempts.filter(pk=came.pk).delete()

        assert found(service) == shut_out

    def test_words_and_values_tell_it(self, service, renewed):
        at = now()
        disable_enrollment_group(service, "rn-2", actor=ALICE, reason="stolen")

        look = look_back(service, "pump-1", at)

        (sentence,) = shut_out_otherwise(look)
        for part in ("was shut out", "refused by enrollment group rn-2", "alice disabled", "through "):
            assert part in sentence, sentence
        (told,) = look_as_json(look)["shut_out"]
        assert (told["entry"], told["history_row"]) == (
            "enrollment group rn-2",
            HistoryEvent.objects.latest("pk").pk,
        )
        assert "rn-1" in told["otherwise_by"]
        out = StringIO()
        call_command("as_of", at.isoformat(), "--device", "pump-1", "--service", service.name, stdout=out)
        assert sentence in out.getvalue()


class TestAllOfAService:
    def test_row_shuts_out_who_could_still_come_by_an_older_certificate(self, service, renewed):
        old, _ = renewed
        disable_enrollment_group(service, "rn-2", actor=ALICE)

        said = of_row(service)

        assert effects(said) == {"pump-1": Effect.REFUSED}
        assert said.counts == {Effect.REFUSED: 1}
        turn = said.turn_of(said.in_order()[0])
        assert (turn.before.through.name, turn.after.verdict, turn.after.through.name) == (
            "rn-2",
            Verdict.DISABLED,
            "rn-2",
        )
        assert thumbprint(old) in turn.otherwise
        assert turn.otherwise.endswith("through enrollment group rn-1")

    def test_row_lets_in_what_was_refused_be_another_one_admitted_all_the_time(self, service, renewed):
        disable_enrollment_group(service, "rn-2", actor=ALICE)
        enable_enrollment_group(service, "rn-2", actor=ALICE)

        said = of_row(service)

        assert effects(said) == {"pump-1": Effect.COMES_IN}
        assert said.turn_of(said.in_order()[0]).before.verdict is Verdict.DISABLED

    def test_row_lets_in_what_it_had_shown_before_too(self, service, renewed):
        disable_enrollment_group(service, "rn-1", actor=ALICE)
        enable_enrollment_group(service, "rn-1", actor=ALICE)

        assert effects(of_row(service)) == {"pump-1": Effect.COMES_IN}

    def test_what_it_shows_for_the_first_time_in_between_lets_nobody_in(self, service):
        old, new = root("RN-1"), root("RN-2")
        enroll_ca(service, old, "rn-1")
        register(service, old.leaf("pump-1"))
        at = now()
        enroll_ca(service, new, "rn-2", predecessor=service.enrollmentgroups.get())
        register(service, new.leaf("pump-1"))
        between = now()
        disable_enrollment_group(service, "rn-2", actor=ALICE)

        assert effects(compare(service, at, between)) == {"pump-1": Effect.STILL_ADMITTED}
        # It was let in with it in between, and is refused.
        assert effects(compare(service, at)) == {"pump-1": Effect.REFUSED}
        delete_enrollment_groups(service, ["rn-1"], actor=ALICE)
        assert effects(compare(service, at)) == {"pump-1": Effect.REFUSED}

    def test_numbers_tell_who_could_have_come_and_a_sentence_who_was_shut_out_all_the_same(
        self, service, renewed
    ):
        disable_enrollment_group(service, "rn-2", actor=ALICE)

        said = of_row(service)
        values = json.loads(json.dumps(comparison_as_json(said)))

        assert (values["could_at"], values["could_until"]) == (1, 1)
        assert values["effects"]["refused"] == 1
        assert values["otherwise_admitted"] == {"refused": 1}
        names, row = list(table(said, Effect.REFUSED))
        told = dict(zip(names, row, strict=True))
        assert (told["then"], told["later"], told["later by"]) == (
            "admitted",
            "disabled",
            "enrollment group rn-2",
        )
        assert told["otherwise by"].endswith("through enrollment group rn-1")

    def test_what_is_enrolled_and_was_never_shown_hides_nothing(self, service):
        ca = root("Plant")
        leaf = ca.leaf("pump-1")
        enroll_device(service, self_signed("pump-1"))
        delete_enrollments(service, ["pump-1"], actor=ALICE)
        enroll_ca(service, ca, "plant")
        register(service, leaf)
        entry = enroll_device(service, leaf, certificates={Slot.PRIMARY: leaf.parsed})
        disable_enrollment(service, entry.registration_id, actor=ALICE)

        assert effects(of_row(service)) == {"pump-1": Effect.REFUSED}

    def test_is_told_also_where_attempts_are_not_kept_any_more(self, service, renewed):
        """What is on record was shown last. The former certificate is forgotten with its attempts."""
        RegistrationAttempt.objects.all().delete()
        disable_enrollment_group(service, "rn-2", actor=ALICE)

        assert found(service) == [("group.disabled", "rn-2", False)]
        assert effects(of_row(service)) == {"pump-1": Effect.REFUSED}


OPERATIONS = 120


class Looked:
    """By name, whether after an operation each form of the leaf or key that the device showed last could come in."""

    def __init__(self, lives):
        self.newest = HistoryEvent.objects.latest("pk").pk
        self.begun = now()
        self.told = {
            name: [could_come(lives, name, lives.has[name][one], self.begun) for one in labels]
            for name, labels in lives.shown_last.items()
        }
        self.shown = dict(lives.shown_last)
        self.done = now()

    def is_admitted(self, name, labels):
        return self.shown.get(name) == labels and all(self.told[name])


def could_come(lives, name, one, at):
    """With its name too (R11)."""
    if one.tpm is not None:
        return lives.judged(name, one, at).verdict is Verdict.ADMIT
    judgement = judge(ProvisioningService.objects.get(pk=lives.service.pk), name, one.shown, at=at)
    record = lives.service.registrations.filter(registration_key=name).first()
    return judgement.decision.verdict is Verdict.ADMIT and (record is None or may_take(record, judgement))


class Lived(Lives):
    """Notes what each device showed last: as its attempts keep it, a leaf with whatever was sent along."""

    def __init__(self, *args):
        self.shown_last = {}
        super().__init__(*args)

    def come_with(self, name, label):
        rows = [(row.pk, row.count) for row in self.service.attempts.filter(registration_key=name)]
        super().come_with(name, label)
        one = self.has[name][label]
        kept = self.service.attempts.filter(registration_key=name)
        has_come = rows != [(row.pk, row.count) for row in kept]
        if has_come and one.is_kept and self.judged(name, one, now()).proven:
            same = {other for other, has in self.has[name].items() if has.leaf and has.leaf is one.leaf}
            self.shown_last[name] = sorted(same | {label})


@pytest.mark.parametrize("seed", seeds(0, 2, least=1))
def test_whoever_is_shut_out_with_what_it_showed_last_finds_the_row(forest, api, seed):
    lives = Lived(forest, seed, api)
    looks = [Looked(lives)]
    for _ in range(OPERATIONS):
        lives.operate()
        looks.append(Looked(lives))
    said = {name: what_shut_out(lives.service, name, limits=ALL_OF_DEVICE) for name in lives.shown_last}

    turned = 0
    for before, after in pairwise(looks):
        for name, labels in after.shown.items():
            if not before.is_admitted(name, labels) or any(after.told[name]):
                continue
            written = set(range(before.newest + 1, after.newest + 1))
            turns = [
                turn
                for turn in said[name].turns
                if written & {row.pk for row in turn.began_by.rows}
                or before.begun <= turn.begins <= after.done
            ]
            assert turns, (name, labels)
            turned += 1
            if turns[-1].otherwise and written:
                # Acts that are refused leave gaps between IDs on PostgreSQL.
                first = HistoryEvent.objects.filter(pk__in=written).earliest("pk")
                begun = first.at - timedelta(microseconds=1)
                compared = compare(lives.service, begun, after.begun, limits=ALL_OF_FLEET)
                assert effects(compared)[name] in (Effect.REFUSED, Effect.COMES_IN), name
    assert turned > 5  # some, although on a slow machine certificates end earlier in this world


class Credential:
    def __init__(self, *showings):
        self.showings = sum((one for one in showings), Showings())


def minute(number):
    return datetime(2026, 3, 1, 12, number, tzinfo=UTC)


def shown(first, last=None, *, let_in=True):
    return Showings.at(minute(first), minute(first if last is None else last), let_in=let_in)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param([shown(1)], [shown(2)], "second", id="one after the other"),
        pytest.param([shown(1), shown(9)], [shown(2)], "second", id="again, after that time"),
        pytest.param([shown(1), shown(3)], [shown(2)], "first", id="again, before that time"),
        pytest.param([shown(1, 9)], [shown(2)], "both", id="again, and it is not known when"),
        pytest.param([shown(6)], [shown(2)], "second", id="not yet"),
        pytest.param([shown(6)], [shown(7)], "", id="none yet"),
        pytest.param([shown(1)], [shown(2, let_in=False)], "both", id="turned away since"),
    ],
)
def test_what_was_shown_last_by_a_time(first, second, expected):
    one, other = Credential(*first), Credential(*second)

    last = shown_last([one, other], minute(5))

    assert {"first": [one], "second": [other], "both": [one, other], "": []}[expected] == sorted(
        last, key=[one, other].index
    )
