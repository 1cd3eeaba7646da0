"""R15: no record, no action; rows are final; secrets never enter one."""

import json
from datetime import datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from enrollments.actions import people
from enrollments.actions.enrollment_groups import (
    cancel_group_schedule,
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    cancel_enrollment_schedule,
    change_individual_enrollment,
    delete_enrollments,
    disable_enrollment,
    enable_enrollment,
)
from enrollments.actions.hubs import HubSpec, link_hub, unlink_hub
from enrollments.actions.revocation import (
    delete_registration,
    deprovision_device,
    release_registration,
)
from enrollments.actions.services import add_service, change_settings
from enrollments.audit.events import Event
from enrollments.audit.record import record
from enrollments.errors import ChangedMeanwhile, HistoryIsFinal, Invalid
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HistoryEvent,
    IndividualEnrollment,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
)
from enrollments.policy.roles import Role
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys, new_service, register, signs

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(service):
    """Something of everything that can be changed."""
    top = root("Root A")
    enroll_ca(service, top)
    enroll_ca(service, root("Root B"), enabled=False)
    enroll_device(service, self_signed("pump-1"))
    enroll_device(service, self_signed("pump-2"), enabled=False)
    register(service, top.leaf("pump-3"))
    enroll_device(service, self_signed("pump-4"))
    disable_enrollment(service, "pump-4", at=_tomorrow(), actor=ALICE)
    enroll_ca(service, root("Root D"))
    disable_enrollment_group(service, "root-d", at=_tomorrow(), actor=ALICE)
    people.add_person("root", role=Role.ADMINISTRATOR, service=None, actor=ALICE)
    people.add_person("bob", role=Role.VIEWER, service=None, actor=ALICE)
    people.add_person("gone", role=Role.VIEWER, service=None, actor=ALICE)
    people.set_active("gone", False, actor=ALICE)
    return service


def _tomorrow() -> datetime:
    return timezone.now() + timedelta(days=1)


WHY = {"actor": ALICE, "reason": "ticket 4711"}
CHANGES = {
    Event.ENROLLMENT_ADDED: lambda s: enroll_device(s, self_signed("new-1")),
    Event.ENROLLMENT_DISABLED: lambda s: disable_enrollment(s, "pump-1", **WHY),
    Event.ENROLLMENT_ENABLED: lambda s: enable_enrollment(s, "pump-2", **WHY),
    Event.ENROLLMENT_DISABLING_SCHEDULED: lambda s: disable_enrollment(s, "pump-1", at=_tomorrow(), **WHY),
    Event.ENROLLMENT_SCHEDULE_CANCELLED: lambda s: cancel_enrollment_schedule(s, "pump-4", **WHY),
    Event.ENROLLMENT_DELETED: lambda s: delete_enrollments(s, ["pump-1"], **WHY),
    Event.GROUP_ADDED: lambda s: enroll_ca(s, root("Root C")),
    Event.GROUP_DISABLED: lambda s: disable_enrollment_group(s, "root-a", **WHY),
    Event.GROUP_ENABLED: lambda s: enable_enrollment_group(s, "root-b", **WHY),
    Event.GROUP_DISABLING_SCHEDULED: lambda s: disable_enrollment_group(s, "root-a", at=_tomorrow(), **WHY),
    Event.GROUP_SCHEDULE_CANCELLED: lambda s: cancel_group_schedule(s, "root-d", **WHY),
    Event.GROUP_DELETED: lambda s: delete_enrollment_groups(s, ["root-a"], **WHY),
    Event.REGISTRATION_DELETED: lambda s: delete_registration(s, "pump-3", **WHY),
    Event.REGISTRATION_RELEASED: lambda s: release_registration(s, "pump-3", **WHY),
    Event.SERVICE_ADDED: lambda s: add_service("another", actor=ALICE),
    Event.SERVICE_CHANGED: lambda s: change_settings(s, {"retry_after_seconds": 9}, **WHY),
    Event.HUB_LINKED: lambda s: link_hub(s, HubSpec(name="h", host_name="h.example"), **WHY),
    Event.PERSON_ADDED: lambda s: people.add_person("eve", role=Role.VIEWER, service=s, actor=ALICE),
    Event.ROLE_CHANGED: lambda s: people.set_role("bob", Role.OPERATOR, service=s, actor=ALICE),
    Event.PERSON_DEACTIVATED: lambda s: people.set_active("bob", False, actor=ALICE),
    Event.PERSON_ACTIVATED: lambda s: people.set_active("gone", True, actor=ALICE),
    Event.PERSON_REMOVED: lambda s: people.remove_person("bob", actor=ALICE),
    Event.PASSWORD_CHANGED: lambda s: people.change_password("bob", actor=ALICE),
}


