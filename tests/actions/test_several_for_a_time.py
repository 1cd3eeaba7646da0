"""Several switches set for a time at once: all or none, on one preview, and each with a row of its own (R12, R15)."""

import pytest

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.preview import Act, carry_out
from enrollments.actions.revocation import deny_device
from enrollments.actions.schedule import settle_due
from enrollments.errors import Conflict, Invalid, PreviewOutdated
from enrollments.models import HistoryEvent, ProvisioningService
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_keys

pytestmark = pytest.mark.django_db


@pytest.fixture
def deadline(database_clock):
    return database_clock.ahead(hours=1)


@pytest.fixture
def entries(service):
    return [
        enroll_keys(service, "pump-1"),
        enroll_keys(service, "pump-2"),
        enroll_ca(service, root("A"), "plant"),
    ]


def epoch_of(service):
    return ProvisioningService.epoch_of(service.pk)


def state(entries):
    for one in entries:
        one.refresh_from_db()
    return [(one.enabled, one.switches_at) for one in entries]


@pytest.mark.parametrize(
    ("act", "how", "enabled", "events"),
    [
        (Act.DISABLE, "until", False, ["enrollment.disabled", "enrollment.disabled", "group.disabled"]),
        (
            Act.DISABLE,
            "at",
            True,
            ["enrollment.disabling_scheduled", "enrollment.disabling_scheduled", "group.disabling_scheduled"],
        ),
        (Act.ENABLE, "until", True, ["enrollment.enabled", "enrollment.enabled", "group.enabled"]),
    ],
)
def test_each_is_set_with_a_row_of_its_own_and_turns_once(
    service, entries, database_clock, deadline, act, how, enabled, events
):
    if act is Act.ENABLE:
        carry_out(service, Act.DISABLE, entries, actor=ALICE)
    rows = HistoryEvent.objects.count()

    now = carry_out(service, act, entries, actor=ALICE, reason="audit", **{how: deadline})

    assert [(one.enabled, one.switches_at) for one in now] == state(entries) == [(enabled, deadline)] * 3
    assert {(one.scheduled_by, one.schedule_reason) for one in entries} == {("alice", "audit")}
    assert [row.event for row in HistoryEvent.objects.order_by("id")[rows:]] == events
    database_clock.set_to(deadline)
    assert (settle_due(service), settle_due(service)) == (3, 0)
    assert state(entries) == [(not enabled, None)] * 3


def test_where_one_cannot_be_set_none_is(service, entries, database_clock, deadline):
    disable_enrollment_group(service, "plant", actor=ALICE, until=deadline)
    before, rows, epoch = state(entries), HistoryEvent.objects.count(), epoch_of(service)

    with pytest.raises(Conflict, match="plant is disabled until"):
        carry_out(service, Act.DISABLE, entries, actor=ALICE, at=database_clock.ahead(hours=2))
    with pytest.raises(Invalid, match="passed"):
        carry_out(service, Act.DISABLE, entries, actor=ALICE, until=database_clock.ahead(hours=-1))

    assert (state(entries), HistoryEvent.objects.count(), epoch_of(service)) == (before, rows, epoch)


def test_what_only_narrows_is_done_on_whatever_the_state_is(service, entries, deadline):
    carry_out(service, Act.DISABLE, entries, actor=ALICE, until=deadline, expected_epoch=-1)

    assert state(entries) == [(False, deadline)] * 3


@pytest.mark.parametrize("order", [1, -1], ids=["widens last", "widens first"])
def test_one_that_may_let_somebody_in_later_rests_on_the_preview_of_all(service, entries, deadline, order):
    """One is off for good already: by an end it opens. What the others made of the epoch outdates no preview."""
    disable_enrollment(service, "pump-2", actor=ALICE)
    entries = entries[::order]
    seen = epoch_of(service)
    deny_device(service, "somebody", actor=ALICE)
    before, rows = state(entries), HistoryEvent.objects.count()

    with pytest.raises(PreviewOutdated):
        carry_out(service, Act.DISABLE, entries, actor=ALICE, until=deadline, expected_epoch=seen)
    assert (state(entries), HistoryEvent.objects.count()) == (before, rows)

    carry_out(service, Act.DISABLE, entries, actor=ALICE, until=deadline, expected_epoch=epoch_of(service))
    assert state(entries) == [(False, deadline)] * 3


def test_a_switch_that_is_due_outdates_the_preview_recorded_or_not(
    service, entries, database_clock, deadline
):
    carry_out(service, Act.DISABLE, entries[:1], actor=ALICE, at=deadline)
    disable_enrollment(service, "pump-2", actor=ALICE)
    epoch = epoch_of(service)
    database_clock.set_to(deadline)

    with pytest.raises(PreviewOutdated):
        carry_out(
            service,
            Act.DISABLE,
            [entries[2], entries[1]],
            actor=ALICE,
            until=database_clock.ahead(hours=2),
            expected_epoch=epoch,
        )

    assert state(entries[1:]) == [(False, None), (True, None)]
