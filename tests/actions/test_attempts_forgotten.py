"""What a flood below a disabled CA leaves is forgotten with its attempts; what tells of a device is not (R14)."""

from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions import attempts_bounds, attempts_forgotten
from enrollments.actions.attempts_forgotten import Forgotten, forget_old_attempts
from enrollments.actions.certificates import forget_unused_certificates
from enrollments.actions.enrollment_groups import disable_enrollment_group, enable_enrollment_group
from enrollments.actions.enrollments import delete_enrollments
from enrollments.actions.registrations import Outcome
from enrollments.actions.revocation import (
    delete_registration,
    deny_device,
    deprovision_device,
    in_slots,
    release_registration,
)
from enrollments.actions.services import change_settings
from enrollments.models import (
    AttemptOutcome,
    Certificate,
    HistoryEvent,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationEvidence,
    RegistrationRecord,
    RegistrationStatus,
)
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_device, new_service, register, shows

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
NOTHING = Forgotten(0, 0, 0)


@pytest.fixture
def ca():
    return root("Root A")


@pytest.fixture
def service(ca):
    service = new_service()
    enroll_ca(service, ca, "ga")
    return service


@pytest.fixture
def barred(service):
    """The same service, with its group disabled."""
    disable_enrollment_group(service, "ga", actor=ALICE)
    return service


def let_pass(days: int) -> None:
    """That many days pass for what devices left."""
    past = timezone.now() - days * DAY
    RegistrationRecord.objects.update(updated_at=past, created_at=past)
    RegistrationAttempt.objects.update(
        hour=past.replace(minute=0, second=0, microsecond=0), first_at=past, last_at=past
    )
    Certificate.objects.update(created_at=past)


def forget(service: ProvisioningService) -> Forgotten:
    forgotten = forget_old_attempts(service, actor=ALICE)
    forget_unused_certificates()
    return forgotten


def rows():
    return HistoryEvent.objects.filter(event="attempts.forgotten").order_by("pk")


def names() -> set[str]:
    return set(RegistrationRecord.objects.values_list("registration_key", flat=True))


def is_stored(device) -> bool:
    return Certificate.objects.filter(thumbprint_sha256=device.parsed.thumbprint_sha256).exists()


def test_what_a_flood_of_invented_names_left_goes_with_its_attempts_and_all_certificates(barred, ca):
    below = ca.intermediate("Made up")
    for number in range(3):
        register(barred, below.leaf(f"mint-{number}"))
    let_pass(31)
    epoch = ProvisioningService.epoch_of(barred.pk)

    assert forget(barred) == Forgotten(3, 3, 0)

    assert not RegistrationRecord.objects.exists()
    assert not RegistrationEvidence.objects.exists()
    assert [one.subject for one in Certificate.objects.all()] == ["CN=Root A"]
    assert ProvisioningService.epoch_of(barred.pk) == epoch, "no decision reads what went"


def test_one_row_of_the_history_says_how_many_and_up_to_when_and_a_second_run_leaves_none(barred, ca):
    for number in range(3):
        register(barred, ca.leaf(f"mint-{number}"))
    let_pass(31)

    forget(barred)

    before = rows().get().before
    assert (before["rows"], before["records"], before["attempts_kept_days"]) == (3, 3, 30)
    assert before["older_than"] < (timezone.now() - 30 * DAY).isoformat()
    assert forget(barred) == NOTHING
    assert rows().count() == 1


def test_of_many_each_portion_has_its_row(barred, ca, monkeypatch):
    monkeypatch.setattr(attempts_forgotten, "AT_ONCE", 2)
    for number in range(5):
        register(barred, ca.leaf(f"mint-{number}"))
    let_pass(31)

    assert forget(barred) == Forgotten(5, 5, 0)

    assert [(one.before["rows"], one.before["records"]) for one in rows()] == [(2, 2), (2, 2), (1, 1)]


def test_without_its_row_nothing_of_a_portion_goes(barred, ca, monkeypatch):
    register(barred, ca.leaf("mint-0"))
    let_pass(31)

    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(attempts_forgotten, "record", fail)
    with pytest.raises(RuntimeError):
        forget(barred)

    assert (RegistrationRecord.objects.count(), RegistrationAttempt.objects.count()) == (1, 1)


def test_a_record_that_is_not_old_stays_and_so_does_one_whose_device_came_of_late(barred, ca):
    regular = ca.leaf("regular")
    register(barred, regular)
    let_pass(31)
    register(barred, regular)
    register(barred, ca.leaf("new"))

    assert forget(barred) == Forgotten(1, 0, 0)

    assert names() == {"regular", "new"}
    assert is_stored(regular)


def test_a_device_that_comes_while_it_is_looked_for_stays(barred, ca, monkeypatch):
    for name in ("mint-0", "real"):
        register(barred, ca.leaf(name))
    let_pass(31)
    look = attempts_forgotten._turned_away

    def meanwhile(*asked):
        found = look(*asked)
        RegistrationRecord.objects.filter(registration_key="real").update(updated_at=timezone.now())
        return found

    monkeypatch.setattr(attempts_forgotten, "_turned_away", meanwhile)

    assert forget(barred).records == 1
    assert names() == {"real"}


def test_whoever_was_ever_assigned_keeps_its_record(service, ca):
    for name in ("assigned", "released", "deprovisioned"):
        assert register(service, ca.leaf(name)).outcome is Outcome.ASSIGNED
    release_registration(service, "released", actor=ALICE)
    deprovision_device(service, "deprovisioned", actor=ALICE)
    disable_enrollment_group(service, "ga", actor=ALICE)
    for name in ("assigned", "released", "deprovisioned"):
        assert register(service, ca.leaf(name)).outcome is Outcome.DISABLED
    assert set(RegistrationRecord.objects.values_list("status", flat=True)) == {RegistrationStatus.DISABLED}
    let_pass(31)

    assert forget(service).records == 0

    assert names() == {"assigned", "released", "deprovisioned"}
    assert RegistrationEvidence.objects.filter(registration__registration_key="deprovisioned").exists()


