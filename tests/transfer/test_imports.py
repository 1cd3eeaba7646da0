"""What an import does to a service: entry by entry what the single acts do, each line once, whoever is killed."""

import io
import random

import pytest
from django.contrib.auth.models import User
from django.db import connection

from enrollments.actions import imports
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.hubs import unlink_hub
from enrollments.actions.import_freed import Freed
from enrollments.actions.import_holding import LEASE, NotHeld, hold, let_go
from enrollments.actions.import_work import carry_out, pause_import
from enrollments.actions.imports import begin_import, cancel_import, file_is_there, start_import
from enrollments.actions.people import add_person, set_role
from enrollments.audit.actor import Actor, Way
from enrollments.errors import Conflict, PreviewOutdated
from enrollments.models import (
    EnrollmentGroup,
    HistoryEvent,
    ImportChunk,
    ImportFormat,
    ImportRun,
    ImportState,
    IndividualEnrollment,
    locks,
)
from enrollments.models.locks import change_lock
from enrollments.policy.roles import Role
from enrollments.transfer import work
from enrollments.transfer.limits import CHUNK_LINES
from enrollments.transfer.planning import from_text, plan
from enrollments.transfer.work import carry_out_run, check_run, work_on
from tests.certificates import root, self_signed
from tests.chance import seeds
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_keys, new_service
from tests.transfer.lists import (
    KEY,
    below,
    carried_out,
    checked,
    csv_of,
    imported,
    json_lines,
    keys,
    pinned,
    problems,
    started,
    zip_of,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("alice")]


@pytest.fixture
def _small_portions(monkeypatch):
    monkeypatch.setattr(work, "CHUNK_LINES", 2)


def names():
    return sorted(IndividualEnrollment.objects.values_list("registration_id", flat=True))


def events(*subjects):
    rows = HistoryEvent.objects.filter(subject_name__in=subjects) if subjects else HistoryEvent.objects.all()
    return [(row.event, row.subject_name) for row in rows.order_by("id")]


def test_lines_become_entries_with_history_rows_of_their_own(service):
    leaf, ca, helper = self_signed("pump-1"), root("Plant"), root("Helper")
    hub = service.hubs.get()

    run = imported(
        service,
        pinned(leaf, iotHubs=[hub.host_name], initialTwin={"tags": {"line": 4}}),
        keys("pump-2", provisioningStatus="disabled"),
        below("plant", ca, helper),
        reason="ticket 4711",
    )

    one = IndividualEnrollment.objects.get(registration_id="pump-1")
    assert run.state == ImportState.DONE
    assert run.counts == {"added": 2, "added_disabled": 1}
    assert one.certificates.get().certificate.thumbprint_sha256 == leaf.parsed.thumbprint_sha256
    assert [*one.hubs.all()] == [hub]
    assert one.initial_twin["tags"] == {"line": 4}
    assert EnrollmentGroup.objects.get().certificates.count() == 2
    rows = HistoryEvent.objects.filter(request_id__startswith=f"import {run.pk} ").exclude(
        event="import.ended"
    )
    assert sorted(rows.values_list("event", "subject_name", "reason", "actor_name")) == [
        ("enrollment.added", "pump-1", "ticket 4711", "alice"),
        ("enrollment.added_disabled", "pump-2", "ticket 4711", "alice"),
        ("group.added", "plant", "ticket 4711", "alice"),
    ]
    row = rows.get(subject_name="pump-1")
    assert row.subject_id == str(one.pk)
    assert leaf.parsed.thumbprint_sha256 in row.after["certificates"]["primary"]
    assert row.after["hubs"] == [hub.host_name]


# What no two entries share.
OWN = ("id", "registration_id", "registration_key", "etag", "created_at", "updated_at", "device_information")


