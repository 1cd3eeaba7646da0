"""The settings of a service: who sees and who changes them, and somebody else's change in between."""

import html
import re
from typing import Any

import pytest

from enrollments.actions.enrollment_groups import disable_enrollment_group, enable_enrollment_group
from enrollments.actions.schedule import as_text
from enrollments.actions.services import SETTINGS, change_settings, settings_version
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.policy.roles import Role
from enrollments.portal.views import settings as settings_view
from tests.certificates import root
from tests.devices import ALICE, derived_key, enroll_ca, enroll_key_group, register, signs
from tests.factories import a_service, a_user, an_individual
from tests.portal.pages import Page

URL = "/services/plant/settings/"
CHANGE = f"{URL}change/"


def entered(service: ProvisioningService, **changed: Any) -> dict[str, Any]:
    return {
        "description": "",
        "host_name": "",
        "allocation_policy": "hashed",
        "shared_access_keys": "on",
        "retry_after_seconds": "3",
        "longest_retry_after_seconds": "300",
        "device_registrations_per_minute": "12",
        "registrations_per_minute": "10000",
        "attempts_kept_days": "30",
        "version": settings_version(service),
        **changed,
    }


def test_change_is_saved_recorded_and_raises_the_epoch(admin, plant):
    epoch = plant.epoch

    answer = admin.post(CHANGE, entered(plant, retry_after_seconds="9", reason="calmer"))

    assert answer["Location"] == URL
    plant.refresh_from_db()
    assert (plant.retry_after_seconds, plant.epoch > epoch) == (9, True)
    row = HistoryEvent.objects.get(event="service.changed")
    assert (row.reason, row.before, row.after) == (
        "calmer",
        {"retry_after_seconds": 3},
        {"retry_after_seconds": 9},
    )


def test_groups_with_keys_are_switched_on_and_off_again(admin, plant):
    for on in (True, False):
        form = entered(plant, **({"symmetric_key_groups": "on"} if on else {}))
        for mark in confirmed_in(admin.post(CHANGE, form)):
            admin.post(CHANGE, {**form, "confirmed": mark})

        plant.refresh_from_db()
        assert plant.symmetric_key_groups is on
        row = HistoryEvent.objects.filter(event="service.changed").latest("pk")
        assert row.after == {"symmetric_key_groups": on}


def a_group_that_waits(service):
    """A group with keys, enabled, and a device that it admitted while it might."""
    group = enroll_key_group(service, "line-9")
    key = derived_key(group.primary_key, "press-01")
    assert register(service, signs(service, "press-01", key), "press-01").outcome == "assigned"
    change_settings(service, {"symmetric_key_groups": False}, actor=ALICE)
    return key


def confirmed_in(answer):
    return re.findall(r'name="confirmed" value="([^"]+)"', answer.content.decode())


def test_groups_that_wait_for_the_switch_are_let_in_on_a_confirmed_preview(admin, plant):
    key = a_group_that_waits(plant)
    form = entered(plant, symmetric_key_groups="on", reason="the line runs again")

    asked = admin.post(CHANGE, form)

    text = asked.content.decode()
    assert (asked.status_code, "will come in anew" in text, "press-01" in text) == (200, True, True)
    plant.refresh_from_db()
    assert not plant.symmetric_key_groups
    hidden = dict(re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)">', text))
    del hidden["csrfmiddlewaretoken"]
    # What was asked about is what is posted, all of it.
    assert hidden == {**form, "confirmed": confirmed_in(asked)[0]}
    assert admin.post(CHANGE, hidden)["Location"] == URL
    row = HistoryEvent.objects.filter(event="service.changed").latest("pk")
    assert (row.reason, row.after) == ("the line runs again", {"symmetric_key_groups": True})
    assert register(plant, signs(plant, "press-01", key), "press-01").outcome == "assigned"


def test_a_group_that_is_enabled_only_later_is_told_with_the_time(admin, plant, database_clock):
    a_group_that_waits(plant)
    at = database_clock.ahead(days=1)
    disable_enrollment_group(plant, "line-9", until=at, actor=ALICE)

    text = admin.post(CHANGE, entered(plant, symmetric_key_groups="on")).content.decode()

    assert re.search(r'line-9</span> \(disabled until <time datetime="[^"]+">[^<]+</time>\s+UTC\)', text)
    assert f"From {as_text(at)} on, with whatever else is scheduled until then:" in text
    assert "will come in anew</strong> through enrollment group line-9" in text


