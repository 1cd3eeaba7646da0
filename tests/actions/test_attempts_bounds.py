"""R14: whoever floods a service hides nothing that only somebody else can have shown, and fills a bounded table."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.actions import attempts_bounds
from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.attempts_bounds import MAX_PER_HOUR
from enrollments.actions.enrollment_groups import delete_enrollment_groups, disable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.kept_attempts import find_attempt, proven_leaf
from enrollments.actions.registrations import Outcome, RegistrationAnswer, register_device
from enrollments.actions.revocation import deny_device
from enrollments.actions.services import change_settings
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import AttemptOutcome, ProvisioningService, RegistrationAttempt
from tests.actions.test_r12_at_once import PATIENCE
from tests.certificates import EXPIRED, Minted, root, self_signed
from tests.devices import (
    ALICE,
    asks,
    demand_proof,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    register,
    shows,
    signs,
)

pytestmark = pytest.mark.django_db
NOON = timezone.now().replace(minute=10, second=0, microsecond=0)
MOST = 4


@pytest.fixture(autouse=True)
def few(monkeypatch) -> None:
    for outcome in MAX_PER_HOUR:
        monkeypatch.setitem(MAX_PER_HOUR, outcome, MOST)
    monkeypatch.setattr(attempts_bounds, "MAX_OF_ONE_DEVICE", MOST)


def comes(service, shown: Minted | PresentedCredential, name: str = "") -> RegistrationAnswer:
    return register(service, shown, name, at=NOON)


def strangers_flood(service, times: int = 3 * MOST) -> None:
    """Invented names, with certificates of their own, with none, and with tokens that are signed with any key."""
    for number in range(times):
        name = f"invented-{number}"
        shown = (
            self_signed(name),
            PresentedCredential(),
            signs(service, name, "aW52ZW50ZWQ="),
        )[number % 3]
        assert comes(service, shown, name).outcome is Outcome.UNAUTHORIZED


def flood_below(service, ca: Minted, times: int = 3 * MOST) -> None:
    """What the holder of a CA's key can do: devices that prove themselves, under any name."""
    for number in range(times):
        comes(service, ca.leaf(f"minted-{number}"))


def row_of(service, answer: RegistrationAnswer) -> RegistrationAttempt:
    row = find_attempt(service, answer.tracking_id)
    assert row is not None
    return row


def others(service) -> RegistrationAttempt:
    return service.attempts.get(claimed_registration_id=OVERFLOW_NAME)


# --- Who floods without any key that is enrolled --------------------------------------------------------


def another_credential(service) -> RegistrationAnswer:
    ca = root("Plant CA")
    enroll_ca(service, ca)
    enroll_device(service, self_signed("pump-01"))
    return comes(service, ca.leaf("pump-01"))


def possession_unproven(service) -> RegistrationAnswer:
    ca = root("Plant CA")
    enroll_ca(service, ca)
    demand_proof(service)
    return comes(service, ca.leaf("pump-01"))


def groups_with_keys_off(service) -> RegistrationAnswer:
    group = enroll_key_group(service)
    change_settings(service, {"symmetric_key_groups": False}, actor=ALICE)
    service.refresh_from_db()
    return comes(service, signs(service, "pump-01", derived_key(group.primary_key, "pump-01")), "pump-01")


def below_a_disabled_group(service) -> RegistrationAnswer:
    ca = root("Plant CA")
    enroll_ca(service, ca, enabled=False)
    return comes(service, ca.leaf("pump-01"))


def disabled_with_its_own_certificate(service) -> RegistrationAnswer:
    leaf = self_signed("pump-01")
    enroll_device(service, leaf, enabled=False)
    return comes(service, leaf)


def disabled_with_its_own_key(service) -> RegistrationAnswer:
    entry = enroll_keys(service, "pump-01")
    disable_enrollment(service, "pump-01", actor=ALICE)
    return comes(service, signs(service, "pump-01", entry.secondary_key), "pump-01")


