"""Time-boxed changes in the portal: the dialogs, what lists and forms show of them, and cancelling."""

import html
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError

from enrollments.actions.enrollment_groups import (
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollments import delete_enrollments, disable_enrollment, enable_enrollment
from enrollments.models import HistoryEvent
from enrollments.policy.roles import Role
from enrollments.portal.forms_schedule import DisableForm
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, register
from tests.factories import a_group, a_service, a_user, an_individual
from tests.portal.entry_forms import HTMX, entry_form, epoch_in, events, page, post, seen_in

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)
LATER = datetime(2026, 5, 3, 14, tzinfo=UTC)
AS_TYPED = "2026-05-03T14:00"


@pytest.fixture
def service(database_clock):
    database_clock.set_to(NOON)
    return a_service()


class Kind:
    """What both kinds of entry have: addresses, and acts of somebody else."""

    def __init__(self, service, name: str) -> None:
        self.service = service
        if name == "individual":
            self.entry = an_individual(service)
            self.list, self.path, self.words = (
                "enrollments/",
                "enrollments/i/pump-042/",
                "individual enrollment",
            )
            self._disable, self._enable = disable_enrollment, enable_enrollment
            self.event = "enrollment"
        else:
            self.entry = a_group(service, "pump-042")
            self.list, self.path, self.words = "groups/", "groups/g/pump-042/", "enrollment group"
            self._disable, self._enable = disable_enrollment_group, enable_enrollment_group
            self.event = "group"

    def disable(self, **when):
        self._disable(self.service, "pump-042", actor=ALICE, reason="audit", **when)

    def enable(self, **when):
        self._enable(self.service, "pump-042", actor=ALICE, **when)

    @property
    def now(self):
        self.entry.refresh_from_db()
        return self.entry


@pytest.fixture(params=["individual", "group"])
def kind(request, service):
    return Kind(service, request.param)


