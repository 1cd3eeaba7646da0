"""Lists that say until when an entry stands as it does."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment, enable_enrollment
from enrollments.actions.imports import start_import
from enrollments.actions.people import add_person
from enrollments.audit.actor import Actor, Way
from enrollments.errors import PreviewOutdated
from enrollments.models import (
    EnrollmentGroup,
    HistoryEvent,
    ImportChunk,
    ImportFormat,
    IndividualEnrollment,
    ProvisioningService,
)
from enrollments.policy.roles import Role
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_keys, new_service
from tests.transfer.lists import (
    KEY,
    below,
    carried_out,
    checked,
    csv_of,
    imported,
    json_lines,
    keys,
    problems,
)
from tests.transfer.test_round_trip import exported

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("alice")]
NOW = timezone.now().replace(microsecond=0)
LATER, BEFORE = NOW + timedelta(days=3), NOW - timedelta(days=3)


def until(moment, status="enabled", **members):
    return {"provisioningStatus": status, "switchesAt": moment.isoformat(), **members}


def stands(name):
    entry = IndividualEnrollment.objects.get(registration_id=name)
    return entry.enabled, entry.switches_at


def test_an_entry_is_added_until_a_time_and_the_history_says_so(service):
    run = imported(
        service,
        keys("lent", **until(LATER, scheduleReason="rent ends")),
        keys("off", **until(LATER, "disabled")),
        reason="ticket 4711",
    )

    assert run.counts == {"added": 1, "enabled_later": 1}
    assert stands("lent") == (True, LATER)
    assert stands("off") == (False, LATER)
    rows = IndividualEnrollment.objects.order_by("registration_id")
    assert list(rows.values_list("scheduled_by", "schedule_reason")) == [
        ("alice", "rent ends"),
        ("alice", "ticket 4711"),
    ]
    row = HistoryEvent.objects.get(event="enrollment.added_disabled", subject_name="off")
    assert row.after["until"] == f"{LATER:%Y-%m-%d %H:%M:%S} UTC"


@pytest.mark.parametrize("reason", ["", "ticket 4711"], ids=["lines alone", "and the whole"])
@pytest.mark.parametrize("moment", [LATER, BEFORE], ids=["to come", "passed"])
def test_the_reason_of_a_line_is_in_its_row_whatever_the_whole_was_imported_for(service, reason, moment):
    enroll_keys(service, "lent")
    enroll_ca(service, ca := root("R"), "line")
    status = "disabled" if moment == LATER else "enabled"
    members = {"operation": "update", **until(moment, status, scheduleReason="recalled")}

    imported(
        service,
        keys("lent", **members),
        below("line", ca, **members),
        keys("new", **until(moment, status, scheduleReason="recalled")),
        keys("other"),
        reason=reason,
    )

    rows = HistoryEvent.objects.filter(event__contains="disabled")
    assert {row.subject_name for row in rows} == {"lent", "line", "new"}
    assert {(row.reason, row.after["schedule_reason"]) for row in rows} == {
        (reason or "recalled", "recalled")
    }
    other = HistoryEvent.objects.get(subject_name="other")
    assert (other.reason, "schedule_reason" in other.after) == (reason, False)


def test_another_reason_for_the_time_that_is_scheduled_is_a_change(service):
    enroll_keys(service, "lent", primary_key=KEY, secondary_key=KEY)
    disable_enrollment(service, "lent", until=LATER, actor=ALICE, reason="audit")
    line = {**keys("lent"), "operation": "update", **until(LATER, "disabled", scheduleReason="recalled")}

    assert imported(service, line).counts == {"changed": 1}
    assert imported(service, line).counts == {"unchanged": 1}

    row = HistoryEvent.objects.get(event="enrollment.changed")
    assert (row.reason, row.before, row.after) == (
        "recalled",
        {"schedule_reason": "audit"},
        {"schedule_reason": "recalled"},
    )


def test_whoever_imports_is_who_scheduled_it_here(service):
    other = new_service("other")
    add_person("bob", role=Role.OPERATOR, service=other, actor=ALICE)
    enroll_keys(service, "lent")
    disable_enrollment(service, "lent", at=LATER, actor=ALICE, reason="rent ends")
    content = exported(service, ImportFormat.JSON_LINES, with_secrets=True)

    bob = Actor("user", "bob", Way.PORTAL)
    carried_out(checked(other, content, actor=bob), actor=bob)

    there = other.individualenrollments.get()
    assert (there.switches_at, there.scheduled_by, there.schedule_reason) == (LATER, "bob", "rent ends")
    assert exported(other, ImportFormat.JSON_LINES, with_secrets=True) == content


@pytest.mark.parametrize(
    ("status", "outcome", "enabled"), [("enabled", "added_disabled", False), ("disabled", "added", True)]
)
def test_once_the_time_has_passed_the_entry_stands_as_it_would_by_now(service, status, outcome, enabled):
    run = imported(
        service, keys("a", **until(BEFORE, status)), below("g", root("R"), **until(BEFORE, status))
    )

    assert run.counts == {outcome: 2}
    assert stands("a") == (enabled, None)
    group = EnrollmentGroup.objects.get()
    assert (group.enabled, group.switches_at) == (enabled, None)


def test_a_time_that_passes_between_check_and_run_counts_when_it_is_carried_out(service):
    run = checked(service, json_lines(keys("lent", **until(LATER))))
    chunk = run.content.get()
    chunk.content = chunk.content.replace(LATER.isoformat(), BEFORE.isoformat())
    ImportChunk.objects.filter(pk=chunk.pk).update(content=chunk.content)

    assert run.planned == {"added": 1}
    assert carried_out(run).counts == {"added_disabled": 1}
    assert stands("lent") == (False, None)


@pytest.mark.parametrize("outdated", [False, True], ids=["chunk of this version", "of another version"])
def test_a_chunk_keeps_the_time(service, outdated):
    run = checked(service, json_lines(keys("lent", **until(LATER, scheduleReason="rent ends"))))
    if outdated:
        chunk = run.content.get()
        chunk.content = chunk.content.replace('["', '["x', 1)
        ImportChunk.objects.filter(pk=chunk.pk).update(content=chunk.content)

    carried_out(run)

    assert stands("lent") == (True, LATER)


# As the service API does it where it is put.
@pytest.mark.parametrize(
    ("was", "line", "expected", "outcome"),
    [
        ((True, LATER), {"provisioningStatus": "enabled"}, (True, LATER), "unchanged"),
        ((True, LATER), {}, (True, LATER), "unchanged"),
        ((False, LATER), {"provisioningStatus": "enabled"}, (True, None), "enabled"),
        ((True, LATER), {"provisioningStatus": "disabled"}, (False, None), "disabled"),
        ((False, LATER), {"provisioningStatus": "disabled"}, (False, None), "changed"),
        ((False, LATER), {"operation": "disable"}, (False, None), "disabled"),
        ((True, LATER), until(LATER), (True, LATER), "unchanged"),
        ((True, None), until(LATER), (True, LATER), "changed"),
        ((True, LATER), until(LATER + timedelta(days=1)), (True, LATER + timedelta(days=1)), "changed"),
        ((True, None), until(LATER, "disabled"), (False, LATER), "disabled"),
        ((True, LATER), until(LATER, "disabled"), (False, LATER), "enabled_later"),
        ((False, None), until(LATER, "disabled"), (False, LATER), "enabled_later"),
        ((False, LATER), until(LATER, "disabled"), (False, LATER), "unchanged"),
        ((False, LATER), until(LATER, "enabled"), (True, LATER), "enabled"),
        ((True, LATER), until(BEFORE), (False, None), "disabled"),
        ((False, LATER), until(BEFORE, "disabled"), (True, None), "enabled"),
    ],
)
@pytest.mark.parametrize("kind", ["individual", "group"])
def test_lines_about_an_entry_that_has_a_time(service, kind, was, line, expected, outcome):
    enabled, moment = was
    if kind == "individual":
        entry = enroll_keys(service, "a", enabled=enabled, primary_key=KEY, secondary_key=KEY)
        act, whole = (enable_enrollment if enabled else disable_enrollment), keys("a")
    else:
        entry = enroll_ca(service, ca := root("R"), "a", enabled=enabled)
        act, whole = disable_enrollment_group, below("a", ca)
    if moment is not None:
        way = "at" if kind == "group" and enabled else "until"
        act(service, "a", **{way: moment}, actor=ALICE, reason="then")

    run = imported(service, {**whole, "operation": "update", **line})

    entry.refresh_from_db()
    assert (entry.enabled, entry.switches_at) == expected
    assert run.planned == run.counts == {outcome: 1}
    if outcome == "unchanged" and moment is not None:
        assert (entry.scheduled_by, entry.schedule_reason) == ("alice", "then")


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        pytest.param({"switchesAt": "2030-05-03T14:00:00"}, "switchesAt: say in which zone", id="no zone"),
        pytest.param({"switchesAt": "2030-05-03"}, "switchesAt: say in which zone", id="a day"),
        pytest.param({"switchesAt": "soon"}, "switchesAt must be a time such as", id="no time"),
        pytest.param(
            {"switchesAt": "0001-01-01T00:00:00+14:00"}, "switchesAt must be a time such as", id="before all"
        ),
        pytest.param(
            {"switchesAt": "9999-01-01T00:00:00Z"}, "switchesAt: Nothing can be scheduled more", id="far"
        ),
        pytest.param(
            {"switchesAt": "2030-05-03T14:00:00Z", "provisioningStatus": ""},
            "switchesAt: say with provisioningStatus",
            id="no status",
        ),
        pytest.param(
            {"switchesAt": "2030-05-03T14:00:00Z", "operation": "disable"},
            "switchesAt: disable is until somebody enables it",
            id="disable",
        ),
        pytest.param({"scheduleReason": "why"}, "scheduleReason says why", id="reason alone"),
        pytest.param(
            {"switchesAt": "2030-05-03T14:00:00Z", "scheduleReason": "x" * 501},
            "scheduleReason: The reason may be 500",
            id="long reason",
        ),
    ],
)
@pytest.mark.parametrize("format", list(ImportFormat))
def test_what_cannot_be_scheduled_is_told(service, members, sentence, format):
    enroll_keys(service, "a")
    line = {"operation": "update", "registrationId": "a", "provisioningStatus": "enabled", **members}
    if not line["provisioningStatus"]:
        del line["provisioningStatus"]
    if format == ImportFormat.CSV:
        content = csv_of({**line, "attestationType": "symmetricKey"})
    else:
        content = json_lines({**keys("a"), **line})

    run = checked(service, content, format=format)

    (told,) = problems(run).values()
    assert told.startswith(sentence)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"switchesAt": 5}, "switchesAt must be a time"),
        ({"switchesAt": ["x"]}, "switchesAt must be a time"),
        ({"switchesAt": "2030-05-03T14:00:00Z", "scheduleReason": 5}, "scheduleReason must be a string."),
    ],
)
def test_members_of_other_types_are_told(service, members, sentence):
    run = checked(service, json_lines(keys("a", provisioningStatus="enabled", **members)))

    assert problems(run)[1].startswith(sentence)


def test_what_lets_in_later_starts_only_on_the_state_that_was_looked_at(service):
    """As what lets in at once; a disabling until a time lets in nobody who would not have come in anyway."""
    enroll_keys(service, "on")
    epoch = ProvisioningService.epoch_of(service.pk)
    opens = checked(service, json_lines(keys("new", **until(LATER, "disabled"))))
    shuts = checked(service, json_lines(keys("on", operation="update", **until(LATER, "disabled"))))
    enroll_keys(service, "other")

    with pytest.raises(PreviewOutdated):
        start_import(opens, without_bad_lines=False, actor=ALICE, expected_epoch=epoch)

    assert start_import(shuts, without_bad_lines=False, actor=ALICE, expected_epoch=epoch).is_working


def test_an_export_tells_the_time_and_what_is_due_as_it_stands_by_now(service):
    for name, enabled in (("ends", True), ("begins", False), ("over", True)):
        enroll_keys(service, name, enabled=enabled)
    moment = datetime(2031, 5, 3, 14, tzinfo=UTC)
    enable_enrollment(service, "ends", until=moment, actor=ALICE, reason="=why")
    disable_enrollment(service, "begins", until=moment, actor=ALICE)
    enable_enrollment(service, "over", until=moment, actor=ALICE)
    IndividualEnrollment.objects.filter(registration_id="over").update(switches_at=BEFORE)

    text = exported(service, ImportFormat.CSV, with_secrets=False).decode()

    assert "createOrUpdate,ends,,enabled,2031-05-03T14:00:00Z,'=why," in text
    assert "createOrUpdate,begins,,disabled,2031-05-03T14:00:00Z,," in text
    assert "createOrUpdate,over,,disabled,,," in text


def test_a_switch_that_is_due_holds_no_import_up(service):
    """What decisions read has changed by it, and it is written down before the lines are looked up again."""
    enroll_keys(service, "over")
    enable_enrollment(service, "over", until=LATER, actor=ALICE)
    run = checked(service, json_lines(keys("new"), keys("over", operation="update", deviceId="x")))
    IndividualEnrollment.objects.update(switches_at=BEFORE)

    assert carried_out(run).counts == {"added": 1, "enabled": 1}
    events = HistoryEvent.objects.filter(subject_name="over").order_by("pk").values_list("event", flat=True)
    assert list(events)[-2:] == ["enrollment.disabled", "enrollment.enabled"]