def denied(service) -> RegistrationAnswer:
    ca = root("Plant CA")
    enroll_ca(service, ca)
    leaf = ca.leaf("pump-01")
    comes(service, leaf)
    deny_device(service, "pump-01", actor=ALICE)
    return comes(service, leaf)


PROVEN = [
    another_credential,
    possession_unproven,
    groups_with_keys_off,
    below_a_disabled_group,
    disabled_with_its_own_certificate,
    disabled_with_its_own_key,
    denied,
]


def barred_key_under_another_name(service) -> RegistrationAnswer:
    """R6: nothing leads to an enrolled CA, and yet nobody else has this key."""
    leaf = self_signed("pump-01")
    enroll_device(service, leaf, enabled=False)
    return comes(service, self_signed("pump-02", key=leaf.key))


def ca_that_has_expired(service) -> RegistrationAnswer:
    ca = root("Plant CA", **EXPIRED)
    enroll_ca(service, ca)
    return comes(service, ca.leaf("pump-01"))


def known_device_whose_group_is_gone(service) -> RegistrationAnswer:
    ca = root("Plant CA")
    enroll_ca(service, ca)
    leaf = ca.leaf("pump-01")
    comes(service, leaf)
    delete_enrollment_groups(service, ["plant-ca"], actor=ALICE)
    return comes(service, leaf)


@pytest.mark.parametrize("case", PROVEN, ids=lambda case: case.__name__)
def test_flood_of_strangers_leaves_a_proven_refusal_its_row_with_the_evidence(
    service, case: Callable[[ProvisioningService], RegistrationAnswer]
):
    strangers_flood(service)

    row = row_of(service, case(service))

    assert (row.claimed_registration_id, row.count) == ("pump-01", 1)
    assert row.outcome in (AttemptOutcome.REFUSED, AttemptOutcome.DISABLED)
    assert row.leaf_thumbprint or row.key_id
    if row.leaf_thumbprint:
        leaf = proven_leaf(row)
        assert leaf is not None
        assert leaf.thumbprint_sha256 == row.leaf_thumbprint


@pytest.mark.parametrize(
    "case",
    [barred_key_under_another_name, ca_that_has_expired, known_device_whose_group_is_gone],
    ids=lambda case: case.__name__,
)
def test_so_does_it_leave_what_proves_nothing_and_nobody_can_invent(service, case):
    strangers_flood(service)

    row = row_of(service, case(service))

    assert row.claimed_registration_id.startswith("pump-")
    assert row.outcome == AttemptOutcome.REFUSED
    assert row.leaf_thumbprint
    assert proven_leaf(row) is None


def test_shouting_the_name_of_a_device_that_is_known_is_no_way_past_the_bound(service):
    """Its name is no secret, its certificate may not be one either; its key is."""
    ca = root("Plant CA")
    enroll_ca(service, ca)
    comes(service, ca.leaf("pump-01"))
    strangers_flood(service)

    row = row_of(service, comes(service, self_signed("pump-01")))

    assert row.claimed_registration_id == OVERFLOW_NAME


# --- Who floods below the key of an enrolled CA ---------------------------------------------------------


def test_flood_below_one_compromised_ca_leaves_the_refusals_of_other_entries_their_rows(service):
    stolen, other = root("Stolen CA"), root("Other CA")
    pinned, entry = stolen.leaf("pinned-01"), enroll_keys(service, "keyed-01")
    enroll_ca(service, stolen, enabled=False)
    enroll_ca(service, other, enabled=False)
    enroll_device(service, pinned, enabled=False)
    disable_enrollment(service, "keyed-01", actor=ALICE)
    genuine = other.leaf("pump-01")
    flood_below(service, stolen)

    answers = [
        comes(service, genuine),
        comes(service, pinned),
        comes(service, signs(service, "keyed-01", entry.primary_key), "keyed-01"),
    ]

    assert {answer.outcome for answer in answers} == {Outcome.DISABLED}
    kept = [row_of(service, answer) for answer in answers]
    assert [row.claimed_registration_id for row in kept] == ["pump-01", "pinned-01", "keyed-01"]
    assert [row.entry_name for row in kept] == ["other-ca", "pinned-01", "keyed-01"]
    assert proven_leaf(kept[0]).pem == genuine.pem
    assert others(service).entry_name == "stolen-ca"