def test_the_question_is_asked_again_when_something_changed_after_it(admin, plant):
    a_group_that_waits(plant)
    form = entered(plant, symmetric_key_groups="on")
    (mark,) = confirmed_in(admin.post(CHANGE, form))
    an_individual(plant)

    answer = admin.post(CHANGE, {**form, "confirmed": mark})

    assert answer.status_code == 409
    assert "changed after the question was asked" in answer.content.decode()
    plant.refresh_from_db()
    assert not plant.symmetric_key_groups
    assert admin.post(CHANGE, {**form, "confirmed": confirmed_in(answer)[0]}).status_code == 302


def test_what_is_saved_is_what_was_looked_at(admin, plant):
    a_group_that_waits(plant)
    change_settings(plant, {"proof_of_possession": True}, actor=ALICE)
    form = entered(plant, symmetric_key_groups="on")
    (mark,) = confirmed_in(admin.post(CHANGE, {**form, "proof_of_possession": "on"}))

    answer = admin.post(CHANGE, {**form, "confirmed": mark})

    assert answer.status_code == 409
    plant.refresh_from_db()
    assert (plant.symmetric_key_groups, plant.proof_of_possession) == (False, True)


def test_a_group_that_is_enabled_under_the_switch_does_not_slip_in(admin, plant, monkeypatch):
    """Between the look at the groups and the change: nobody was asked about it yet."""
    a_group_that_waits(plant)
    disable_enrollment_group(plant, "line-9", actor=ALICE)
    change = settings_view.change_settings

    def late(service, values, **how):
        monkeypatch.setattr(settings_view, "change_settings", change)
        enable_enrollment_group(service, "line-9", actor=ALICE)
        return change(service, values, **how)

    monkeypatch.setattr(settings_view, "change_settings", late)

    answer = admin.post(CHANGE, entered(plant, symmetric_key_groups="on"))

    assert (answer.status_code, "line-9" in answer.content.decode()) == (409, True)
    plant.refresh_from_db()
    assert not plant.symmetric_key_groups


def test_what_is_wrong_with_other_settings_is_said_before_any_question(admin, plant):
    change_settings(a_service("depot"), {"host_name": "dps.example"}, actor=ALICE)
    a_group_that_waits(plant)

    answer = admin.post(CHANGE, entered(plant, symmetric_key_groups="on", host_name="dps.example"))

    assert (answer.status_code, confirmed_in(answer)) == (422, [])


def test_saving_nothing_new_records_nothing(admin, plant):
    epoch = plant.epoch

    admin.post(CHANGE, entered(plant))

    assert not HistoryEvent.objects.filter(event="service.changed").exists()
    plant.refresh_from_db()
    assert plant.epoch == epoch


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"retry_after_seconds": "0"}, "greater than or equal to 1"),
        ({"retry_after_seconds": "301"}, "less than or equal to 300"),
        ({"longest_retry_after_seconds": "0"}, "greater than or equal to 1"),
        ({"longest_retry_after_seconds": "86401"}, "less than or equal to 86400"),
        ({"device_registrations_per_minute": "61"}, "less than or equal to 60"),
        ({"registrations_per_minute": "0"}, "greater than or equal to 1"),
        ({"allocation_policy": "custom"}, "Select a valid choice"),
        ({"attempts_kept_days": "many"}, "Enter a whole number"),
        ({"allocation_policy": "dice"}, "Select a valid choice"),
        ({"host_name": "lab.example"}, "cannot be used"),
        ({"version": ""}, "This field is required."),
    ],
)
def test_change_is_refused(admin, plant, changed, sentence):
    change_settings(a_service("lab"), {"host_name": "lab.example"}, actor=ALICE)

    answer = admin.post(CHANGE, entered(plant, description="new", **changed))

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    plant.refresh_from_db()
    assert plant.description == ""


def test_change_in_between_is_noticed_and_not_overwritten(admin, plant):
    mine = entered(plant, retry_after_seconds="9")
    change_settings(plant, {"retry_after_seconds": 60, "description": "Hall 3"}, actor=ALICE)

    answer = admin.post(CHANGE, mine)

    assert answer.status_code == 409
    text = answer.content.decode()
    assert "was changed by somebody else after you opened it" in text
    assert "Hall 3" in text
    plant.refresh_from_db()
    assert plant.retry_after_seconds == 60


