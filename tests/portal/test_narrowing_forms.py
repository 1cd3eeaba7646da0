"""What of a form only shuts out: it is asked once, and done whatever somebody else has changed meanwhile."""

import html
import json
import re

import pytest
from django import forms

from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.preview import Act, turn
from enrollments.errors import SecretUnreadable
from enrollments.models import Certificate, HistoryEvent, Slot
from enrollments.policy.roles import Role
from enrollments.portal import entry_saving
from enrollments.portal.entry_conflicts import typed_otherwise
from enrollments.portal.forms_entries import TwinField, twin_as_text
from enrollments.portal.forms_opened import OpenedForm
from enrollments.portal.views.enrollment_groups import SECRET_FIELDS as OF_GROUPS
from enrollments.portal.views.enrollments import SECRET_FIELDS
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, register
from tests.factories import a_service, a_user
from tests.portal.entry_forms import events, mark_in, page, post, post_once
from tests.portal.pages import Page
from tests.portal.test_settings import entered

pytestmark = pytest.mark.django_db


@pytest.fixture
def service():
    return a_service()


@pytest.fixture(params=["group", "individual"])
def entry(request, service):
    """An entry with one device that came in by it."""
    if request.param == "group":
        ca = root("Plant")
        made, leaf = enroll_ca(service, ca, "plant-7"), ca.leaf("pump-1")
        path = "groups/g/plant-7/"
    else:
        leaf = self_signed("pump-1")
        made, path = enroll_device(service, leaf), "enrollments/i/pump-1/"
    register(service, leaf)
    return made, path


def form_on(client, path):
    """As a browser would send it."""
    (form,) = [one for one in Page(page(client, path)).forms if "initial_twin" in one.fields]
    return {name: values[0] for name, values in form.fields.items()}