def test_what_is_added_by_import_is_what_is_added_singly(service):
    """One code path: the same columns and the same row in the history, whichever the number of lines."""
    leaf, other = self_signed("pump-1"), self_signed("pump-2")
    enroll_device(service, leaf)

    imported(service, pinned(other))

    first, second = IndividualEnrollment.objects.order_by("registration_id")
    rows = [
        HistoryEvent.objects.get(event="enrollment.added", subject_name=str(one)) for one in (first, second)
    ]
    same = [
        [
            getattr(one, field.attname)
            for field in one._meta.concrete_fields
            if field.name
            not in (
                "id",
                "registration_id",
                "registration_key",
                "etag",
                "created_at",
                "updated_at",
                "device_information",
            )
        ]
        for one in (first, second)
    ]
    assert same[0] == same[1]
    assert rows[0].after.keys() == rows[1].after.keys()


def test_the_check_says_what_would_happen_and_changes_nothing(service):
    enroll_keys(service, "there")
    enroll_keys(service, "off", enabled=False)
    enroll_keys(service, "same", primary_key=KEY, secondary_key=KEY)
    before = list(IndividualEnrollment.objects.order_by("pk").values()), service.epoch, events()

    run = checked(
        service,
        json_lines(
            keys("new"),
            keys("new-off", provisioningStatus="disabled"),
            keys("there", operation="disable"),
            keys("off", operation="createOrUpdate"),
            keys("same", operation="update"),
            keys("there2", operation="update"),
            {"registrationId": "bad", "attestation": {"type": "x509"}},
        ),
    )

    assert run.state == ImportState.CHECKED
    assert run.planned == {
        "added": 1,
        "added_disabled": 1,
        "disabled": 1,
        "enabled": 1,
        "unchanged": 1,
        "refused": 2,
    }
    assert problems(run).keys() == {6, 7}
    assert (list(IndividualEnrollment.objects.order_by("pk").values()), service.epoch, events()) == before


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        pytest.param(keys("there"), "is there already: to change it", id="create what is there"),
        pytest.param(
            keys("a", operation="update"), "There is no individual enrollment a", id="update nothing"
        ),
        pytest.param(
            keys("a", operation="disable"), "There is no individual enrollment a", id="disable nothing"
        ),
        pytest.param({"registrationId": "a"}, "attestation is missing", id="no attestation"),
        pytest.param(keys("a", colour="red"), "colour is not known here", id="unknown member"),
        pytest.param(keys("a", provisioningStatus="off"), "provisioningStatus must be one of", id="status"),
        pytest.param(keys("a", iotHubs=["elsewhere"]), "is no hub that is linked", id="unknown hub"),
        pytest.param(keys("a", deviceId="a b"), "deviceId", id="device ID"),
        pytest.param(keys("a", secretsWithheld=True), "were left out when it was exported", id="no keys"),
        pytest.param(keys("a", initialTwin={"tags": {"x": "y" * 9000}}), "initialTwin: ", id="large twin"),
        pytest.param(
            {
                "registrationId": "a",
                "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "short"}},
            },
            "attestation.symmetricKey.primaryKey",
            id="no key",
        ),
        pytest.param(
            {"registrationId": "a", "attestation": {"type": "tpm", "tpm": {"endorsementKey": "AAAA"}}},
            "attestation.tpm.endorsementKey",
            id="no endorsement key",
        ),
        pytest.param(
            {**pinned(self_signed("other")), "registrationId": "a"},
            "they must be the same",
            id="another name",
        ),
        pytest.param(
            {"enrollmentGroupId": "g", "attestation": {"type": "tpm"}}, "missing", id="group by TPM"
        ),
        pytest.param(
            {"enrollmentGroupId": "g", "attestation": {"type": "symmetricKey"}}, "switched off", id="R4"
        ),
        pytest.param(below("g", self_signed("leaf")), "is not a CA", id="no CA"),
        pytest.param(
            below("g", root("R"), predecessor="nowhere"), "no enrollment group 'nowhere'", id="predecessor"
        ),
        pytest.param(below("g", root("R"), predecessor="G"), "its own predecessor", id="own predecessor"),
    ],
)
def test_what_cannot_be_is_told_by_line_and_the_others_are_done(service, line, sentence):
    enroll_keys(service, "there")

    run = checked(service, json_lines(keys("before"), line, keys("behind")))
    with pytest.raises(Conflict, match="1 line is wrong"):
        started(run)
    done = carried_out(run)

    assert sentence in problems(run)[2]
    assert done.counts == {"added": 2}
    assert names() == ["before", "behind", "there"]