def test_saving_again_after_the_conflict_is_a_decision(admin, plant):
    mine = entered(plant, retry_after_seconds="9")
    change_settings(plant, {"retry_after_seconds": 60}, actor=ALICE)
    form = admin.post(CHANGE, mine).context["form"]

    assert admin.post(CHANGE, {**mine, "version": form["version"].value()}).status_code == 302
    plant.refresh_from_db()
    assert plant.retry_after_seconds == 9


def opened(answer):
    """The form of the page, as a browser would send it."""
    (form,) = [one for one in Page(answer.content.decode()).forms if "version" in one.fields]
    return {name: values[0] for name, values in form.fields.items()}


def stands_below(answer):
    """What the page says of the form below what now holds."""
    return re.sub(r"\s+", " ", re.search(r"Below is the same[^<]*", answer.content.decode())[0])


def test_saving_again_undoes_nothing_in_what_was_left_alone(admin, plant):
    mine = {**opened(admin.get(URL)), "retry_after_seconds": "9", "reason": "calmer"}
    theirs = {
        "retry_after_seconds": 60,
        "description": "Hall 3",
        "host_name": "dps.example",
        "shared_access_keys": False,
        "proof_of_possession": True,
    }
    change_settings(plant, theirs, actor=ALICE)

    conflict = admin.post(CHANGE, mine)
    again = opened(conflict)

    assert conflict.status_code == 409
    assert stands_below(conflict) == (
        "Below is the same, but for what you entered: Retry-After in seconds. Saving it again replaces what stands "
        "above for it."
    )
    assert (again["retry_after_seconds"], again["reason"]) == ("9", "calmer")
    assert admin.post(CHANGE, again)["Location"] == URL
    plant.refresh_from_db()
    assert {name: getattr(plant, name) for name in theirs} == {**theirs, "retry_after_seconds": 9}


@pytest.mark.parametrize("entered_as", ["60", "3"])
def test_what_says_the_same_or_was_left_alone_replaces_nothing(admin, plant, entered_as):
    mine = {**opened(admin.get(URL)), "retry_after_seconds": entered_as}
    change_settings(plant, {"retry_after_seconds": 60}, actor=ALICE)

    conflict = admin.post(CHANGE, mine)

    assert stands_below(conflict) == "Below is the same: nothing that you entered says otherwise."
    assert opened(conflict)["retry_after_seconds"] == "60"


def test_a_box_that_was_changed_stays_as_it_was_entered(admin, plant):
    mine = opened(admin.get(URL))
    del mine["shared_access_keys"]
    change_settings(plant, {"description": "Hall 3"}, actor=ALICE)

    again = opened(admin.post(CHANGE, mine))

    assert "shared_access_keys" not in again
    admin.post(CHANGE, again)
    plant.refresh_from_db()
    assert (plant.shared_access_keys, plant.description) == (False, "Hall 3")


def test_a_second_conflict_goes_by_what_the_first_brought(admin, plant):
    mine = {**opened(admin.get(URL)), "retry_after_seconds": "9"}
    change_settings(plant, {"description": "Hall 3"}, actor=ALICE)
    again = {**opened(admin.post(CHANGE, mine)), "attempts_kept_days": "7"}
    change_settings(plant, {"description": "Hall 4", "retry_after_seconds": 60}, actor=ALICE)

    last = opened(admin.post(CHANGE, again))

    assert [last[name] for name in ("description", "retry_after_seconds", "attempts_kept_days")] == [
        "Hall 4",
        "9",
        "7",
    ]


def test_a_form_that_does_not_say_what_it_was_opened_with_keeps_all_that_was_entered(admin, plant):
    mine = entered(plant)
    change_settings(plant, {"retry_after_seconds": 60, "shared_access_keys": False}, actor=ALICE)

    conflict = admin.post(CHANGE, mine)

    assert "what you entered: Back ends may use the keys of access policies, Retry-After in seconds." in (
        stands_below(conflict)
    )
    assert opened(conflict)["retry_after_seconds"] == "3"


def test_what_it_was_opened_with_outlives_errors_and_a_question(admin, plant):
    a_group_that_waits(plant)
    mine = {**opened(admin.get(URL)), "symmetric_key_groups": "on", "retry_after_seconds": "0"}
    wrong = admin.post(CHANGE, mine)
    asked = admin.post(CHANGE, {**opened(wrong), "retry_after_seconds": "9"})
    change_settings(plant, {"description": "Hall 3"}, actor=ALICE)

    asked_again = admin.post(CHANGE, opened(asked))  # the preview is outdated by it, too
    conflict = admin.post(CHANGE, opened(asked_again))

    assert (wrong.status_code, confirmed_in(asked) != confirmed_in(asked_again)) == (422, True)
    assert (conflict.status_code, confirmed_in(conflict)) == (409, [])
    again = opened(conflict)
    assert [again[name] for name in ("description", "retry_after_seconds", "symmetric_key_groups")] == [
        "Hall 3",
        "9",
        "on",
    ]


