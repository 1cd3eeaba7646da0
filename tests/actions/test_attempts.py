"""What devices try is counted, bounded, and found again by the tracking ID that the device was given (R3, R14)."""

import uuid
from datetime import timedelta

import pytest
from cryptography.x509 import Name, NameAttribute
from cryptography.x509.oid import NameOID
from django.utils import timezone

from enrollments.actions import attempts
from enrollments.actions.attempts_forgotten import forget_old_attempts
from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.kept_attempts import find_attempt
from enrollments.actions.registrations import Outcome
from enrollments.actions.tracking import read_tracking_id, tracking_id
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import Certificate, RegistrationAttempt, RegistrationRecord
from tests.certificates import mint, root, self_signed
from tests.devices import ALICE, enroll_ca, new_service, register, shows

pytestmark = pytest.mark.django_db
NOON = timezone.now().replace(minute=10, second=0, microsecond=0)


def refuse(service, name: str, at=NOON):
    return register(service, PresentedCredential(), name, at=at)


def test_repeated_refusals_are_one_row_with_first_last_and_count(service):
    answers = [refuse(service, "pump-042", NOON + timedelta(minutes=n)) for n in range(5)]

    row = RegistrationAttempt.objects.get()
    assert (row.count, row.first_at, row.last_at) == (5, NOON, NOON + timedelta(minutes=4))
    assert len({answer.tracking_id for answer in answers}) == 5
    assert {find_attempt(service, answer.tracking_id) for answer in answers} == {row}


def test_next_hour_counts_anew(service):
    refuse(service, "pump-042")
    refuse(service, "pump-042", NOON + timedelta(hours=1))

    assert [row.count for row in RegistrationAttempt.objects.all()] == [1, 1]


def test_row_keeps_the_full_cause_and_who_asked(service):
    stranger = self_signed("pump-042")

    register(service, stranger)

    row = RegistrationAttempt.objects.get()
    assert (row.outcome, row.reason, row.peer_address, row.client) == (
        "refused",
        "not_enrolled",
        "198.51.100.20",
        "test device",
    )
    assert row.leaf_thumbprint == stranger.parsed.thumbprint_sha256
    assert row.credential == stranger.parsed.spki_sha256
    assert [step["rule"] for step in row.trace] == ["R3", "R5", "R7"]


def test_admitted_attempts_are_counted_too(service):
    top = root("Root A")
    enroll_ca(service, top)

    answer = register(service, top.leaf("pump-042"))

    assert answer.outcome is Outcome.ASSIGNED
    assert RegistrationAttempt.objects.get().entry_name == "root-a"
    assert find_attempt(service, answer.tracking_id).outcome == "assigned"


def test_flood_of_invented_names_ends_in_one_row(service, monkeypatch):
    monkeypatch.setitem(attempts.MAX_PER_HOUR, "refused", 3)
    refuse(service, "known")

    for number in range(10):
        last = refuse(service, f"invented-{number}")
    refuse(service, "known")

    assert RegistrationAttempt.objects.count() == 4
    assert RegistrationAttempt.objects.get(claimed_registration_id="known").count == 2
    overflow = RegistrationAttempt.objects.get(claimed_registration_id=attempts.OVERFLOW_NAME)
    assert overflow.count == 8
    assert find_attempt(service, last.tracking_id) == overflow


def test_flood_leaves_room_for_the_proven(service, monkeypatch):
    monkeypatch.setitem(attempts.MAX_PER_HOUR, "refused", 0)
    top = root("Root A")
    enroll_ca(service, top)
    refuse(service, "invented")

    register(service, top.leaf("pump-042"), at=NOON)

    assert RegistrationAttempt.objects.filter(claimed_registration_id="pump-042").exists()


def test_flood_of_devices_below_a_barred_ca_ends_in_one_row_and_no_more_records(service, monkeypatch):
    """Who stole a CA's key makes proven devices without end, and R7 bars all of them."""
    monkeypatch.setitem(attempts.MAX_PER_HOUR, "disabled", 2)
    top = root("Root A")
    enroll_ca(service, top)
    known = top.leaf("known")
    register(service, known, at=NOON)
    disable_enrollment_group(service, "root-a", actor=ALICE)

    outcomes = {register(service, top.leaf(f"minted-{n}"), at=NOON).outcome for n in range(5)}
    outcomes.add(register(service, known, at=NOON).outcome)

    assert outcomes == {Outcome.DISABLED}
    assert set(RegistrationRecord.objects.values_list("registration_id", "status")) == {
        ("known", "disabled"),
        ("minted-0", "disabled"),
        ("minted-1", "disabled"),
    }
    overflow = RegistrationAttempt.objects.get(claimed_registration_id=attempts.OVERFLOW_NAME)
    assert (overflow.count, overflow.entry_name) == (3, "root-a")
    # Of whom nobody else can have made the certificate.
    assert RegistrationAttempt.objects.get(claimed_registration_id="known", outcome="disabled").count == 1


@pytest.mark.filterwarnings("ignore:Attribute's length")
def test_trace_of_a_stranger_is_printable_and_bounded(service):
    name = NameAttribute(NameOID.COMMON_NAME, "pump-042\x00\x1b[31m" + "x" * 3000, _validate=False)
    register(service, mint(subject=Name([name])), "pump-042")

    row = RegistrationAttempt.objects.get()
    assert row.reason == "common_name_differs"
    assert all(text.isprintable() and len(text) <= 301 for step in row.trace for text in step.values())


def test_tracking_id_of_another_service_is_not_found(service):
    answer = refuse(service, "pump-042")

    assert find_attempt(new_service("other"), answer.tracking_id) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: "",
        lambda: "x",
        uuid.uuid4,
        lambda: "0" * 32,
        lambda: tracking_id(1, 99),
        lambda: tracking_id(10**12, 1),
    ],
    ids=["empty", "no UUID", "any UUID", "zeros", "later than the last", "of no row"],
)
def test_tracking_id_that_was_never_given_is_not_found(service, make):
    refuse(service, "pump-042")

    assert find_attempt(service, str(make())) is None


def test_tracking_ids_of_neighbours_have_nothing_in_common():
    ids = [tracking_id(7, ordinal) for ordinal in range(1, 6)]

    assert [read_tracking_id(one) for one in ids] == [(7, n) for n in range(1, 6)]
    assert len({one[:4] for one in ids}) > 1


def test_refused_device_that_makes_up_certificates_fills_no_table(service):
    """It is proven, so what it sends is kept, and it can send the key of its CA in as many as it likes."""
    top = root("Root A")
    enroll_ca(service, top, enabled=False)
    leaf = top.leaf("pump-042")
    register(service, leaf, at=NOON)
    stored = Certificate.objects.count()

    for minute in range(1, 4):
        made_up = mint(f"Made up {minute}", key=top.key, ca=True)
        answer = register(service, shows(leaf, made_up), "pump-042", at=NOON + timedelta(minutes=minute))
        assert answer.outcome is Outcome.DISABLED

    assert Certificate.objects.count() == stored
    later = register(service, shows(leaf, made_up), "pump-042", at=NOON + timedelta(hours=2))
    assert made_up.parsed.thumbprint_sha256 in find_attempt(service, later.tracking_id).chain
    assert Certificate.objects.count() == stored + 1


def test_old_attempts_are_forgotten_by_the_setting(service):
    refuse(service, "old", timezone.now() - timedelta(days=31))
    refuse(service, "new", timezone.now())

    assert forget_old_attempts(service, actor=ALICE).attempts == 1
    assert RegistrationAttempt.objects.get().claimed_registration_id == "new"
