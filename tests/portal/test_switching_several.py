"""The rows that were ticked, disabled or enabled for a time: the dialog, what it shows, and what is done."""

import html
import re
from datetime import UTC, datetime, timedelta

import pytest

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import delete_enrollments, disable_enrollment
from enrollments.models import HistoryEvent
from enrollments.policy.roles import Role
from enrollments.portal.forms_schedule import DisableForm
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, register
from tests.factories import a_group, a_service, a_user, an_individual
from tests.portal.entry_forms import HTMX, epoch_in, events, page, post, seen_in

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)
LATER = datetime(2026, 5, 3, 14, tzinfo=UTC)
AS_TYPED = "2026-05-03T14:00"
BOTH_WAYS = pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])


@pytest.fixture(autouse=True)
def _noon(database_clock):
    database_clock.set_to(NOON)


@pytest.fixture
def service():
    return a_service()


@pytest.fixture
def pumps(service):
    return [an_individual(service, f"pump-{number}") for number in range(3)]


@pytest.fixture
def lines(service):
    """Two groups with a device each, whose certificates are valid at the time of these tests, and now."""
    dates = {"not_before": NOON - timedelta(days=1)}
    groups = []
    for number in range(2):
        ca = root(f"Line {number}", **dates)
        groups.append(enroll_ca(service, ca, f"line-{number}"))
        register(service, ca.leaf(f"gate-{number}", **dates))
    return groups


def path(act, entries, kind="enrollments"):
    return f"{kind}/{act}/?{'&'.join(f'entry={one.pk}' for one in entries)}&back=q%3Dpump"


def state(entries):
    for one in entries:
        one.refresh_from_db()
    return [(one.enabled, one.switches_at) for one in entries]