def text_of(answer):
    """What is read, without markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def test_disabling_in_a_form_is_done_although_somebody_else_saved_meanwhile(operator, service, entry):
    made, path = entry
    mine = form_on(operator, path)
    post_once(operator, path, {**mine, "initial_twin": '{"tags": {"by": "somebody else"}}'})

    answer = post_once(operator, path, {**mine, "enabled": "no", "iot_edge": "on", "reason": "stolen"})

    made.refresh_from_db()
    assert (made.enabled, made.iot_edge, made.initial_twin) == (
        False,
        False,
        {"tags": {"by": "somebody else"}, "properties": {"desired": {}}},
    )
    assert answer.status_code == 409
    said = text_of(answer)
    assert f"{made}: 1 device is refused from now on." in said
    assert (
        "Somebody else had changed it after you opened it, so nothing else of your changes was saved." in said
    )
    assert form_on(operator, path)["enabled"] == "no"
    last = HistoryEvent.objects.order_by("id").last()
    assert (last.event.partition(".")[2], last.reason, last.actor_name) == (
        "disabled",
        "stolen",
        "some-operator",
    )


def test_a_form_that_was_opened_disabled_disables_nothing_that_was_enabled_since(operator, service, entry):
    made, path = entry
    turn(service, Act.DISABLE, made, actor=ALICE)
    mine = form_on(operator, path)
    turn(service, Act.ENABLE, made, actor=ALICE)

    answer = post_once(operator, path, {**mine, "initial_twin": '{"tags": {"a": 1}}', "reason": "as agreed"})

    made.refresh_from_db()
    assert (answer.status_code, made.enabled) == (409, True)
    assert [(one.label, one.text) for one in answer.context["typed"]] == [
        ("Initial twin state", '{"tags": {"a": 1}}'),
        ("Reason", "as agreed"),
    ]
    assert "What you had typed, where it differs" in text_of(answer)
    assert "Your changes were not saved. The form shows what holds now." in text_of(answer)


def test_what_was_typed_is_shown_again_without_secrets():
    class AForm(OpenedForm):
        note = forms.CharField()
        primary_key = forms.CharField()
        seen = forms.CharField(widget=forms.HiddenInput)
        file = forms.FileField()

    typed = AForm({"note": "mine", "primary_key": "c2VjcmV0", "seen": "1"}, {"file": "x"})

    assert typed_otherwise(typed, AForm(initial={"note": "theirs"}), SECRET_FIELDS) == [("Note", "mine")]
    assert (
        set(SECRET_FIELDS) >= set(OF_GROUPS) >= {"primary_key", "secondary_key", "webhook_url", "typed_keys"}
    )


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        pytest.param('{"properties": {}, "tags": {"a": 1, "b": 2}}', False, id="in another order"),
        pytest.param('{"tags":{"b":2,"a":1}}', False, id="on one line"),
        pytest.param('{"tags": {"a": true, "b": 2}}', True, id="another value"),
        pytest.param('{"tags": {"a": 1,', True, id="no JSON"),
    ],
)
def test_a_twin_that_is_written_otherwise_was_not_typed(text, is_told):
    class AForm(OpenedForm):
        initial_twin = TwinField()

    holds = twin_as_text({"tags": {"b": 2, "a": 1}, "properties": {"desired": {}}})
    told = typed_otherwise(AForm({"initial_twin": text}), AForm(initial={"initial_twin": holds}), ())

    assert bool(told) is is_told


def test_a_form_in_which_the_switch_was_not_touched_is_a_conflict_as_ever(operator, entry):
    made, path = entry
    mine = form_on(operator, path)
    post_once(operator, path, {**mine, "iot_edge": "on"})

    answer = post_once(operator, path, {**mine, "initial_twin": '{"tags": {"a": 1}}'})

    made.refresh_from_db()
    assert (answer.status_code, made.enabled, made.initial_twin) == (
        409,
        True,
        json.loads(mine["initial_twin"]),
    )


# --- One certificate less ------------------------------------------------------------------------------


@pytest.fixture
def pins(service):
    first, second = self_signed("pump-1"), self_signed("pump-1")
    certificates = {Slot.PRIMARY: first.parsed, Slot.SECONDARY: second.parsed}
    enroll_device(service, first, certificates=certificates)
    register(service, second)
    return first, second


PATH = "enrollments/i/pump-1/"


def test_removing_a_certificate_of_an_enabled_enrollment_is_asked_once_and_told(operator, service, pins):
    given = {**form_on(operator, PATH), "secondary_remove": "on", "reason": "lost"}

    asked = post_once(operator, PATH, given)

    assert "1 known device" in text_of(asked)
    assert "is admitted from now on" not in text_of(asked)
    assert service.individualenrollments.get(registration_id="pump-1").certificates.count() == 2
    enroll_device(service, self_signed("another"), enabled=False)  # which outdates every preview

    answer = post_once(operator, PATH, {**given, "confirmed": mark_in(asked.text_shown)}, follow=True)

    assert answer.redirect_chain
    assert "Saved individual enrollment pump-1: 1 device " in text_of(answer)
    held = service.individualenrollments.get(registration_id="pump-1").certificates
    assert [one.slot for one in held.all()] == ["primary"]
    assert register(service, pins[1]).outcome.name == "UNAUTHORIZED"
    assert register(service, pins[0]).outcome.name == "ASSIGNED"
    (row,) = events(service, "enrollment.changed")
    assert row.reason == "lost"


def test_it_can_be_disabled_along(operator, service, pins):
    mine = form_on(operator, PATH)

    answer = post(operator, PATH, {**mine, "secondary_remove": "on", "enabled": "no"}, follow=True)

    assert "1 device is refused from now on" in text_of(answer)
    assert not service.individualenrollments.get().enabled


def test_what_was_confirmed_of_another_change_is_asked_about_anew(operator, service, pins):
    mine = form_on(operator, PATH)
    mark = mark_in(post_once(operator, PATH, {**mine, "secondary_remove": "on"}).text_shown)

    answer = post_once(operator, PATH, {**mine, "enabled": "no", "confirmed": mark})

    assert mark_in(answer.text_shown) not in ("", mark)
    assert service.individualenrollments.get().enabled


def test_what_cannot_be_previewed_is_done_at_once(operator, service, pins, monkeypatch):
    def unreadable(*_, **__):
        raise SecretUnreadable

    monkeypatch.setattr(entry_saving, "preview_with_what_is_sent_along", unreadable)

    answer = post_once(operator, PATH, {**form_on(operator, PATH), "enabled": "no"}, follow=True)

    assert answer.redirect_chain
    assert not service.individualenrollments.get().enabled


def test_a_certificate_that_cannot_be_read_any_more_holds_up_no_shutting_out(operator, service):
    """Another version of a library may not read what an earlier one took (R16)."""
    ca = root("Plant")
    enroll_ca(service, ca, "plant-7")
    leaf = ca.leaf("pump-1")
    register(service, leaf)
    kept = Certificate.objects.filter(thumbprint_sha256=leaf.parsed.thumbprint_sha256)
    assert kept.update(pem="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    operator.force_login(a_user(Role.ADMINISTRATOR, service))

    post(operator, "settings/change/", entered(service, proof_of_possession="on"))
    asked = post_once(operator, "groups/g/plant-7/disable/?from=page", {})
    post(operator, "groups/g/plant-7/", {**form_on(operator, "groups/g/plant-7/"), "enabled": "no"})

    service.refresh_from_db()
    assert service.proof_of_possession
    assert not service.enrollmentgroups.get().enabled
    assert asked.status_code in (200, 302)


# --- One certificate less, of what somebody else has saved meanwhile -----------------------------------


def confirmed(client, **changes):
    """A form that takes the secondary certificate away, as it is sent once its question was answered."""
    given = {**form_on(client, PATH), "secondary_remove": "on", "reason": "lost", **changes}
    return {**given, "confirmed": mark_in(post_once(client, PATH, given).text_shown)}


def held_by(service):
    return dict(
        service.individualenrollments.get(registration_id="pump-1").certificates.values_list(
            "slot", "certificate__thumbprint_sha256"
        )
    )


def test_a_certificate_that_was_taken_away_is_gone_although_somebody_else_saved(operator, service, pins):
    mine = confirmed(operator, initial_twin='{"tags": {"a": 1}}')
    post_once(operator, PATH, {**form_on(operator, PATH), "iot_edge": "on"})

    answer = post_once(operator, PATH, mine)

    entry = service.individualenrollments.get()
    assert held_by(service) == {"primary": pins[0].parsed.thumbprint_sha256}
    assert (entry.enabled, entry.iot_edge, entry.initial_twin["tags"]) == (True, True, {})
    assert answer.status_code == 409
    said = text_of(answer)
    assert "Removed the secondary certificate of individual enrollment pump-1: 1 device is refused" in said
    assert "after you opened it, so nothing else of your changes was saved." in said
    assert [one.label for one in answer.context["typed"]] == ["Initial twin state", "Reason"]
    assert register(service, pins[1]).outcome.name == "UNAUTHORIZED"
    *_, row = events(service, "enrollment.changed")
    assert (row.reason, row.actor_name, set(row.after)) == ("lost", "some-operator", {"certificates"})
    assert set(row.after["certificates"]) == {"primary"}


def test_it_is_gone_too_where_somebody_else_has_replaced_the_other_one(operator, service, pins):
    mine, another = confirmed(operator), self_signed("pump-1")
    post(operator, PATH, {**form_on(operator, PATH), "primary_pem": another.pem})

    post_once(operator, PATH, mine)

    assert held_by(service) == {"primary": another.parsed.thumbprint_sha256}


def test_what_was_not_asked_about_yet_is_a_conflict(operator, service, pins):
    mine = form_on(operator, PATH)
    post_once(operator, PATH, {**mine, "iot_edge": "on"})

    answer = post_once(operator, PATH, {**mine, "secondary_remove": "on"})

    assert (answer.status_code, len(held_by(service))) == (409, 2)
    assert "Your changes were not saved." in text_of(answer)


def test_what_cannot_be_asked_about_waits_for_nobody_else(operator, service, pins, monkeypatch):
    def unreadable(*_, **__):
        raise SecretUnreadable

    mine = form_on(operator, PATH)
    post_once(operator, PATH, {**mine, "iot_edge": "on"})
    monkeypatch.setattr(entry_saving, "preview_with_what_is_sent_along", unreadable)

    answer = post_once(operator, PATH, {**mine, "secondary_remove": "on"})

    assert (answer.status_code, len(held_by(service))) == (409, 1)
    assert "Removed the secondary certificate of individual enrollment pump-1" in text_of(answer)


@pytest.mark.parametrize(
    "theirs",
    [
        pytest.param({"secondary_pem": "another"}, id="another one is in its place"),
        pytest.param({"secondary_remove": "on", "iot_edge": "on"}, id="it is gone"),
        pytest.param({"enabled": "no"}, id="its key is barred"),
    ],
)
def test_what_is_not_certain_to_shut_out_alone_is_a_conflict(operator, service, pins, theirs):
    mine = confirmed(operator)
    if "secondary_pem" in theirs:
        theirs = {"secondary_pem": self_signed("pump-1").pem}
    assert post(operator, PATH, {**form_on(operator, PATH), **theirs}).status_code == 302
    held, rows = held_by(service), HistoryEvent.objects.count()

    answer = post_once(operator, PATH, mine)

    assert answer.status_code == 409
    assert "Your changes were not saved." in text_of(answer)
    assert (held_by(service), HistoryEvent.objects.count()) == (held, rows)


def test_the_last_one_is_left_and_that_is_said(operator, service, pins):
    mine = confirmed(operator)
    post(operator, PATH, {**form_on(operator, PATH), "primary_remove": "on"})

    answer = post_once(operator, PATH, mine)

    assert answer.status_code == 422
    assert "Give the certificate with which the device will prove itself." in text_of(answer)
    assert held_by(service) == {"secondary": pins[1].parsed.thumbprint_sha256}


def test_of_an_entry_that_is_to_be_disabled_by_now_it_is_a_conflict(operator, service, pins, database_clock):
    mine = confirmed(operator)
    disable_enrollment(service, "pump-1", at=database_clock.ahead(days=1), actor=ALICE)

    assert post_once(operator, PATH, mine).status_code == 409
    assert len(held_by(service)) == 2


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"shown_secondary": ""}, id="it does not say what it showed"),
        pytest.param({"shown_secondary": "0" * 64}, id="it showed another one"),
        pytest.param({"primary_pem": "another"}, id="it brings another one"),
        pytest.param({"enabled": "no", "shown_enabled": "no"}, id="it is disabled in it"),
        pytest.param({"mechanism": "symmetricKey"}, id="it is to hold keys"),
    ],
)
def test_a_form_that_does_not_only_take_it_away_is_a_conflict(operator, service, pins, changes):
    if "primary_pem" in changes:
        changes = {"primary_pem": self_signed("pump-1").pem}
    mine = confirmed(operator)
    post_once(operator, PATH, {**form_on(operator, PATH), "iot_edge": "on"})

    answer = post_once(operator, PATH, {**mine, **changes})

    assert (answer.status_code, len(held_by(service))) == (409, 2)


def test_another_certificate_than_the_one_that_was_confirmed_stays(operator, service, pins):
    mine, renewed = confirmed(operator), self_signed("pump-1")
    post(operator, PATH, {**form_on(operator, PATH), "secondary_pem": renewed.pem})

    answer = post_once(operator, PATH, {**mine, "shown_secondary": renewed.parsed.thumbprint_sha256})

    assert (answer.status_code, len(held_by(service))) == (409, 2)


@pytest.mark.parametrize("way", ["disabled", "replaced"])
def test_what_lifts_a_bar_or_brings_another_is_asked_about(operator, service, pins, way):
    if way == "disabled":
        turn(service, Act.DISABLE, service.individualenrollments.get(), actor=ALICE)
    changes = {"secondary_remove": "on"}
    if way == "replaced":
        changes = {"secondary_pem": self_signed("pump-1").pem}

    answer = post_once(operator, PATH, {**form_on(operator, PATH), **changes})

    assert mark_in(answer.text_shown)
    assert service.individualenrollments.get().certificates.count() == 2