def test_a_ca_that_two_lines_name_is_told_of_the_second(service):
    ca = root("Plant")

    run = checked(service, json_lines(below("a", ca), below("b", ca)))

    assert "is already that of the group in line 1" in problems(run)[2]


def test_updates_keep_what_is_not_given_and_disabling_needs_the_name_alone(service):
    leaf, ca, old = self_signed("pump-1"), root("Plant"), root("Old")
    enroll_device(service, leaf)
    key = enroll_keys(service, "pump-2").primary_key
    enroll_ca(service, old, "old")
    enroll_ca(service, ca, "plant")
    enroll_keys(service, "pump-3")
    info = {"info": {"sha256Thumbprint": leaf.parsed.thumbprint_sha256}}
    same = {"type": "x509", "x509": {"clientCertificates": {"primary": info}}}

    run = imported(
        service,
        {"registrationId": "pump-1", "operation": "update", "attestation": same, "deviceId": "p1"},
        keys("PUMP-2", operation="createOrUpdate", provisioningStatus="disabled"),
        below("plant", ca, operation="update", predecessor="OLD"),
        {"enrollmentGroupId": "Old", "operation": "disable"},
        {"registrationId": "pump-3", "operation": "disable"},
    )

    assert run.counts == {"changed": 2, "disabled": 3}
    one, two, three = IndividualEnrollment.objects.order_by("registration_id")
    assert (one.device_id, one.certificates.count()) == ("p1", 1)
    assert (two.registration_id, two.enabled, two.primary_key) == ("pump-2", False, key)
    assert not three.enabled
    assert EnrollmentGroup.objects.get(group_id="plant").predecessor.group_id == "old"
    assert not EnrollmentGroup.objects.get(group_id="old").enabled


def test_what_is_so_already_changes_nothing_and_is_no_history(service):
    line = keys("pump-1", operation="createOrUpdate")
    imported(service, line)
    before = IndividualEnrollment.objects.get().etag, events("pump-1")

    run = imported(service, line)

    assert run.counts == {"unchanged": 1}
    assert (IndividualEnrollment.objects.get().etag, events("pump-1")) == before


def test_nothing_of_the_file_is_kept_when_it_has_ended(service):
    run = imported(service, keys("pump-1"))
    other = cancel_import(checked(service, json_lines(keys("pump-2"))), actor=ALICE)

    assert not ImportChunk.objects.exists()
    assert not run.parts.exists()
    assert other.state == ImportState.CANCELLED
    assert events(other.list_name).count(("import.ended", other.list_name)) == 1


def test_keys_of_a_list_lie_encrypted(service):
    line = {
        "registrationId": "a",
        "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}},
    }
    run = checked(service, json_lines(line))

    with connection.cursor() as cursor:
        cursor.execute("SELECT content FROM enrollments_importchunk")
        (stored,) = cursor.fetchone()
    assert KEY not in stored
    assert KEY in run.content.get().content
    assert KEY not in str([row.after for row in HistoryEvent.objects.all()])


def test_an_unreadable_list_is_refused_and_ends(service):
    run = checked(service, b"registrationId,colour\na,b\n", format=ImportFormat.CSV)

    assert run.state == ImportState.REFUSED
    assert "a column that is not known, 'colour'" in run.problem
    with pytest.raises(Conflict, match="it is unusable"):
        started(run, without_bad_lines=True)


def test_an_unreadable_zip_is_refused_and_ends(service):
    run = checked(service, json_lines(keys("a")), archive=b"nothing")

    assert run.state == ImportState.REFUSED
    assert "no ZIP" in run.problem