def words(text):
    """What is read, without markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def other_change(service):
    an_individual(service, "another")


@BOTH_WAYS
def test_the_question_offers_the_same_times_as_that_about_one(operator, pumps, headers):
    disabling = page(operator, path("disable", pumps), **headers)
    enabling = page(operator, path("enable", pumps), **headers)

    assert "Disable 3 individual enrollments?" in disabling
    for choice in (
        "From now on, until further notice",
        "From now on, until the time below",
        "From the time below on",
    ):
        assert choice in disabling
        assert (choice in enabling) is not choice.startswith("From the")
    assert re.search(r'value="now"[^>]* checked', disabling)


@pytest.mark.parametrize(
    ("choice", "stands", "said"),
    [
        ("until", (False, LATER), "Disabled 3 individual enrollments until 2026-05-03 14:00:00 UTC"),
        (
            "at",
            (True, LATER),
            "3 individual enrollments are enabled until 2026-05-03 14:00:00 UTC, when they are disabled.",
        ),
    ],
)
@BOTH_WAYS
def test_they_are_disabled_for_a_time_or_at_one(operator, service, pumps, choice, stands, said, headers):
    given = {"when": choice, "moment": AS_TYPED, "reason": "audit"}

    answer = post(operator, path("disable", pumps), given, headers=headers)

    assert (answer.get("Location") or answer["HX-Redirect"]) == "/services/plant/enrollments/?q=pump"
    assert said in words(page(operator, "enrollments/"))
    assert state(pumps) == [stands] * 3
    assert {(one.scheduled_by, one.schedule_reason) for one in pumps} == {("some-operator", "audit")}
    event = "enrollment.disabled" if choice == "until" else "enrollment.disabling_scheduled"
    assert [row.reason for row in events(service, event)] == ["audit"] * 3


def test_they_are_enabled_until_a_time(operator, service, pumps):
    for one in pumps:
        disable_enrollment(service, str(one), actor=ALICE)
    question = page(operator, path("enable", pumps))

    answer = post(
        operator,
        path("enable", pumps),
        {"when": "until", "moment": AS_TYPED, "epoch": epoch_in(question)},
        follow=True,
    )

    assert (
        "3 individual enrollments are enabled until 2026-05-03 14:00:00 UTC, when they are disabled."
        in answer.text_shown
    )
    assert state(pumps) == [(True, LATER)] * 3


# --- What it shows --------------------------------------------------------------------------------------


@BOTH_WAYS
def test_what_happens_at_the_time_is_shown_and_nothing_is_done_by_looking(operator, service, lines, headers):
    asked = {"when": "at", "moment": AS_TYPED, "look": "1", "reason": "audit"}
    before, rows = state(lines), HistoryEvent.objects.count()

    answer = post(operator, path("disable", lines, "groups"), asked, headers=headers)

    assert answer.status_code == 200
    assert (
        "At 2026-05-03 14:00:00 UTC, when they are disabled, with whatever else is scheduled until then: 2 known "
        "devices will be refused : gate-0 , gate-1"
    ) in words(answer.text_shown)
    assert (state(lines), HistoryEvent.objects.count()) == (before, rows)


def test_of_a_disabling_until_a_time_both_ends_are_shown_and_can_be_handed_on(
    client, operator, service, lines
):
    asked = {"when": "until", "moment": AS_TYPED, "look": "1"}

    question = post(operator, path("disable", lines, "groups"), asked).text_shown

    said = words(question)
    assert "From now on: 2 known devices will be refused : gate-0 , gate-1" in said
    assert (
        "At 2026-05-03 14:00:00 UTC, when they are enabled again, with whatever else is scheduled until then: 2 known "
        "devices will come in anew"
    ) in said
    address = html.unescape(re.findall(r'href="([^"]*until=[^"]*)" target', question)[0])
    client.force_login(a_user(Role.AUDITOR, service))
    listed = words(client.get(address).content.decode())
    exported = b"".join(client.get(address.replace("/preview/", "/preview/export/"))).decode()
    assert "when they are enabled again" in listed
    for name in ("gate-0", "gate-1"):
        assert name in listed
        assert name in exported
    (row,) = events(service, "history.exported")
    assert row.after["change"] == (
        "disable 2 enrollment groups; At 2026-05-03 14:00:00 UTC, when they are enabled again, with whatever else is "
        "scheduled until then"
    )


def test_those_that_are_disabled_already_are_named_and_come_in_at_the_end_as_well(operator, service, lines):
    disable_enrollment_group(service, "line-1", actor=ALICE)

    plain = words(page(operator, path("disable", lines, "groups")))
    looked = post(
        operator,
        path("disable", lines, "groups"),
        {"when": "until", "moment": AS_TYPED, "look": "1"},
    )

    warning = "Disabled already: line-1. If you choose an end, it is enabled then, too."
    assert warning in plain
    assert warning in words(looked.text_shown)
    assert "2 known devices will come in anew" in words(looked.text_shown)


def test_those_that_are_enabled_already_are_named_too(operator, service, pumps):
    disable_enrollment(service, "pump-0", actor=ALICE)

    question = words(page(operator, path("enable", pumps)))

    assert "Enabled already: pump-1, pump-2. If you choose an end, they are disabled then, too." in question


def test_where_all_are_disabled_the_question_is_until_when(operator, service, lines):
    for one in lines:
        disable_enrollment_group(service, str(one), actor=ALICE)

    question = page(operator, path("disable", lines, "groups"))
    given = {"when": "until", "moment": AS_TYPED}
    unseen = post(operator, path("disable", lines, "groups"), {**given, "epoch": epoch_in(question)})
    shown = {"epoch": epoch_in(unseen.text_shown), "seen": seen_in(unseen.text_shown)}
    assert state(lines) == [(False, None)] * 2
    answer = post(operator, path("disable", lines, "groups"), {**given, **shown}, follow=True)

    assert unseen.status_code == 409
    assert "Somebody may come in by the time that you chose, so nothing was done yet." in unseen.text_shown
    assert "At 2026-05-03 14:00:00 UTC, when they are enabled again" in words(unseen.text_shown)
    said = words(question)
    assert "Set when 2 enrollment groups are enabled again?" in said
    assert "How long they stay disabled Until further notice Until the time below" in said
    assert (
        "They are disabled. When they are enabled again at the time below, as things stand now: 2 known devices will "
        "come in anew"
    ) in said
    assert "Disabled 2 enrollment groups until 2026-05-03 14:00:00 UTC." in answer.text_shown
    assert state(lines) == [(False, LATER)] * 2


def test_a_time_that_is_scheduled_for_all_stands_in_the_form(operator, service, pumps):
    for one in pumps[:2]:
        disable_enrollment(service, str(one), actor=ALICE, until=LATER)

    of_two = page(operator, path("disable", pumps[:2]))
    of_three = page(operator, path("disable", pumps))

    assert f'value="{AS_TYPED}:00"' in of_two
    assert AS_TYPED not in of_three


def test_a_preview_of_what_is_scheduled_for_several_is_of_one_time(operator, service, lines):
    for one in lines:
        disable_enrollment_group(service, str(one), actor=ALICE, at=LATER)
    named = "&".join(f"entry=group:{one}" for one in lines)
    address = f"/services/plant/preview/?act=disable&{named}&scheduled=1"

    of_one = operator.get(address)
    disable_enrollment_group(service, "line-1", actor=ALICE, at=LATER - timedelta(minutes=1))
    of_two = operator.get(address)

    assert (of_one.status_code, of_two.status_code) == (200, 422)
    assert "2 known devices will be refused" in words(of_one.content.decode())
    assert (
        "What is scheduled for line-0, line-1 comes at several times, and a preview is of one: look at it, put it off "
        "or drop it one by one."
    ) in of_two.content.decode()


# --- Those that are enabled, and to be disabled ---------------------------------------------------------


def epoch_and_seen(answer):
    return {"epoch": epoch_in(answer.text_shown), "seen": seen_in(answer.text_shown)}


def test_enabling_leaves_what_is_scheduled_for_those_that_are_enabled_and_says_so(operator, service, lines):
    disable_enrollment_group(service, "line-0", actor=ALICE)
    disable_enrollment_group(service, "line-1", actor=ALICE, at=LATER)

    question = page(operator, path("enable", lines, "groups"))
    answer = post(
        operator, path("enable", lines, "groups"), {"when": "now", "epoch": epoch_in(question)}, follow=True
    )

    assert (
        "line-1 is enabled already, and is to be disabled at 2026-05-03 14:00:00 UTC. Without another time below, that "
        "stays so. Drop what is scheduled to keep it enabled."
    ) in words(question)
    assert 'href="/services/plant/groups/g/line-1/cancel-schedule/?from=page"' in question
    assert (
        "Enabled enrollment group line-0. Enrollment group line-1 was enabled already, and is to be disabled at "
        "2026-05-03 14:00:00 UTC as before: drop what is scheduled to keep it enabled."
    ) in words(answer.text_shown)
    assert state(lines) == [(True, None), (True, LATER)]


@pytest.mark.parametrize(("act", "when"), [("enable", "until"), ("disable", "at")])
@BOTH_WAYS
def test_a_disabling_that_is_put_off_is_asked_about_with_what_it_would_do(
    operator, service, lines, act, when, headers
):
    """Whoever answers has seen who would be refused at the time for which it is scheduled."""
    disable_enrollment_group(service, "line-1", actor=ALICE, at=LATER)
    question, address = page(operator, path(act, lines, "groups")), path(act, lines, "groups")
    given = {"when": when, "moment": "2026-05-08T14:00"}

    unseen = post(operator, address, {**given, "epoch": epoch_in(question)}, headers=headers)
    before = state(lines)
    answer = post(operator, address, {**given, **epoch_and_seen(unseen)})

    assert (unseen.status_code, before) == (409, [(True, None), (True, LATER)])
    assert (
        "What is scheduled for enrollment group line-1 for 2026-05-03 14:00:00 UTC would do this then, and is put off: "
        "1 known device will be refused : gate-1"
    ) in words(unseen.text_shown)
    assert "What was scheduled for 2026-05-03 14:00:00 UTC is put off." in words(page(operator, "groups/"))
    address = next(
        html.unescape(one) for one in re.findall(r'href="([^"]*)"', unseen.text_shown) if "scheduled=1" in one
    )
    assert "1 known device will be refused : gate-1" in words(operator.get(address).content.decode())
    assert answer.status_code == 302
    assert state(lines) == [(True, LATER + timedelta(days=5))] * 2


@pytest.mark.parametrize(("act", "when"), [("enable", "until"), ("disable", "at")])
def test_what_is_scheduled_for_several_times_is_put_off_one_by_one(operator, service, lines, act, when):
    for number, one in enumerate(lines):
        disable_enrollment_group(service, str(one), actor=ALICE, at=LATER + timedelta(hours=number))
    question, before = page(operator, path(act, lines, "groups")), state(lines)
    given = {"when": when, "moment": "2026-05-08T14:00"}

    answer = post(operator, path(act, lines, "groups"), {**given, "epoch": epoch_in(question)})
    again = post(operator, path(act, lines, "groups"), {**given, **epoch_and_seen(answer)})

    for one in (answer, again):
        assert one.status_code == 409
        assert "look at it, put it off or drop it one by one" in words(one.text_shown)
    assert state(lines) == before


@pytest.mark.parametrize("when", ["until", "at"])
def test_a_disabling_that_is_brought_forward_is_not_held_up(operator, service, lines, when):
    for one in lines:
        disable_enrollment_group(service, str(one), actor=ALICE, at=LATER)
    act = "enable" if when == "until" else "disable"
    given = {"when": when, "moment": "2026-05-03T13:00", "epoch": "0"}

    answer = post(operator, path(act, lines, "groups"), given)

    assert answer.status_code == 302
    assert state(lines) == [(True, LATER - timedelta(hours=1))] * 2


# --- What is refused ------------------------------------------------------------------------------------


def test_an_end_that_lets_somebody_in_needs_a_fresh_preview_and_nothing_is_done_without(
    operator, service, pumps
):
    disable_enrollment(service, "pump-1", actor=ALICE)
    question = page(operator, path("disable", pumps))
    other_change(service)
    given = {"when": "until", "moment": AS_TYPED, "reason": "audit"}
    before, rows = state(pumps), HistoryEvent.objects.count()

    late = post(operator, path("disable", pumps), {**given, "epoch": epoch_in(question)})
    none = post(operator, path("disable", pumps), given)

    assert (late.status_code, none.status_code) == (409, 409)
    assert "Something in this service was changed after the question was asked" in late.text_shown
    assert f'value="{AS_TYPED}"' in late.text_shown
    assert (state(pumps), HistoryEvent.objects.count()) == (before, rows)
    shown = {"epoch": epoch_in(late.text_shown), "seen": seen_in(late.text_shown)}
    again = post(operator, path("disable", pumps), {**given, **shown})
    assert again.status_code == 302
    assert state(pumps) == [(False, LATER)] * 3


@pytest.mark.parametrize("when", ["now", "until", "at"])
def test_what_only_narrows_is_done_at_once_whatever_was_changed(operator, service, pumps, when):
    given = {"when": when, "moment": "" if when == "now" else AS_TYPED, "epoch": "0"}

    answer = post(operator, path("disable", pumps), given)

    assert answer.status_code == 302
    assert state(pumps) != [(True, None)] * 3


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"when": "until"}, "Give the time, or choose until further notice."),
        ({"when": "at", "moment": "2026-05-03T11:59"}, "That time has passed"),
        ({"when": "until", "moment": "2036-05-05T12:00"}, "more than ten years ahead"),
        ({"when": "for ever", "moment": AS_TYPED}, "Select a valid choice."),
    ],
)
@BOTH_WAYS
def test_a_time_that_cannot_be_meant_comes_back_and_nothing_is_done(
    operator, pumps, given, sentence, headers
):
    answer = post(operator, path("disable", pumps), given, headers=headers)

    assert answer.status_code == 422
    assert sentence in words(answer.text_shown)
    assert state(pumps) == [(True, None)] * 3


def test_one_that_is_disabled_until_another_time_is_named_and_none_is_done(operator, service, pumps):
    disable_enrollment(service, "pump-1", actor=ALICE, until=LATER)

    answer = post(operator, path("disable", pumps), {"when": "at", "moment": "2026-05-03T15:00"})

    assert answer.status_code == 422
    assert "pump-1 is disabled until 2026-05-03 14:00:00 UTC" in answer.text_shown
    assert state(pumps) == [(True, None), (False, LATER), (True, None)]


def test_of_those_that_are_to_be_disabled_the_ones_that_are_already_are_told_apart(operator, service, pumps):
    disable_enrollment(service, "pump-1", actor=ALICE)

    answer = post(operator, path("disable", pumps), {"when": "at", "moment": AS_TYPED}, follow=True)

    assert (
        "2 individual enrollments are enabled until 2026-05-03 14:00:00 UTC, when they are disabled. Individual "
        "enrollment pump-1 is disabled already."
    ) in answer.text_shown
    assert state(pumps) == [(True, LATER), (False, None), (True, LATER)]


def test_where_one_is_deleted_meanwhile_none_is_done(operator, service, pumps, monkeypatch):
    asked = DisableForm.asked

    def deleted_meanwhile(request, entries):
        delete_enrollments(service, ["pump-1"], actor=ALICE)
        return asked(request, entries)

    monkeypatch.setattr(DisableForm, "asked", deleted_meanwhile)

    answer = post(operator, path("disable", pumps), {"when": "until", "moment": AS_TYPED}, follow=True)

    assert (
        "One of 3 individual enrollments was deleted while you answered: nothing was done."
        in answer.text_shown
    )
    assert state([pumps[0], pumps[2]]) == [(True, None)] * 2


def test_a_viewer_is_refused_and_leaves_a_row(client, service, pumps):
    client.force_login(a_user(Role.VIEWER, service))

    answer = post(client, path("disable", pumps), {"when": "until", "moment": AS_TYPED})

    assert answer.status_code == 403
    assert state(pumps) == [(True, None)] * 3


def test_entries_of_another_service_are_not_there(operator, pumps):
    others = [a_group(a_service("other"), "line-9")]

    answer = post(
        operator, path("disable", others, "groups"), {"when": "until", "moment": AS_TYPED}, follow=True
    )

    assert "gone already" in answer.text_shown
    assert state(others) == [(True, None)]


def test_a_page_of_rows_is_switched_with_as_many_queries_for_each(
    operator, service, django_assert_max_num_queries
):
    entries = [an_individual(service, f"pump-{number}") for number in range(20)]

    def queries(some):
        with django_assert_max_num_queries(1000) as counted:
            answer = post(operator, path("disable", some), {"when": "at", "moment": AS_TYPED})
        assert answer.status_code == 302
        return len(counted.captured_queries)

    queries(entries[:1])  # what is read once
    few, many = queries(entries[1:3]), queries(entries[3:])

    # Two of each ask whether whoever acts still may.
    assert many - few <= 15 * 9