def test_what_the_form_says_it_was_opened_with_is_never_saved(admin, plant):
    mine = opened(admin.get(URL))

    admin.post(CHANGE, {**mine, "initial-retry_after_seconds": "60", "initial-proof_of_possession": "True"})

    assert not HistoryEvent.objects.filter(event="service.changed").exists()


# --- What only shuts out, after somebody else's change ------------------------------------------------


def demanding_proof(admin, **changed):
    """A form that demands proof of possession, and the question about it."""
    mine = {**opened(admin.get(URL)), "proof_of_possession": "on", **changed}
    return mine, admin.post(CHANGE, mine)


def test_proof_that_was_demanded_and_confirmed_waits_for_nobody_else(admin, plant):
    ca = root("Plant")
    enroll_ca(plant, ca, "plant-7")
    register(plant, ca.leaf("pump-1"))
    mine, asked = demanding_proof(admin, description="mine", reason="after the audit")
    change_settings(plant, {"allocation_policy": "static"}, actor=ALICE)

    answer = admin.post(CHANGE, {**mine, "confirmed": confirmed_in(asked)[0]})

    plant.refresh_from_db()
    assert (plant.proof_of_possession, plant.allocation_policy, plant.description) == (True, "static", "")
    assert answer.status_code == 409
    said = html.unescape(answer.content.decode())
    assert "Proof of possession is demanded from now on: 1 device is refused from now on." in said
    assert "after you opened them, so nothing else of your changes was saved." in said
    assert stands_below(answer).startswith(
        "Below is the same, but for what you entered: Description. Saving it again"
    )
    *_, theirs, row = HistoryEvent.objects.filter(event="service.changed").order_by("pk")
    assert theirs.after == {"allocation_policy": "static"}
    assert (row.reason, row.before, row.after) == (
        "after the audit",
        {"proof_of_possession": False},
        {"proof_of_possession": True},
    )


def test_keys_of_groups_that_were_switched_off_wait_for_nobody_else(admin, plant):
    enroll_key_group(plant, "line-9")
    mine = opened(admin.get(URL))
    del mine["symmetric_key_groups"]
    asked = admin.post(CHANGE, mine)
    change_settings(plant, {"proof_of_possession": True, "description": "Hall 3"}, actor=ALICE)

    answer = admin.post(CHANGE, {**mine, "confirmed": confirmed_in(asked)[0]})

    plant.refresh_from_db()
    assert (answer.status_code, plant.symmetric_key_groups) == (409, False)
    assert (plant.proof_of_possession, plant.description) == (True, "Hall 3")
    assert "Groups with symmetric keys are kept out from now on" in answer.content.decode()


def test_a_form_that_does_not_say_what_it_was_opened_with_narrows_by_what_was_confirmed(admin, plant):
    mine = entered(plant, proof_of_possession="on")
    (mark,) = confirmed_in(admin.post(CHANGE, mine))
    change_settings(plant, {"allocation_policy": "static"}, actor=ALICE)

    admin.post(CHANGE, {**mine, "confirmed": mark})

    plant.refresh_from_db()
    assert (plant.proof_of_possession, plant.allocation_policy) == (True, "static")


def test_what_was_not_asked_about_is_not_switched_off_along(admin, plant):
    mine = entered(plant, proof_of_possession="on")
    (mark,) = confirmed_in(admin.post(CHANGE, mine))
    change_settings(plant, {"symmetric_key_groups": True}, actor=ALICE)

    answer = admin.post(CHANGE, {**mine, "confirmed": mark})

    assert (answer.status_code, confirmed_in(answer) != [mark]) == (200, True)
    plant.refresh_from_db()
    assert (plant.symmetric_key_groups, plant.proof_of_possession) == (True, False)


@pytest.mark.parametrize(
    "theirs", [{"proof_of_possession": True}, {"proof_of_possession": True, "description": "x"}]
)
def test_what_the_other_one_has_done_already_is_not_called_done_by_this_one(admin, plant, theirs):
    mine, asked = demanding_proof(admin)
    change_settings(plant, theirs, actor=ALICE)

    answer = admin.post(CHANGE, {**mine, "confirmed": confirmed_in(asked)[0]})

    assert answer.status_code == 409
    assert "is demanded from now on" not in answer.content.decode()
    assert HistoryEvent.objects.filter(event="service.changed").count() == 1