def test_flood_below_an_intermediate_leaves_the_group_above_it_its_rows(service):
    """Its chains lead to the root as well, and are its own all the same."""
    top = root("Top CA")
    line = top.intermediate("Line CA")
    enroll_ca(service, top, enabled=False)
    enroll_ca(service, line, enabled=False)
    flood_below(service, line)

    row = row_of(service, comes(service, top.leaf("pump-01")))

    assert row.claimed_registration_id == "pump-01"


def test_flood_below_a_compromised_ca_leaves_its_own_known_devices_their_rows(service):
    """Whoever has the key of a CA makes any certificate but the one that a device has had before."""
    ca = root("Plant CA")
    enroll_ca(service, ca)
    known = ca.leaf("pump-01")
    comes(service, known)
    disable_enrollment_group(service, "plant-ca", actor=ALICE)
    flood_below(service, ca)

    genuine, twin = comes(service, known), comes(service, ca.leaf("pump-01"))

    assert row_of(service, genuine).claimed_registration_id == "pump-01"
    assert proven_leaf(row_of(service, genuine)).pem == known.pem
    assert row_of(service, twin).claimed_registration_id == OVERFLOW_NAME


def test_names_that_were_minted_in_hours_before_are_no_known_devices(service):
    ca = root("Stolen CA")
    enroll_ca(service, ca, enabled=False)
    minted = [ca.leaf(f"minted-{number}") for number in range(MOST)]
    for leaf in minted:
        register(service, leaf, at=NOON - timedelta(hours=1))
    assert service.registrations.count() == MOST
    for number in range(MOST):
        comes(service, ca.leaf(f"other-{number}"))

    answers = [comes(service, leaf) for leaf in minted]

    assert {row_of(service, answer).claimed_registration_id for answer in answers} == {OVERFLOW_NAME}


# --- Bounds ---------------------------------------------------------------------------------------------


def test_each_is_bounded_and_what_is_not_kept_one_by_one_is_counted(service):
    kept = {name: root(name) for name in ("One CA", "Two CA")}
    for ca in kept.values():
        enroll_ca(service, ca, enabled=False)
    times = 5 * MOST

    strangers_flood(service, times)
    for ca in kept.values():
        for number in range(times):
            comes(service, ca.leaf(f"{ca.parsed.common_names[0]}-{number}".replace(" ", "-")))

    rows = Counter(
        (row.outcome, row.entry_name, row.claimed_registration_id == OVERFLOW_NAME)
        for row in service.attempts.all()
    )
    assert {key: number for key, number in rows.items() if not key[2]} == {
        ("refused", "", False): MOST,
        ("disabled", "one-ca", False): MOST,
        ("disabled", "two-ca", False): MOST,
    }
    assert rows["disabled", "one-ca", True] == rows["disabled", "two-ca", True] == 1
    causes = service.attempts.filter(outcome="refused").values("reason").distinct().count()
    assert rows["refused", "", True] <= causes
    assert sum(row.count for row in service.attempts.all()) == 3 * times


def test_key_of_a_disabled_device_under_ever_other_names_is_bounded(service):
    stolen = self_signed("pump-01")
    enroll_device(service, stolen, enabled=False)
    times = 3 * MOST

    for number in range(times):
        comes(service, self_signed(f"odd-{number}", key=stolen.key))

    assert service.attempts.count() == MOST + 1
    assert others(service).count == times - MOST