def test_csv_with_a_zip_goes_all_the_way(service):
    leaf = self_signed("pump-1")
    rows = csv_of({"registrationId": "pump-1", "primaryCertificate": "pump-1.pem"})

    run = checked(service, rows, format=ImportFormat.CSV, archive=zip_of({"x/pump-1.pem": leaf.pem}))

    assert carried_out(run).counts == {"added": 1}


def test_what_was_taken_meanwhile_is_told_at_its_turn(service):
    run = checked(service, json_lines(keys("a"), keys("b")))
    enroll_keys(service, "B")

    done = carried_out(run)

    assert done.counts == {"added": 1, "refused": 1}
    assert "is there already" in run.problems.get(at_run=True).sentence


def test_what_was_looked_up_before_a_change_is_looked_up_again(service, monkeypatch):
    """R12: between the look and the lock a hub was unlinked. Nothing is written on the old state."""
    hub = service.hubs.get()
    run = checked(service, json_lines(keys("a", iotHubs=[hub.host_name]), keys("b")))
    looked = []

    def changed_after_the_first_look(*args, **how):
        made = plan(*args, **how)
        if not looked:
            unlink_hub(service, hub.pk, actor=ALICE)
        looked.append(made)
        return made

    monkeypatch.setattr(work, "plan", changed_after_the_first_look)
    done = carried_out(run)

    assert len(looked) == 2
    assert done.counts == {"added": 1, "refused": 1}
    assert "is no hub that is linked" in run.problems.get(at_run=True).sentence


def test_where_changes_never_stop_it_is_looked_up_under_the_lock(service, monkeypatch):
    ca = root("Plant")
    enroll_ca(service, ca, "plant")
    lines = keys("a"), below("plant", ca, operation="update", provisioningStatus="disabled"), keys("b")
    run = checked(service, json_lines(*lines))
    looks = []

    def changed_after_each_look(*args, **how):
        made = plan(*args, **how)
        looks.append(locks._running.changing)
        if locks._running.changing is None:
            service.raise_epoch()
        return made

    monkeypatch.setattr(work, "plan", changed_after_each_look)

    assert carried_out(run).counts == {"added": 2, "disabled": 1}
    assert looks == [None] * work.TRIES + [service.pk]
    assert events("plant")[-1] == ("group.disabled", "plant")


@pytest.mark.usefixtures("_small_portions")
def test_cancelled_between_two_portions_it_stops_and_keeps_what_is_done(service, monkeypatch):
    run = checked(service, json_lines(*(keys(f"p{n}") for n in range(6))))

    def cancel(_):
        cancel_import(ImportRun.objects.get(), actor=ALICE, reason="wrong list")

    started(run)
    with pytest.raises(NotHeld):
        carry_out_run(*hold(run.pk), tell=cancel)

    run.refresh_from_db()
    assert (run.state, run.lines_done, names()) == (ImportState.CANCELLED, 2, ["p0", "p1"])
    ended = HistoryEvent.objects.get(event="import.ended")
    assert (ended.reason, ended.after["done"], ended.after["added"]) == ("wrong list", 2, 2)
    work_on(run.pk)
    assert names() == ["p0", "p1"]


def test_who_joined_after_the_upload_may_start_it(service):
    run = checked(service, json_lines(keys("p0")))
    add_person("bob", role=Role.OPERATOR, service=service, actor=ALICE)

    started(run, Actor("user", "bob", Way.PORTAL))
    work_on(run.pk)

    run.refresh_from_db()
    assert (run.state, names()) == (ImportState.DONE, ["p0"])


@pytest.mark.usefixtures("_small_portions")
def test_whoever_may_no_longer_change_entries_imports_nothing_more(service):
    add_person("bob", role=Role.OPERATOR, service=service, actor=ALICE)
    actor = Actor("user", "bob", Way.PORTAL)
    run = checked(service, json_lines(*(keys(f"p{n}") for n in range(4))), actor=actor)
    started(run, actor)
    run, holder = hold(run.pk)
    run = work._chunk(run, holder, Freed())
    let_go(run.pk, holder)
    set_role("bob", Role.VIEWER, service=service, actor=ALICE)

    work_on(run.pk)

    run.refresh_from_db()
    assert run.state == ImportState.PAUSED
    assert "bob, who started this import, may not" in run.problem
    assert names() == ["p0", "p1"]
    assert carried_out(run).counts == {"added": 4}
    last = HistoryEvent.objects.get(event="enrollment.added", subject_name="p3")
    assert last.actor_name == "alice"
    assert User.objects.filter(username="bob").exists()