def test_what_lets_in_is_not_done_along_with_what_shuts_out(admin, plant, monkeypatch):
    a_group_that_waits(plant)
    mine = {**opened(admin.get(URL)), "symmetric_key_groups": "on", "proof_of_possession": "on"}
    asked = admin.post(CHANGE, mine)
    change_settings(plant, {"description": "Hall 3"}, actor=ALICE)
    again = opened(admin.post(CHANGE, opened(asked)))

    answer = admin.post(CHANGE, again)

    assert answer.status_code == 409
    plant.refresh_from_db()
    assert (plant.symmetric_key_groups, plant.proof_of_possession) == (False, True)


@pytest.mark.parametrize("switch", ["symmetric_key_groups", "proof_of_possession"])
@pytest.mark.parametrize("was_on", [True, False])
def test_nobody_is_asked_about_a_switch_that_only_somebody_else_turned(admin, plant, switch, was_on):
    enroll_key_group(plant, "line-9")
    enroll_ca(plant, root("Plant"), "plant-7")
    change_settings(plant, {switch: was_on}, actor=ALICE)
    mine = {**opened(admin.get(URL)), "retry_after_seconds": "9"}
    change_settings(plant, {switch: not was_on}, actor=ALICE)

    answer = admin.post(CHANGE, mine)

    assert (answer.status_code, confirmed_in(answer)) == (409, [])
    plant.refresh_from_db()
    assert (getattr(plant, switch), plant.retry_after_seconds) == (not was_on, 3)


def test_a_form_that_is_not_stale_is_asked_about_whatever_it_says_it_was_opened_with(admin, plant):
    a_group_that_waits(plant)
    mine = {**opened(admin.get(URL)), "symmetric_key_groups": "on", "initial-symmetric_key_groups": "True"}

    assert confirmed_in(admin.post(CHANGE, mine))
    plant.refresh_from_db()
    assert not plant.symmetric_key_groups


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR, Role.OPERATOR])
def test_others_see_the_settings_and_cannot_change_them(client, plant, role):
    client.force_login(a_user(role, plant))

    text = client.get(URL).content.decode()
    answer = client.post(CHANGE, entered(plant, retry_after_seconds="9"))

    assert plant.id_scope in text
    assert ">Save<" not in text
    assert answer.status_code == 403
    plant.refresh_from_db()
    assert plant.retry_after_seconds == 3


def test_scope_and_epoch_cannot_be_sent_along(admin, plant):
    admin.post(CHANGE, entered(plant, id_scope="0neDEADBEEF", epoch="0", name="other", description="x"))

    plant.refresh_from_db()
    assert (plant.name, plant.description) == ("plant", "x")
    assert plant.id_scope != "0neDEADBEEF"
    assert plant.epoch > 0


def test_rates_and_back_off_are_saved_and_recorded(admin, plant):
    rates = {
        "longest_retry_after_seconds": 900,
        "device_registrations_per_minute": 4,
        "registrations_per_minute": 600,
    }

    admin.post(CHANGE, entered(plant, **{name: str(figure) for name, figure in rates.items()}))

    plant.refresh_from_db()
    assert {name: getattr(plant, name) for name in rates} == rates
    assert HistoryEvent.objects.get(event="service.changed").after == rates


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ADMINISTRATOR])
def test_each_setting_stands_once_under_a_heading(client, plant, role):
    client.force_login(a_user(role, plant))

    text = client.get(URL).content.decode()

    for name in SETTINGS:
        assert text.count(f'name="{name}"') == 1, name
    headings = re.findall(r"<legend>(.+?)</legend>", text)
    assert headings == [
        "Service",
        "Allocation",
        "Enrollment groups",
        "Service API",
        "Rates and back-off",
        "Attempts",
    ]
    assert text.index("Rates and back-off") < text.index('name="registrations_per_minute"')
    assert ('name="reason"' in text) is (role is Role.ADMINISTRATOR)


def test_what_is_wrong_is_said_under_its_heading(admin, plant):
    text = admin.post(CHANGE, entered(plant, registrations_per_minute="0")).content.decode()

    assert text.index("Rates and back-off") < text.index('id="id_registrations_per_minute_error"')
    assert 'href="#id_registrations_per_minute"' in text


def test_page_states_its_queries(admin, plant, django_assert_max_num_queries):
    with django_assert_max_num_queries(4):
        admin.get(URL)