def tables() -> dict[str, list]:
    """Every row of every table that a change could touch, the history apart."""
    from django.apps import apps

    return {
        model.__name__: sorted(map(str, model.objects.values_list()))
        for model in apps.get_app_config("enrollments").get_models()
        if model is not HistoryEvent
    } | {"User": sorted(map(str, apps.get_model("auth", "User").objects.values_list()))}


@pytest.mark.parametrize("event", list(CHANGES), ids=lambda event: event.value)
def test_r15_each_change_leaves_a_row_with_who_what_and_from_where(world, event):
    seen = HistoryEvent.objects.count()

    CHANGES[event](world)

    row = HistoryEvent.objects.filter(event=event.value).latest("id")
    assert HistoryEvent.objects.count() > seen
    assert (row.actor_kind, row.actor_name, row.way, row.address) == ("user", "alice", "portal", "192.0.2.7")
    assert row.subject_name
    assert row.reason in ("ticket 4711", "")


@pytest.mark.parametrize("event", list(CHANGES), ids=lambda event: event.value)
def test_r15_where_the_row_cannot_be_written_the_change_does_not_happen(world, event, monkeypatch):
    before = tables()

    def full(*_args, **_kwargs):
        raise DatabaseError("disk full")

    monkeypatch.setattr(HistoryEvent.objects, "create", full)
    monkeypatch.setattr("enrollments.audit.record.insert_all", full)
    with pytest.raises(DatabaseError):
        CHANGES[event](world)

    assert tables() == before


def test_r15_assignment_does_not_happen_without_its_row(service, monkeypatch):
    top = root("Root A")
    enroll_ca(service, top)

    def full(*_args, **_kwargs):
        raise DatabaseError("disk full")

    monkeypatch.setattr(HistoryEvent.objects, "create", full)
    monkeypatch.setattr("enrollments.audit.record.insert_all", full)
    with pytest.raises(DatabaseError):
        register(service, top.leaf("pump-1"))

    assert not RegistrationRecord.objects.exists()


def test_r15_doing_the_same_twice_changes_nothing_and_records_nothing(world):
    disable_enrollment(world, "pump-1", **WHY)
    seen, epoch = (
        HistoryEvent.objects.count(),
        IndividualEnrollment.objects.get(registration_id="pump-1").etag,
    )

    disable_enrollment(world, "pump-1", **WHY)

    assert HistoryEvent.objects.count() == seen
    assert IndividualEnrollment.objects.get(registration_id="pump-1").etag == epoch


def test_r15_row_keeps_reason_before_and_after(world):
    disable_enrollment(world, "pump-1", **WHY)

    row = HistoryEvent.objects.get(event="enrollment.disabled")

    assert (row.reason, row.before, row.after) == (
        "ticket 4711",
        {"status": "enabled"},
        {"status": "disabled"},
    )


def test_saving_with_the_switch_turned_is_recorded_as_disabling(service):
    entry = enroll_keys(service, "key-1")
    spec = IndividualSpec(mechanism=AttestationMechanism.SYMMETRIC_KEY, enabled=False, device_id="d")

    change_individual_enrollment(service, "key-1", spec, expected_etag=entry.etag, actor=ALICE)

    row = HistoryEvent.objects.get(event="enrollment.disabled")
    assert row.after == {"status": "disabled", "device_id": "d"}


def test_somebody_elses_change_in_between_is_noticed(service):
    entry = enroll_keys(service, "key-1")
    disable_enrollment(service, "key-1", actor=ALICE)
    spec = IndividualSpec(mechanism=AttestationMechanism.SYMMETRIC_KEY, enabled=True)

    with pytest.raises(ChangedMeanwhile):
        change_individual_enrollment(service, "key-1", spec, expected_etag=entry.etag, actor=ALICE)

    assert not IndividualEnrollment.objects.get().enabled


def test_reason_is_bounded_and_kept_on_one_line(world):
    with pytest.raises(Invalid):
        disable_enrollment(world, "pump-1", actor=ALICE, reason="x" * 501)
    disable_enrollment(world, "pump-1", actor=ALICE, reason="stolen\n\x00\x1b[31m  in Basel ")

    assert HistoryEvent.objects.get(event="enrollment.disabled").reason == "stolen [31m in Basel"


def test_r15_rows_outlive_their_object_and_person(world):
    delete_enrollments(world, ["pump-1"], actor=ALICE)
    people.remove_person("bob", actor=ALICE)

    assert HistoryEvent.objects.filter(subject_name="pump-1").count() == 2
    assert HistoryEvent.objects.filter(subject_name="bob").count() == 2


def test_r15_rows_are_final_for_the_orm(world):
    row = HistoryEvent.objects.first()

    for forbidden in (row.save, row.delete, HistoryEvent.objects.all().delete):
        with pytest.raises(HistoryIsFinal):
            forbidden()
    with pytest.raises(HistoryIsFinal):
        HistoryEvent.objects.update(reason="")