def test_known_device_whose_refusals_differ_each_time_is_bounded(service):
    """Each row has another trace, as where a device sends along what it likes, or entries come and go."""
    top = root("Top CA")
    ca = top.intermediate("Plant CA")
    enroll_ca(service, ca)
    known = ca.leaf("pump-01")
    comes(service, known)
    disable_enrollment_group(service, "plant-ca", actor=ALICE)
    flood_below(service, ca)

    for number in range(3 * MOST):
        enroll_ca(service, top, f"top-{number}", enabled=False)
        comes(service, known)
        delete_enrollment_groups(service, [f"top-{number}"], actor=ALICE)

    assert service.attempts.filter(registration_key="pump-01", outcome="disabled").count() == MOST
    assert sum(row.count for row in service.attempts.filter(outcome="disabled")) == 6 * MOST


def test_row_that_is_there_counts_on_whatever_came_meanwhile(service):
    ca = root("Stolen CA")
    enroll_ca(service, ca, enabled=False)
    first = ca.leaf("pump-01")
    comes(service, first)
    flood_below(service, ca)

    row = row_of(service, comes(service, first))

    assert (row.claimed_registration_id, row.count) == ("pump-01", 2)


def test_refusal_in_a_flood_asks_less_of_the_database_than_one_that_fits(service):
    ca = root("Stolen CA")
    enroll_ca(service, ca, enabled=False)
    comes(service, ca.leaf("first"))
    comes(service, self_signed("first"), "first")

    def statements(shown: Minted, name: str) -> tuple[int, int]:
        with CaptureQueriesContext(connection) as asked:
            comes(service, shown, name)
        # Whether a quiet period stands is asked of its own table, with the admissions since.
        of_attempts = [one["sql"] for one in asked if "enrollments_registrationattempt" in one["sql"]]
        return len(asked), sum("enrollments_quietperiod" not in sql for sql in of_attempts)

    fits = statements(ca.leaf("second"), "second"), statements(self_signed("second"), "second")
    flood_below(service, ca)
    strangers_flood(service)
    floods = statements(ca.leaf("third"), "third"), statements(self_signed("third"), "third")

    # What is there, how many there are, and the row; then what is there and the row.
    assert [of_attempts for _, of_attempts in fits] == [3, 3]
    assert [of_attempts for _, of_attempts in floods] == [2, 2]
    assert all(in_flood <= fit for (in_flood, _), (fit, _) in zip(floods, fits, strict=True))


def test_rows_are_counted_rarely_while_there_is_room_and_each_time_near_the_bound(service, monkeypatch):
    """What is counted may be many thousands, within the lock that all wait for."""
    most = 200
    monkeypatch.setitem(MAX_PER_HOUR, AttemptOutcome.DISABLED, most)
    ca = root("Stolen CA")
    enroll_ca(service, ca, enabled=False)

    with CaptureQueriesContext(connection) as asked:
        flood_below(service, ca, most + 5)

    counted = sum('COUNT(*) AS "__count"' in one["sql"] for one in asked)
    assert counted < most
    assert service.attempts.exclude(claimed_registration_id=OVERFLOW_NAME).count() == most
    assert others(service).count == 5


@pytest.mark.django_db(transaction=True)
def test_workers_that_count_at_once_keep_to_the_bound_but_for_one_row_each(service):
    ca = root("Stolen CA")
    enroll_ca(service, ca, enabled=False)
    workers, each = 4, 2 * MOST
    leaves = [[ca.leaf(f"minted-{one}-{number}") for number in range(each)] for one in range(workers)]
    requests = [
        [replace(asks(leaf.parsed.common_names[0], shows(leaf)), arrived_at=NOON) for leaf in some]
        for some in leaves
    ]
    failed: list[BaseException] = []

    def work(some) -> None:
        try:
            for request in some:
                register_device(service, request)
        except BaseException as problem:
            failed.append(problem)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(some,)) for some in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert not failed
    own = service.attempts.exclude(claimed_registration_id=OVERFLOW_NAME)
    assert MOST <= own.count() < MOST + workers
    assert sum(row.count for row in service.attempts.all()) == workers * each
