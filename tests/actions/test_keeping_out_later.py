"""Delete, but keep these devices out: also from what lets them in later, and from those who come meanwhile."""

from datetime import timedelta

import pytest

from enrollments.actions import deleting
from enrollments.actions.deleting import delete_and_deny
from enrollments.actions.preview import Act, carry_out
from tests.certificates import NOW, root
from tests.devices import ALICE, enroll_ca, register

pytestmark = pytest.mark.django_db


def until(service, clock, group, **ahead):
    carry_out(service, Act.DISABLE, [group], actor=ALICE, until=clock.ahead(**ahead))


def outcome(service, clock, leaf, **ahead):
    at = clock.ahead(minutes=5, **ahead)
    clock.set_to(at)
    return register(service, leaf, at=at).outcome


@pytest.fixture
def meanwhile(monkeypatch):
    """Has that done after the examination, before anything is deleted."""
    told = deleting.names_left_open

    def do(act):
        monkeypatch.setattr(deleting, "names_left_open", lambda *given: (act(), told(*given))[1])

    return do


@pytest.mark.parametrize("comes_late", [False, True])
@pytest.mark.parametrize("spare", [0, 3, 25])
def test_another_credential_that_comes_in_later_anyway_hides_no_earlier_time(
    service, database_clock, meanwhile, spare, comes_late
):
    top, other = root("Top"), root("Other")
    line = top.intermediate("Line")
    low = enroll_ca(service, line, "low")
    until(service, database_clock, enroll_ca(service, top, "top"), days=1)
    until(service, database_clock, enroll_ca(service, other, "other"), days=5)
    for number in range(spare):
        group = enroll_ca(service, root(f"Spare {number}"), f"spare-{number}")
        until(service, database_clock, group, days=20 + number)
    leaf = line.leaf("pump-1")

    def come():
        assert register(service, other.leaf("pump-1")).outcome == "disabled"
        assert register(service, leaf).outcome == "disabled"

    meanwhile(come) if comes_late else come()

    assert delete_and_deny(service, [low], actor=ALICE).denied == 1
    assert outcome(service, database_clock, leaf, days=1) == "disabled"


@pytest.mark.parametrize("comes_late", [False, True])
@pytest.mark.parametrize("spare", [False, True])
def test_nor_does_a_ca_that_is_not_valid_yet(service, database_clock, meanwhile, spare, comes_late):
    top = root("Root", not_before=NOW + timedelta(days=1), not_after=NOW + timedelta(days=400))
    line = top.intermediate("Line")
    low, leaf = enroll_ca(service, line, "low"), line.leaf("pump-1")

    def come():
        assert register(service, leaf).outcome == ("disabled" if comes_late else "assigned")

    meanwhile(come) if comes_late else come()
    until(service, database_clock, enroll_ca(service, top, "high"), days=2)
    if spare:
        until(service, database_clock, enroll_ca(service, root("Other"), "other"), days=3)

    assert delete_and_deny(service, [low], actor=ALICE).denied == 1
    assert outcome(service, database_clock, leaf, days=2) == "disabled"


def test_whoever_fails_for_the_name_that_becomes_free_is_kept_out(service, meanwhile):
    first, second = root("First"), root("Second")
    holder = enroll_ca(service, first, "first")
    enroll_ca(service, second, "second")
    assert register(service, first.leaf("pump-1")).outcome == "assigned"
    taker = second.leaf("pump-1")

    def come():
        assert register(service, taker).outcome == "failed"

    meanwhile(come)

    assert delete_and_deny(service, [holder], actor=ALICE).denied == 1
    assert register(service, taker).outcome == "disabled"


def test_what_cannot_be_denied_at_once_is_left_and_said(service, monkeypatch):
    monkeypatch.setattr(deleting, "DENIED_AT_ONCE", 5)
    monkeypatch.setattr(deleting, "EXAMINED_UNDER_LOCK", 2)
    top = root("Root")
    line = top.intermediate("Line")
    enroll_ca(service, top, "top")
    low = enroll_ca(service, line, "low")
    register(service, line.leaf("pump-0"))
    came = iter(range(1, 1000))
    names = deleting.Newcomers.names

    def with_more(self, besides):
        for _ in range(4):
            register(service, line.leaf(f"pump-{next(came)}"))
        return names(self, besides)

    monkeypatch.setattr(deleting.Newcomers, "names", with_more)

    done = delete_and_deny(service, [low], actor=ALICE)

    assert (done.deleted, done.left > 5) == (0, True)
    assert service.enrollmentgroups.filter(group_id="low").exists()


def test_fewer_are_examined_under_the_lock_where_each_is_for_several_times(
    service, database_clock, meanwhile, monkeypatch
):
    monkeypatch.setattr(deleting, "EXAMINED_UNDER_LOCK", 8)
    top = root("Top")
    line = top.intermediate("Line")
    enroll_ca(service, top, "top")
    low = enroll_ca(service, line, "low")
    for number in range(3):
        group = enroll_ca(service, root(f"Other {number}"), f"other-{number}")
        until(service, database_clock, group, days=1 + number)
    came = [line.leaf(f"pump-{number}") for number in range(3)]
    under_lock = []
    examined = deleting.Examined

    def examine(service, names, entries):
        under_lock.append(list(names))
        return examined(service, names, entries)

    monkeypatch.setattr(deleting, "Examined", examine)
    meanwhile(lambda: [register(service, one) for one in came] if not under_lock else None)

    assert delete_and_deny(service, [low], actor=ALICE).denied == 3
    assert under_lock[-1] == []
    assert all(len(names) <= deleting.DENIED_AT_ONCE // 4 for names in under_lock)
    assert {register(service, one).outcome for one in came} == {"disabled"}
