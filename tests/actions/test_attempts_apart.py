"""What was proven, by whom it was decided and how is never overwritten by another attempt (R14, R15)."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions import attempts
from enrollments.actions.attempts import OVERFLOW_NAME, Peer
from enrollments.actions.enrollment_groups import delete_enrollment_groups, disable_enrollment_group
from enrollments.actions.explaining import Question, explain, explain_attempt
from enrollments.actions.kept_attempts import are_alike, find_attempt, proven_leaf
from enrollments.actions.past.credentials import credentials_of
from enrollments.actions.quiet_periods import caller_of
from enrollments.actions.registrations import Outcome, register_device
from enrollments.actions.storms import storms
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import AttemptOutcome, ProvisioningService, RegistrationAttempt
from tests.certificates import EXPIRED, Minted, root, self_signed
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
HOUR = timezone.now().replace(minute=0, second=0, microsecond=0)


def at(minute: float):
    return HOUR + timedelta(minutes=minute)


def comes(service, leaf: Minted | PresentedCredential, name: str, minute: float, **peer: str):
    shown = shows(leaf) if isinstance(leaf, Minted) else leaf
    return register_device(service, replace(asks(name, shown, at(minute)), peer=Peer(**peer)))


def rows(service) -> list[RegistrationAttempt]:
    return list(service.attempts.order_by("first_at", "pk"))


def explained(service, answer):
    return explain(service, Question(tracking_id=answer.tracking_id))


def told(explanation) -> list[tuple[str, str]]:
    return [(step.candidate, step.because) for step in explanation.steps]


def test_second_certificate_of_a_name_leaves_a_row_of_its_own_with_who_showed_it(service):
    ca = root("Plant CA")
    enroll_ca(service, ca)
    genuine, twin = ca.leaf("pump-01"), ca.leaf("pump-01")

    answers = [
        comes(service, *came)
        for came in ((genuine, "pump-01", 1), (genuine, "pump-01", 2), (twin, "pump-01", 3))
    ]
    answers.append(comes(service, genuine, "pump-01", 4))

    assert {answer.outcome for answer in answers} == {Outcome.ASSIGNED}
    assert [(row.leaf_thumbprint, row.count) for row in rows(service)] == [
        (genuine.parsed.thumbprint_sha256, 3),
        (twin.parsed.thumbprint_sha256, 1),
    ]
    assert [proven_leaf(row).pem for row in rows(service)] == [genuine.pem, twin.pem]
    assert find_attempt(service, answers[2].tracking_id).leaf_thumbprint == twin.parsed.thumbprint_sha256


def test_stolen_key_that_comes_from_elsewhere_leaves_a_row_of_its_own(service):
    ca = root("Plant CA")
    enroll_ca(service, ca)
    leaf = ca.leaf("pump-01")

    comes(service, leaf, "pump-01", 1, address="192.0.2.1", client="pump")
    comes(service, leaf, "pump-01", 2, address="203.0.113.9", client="curl")
    comes(service, leaf, "pump-01", 3, address="192.0.2.1", client="pump")

    assert [(row.peer_address, row.client, row.count) for row in rows(service)] == [
        ("192.0.2.1", "pump", 2),
        ("203.0.113.9", "curl", 1),
    ]


def test_primary_and_secondary_key_are_told_apart_and_named(service):
    entry = enroll_keys(service, "press-01")

    for minute, key in enumerate((entry.primary_key, entry.secondary_key, entry.primary_key)):
        comes(service, signs(service, "press-01", key), "press-01", minute)

    assert [(row.key_id, row.count) for row in rows(service)] == [
        (entry.primary_key_id, 2),
        (entry.secondary_key_id, 1),
    ]


def test_device_shut_out_by_one_group_and_then_by_another_leaves_a_row_for_each(service):
    top = root("Top CA")
    line = top.intermediate("Line CA")
    enroll_ca(service, top)
    enroll_ca(service, line)
    leaf = line.leaf("pump-01")
    disable_enrollment_group(service, "line-ca", actor=ALICE)
    first = comes(service, leaf, "pump-01", 1)
    delete_enrollment_groups(service, ["line-ca"], actor=ALICE)
    disable_enrollment_group(service, "top-ca", actor=ALICE)

    second = comes(service, leaf, "pump-01", 2)

    assert {first.outcome, second.outcome} == {Outcome.DISABLED}
    assert [(row.entry_name, row.count) for row in rows(service)] == [("line-ca", 1), ("top-ca", 1)]
    assert explained(service, first).entry_words == "enrollment group line-ca"


def test_entry_that_was_added_anew_under_the_same_name_is_another_one(service):
    ca = root("Plant CA")
    leaf = ca.leaf("pump-01")
    for minute in (1, 2):
        enroll_ca(service, ca, "plant", enabled=False)
        comes(service, leaf, "pump-01", minute)
        delete_enrollment_groups(service, ["plant"], actor=ALICE)

    assert [(row.entry_name, row.count) for row in rows(service)] == [("plant", 1), ("plant", 1)]


def test_r3_tracking_id_keeps_its_own_trace_when_a_group_is_enrolled_meanwhile(service):
    """Two refusals of one stranger for one cause, with more to ask at the second."""
    top = root("Top CA", **EXPIRED)
    line = top.intermediate("Line CA", **EXPIRED)
    leaf = line.leaf("pump-01")
    enroll_ca(service, line)
    first = comes(service, leaf, "pump-01", 1)
    before = told(explained(service, first))
    enroll_ca(service, top)

    second = comes(service, leaf, "pump-01", 2)

    assert first.outcome is second.outcome is Outcome.UNAUTHORIZED
    assert {row.reason for row in rows(service)} == {"no_valid_path"}
    assert told(explained(service, first)) == before
    assert "top-ca" not in str(before)
    assert "top-ca" in str(told(explained(service, second)))


def test_earlier_tracking_id_of_attempts_alike_says_so_and_shows_its_own_steps(service):
    stranger = self_signed("pump-01")
    answers = [comes(service, stranger, "pump-01", minute) for minute in (1, 2, 3)]
    first, latest = explained(service, answers[0]), explained(service, answers[-1])

    assert [row.count for row in rows(service)] == [3]
    assert told(first) == told(latest) != []
    assert first.basis.startswith("one of 3 such attempts from ")
    assert "each that was judged took just these steps" in first.basis
    assert latest.basis.startswith("the latest of 3 such attempts since ")
    assert (first.tracking_id, latest.tracking_id) == (answers[0].tracking_id, answers[-1].tracking_id)
    assert (first.is_latest, latest.is_latest) == (False, True)


def test_tracking_id_of_a_row_from_the_version_before_says_that_the_last_one_is_shown(service):
    stranger = self_signed("pump-01")
    answers = [comes(service, stranger, "pump-01", minute) for minute in (1, 2)]
    RegistrationAttempt.objects.update(source=stranger.parsed.spki_sha256)

    first = explained(service, answers[0])

    assert first.basis == (
        f"one of 2 attempts of this name with this cause since {at(1):%Y-%m-%d %H:%M:%S} UTC: "
        f"what is shown is the last of them, of {at(2):%Y-%m-%d %H:%M:%S} UTC"
    )


def test_tracking_id_of_a_flood_shows_nothing_of_another_device(service, monkeypatch):
    monkeypatch.setitem(attempts.MAX_PER_HOUR, AttemptOutcome.REFUSED, 0)
    answers = [comes(service, self_signed(f"odd-{n}"), f"odd-{n}", n, address="192.0.2.1") for n in range(3)]

    first, latest = explained(service, answers[0]), explained(service, answers[-1])

    assert first.steps == ()
    assert "odd-2" not in str(first.as_json())
    assert "from" not in first.as_json()
    assert "which it was and the steps of its decision are not kept" in first.basis
    assert "odd-2" in str(told(latest))


def test_tracking_id_of_another_row_is_taken_for_that_of_the_latest(service):
    one, other = (comes(service, self_signed(name), name, 1) for name in ("odd-1", "odd-2"))
    row = find_attempt(service, one.tracking_id)

    assert explain_attempt(service, row, other.tracking_id).tracking_id == one.tracking_id
    assert explain_attempt(service, row, "").tracking_id == one.tracking_id


# --- Bounds (R14) ----------------------------------------------------------------------------------


def test_stranger_who_makes_certificates_for_one_key_stays_one_row(service):
    first = self_signed("pump-01")

    for minute in range(3):
        comes(service, self_signed("pump-01", key=first.key), "pump-01", minute)

    assert [row.count for row in rows(service)] == [3]


def test_strangers_who_invent_names_keys_and_certificates_stay_within_the_bound(service, monkeypatch):
    monkeypatch.setitem(attempts.MAX_PER_HOUR, AttemptOutcome.REFUSED, 4)
    known = self_signed("known")
    comes(service, known, "known", 0)

    for number in range(12):
        comes(service, self_signed(f"odd-{number % 3}"), f"odd-{number % 3}", number)
    comes(service, known, "known", 20)

    kept = {(row.claimed_registration_id, row.count) for row in rows(service)}
    assert len(rows(service)) == 5
    assert {("known", 2), (OVERFLOW_NAME, 9)} <= kept


def test_admitted_device_that_comes_in_ever_other_ways_ends_in_one_row_for_its_certificate(
    service, monkeypatch
):
    monkeypatch.setattr(attempts, "MAX_WAYS_PER_HOUR", 3)
    ca = root("Plant CA")
    enroll_ca(service, ca)
    leaf, twin = ca.leaf("pump-01"), ca.leaf("pump-01")

    for number in range(8):
        comes(service, leaf, "pump-01", number, client=f"client {number}")
    impostor = comes(service, twin, "pump-01", 9, client="client 9")
    comes(service, leaf, "pump-01", 10, client="client 0")

    assert [(row.client, row.leaf_thumbprint, row.count) for row in rows(service)] == [
        ("client 0", leaf.parsed.thumbprint_sha256, 2),
        ("client 1", leaf.parsed.thumbprint_sha256, 1),
        ("client 2", leaf.parsed.thumbprint_sha256, 1),
        ("client 7", leaf.parsed.thumbprint_sha256, 5),
        ("client 9", twin.parsed.thumbprint_sha256, 1),
    ]
    crowd = rows(service)[3]
    assert not are_alike(crowd)
    assert are_alike(find_attempt(service, impostor.tracking_id))


def test_counting_an_attempt_of_an_admitted_device_is_one_statement(
    service, django_assert_num_queries, monkeypatch
):
    counted = attempts.count_attempt

    def watched(*given, **named):
        with django_assert_num_queries(1):
            return counted(*given, **named)

    monkeypatch.setattr("enrollments.actions.registrations.count_attempt", watched)
    ca = root("Plant CA")
    enroll_ca(service, ca)

    answer = register(service, ca.leaf("pump-01"))

    assert answer.outcome is Outcome.ASSIGNED


# --- Who reads them --------------------------------------------------------------------------------


def test_two_devices_shut_out_under_one_name_are_two_storms_each_with_its_latest(service):
    ca = root("Plant CA")
    enroll_ca(service, ca, enabled=False)
    leaf, twin = ca.leaf("pump-01"), ca.leaf("pump-01")
    for minute, came in ((1, leaf), (2, twin), (3, twin), (4, leaf), (30, leaf)):
        comes(service, came, "pump-01", minute)

    shown = storms(service, window=timedelta(hours=1), at=at(40)).shown

    assert [(one.latest.leaf_thumbprint, one.times) for one in shown] == [
        (leaf.parsed.thumbprint_sha256, 3),
        (twin.parsed.thumbprint_sha256, 2),
    ]
    assert len({caller_of(one.latest).credential for one in shown}) == 2


def test_storm_shows_its_latest_cause_also_where_that_has_an_older_row(service):
    leaf = self_signed("pump-01")
    comes(service, leaf, "pump-01", 1)
    entry = enroll_device(service, self_signed("pump-01"), registration_id="pump-01")
    comes(service, leaf, "pump-01", 2)
    entry.delete()
    ProvisioningService.objects.update(epoch=service.epoch + 10)
    service.refresh_from_db()
    comes(service, leaf, "pump-01", 3)

    (storm,) = storms(service, window=timedelta(hours=1), at=at(40)).shown

    assert len(rows(service)) == 2
    assert (storm.times, storm.latest.reason, storm.latest.last_at) == (3, "not_enrolled", at(3))


def test_back_in_time_a_name_that_is_shouted_still_has_the_certificate_that_was_proven(service):
    ca = root("Plant CA")
    enroll_ca(service, ca)
    leaf = ca.leaf("pump-01")
    comes(service, leaf, "pump-01", 0)
    service.registrations.all().delete()
    for number in range(25):
        comes(service, self_signed("pump-01"), "pump-01", 1 + number)

    shown = credentials_of(service, "pump-01", (), timezone.now()).proven[0]

    assert [one.thumbprint_sha256 for one in shown.chain] == [leaf.parsed.thumbprint_sha256]