def test_two_workers_claim_one_run_and_one_has_it(service):
    run = checked(service, json_lines(keys("a")))
    started(run)
    held, holder = hold(run.pk)

    assert hold(run.pk) is None
    work_on(run.pk)
    assert names() == []
    assert carry_out_run(held, holder).counts == {"added": 1}
    assert hold(run.pk) is None


def test_a_holder_whose_time_is_over_writes_nothing_more(service, monkeypatch):
    run = checked(service, json_lines(keys("a")))
    started(run)
    slow = hold(run.pk)
    ImportRun.objects.update(held_until=run.created_at)
    quick = hold(run.pk)

    with pytest.raises(NotHeld):
        carry_out_run(*slow)
    assert names() == []
    assert carry_out_run(*quick).counts == {"added": 1}


def test_a_portion_is_carried_out_once(service):
    """Whatever asks for it again: the note that it is done stands in the transaction of what it did."""
    run = checked(service, json_lines(keys("a")))
    started(run)
    run, holder = hold(run.pk)
    lines = from_text(run.content.get().content)
    first = plan(service.pk, lines, thoroughly=False)
    carry_out(run.pk, holder, 0, first.changes, first.problems, first.epoch, Freed())
    second = plan(service.pk, lines, thoroughly=False)

    with pytest.raises(NotHeld):
        carry_out(run.pk, holder, 0, second.changes, second.problems, second.epoch, Freed())

    assert events("a") == [("enrollment.added", "a")]


class Killed(BaseException):
    """What a process does not outlive."""


def fleet(count):
    leaves = {number: self_signed(f"p{number:03}") for number in range(0, count, 7)}
    for number in range(count):
        if number in leaves:
            yield pinned(leaves[number])
        elif number % 5 == 1:
            yield keys(f"old{number:03}", operation="disable")
        elif number % 5 == 2:
            yield keys(f"old{number:03}", operation="update", deviceId=f"d{number}")
        else:
            yield keys(f"p{number:03}", operation="createOrUpdate")


def what_is_there():
    rows = IndividualEnrollment.objects.order_by("registration_id")
    entries = list(rows.values_list("registration_id", "device_id", "enabled", "mechanism"))
    return entries, sorted(event for event in events() if not event[0].startswith("import."))


@pytest.mark.parametrize("seed", seeds(0, 8))
def test_killed_at_random_points_it_ends_as_an_unbroken_run(monkeypatch, seed):
    """Killed at any statement of the database, inside transactions and between them; each line is done once."""
    monkeypatch.setattr(work, "CHUNK_LINES", 7)
    lines = list(fleet(60))
    chance = random.Random(seed)
    service = new_service("broken")
    for number in range(60):
        enroll_keys(service, f"old{number:03}")
    run = checked(service, json_lines(*lines))
    started(run)
    kills = 0
    while True:
        run.refresh_from_db()
        if run.state == ImportState.DONE:
            break
        ImportRun.objects.update(held_until=run.created_at)
        left = [chance.randrange(5, 120)]

        def kill(execute, *statement, left=left):
            left[0] -= 1
            if not left[0]:
                raise Killed
            return execute(*statement)

        held = hold(run.pk)
        try:
            with connection.execute_wrapper(kill):
                carry_out_run(*held)
        except Killed:
            kills += 1
    broken = what_is_there()

    IndividualEnrollment.objects.all().delete()
    start = HistoryEvent.objects.latest("id").pk
    whole = new_service("whole")
    for number in range(60):
        enroll_keys(whole, f"old{number:03}")
    carried_out(checked(whole, json_lines(*lines)))
    rows = HistoryEvent.objects.filter(pk__gt=start, service_id=whole.pk)
    unbroken = sorted((one.event, one.subject_name) for one in rows if one.event.startswith("enrollment."))

    assert kills > 2
    assert broken[0] == what_is_there()[0]
    assert [one for one in broken[1] if one[0].startswith("enrollment.")] == unbroken