def test_kept_records_do_not_keep_others(service, ca, monkeypatch):
    monkeypatch.setattr(attempts_forgotten, "AT_ONCE", 2)
    for name in ("a-1", "a-2", "a-3"):
        register(service, ca.leaf(name))
        deprovision_device(service, name, actor=ALICE)
    disable_enrollment_group(service, "ga", actor=ALICE)
    register(service, ca.leaf("mint-0"))
    let_pass(31)

    assert forget(service).records == 1
    assert names() == {"a-1", "a-2", "a-3"}


def test_a_service_goes_by_its_own_setting_and_for_its_own_records(barred, ca):
    other = new_service("other")
    enroll_ca(other, ca, "gb", enabled=False)
    ProvisioningService.objects.filter(pk=other.pk).update(attempts_kept_days=90)
    other.refresh_from_db()
    both = ca.leaf("mint-0")
    for each in (barred, other):
        register(each, both)
    let_pass(31)

    assert (forget(barred).records, forget(other)) == (1, NOTHING)
    assert RegistrationRecord.objects.get().service == other
    assert is_stored(both), "the other service has its record"

    let_pass(91)
    assert forget(other).records == 1
    assert not is_stored(both)


def test_a_certificate_that_an_entry_was_made_from_stays_for_good(barred, ca):
    denied, other = ca.leaf("denied"), ca.leaf("other")
    for one in (denied, other):
        register(barred, one)
    deny_device(barred, "denied", actor=ALICE, certificates=in_slots([denied.parsed]))
    let_pass(31)

    forget(barred)
    assert (is_stored(denied), is_stored(other)) == (True, False)

    delete_enrollments(barred, ["denied"], actor=ALICE)
    forget(barred)
    assert is_stored(denied), "the history names it"


def test_a_certificate_by_which_an_attempt_proved_itself_stays_as_long_as_the_attempt(barred, ca):
    leaf = ca.leaf("mint-0")
    register(barred, leaf)
    let_pass(31)
    RegistrationAttempt.objects.update(last_at=timezone.now())
    RegistrationRecord.objects.all().delete()

    forget(barred)
    assert is_stored(leaf)

    RegistrationAttempt.objects.update(last_at=timezone.now() - 31 * DAY)
    forget(barred)
    assert not is_stored(leaf)


def test_what_let_a_device_in_stays_though_it_was_turned_away_with_it_first(barred, ca):
    below = ca.intermediate("Plant 7")
    first = below.leaf("pump-042")
    assert register(barred, first).outcome is Outcome.DISABLED
    enable_enrollment_group(barred, "ga", actor=ALICE)
    assert register(barred, first).outcome is Outcome.ASSIGNED

    assert not Certificate.objects.filter(only_shown=True).exists()


def test_whose_record_is_gone_is_turned_away_as_before_and_let_in_as_before(barred, ca):
    leaf = ca.leaf("pump-042")
    assert register(barred, leaf).outcome is Outcome.DISABLED
    let_pass(31)
    forget(barred)

    assert register(barred, leaf).outcome is Outcome.DISABLED
    assert names() == {"pump-042"}
    assert is_stored(leaf)
    enable_enrollment_group(barred, "ga", actor=ALICE)
    assert register(barred, leaf).outcome is Outcome.ASSIGNED


def test_what_another_attempt_names_stays_where_a_device_comes_in_otherwise(service, ca):
    line = ca.intermediate("Line")
    for name in ("dev-a", "dev-b"):
        assert register(service, ca.leaf(name), name).outcome == "assigned"
    delete_registration(service, "dev-a", actor=ALICE)
    disable_enrollment_group(service, "ga", actor=ALICE)
    register(service, line.leaf("dev-a"), "dev-a")
    let_pass(31)
    register(service, line.leaf("dev-b"), "dev-b")
    forget(service)
    own = root("Other CA").leaf("dev-a")
    enroll_device(service, own)

    assert register(service, shows(own), "dev-a").outcome == "assigned"

    assert is_stored(line)


@pytest.mark.usefixtures("time_stands_still")
def test_who_still_comes_is_known_also_where_a_flood_leaves_no_room_for_its_attempts(barred, ca, monkeypatch):
    real = ca.leaf("real")
    register(barred, real, "real")
    let_pass(31)
    monkeypatch.setitem(attempts_bounds.MAX_PER_HOUR, AttemptOutcome.DISABLED, 2)
    attempts_bounds._room_left.forget()
    for number in range(2):
        register(barred, ca.leaf(f"mint-{number}"), f"mint-{number}")
    attempts_bounds._room_left.forget()
    assert register(barred, real, "real").outcome == "disabled"
    assert not barred.attempts.filter(registration_key="real", last_at__gte=timezone.now() - DAY).exists()

    assert forget(barred).records == 0

    assert "real" in names()


def test_what_is_to_be_kept_for_longer_meanwhile_is_kept(barred, ca):
    register(barred, ca.leaf("dev-a"), "dev-a")
    let_pass(31)
    read_before = ProvisioningService.objects.get(pk=barred.pk)
    change_settings(barred, {"attempts_kept_days": 365}, actor=ALICE)

    assert forget(read_before) == NOTHING

    assert names() == {"dev-a"}