@pytest.mark.parametrize("statement", ["UPDATE {} SET reason = 'x'", "DELETE FROM {}"])
def test_r15_rows_are_final_for_the_database(world, statement):
    seen = list(HistoryEvent.objects.values())

    with (
        pytest.raises(DatabaseError, match="never changed or deleted"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement.format(HistoryEvent._meta.db_table))

    assert list(HistoryEvent.objects.values()) == seen


def test_row_that_no_request_caused_cannot_be_guessed_either(service):
    """Who may not see it is shown its hash, and knows almost all of what an assignment or a schedule writes."""
    for number in (1, 2):
        keys = enroll_keys(service, f"pump-{number}")
        register(service, signs(service, f"pump-{number}", keys.primary_key), f"pump-{number}")

    rows = HistoryEvent.objects.filter(actor_kind="device").values_list("request_id", flat=True)

    assert len(rows) == len(set(rows)) == 2
    assert {len(one) for one in rows} == {36}


@pytest.mark.django_db(transaction=True)
def test_row_outside_of_a_transaction_is_refused(service):
    with pytest.raises(RuntimeError, match="R15"):
        record(Event.SIGNED_IN, subject=service, actor=ALICE)


def test_r15_no_secret_enters_history_attempts_or_database_in_clear(service):
    """R15 and secrets at rest: keys given, made, replaced, used and refused."""
    given = "Z2l2ZW4gc2VjcmV0IGtleSB3aXRoIGVub3VnaCBieXRlcw=="
    entry = enroll_keys(service, "key-1", primary_key=given)
    secrets = {given, entry.secondary_key}
    spec = IndividualSpec(
        mechanism=AttestationMechanism.SYMMETRIC_KEY, primary_key="bmV3IHNlY3JldCBrZXkgd2l0aCBieXRlcw=="
    )
    changed = change_individual_enrollment(service, "key-1", spec, expected_etag=entry.etag, actor=ALICE)
    secrets.add(changed.primary_key)
    register(service, signs(service, "key-1", changed.primary_key), "key-1")
    register(service, signs(service, "key-1", given), "key-1")
    deprovision_device(service, "key-1", actor=ALICE)
    _, password = people.add_person("admin", role=Role.ADMINISTRATOR, service=None, actor=ALICE)
    secrets.add(password)

    dump = dump_of_everything()

    assert RegistrationAttempt.objects.count() == 2
    assert HistoryEvent.objects.filter(after__primary_key="(another key)").exists()
    assert not [secret for secret in secrets if secret in dump]
    assert IndividualEnrollment.objects.get().primary_key == changed.primary_key


def dump_of_everything() -> str:
    with connection.cursor() as cursor:
        rows = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            rows += cursor.fetchall()
    return json.dumps(rows, default=str)


# --- R17 and the last administrator ----------------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        lambda: people.remove_person("root", actor=ALICE),
        lambda: people.set_active("root", False, actor=ALICE),
        lambda: people.set_role("root", Role.OPERATOR, service=None, actor=ALICE),
        lambda: people.set_role("root", None, service=None, actor=ALICE),
    ],
)
def test_last_administrator_stays(world, act):
    """Nothing is changed, and who tried is in the history (R15)."""
    before = tables()

    with pytest.raises(people.LastAdministrator):
        act()

    after = tables()
    (row,) = HistoryEvent.objects.filter(event="action.refused")
    assert len(after.pop("UnsealedEvent")) == len(before.pop("UnsealedEvent")) + 1
    assert (row.actor_name, after) == ("alice", before)


def test_role_of_a_person_is_the_higher_of_here_and_everywhere(world):
    bob = people.add_person("carol", role=Role.VIEWER, service=None, actor=ALICE)[0]
    people.set_role("carol", Role.OPERATOR, service=world, actor=ALICE)
    other = new_service("other")

    assert people.role_in(bob, world) is Role.OPERATOR
    assert people.role_in(bob, other) is Role.VIEWER


def test_hub_that_holds_devices_cannot_be_unlinked(world):
    from enrollments.errors import Conflict

    with pytest.raises(Conflict, match="1 device identity and 1 registration record:"):
        unlink_hub(world, world.hubs.get().pk, actor=ALICE)


def test_changes_raise_the_epoch_of_their_service_and_of_no_other(world):
    other = new_service("other")
    before = ProvisioningService.epoch_of(world.pk), ProvisioningService.epoch_of(other.pk)

    disable_enrollment_group(
        world, EnrollmentGroup.objects.filter(enabled=True).first().group_id, actor=ALICE
    )

    assert ProvisioningService.epoch_of(world.pk) == before[0] + 1
    assert ProvisioningService.epoch_of(other.pk) == before[1]