def words(text: str) -> str:
    """What is read, without markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


# --- The dialogs -----------------------------------------------------------------------------------


def test_the_question_offers_until_further_notice_until_and_from_a_time_on(operator, kind):
    text = page(operator, f"{kind.path}disable/", **HTMX)

    assert "From now on, until further notice" in text
    assert 'type="datetime-local"' in text
    assert "Time (UTC), where the choice above names one In UTC, not in your own time zone." in words(text)
    assert re.search(r'value="now"[^>]* checked', text)
    assert f'hx-target="#entry-{kind.entry.pk}"' in text


@pytest.mark.parametrize(
    ("choice", "enabled", "said"),
    [
        ("until", False, "Disabled {words} pump-042 until 2026-05-03 14:00:00 UTC"),
        ("at", True, "{words} pump-042 is enabled until 2026-05-03 14:00:00 UTC, when it is disabled."),
    ],
)
def test_a_time_can_be_given(operator, kind, choice, enabled, said):
    answer = post(
        operator,
        f"{kind.path}disable/",
        {"when": choice, "moment": AS_TYPED, "reason": "audit"},
        headers=HTMX,
    )

    expected = said.format(words=kind.words)
    announced = json.loads(answer["HX-Trigger"])["announce"]["value"]
    assert announced.startswith(expected[0].upper() + expected[1:])
    assert (kind.now.enabled, kind.now.switches_at) == (enabled, LATER)
    assert f"{'disables at' if enabled else 'Disabled until'} 2026-05-03 14:00:00 UTC" in words(
        answer.text_shown
    )
    assert f'aria-checked="{"true" if enabled else "false"}"' in answer.text_shown
    assert (kind.entry.scheduled_by, kind.entry.schedule_reason) == ("some-operator", "audit")


def test_enabling_until_a_time(operator, kind):
    kind.disable()
    question = page(operator, f"{kind.path}enable/?from=page")

    answer = post(
        operator,
        f"{kind.path}enable/?from=page",
        {"when": "until", "moment": AS_TYPED, "epoch": epoch_in(question)},
        follow=True,
    )

    assert "From the time below on" not in question
    assert answer.redirect_chain == [(f"/services/plant/{kind.path}", 302)]
    assert "is enabled until 2026-05-03 14:00:00 UTC, when it is disabled." in answer.text_shown
    assert (kind.now.enabled, kind.now.switches_at) == (True, LATER)


@pytest.mark.parametrize(
    ("before", "act", "given"),
    [
        ("disabled", "enable", {"when": "until", "moment": AS_TYPED}),
        ("disabled", "disable", {"when": "until", "moment": AS_TYPED}),
        ("disabled until then", "disable", {"when": "until", "moment": "2026-05-03T13:59"}),
        ("enabled until then", "disable", {"when": "at", "moment": "2026-05-03T14:01"}),
        ("enabled until then", "cancel-schedule", {}),
    ],
)
def test_what_may_let_somebody_in_later_is_asked_again_where_something_was_changed(
    operator, service, kind, before, act, given
):
    """As where it lets in at once: the answer stands on the preview that was shown."""
    if before.startswith("disabled"):
        kind.disable(**({"until": LATER} if "until" in before else {}))
    else:
        kind.disable(at=LATER)
    question = page(operator, f"{kind.path}{act}/", **HTMX)
    an_individual(service, "another")
    was, rows = (kind.now.enabled, kind.now.switches_at), HistoryEvent.objects.count()

    late = post(operator, f"{kind.path}{act}/", {**given, "epoch": epoch_in(question)}, headers=HTMX)
    none = post(operator, f"{kind.path}{act}/", given, headers=HTMX)

    assert (late.status_code, none.status_code, late["HX-Retarget"]) == (409, 409, "#dialog")
    assert "Something in this service was changed after the question was asked" in late.text_shown
    assert not given or f'value="{given["moment"]}"' in late.text_shown
    assert (kind.now.enabled, kind.now.switches_at, HistoryEvent.objects.count()) == (*was, rows)
    unseen = post(operator, f"{kind.path}{act}/", {**given, "epoch": epoch_in(question)}, headers=HTMX)
    assert unseen.status_code == 409
    shown = {"epoch": epoch_in(late.text_shown), "seen": seen_in(late.text_shown)}
    again = post(operator, f"{kind.path}{act}/", {**given, **shown}, headers=HTMX)
    assert again.status_code == 200
    assert (kind.now.enabled, kind.now.switches_at) != was


@pytest.mark.parametrize(
    ("before", "act", "given"),
    [
        ("enabled", "disable", {"when": "until", "moment": AS_TYPED}),
        ("enabled", "disable", {"when": "at", "moment": AS_TYPED}),
        ("disabled until then", "disable", {"when": "until", "moment": "2026-05-03T14:01"}),
        ("disabled until then", "disable", {"when": "now"}),
        ("disabled until then", "cancel-schedule", {}),
        ("enabled until then", "disable", {"when": "at", "moment": "2026-05-03T13:59"}),
        ("enabled until then", "disable", {"when": "now"}),
    ],
)
def test_what_only_narrows_is_done_at_once_whatever_was_changed(operator, kind, before, act, given):
    if before == "disabled until then":
        kind.disable(until=LATER)
    elif before == "enabled until then":
        kind.disable(at=LATER)
    was = (kind.now.enabled, kind.now.switches_at)

    answer = post(operator, f"{kind.path}{act}/", {**given, "epoch": "0"}, headers=HTMX)

    assert answer.status_code == 200
    assert (kind.now.enabled, kind.now.switches_at) != was


def test_the_question_about_an_end_tells_who_comes_in_then(operator, service):
    ca = root("Plant CA")
    enroll_ca(service, ca, "plant-7")
    for number in range(3):
        register(service, ca.leaf(f"gate-{number}"))
    disable_enrollment_group(service, "plant-7", actor=ALICE)

    question = words(page(operator, "groups/g/plant-7/disable/?from=page&when=until"))

    assert "Set when enrollment group plant-7 is enabled again?" in question
    assert "How long it stays disabled Until further notice Until the time below Time (UTC)" in question
    assert (
        "When it is enabled again at the time below, as things stand now: 3 known devices will come in"
        in (question)
    )


def test_the_question_before_dropping_a_disabling_tells_who_stays_in_by_it(operator, service):
    enroll_with_one_device(service)
    disable_enrollment_group(service, "plant-7", at=LATER, actor=ALICE)

    question = words(page(operator, "groups/g/plant-7/cancel-schedule/"))

    assert (
        "It stays enabled, until somebody turns its switch. What is scheduled for 2026-05-03 14:00:00 UTC would do "
        "this then: 1 known device will be refused : gate-1"
    ) in question


def enroll_with_one_device(service):
    """A group whose device has a certificate that is valid at the time of these tests, and now."""
    dates = {"not_before": NOON - timedelta(days=1)}
    ca = root("Plant CA", **dates)
    enroll_ca(service, ca, "plant-7")
    register(service, ca.leaf("gate-1", **dates))


def test_a_disabling_at_a_time_is_shown_as_it_will_be_then(operator, service):
    enroll_with_one_device(service)
    asked = {"when": "at", "moment": AS_TYPED, "look": "1", "reason": "audit"}

    question = post(operator, "groups/g/plant-7/disable/?from=page", asked)

    assert question.status_code == 200
    assert (
        "At 2026-05-03 14:00:00 UTC, when it is disabled, with whatever else is scheduled until then: 1 known device "
        "will be refused : gate-1"
    ) in words(question.content.decode())
    group = service.enrollmentgroups.get()
    assert (group.enabled, group.switches_at) == (True, None), "nothing is done by looking"


@pytest.mark.parametrize("act", ["disable", "enable"])
def test_until_further_notice_there_is_nothing_to_be_shown_and_the_form_says_so(operator, service, act):
    enroll_with_one_device(service)

    question = post(operator, f"groups/g/plant-7/{act}/?from=page", {"when": "now", "look": "1"})

    assert question.status_code == 422
    assert "Choose one with a time: until further notice, nothing happens by itself." in words(
        question.content.decode()
    )
    assert service.enrollmentgroups.get().enabled


def test_a_disabling_until_a_time_shows_what_it_does_and_what_comes_back(operator, service):
    enroll_with_one_device(service)
    asked = {"when": "until", "moment": AS_TYPED, "look": "1"}

    question = post(operator, "groups/g/plant-7/disable/?from=page", asked).content.decode()

    said = words(question)
    assert "From now on: 1 known device will be refused : gate-1" in said
    assert (
        "At 2026-05-03 14:00:00 UTC, when it is enabled again, with whatever else is scheduled until then: 1 known "
        "device will come in anew through enrollment group plant-7: gate-1"
    ) in said
    address = html.unescape(re.findall(r'href="([^"]*until=[^"]*)" target', question)[0])
    listed = words(operator.get(address).content.decode())
    assert "when it is enabled again" in listed
    assert "gate-1" in listed


def test_an_end_that_was_chosen_before_is_shown_as_of_that_time(operator, service):
    enroll_with_one_device(service)
    disable_enrollment_group(service, "plant-7", until=LATER, actor=ALICE)

    question = words(page(operator, "groups/g/plant-7/disable/?from=page&when=until"))

    assert (
        "It is disabled. At 2026-05-03 14:00:00 UTC, when it is enabled again, with whatever else is scheduled until "
        "then: 1 known device will come in anew"
    ) in question


def test_a_time_to_look_at_that_has_passed_is_said_at_its_field(operator, service):
    enroll_with_one_device(service)
    asked = {"when": "at", "moment": "2026-05-03T11:00", "look": "1"}

    question = post(operator, "groups/g/plant-7/disable/?from=page", asked)

    assert question.status_code == 422
    assert "That time has passed" in question.content.decode()


@pytest.mark.parametrize(
    "query", ["at=soon", "at=2026-05-03T14:00:00Z&until=2026-05-03T15:00:00Z", "at=2026-05-03T11:00:00Z"]
)
def test_an_address_of_a_time_that_cannot_be_meant_is_refused(operator, service, query):
    enroll_with_one_device(service)
    address = f"/services/{service.name}/preview/?act=disable&entry=group:plant-7&{query}"

    assert operator.get(address).status_code == 422


def test_an_entry_that_was_deleted_meanwhile_is_said_to_be_gone(operator, service, kind, monkeypatch):
    delete = delete_enrollments if kind.event == "enrollment" else delete_enrollment_groups
    asked_again = DisableForm.asked

    def deleted_meanwhile(request, entry):
        delete(service, ["pump-042"], actor=ALICE)
        return asked_again(request, entry)

    monkeypatch.setattr(DisableForm, "asked", deleted_meanwhile)

    answer = post(operator, f"{kind.path}disable/", {"when": "now"}, follow=True)

    assert "pump-042 was deleted while you answered: nothing was done." in answer.text_shown


@pytest.mark.parametrize("act", ["disable", "enable"])
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"when": "until"}, "Give the time, or choose until further notice."),
        ({"when": "until", "moment": "2026-05-03T11:59"}, "That time has passed"),
        ({"when": "until", "moment": "2036-05-05T12:00"}, "more than ten years ahead"),
        ({"when": "until", "moment": "tomorrow"}, "Enter a valid date/time."),
        ({"when": "until", "moment": "0001-01-01T00:00"}, "That time has passed"),
        ({"when": "for ever", "moment": AS_TYPED}, "Select a valid choice."),
        ({"when": "now", "moment": AS_TYPED}, "choose one with a time, or leave the time empty."),
        ({"moment": AS_TYPED}, "choose one with a time, or leave the time empty."),
    ],
)
def test_a_time_that_cannot_be_meant_comes_back_into_the_dialog(operator, kind, act, given, sentence):
    if act == "enable":
        kind.disable()
    rows = HistoryEvent.objects.count()

    answer = post(operator, f"{kind.path}{act}/", given, headers=HTMX)

    assert (answer.status_code, answer["HX-Retarget"]) == (422, "#dialog")
    assert sentence in words(answer.text_shown)
    assert 'aria-invalid="true"' in answer.text_shown
    assert HistoryEvent.objects.count() == rows


def test_the_time_that_the_dialog_began_with_is_not_in_the_way_of_shutting_out(operator, kind):
    kind.disable(at=LATER + timedelta(seconds=30))
    (begun_with,) = re.findall(
        r'name="moment" value="([^"]*)"', page(operator, f"{kind.path}disable/", **HTMX)
    )

    post(operator, f"{kind.path}disable/", {"when": "now", "moment": begun_with}, headers=HTMX)

    assert begun_with == "2026-05-03T14:00:30"
    assert (kind.now.enabled, kind.now.switches_at) == (False, None)


def test_the_field_takes_and_keeps_seconds(operator, kind):
    question = page(operator, f"{kind.path}disable/", **HTMX)
    # A browser refuses seconds where the step is that of minutes.
    assert re.search(r'<input type="datetime-local" name="moment"[^>]* step="1"', question)

    post(operator, f"{kind.path}disable/", {"when": "until", "moment": f"{AS_TYPED}:30"}, headers=HTMX)

    assert kind.now.switches_at == LATER + timedelta(seconds=30)
    again = page(operator, f"{kind.path}disable/?when=until", **HTMX)
    assert f'value="{AS_TYPED}:30"' in again


def test_one_scheduled_change_at_a_time_is_said_in_the_dialog(operator, kind):
    kind.disable(until=LATER)

    answer = post(
        operator, f"{kind.path}disable/", {"when": "at", "moment": "2026-05-03T15:00"}, headers=HTMX
    )

    assert (answer.status_code, answer["HX-Retarget"]) == (422, "#dialog")
    assert "is disabled until 2026-05-03 14:00:00 UTC" in answer.text_shown


def test_a_row_is_switched_off_for_good_even_where_its_switch_turns_by_itself(operator, kind):
    """Whoever clicks a switch in a hurry means now, whatever is scheduled."""
    kind.disable(at=LATER)

    question = page(operator, f"{kind.path}disable/", **HTMX)
    post(operator, f"{kind.path}disable/", {"when": "now", "reason": "stolen"}, headers=HTMX)

    assert re.search(r'value="now"[^>]* checked', question)
    assert (kind.now.enabled, kind.now.switches_at) == (False, None)


def test_a_row_is_switched_on_at_once_and_ends_what_is_scheduled(operator, kind):
    kind.disable(until=LATER)

    question = page(operator, f"{kind.path}enable/", **HTMX)

    answer = post(operator, f"{kind.path}enable/", {"epoch": epoch_in(question)}, headers=HTMX)

    assert 'aria-checked="true"' in answer.text_shown
    assert "2026-05-03" not in words(answer.text_shown).partition("Enabled")[2].partition("none")[0]
    assert (kind.now.enabled, kind.now.switches_at) == (True, None)


# --- Lists -----------------------------------------------------------------------------------------


def test_lists_say_until_when_and_from_when_on(operator, kind):
    kind.disable(until=LATER)
    closed = words(page(operator, kind.list))
    kind.enable(until=LATER + timedelta(days=1))

    assert "Disabled until 2026-05-03 14:00:00 UTC" in closed
    assert "Enabled disables at 2026-05-04 14:00:00 UTC" in words(page(operator, kind.list))


@pytest.mark.parametrize("way", ["until", "at"])
def test_filters_go_by_the_state_that_holds_now(operator, kind, database_clock, way):
    kind.disable(**{way: LATER})

    def found():
        return {
            status
            for status in ("enabled", "disabled")
            if f"{kind.path}" in page(operator, f"{kind.list}?status={status}")
        }

    before = found()
    database_clock.set_to(LATER)

    closed_first = way == "until"
    assert before == {"disabled" if closed_first else "enabled"}
    assert found() == {"enabled" if closed_first else "disabled"}
    assert HistoryEvent.objects.filter(way="schedule").count() == 1


@pytest.fixture
def full_history(monkeypatch):
    def full(*_args, **_kwargs):
        raise DatabaseError("disk full")

    return lambda: monkeypatch.setattr(HistoryEvent.objects, "create", full)


@pytest.mark.parametrize("way", ["until", "at"])
def test_what_is_due_and_cannot_be_recorded_is_shown_shut_and_as_such(
    operator, kind, database_clock, full_history, way
):
    kind.disable(**{way: LATER})
    full_history()
    database_clock.set_to(LATER)

    listed = page(operator, f"{kind.list}?status=disabled")
    own = words(page(operator, kind.path))

    assert "Disabled due since 2026-05-03 14:00:00 UTC, not recorded yet" in words(listed)
    assert 'aria-checked="false"' in listed
    assert kind.path not in page(operator, f"{kind.list}?status=enabled")
    assert "could not be written into the history" in own


def test_counts_go_by_the_state_that_holds_now(operator, kind, database_clock):
    kind.disable(at=LATER)
    before = words(operator.get("/").content.decode()), words(page(operator, ""))
    database_clock.set_to(LATER)

    assert [text.count("1 disabled") for text in before] == [0, 0]
    assert "1 disabled" in words(operator.get("/").content.decode())
    assert "1 disabled" in words(page(operator, ""))


# --- The page of an entry --------------------------------------------------------------------------


def test_the_page_of_an_entry_says_what_is_scheduled_by_whom_and_why(operator, kind):
    kind.disable(until=LATER)

    text = page(operator, kind.path)

    assert "Disabled until 2026-05-03 14:00:00 UTC. Scheduled by alice: audit" in words(text)
    assert f'href="/services/plant/{kind.path}cancel-schedule/?from=page"' in text
    assert f'href="/services/plant/{kind.path}disable/?from=page&amp;when=until"' in text
    assert "Turning the switch here ends what is scheduled for it." in text


def test_another_time_can_be_chosen_from_there(operator, kind):
    kind.disable(until=LATER)
    question = page(operator, f"{kind.path}disable/?from=page&when=until")

    answer = post(
        operator,
        f"{kind.path}disable/?from=page&when=until",
        {"when": "until", "moment": "2026-05-04T14:00"},
    )

    assert re.search(r'value="until"[^>]* checked', question)
    assert f'value="{AS_TYPED}:00"' in question
    assert "hx-target" not in question.partition("dialog-body")[2].partition("</form>")[0]
    assert answer["Location"] == f"/services/plant/{kind.path}"
    assert kind.now.switches_at == LATER + timedelta(days=1)


@pytest.mark.parametrize("to", [0, 1], ids=["the time that is scheduled", "a later one"])
def test_another_time_is_not_compared_with_the_one_that_is_scheduled(operator, service, to):
    """Its device is in today, and is refused by what is scheduled and by nothing else."""
    enroll_with_one_device(service)
    disable_enrollment_group(service, "plant-7", at=LATER, actor=ALICE)
    url = "groups/g/plant-7/disable/?from=page&when=at"
    moment = LATER + timedelta(days=to)

    given = {"when": "at", "moment": f"{moment:%Y-%m-%dT%H:%M}", "look": "1"}
    question = post(operator, url, given).content.decode() if to else page(operator, url)

    at = (
        f"At {moment:%Y-%m-%d %H:%M:%S} UTC, when it is disabled, with whatever else is scheduled until then:"
    )
    assert f"{at} 1 known device will be refused : gate-1" in words(question)
    assert "shut out already" not in question


@pytest.mark.parametrize(("act", "stays"), [("disable", False), ("enable", True)])
def test_what_is_scheduled_can_be_dropped(operator, service, kind, act, stays):
    getattr(kind, act)(until=LATER)
    question = page(operator, f"{kind.path}cancel-schedule/?from=page")

    answer = post(
        operator,
        f"{kind.path}cancel-schedule/?from=page",
        {"reason": "plans changed", "epoch": epoch_in(question)},
        follow=True,
    )

    assert f"It stays {'enabled' if stays else 'disabled'}, until somebody turns its switch." in question
    assert answer.redirect_chain == [(f"/services/plant/{kind.path}", 302)]
    assert f"Nothing is scheduled for {kind.words} pump-042 any more." in answer.text_shown
    assert (kind.now.enabled, kind.now.switches_at) == (stays, None)
    (row,) = events(service, f"{kind.event}.schedule_cancelled")
    assert (row.actor_name, row.reason) == ("some-operator", "plans changed")


def test_saving_the_form_keeps_what_is_scheduled(operator, service):
    kind = Kind(service, "individual")
    kind.disable(at=LATER)

    post(operator, kind.path, entry_form(expected_etag=kind.now.etag, device_id="other"))

    assert (kind.now.device_id, kind.now.switches_at) == ("other", LATER)


def test_a_form_that_was_opened_before_the_time_is_a_conflict_after_it(operator, service, database_clock):
    kind = Kind(service, "individual")
    kind.disable(at=LATER)
    seen = kind.now.etag
    database_clock.set_to(LATER)

    answer = post(operator, kind.path, entry_form(expected_etag=seen, device_id="other"))

    assert answer.status_code == 409
    assert (kind.now.device_id, kind.now.enabled) == ("", False)
    assert re.search(r'value="no"[^>]* checked', answer.text_shown)


def test_a_viewer_sees_what_is_scheduled_and_is_offered_nothing(client, service, kind):
    kind.disable(until=LATER)
    client.force_login(a_user(Role.VIEWER, service))

    text = page(client, kind.path)

    assert "Disabled until 2026-05-03 14:00:00 UTC" in words(text)
    for offer in ("/cancel-schedule/", "/disable/", "/enable/"):
        assert offer not in text


# --- Elsewhere -------------------------------------------------------------------------------------


def test_the_history_says_until_when_and_holds_what_happened_by_itself(client, service, kind, database_clock):
    kind.disable(until=LATER)
    kind.disable()
    kind.enable()
    kind.disable(at=LATER)
    database_clock.set_to(LATER)
    client.force_login(a_user(Role.AUDITOR, service))

    text = words(page(client, "history/"))

    assert f"alice disabled {kind.words} pump-042 until 2026-05-03 14:00:00 UTC" in text
    assert f"alice scheduled the disabling of {kind.words} pump-042 at 2026-05-03 14:00:00 UTC" in text
    # The newest row, and no other: what stands behind it was done in the portal.
    done = rf"alice disabled {kind.words} pump-042 What changed(?:(?!portal #).)*? schedule #"
    assert len(re.findall(done, text)) == 1


def test_a_registration_record_says_who_keeps_the_device_out_now(operator, service, database_clock):
    ca = root("Plant 7")
    enroll_ca(service, ca, "plant-7")
    register(service, ca.leaf("pump-042"))
    disable_enrollment_group(service, "plant-7", at=LATER, actor=ALICE)
    before = page(operator, "registrations/pump-042/")
    database_clock.set_to(LATER)

    assert "Shut out" not in before
    assert "Shut out" in page(operator, "registrations/pump-042/")


def test_denying_a_device_says_that_it_ends_the_time_box(operator, service):
    an_individual(service, leaf=(leaf := root("Plant 7").leaf("pump-042")))
    register(service, leaf)
    disable_enrollment(service, "pump-042", until=LATER, actor=ALICE)

    question = page(operator, "registrations/pump-042/deny/")
    post(operator, "registrations/pump-042/deny/", {"reason": "stolen"})

    assert "is disabled until 2026-05-03 14:00:00 UTC, and stays so until further notice" in question
    assert service.individualenrollments.get().switches_at is None


# --- Enabling what is enabled, and to be disabled --------------------------------------------------


def test_enabling_what_is_enabled_changes_nothing_and_leads_to_what_drops_its_schedule(operator, kind):
    """As from a list that was opened before somebody else enabled it, or a bookmark."""
    kind.disable(at=LATER)
    question, rows = page(operator, f"{kind.path}enable/?from=page"), HistoryEvent.objects.count()

    answer = post(
        operator,
        f"{kind.path}enable/?from=page",
        {"when": "now", "epoch": epoch_in(question)},
        follow=True,
    )

    assert (
        "pump-042 is enabled already, and is to be disabled at 2026-05-03 14:00:00 UTC. Without another time below, "
        "that stays so. Drop what is scheduled to keep it enabled."
    ) in words(question)
    assert f'href="/services/plant/{kind.path}cancel-schedule/?from=page"' in question
    assert (
        "pump-042 was enabled already, and is to be disabled at 2026-05-03 14:00:00 UTC as before: drop what is "
        "scheduled to keep it enabled."
    ) in words(answer.text_shown)
    assert (kind.now.enabled, kind.now.switches_at, HistoryEvent.objects.count()) == (True, LATER, rows)


def test_enabling_what_is_enabled_for_good_says_so(operator, kind):
    question = page(operator, f"{kind.path}enable/?from=page")

    answer = post(operator, f"{kind.path}enable/?from=page", {"epoch": epoch_in(question)}, follow=True)

    assert "pump-042 was enabled already." in words(answer.text_shown)


def test_a_disabling_that_is_put_off_is_told_in_the_row(operator, service):
    enroll_with_one_device(service)
    disable_enrollment_group(service, "plant-7", at=LATER, actor=ALICE)
    given = {"when": "until", "moment": "2026-05-08T14:00"}

    unseen = post(operator, "groups/g/plant-7/enable/", {**given, "epoch": "0"}, headers=HTMX)
    shown = {"epoch": epoch_in(unseen.text_shown), "seen": seen_in(unseen.text_shown)}
    answer = post(operator, "groups/g/plant-7/enable/", {**given, **shown}, headers=HTMX)

    assert unseen.status_code == 409
    assert (
        "What is scheduled for 2026-05-03 14:00:00 UTC would do this then, and is put off: 1 known device will be "
        "refused : gate-1"
    ) in words(unseen.text_shown)
    assert json.loads(answer["HX-Trigger"])["announce"]["value"] == (
        "Enrollment group plant-7 is enabled until 2026-05-08 14:00:00 UTC, when it is disabled. What was scheduled "
        "for 2026-05-03 14:00:00 UTC is put off."
    )
