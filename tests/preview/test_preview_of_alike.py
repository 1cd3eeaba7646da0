"""Devices that share all that counts are decided about once, and whoever differs among them is told apart."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.preview import Act, Effect, preview_of_act
from enrollments.actions.preview.table import in_order
from enrollments.actions.revocation import deny_device
from enrollments.models import RegistrationRecord
from enrollments.models.locks import change_lock
from tests.certificates import root
from tests.devices import (
    ALICE,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    new_service,
    register,
    signs,
)

FLEET = [f"pump-{number}" for number in range(6)]


@pytest.fixture
def service(db):
    return new_service()


def sides(said):
    return {
        one.registration_id: (one.before.verdict.value, one.after.verdict.value, str(one.after.through))
        for one in said.devices
    }


def told_apart(said):
    """How many different things are said."""
    return len({id(one.sides) for one in said.devices})


@pytest.fixture
def line(service):
    """The CA of a group, below a root that admits as well."""
    top = root("Top")
    enroll_ca(service, top, "top")
    return top.intermediate("Line 7")


@pytest.fixture
def group(service, line):
    """With its devices."""
    group = enroll_ca(service, line, "line-7")
    for name in FLEET:
        register(service, line.leaf(name))
    return group


def test_what_is_said_of_a_fleet_is_worked_out_once(service, group):
    said = preview_of_act(service, Act.DELETE, [group])

    assert sides(said) == dict.fromkeys(FLEET, ("admit", "admit", "enrollment group top"))
    assert told_apart(said) == 1
    assert (said.counts, said.through(Effect.STILL_ADMITTED)[0][1]) == ({Effect.STILL_ADMITTED: 6}, 6)


def test_whoever_differs_is_told_by_itself(service, line, group):
    """An entry that keeps a device out, a key that another's entry bars, a leaf that has run out."""
    deny_device(service, "pump-0", actor=ALICE)
    barred = line.leaf("valve-1")
    register(service, barred)
    enroll_device(service, line.leaf("another", key=barred.key), enabled=False)
    RegistrationRecord.objects.filter(registration_id="pump-5").update(leaf_not_after="2020-01-01T00:00:00Z")

    said = preview_of_act(service, Act.DISABLE, [group])

    alike = ("admit", "disabled", "enrollment group line-7")
    assert sides(said) == {
        **dict.fromkeys(FLEET, alike),
        "pump-0": ("disabled", "disabled", "individual enrollment pump-0"),
        "pump-5": ("unauthorized", "unauthorized", "None"),
        "valve-1": ("disabled", "disabled", "individual enrollment another"),
    }
    assert told_apart(said) == 4
    before = {one.registration_id: one.before.verdict.value for one in said.devices}
    answers = {"admit": "assigned", "disabled": "disabled"}
    now = {name: register(service, line.leaf(name)).outcome for name in FLEET[:5]}
    assert now == {name: answers[before[name]] for name in FLEET[:5]}
    disable_enrollment_group(service, "line-7", actor=ALICE)
    assert {register(service, line.leaf(name)).outcome for name in FLEET[:5]} == {"disabled"}


def test_they_are_put_in_order_once_for_each_effect(service, line, group):
    deny_device(service, "pump-3", actor=ALICE)
    register(service, line.leaf("Lathe-2"))

    said = preview_of_act(service, Act.DISABLE, [group])

    refused = ["Lathe-2", "pump-0", "pump-1", "pump-2", "pump-4", "pump-5"]
    names = {
        effect: [one.registration_id for one in in_order(said, effect)]
        for effect in (Effect.REFUSED, None, Effect.STILL_OUT, Effect.COMES_IN)
    }
    assert names == {
        Effect.REFUSED: refused,
        None: sorted([*refused, "pump-3"], key=str.lower),
        Effect.STILL_OUT: ["pump-3"],
        Effect.COMES_IN: [],
    }
    assert in_order(said) is in_order(said), "page after page is of one list"


def test_so_are_devices_whose_keys_one_group_derives(service):
    group = enroll_key_group(service)
    for name in FLEET:
        register(service, signs(service, name, derived_key(group.primary_key, name)), name)
    # Whoever may have the same key by an entry of its own is another device.
    own = derived_key(group.primary_key, "press-1")
    enroll_keys(service, "press-1", primary_key=own)
    register(service, signs(service, "press-1", own), "press-1")

    said = preview_of_act(service, Act.DISABLE, [group])

    alike = "admit", "disabled", f"enrollment group {group.group_id}"
    assert {name: sides(said)[name] for name in FLEET} == dict.fromkeys(FLEET, alike)
    assert len({id(one.sides) for one in said.devices if one.registration_id in FLEET}) == 1
    told = {one.registration_id: one.effect for one in said.devices}
    assert told.get("press-1", Effect.STILL_ADMITTED) is Effect.STILL_ADMITTED


@pytest.mark.django_db(transaction=True)
def test_rehearsing_a_deletion_writes_no_record_of_a_device(service, group):
    """While it lasts, whoever writes waits on SQLite; and the foreign keys of what goes are not looked at then."""
    with change_lock(service), CaptureQueriesContext(connection) as asked:
        said = preview_of_act(service, Act.DELETE, [group])

    assert said.counts == {Effect.STILL_ADMITTED: 6}
    table = RegistrationRecord._meta.db_table
    written = [one["sql"] for one in asked if one["sql"].startswith((f'UPDATE "{table}"', "DELETE"))]
    assert written, "the deletion itself is rehearsed"
    assert not [sql for sql in written if table in sql]
    assert set(RegistrationRecord.objects.values_list("group", flat=True)) == {group.pk}