def test_a_check_that_was_killed_begins_again(service, monkeypatch):
    monkeypatch.setattr(work, "CHUNK_LINES", 2)
    content = json_lines(*(keys(f"p{n}") for n in range(5)), "bad")
    run = begin_import(service, list_name="l", format=ImportFormat.JSON_LINES, actor=ALICE)
    holder = file_is_there(run, actor=ALICE)

    def kill(_):
        raise Killed

    with pytest.raises(Killed):
        check_run(run, holder, io.BytesIO(content), None, tell=kill)
    check_run(run, holder, io.BytesIO(content), None)

    run.refresh_from_db()
    assert (run.lines, run.bad_lines, run.chunks) == (6, 1, 3)
    assert run.content.count() == 3


def test_a_paused_run_goes_on(service):
    run = checked(service, json_lines(keys("a")))
    started(run)
    pause_import(*[run.pk, hold(run.pk)[1]], "Interrupted.")

    assert hold(run.pk) is None
    assert carried_out(run).counts == {"added": 1}


def test_unfinished_imports_are_few(service):
    for number in range(imports.MAX_UNFINISHED):
        checked(service, json_lines(keys(f"p{number}")))

    with pytest.raises(Conflict, match="5 imports of this service are unfinished"):
        checked(service, json_lines(keys("more")))


def test_what_nobody_went_on_with_is_given_up(service, monkeypatch):
    run = checked(service, json_lines(keys("a")))
    monkeypatch.setattr(imports, "ABANDONED", -LEASE)

    imports.forget_old_imports(service)

    run.refresh_from_db()
    assert (run.state, run.content.count()) == (ImportState.CANCELLED, 0)


def test_writing_takes_a_fixed_number_of_statements(service, django_assert_num_queries):
    few = checked(service, json_lines(*(keys(f"a{n}") for n in range(2))))
    many = checked(service, json_lines(*(keys(f"b{n}") for n in range(CHUNK_LINES))))

    def statements(run):
        started(run)
        with connection.execute_wrapper(counted := Counted()):
            carry_out_run(*hold(run.pk))
        return counted.number

    assert statements(few) == statements(many)


class Counted:
    number = 0

    def __call__(self, execute, *statement):
        self.number += 1
        return execute(*statement)


def test_other_changes_are_kept_out_of_a_portion_only(service):
    """Devices and people get their turn between two portions: nobody holds the lock throughout."""
    run = checked(service, json_lines(keys("a")))
    started(run)
    with change_lock(service):
        pass
    held = hold(run.pk)
    enroll_keys(service, "b")
    disable_enrollment(service, "b", actor=ALICE)

    carry_out_run(*held)

    assert names() == ["a", "b"]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite looks at tables when it is told to")
def test_postgresql_knows_at_once_that_there_are_many_more(service):
    imported(service, *(keys(f"pump-{number}") for number in range(60)))

    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE relname = 'enrollments_individualenrollment'")
        assert cursor.fetchone() == (60.0,)


def test_r12_disabled_group_that_brings_helpers_is_not_started_on_another_state(service):
    """They close gaps below other groups: what is disabled may let somebody in all the same."""
    top, line = root("Root H"), root("Line")
    helper = top.intermediate("Plant")
    enroll_ca(service, top, "root-h")
    run = checked(service, json_lines(below("line", line, helper, provisioningStatus="disabled")))
    alone = checked(service, json_lines(below("other", root("Other"), provisioningStatus="disabled")))
    service.raise_epoch()
    outdated = service.epoch - 1

    with pytest.raises(PreviewOutdated):
        start_import(run, without_bad_lines=False, actor=ALICE, expected_epoch=outdated)
    assert start_import(alone, without_bad_lines=False, actor=ALICE, expected_epoch=outdated)
