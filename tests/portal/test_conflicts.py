"""A form that somebody else was quicker to save than: what of it this person had changed, and what not."""

import html
import re

import pytest
from django import forms
from django.http import QueryDict

from enrollments.models import LinkedHub
from enrollments.portal.entry_conflicts import typed_otherwise
from enrollments.portal.forms_entries import EntryForm
from enrollments.portal.forms_groups import GroupForm
from enrollments.portal.forms_individuals import IndividualForm
from enrollments.portal.forms_opened import OpenedForm
from enrollments.portal.views.enrollments import SECRET_FIELDS
from tests.certificates import root, self_signed
from tests.devices import enroll_ca, enroll_device
from tests.factories import a_service
from tests.portal.entry_forms import HTMX, mark_in, page, post_once
from tests.portal.pages import Page

pytestmark = pytest.mark.django_db
THEIRS = '{"tags": {"by": "somebody else"}}'
MINE = '{"tags": {"by": "me"}}'


@pytest.fixture
def service():
    return a_service()


@pytest.fixture(params=["groups/g/plant-7/", "enrollments/i/pump-1/"])
def path(request, service):
    """Of an entry that is enrolled."""
    enroll_ca(service, root("Plant"), "plant-7")
    enroll_device(service, self_signed("pump-1"))
    return request.param


def form_in(text):
    """As a browser would send it, with every value of every field."""
    (form,) = [one for one in Page(text).forms if one.action.endswith(("/plant-7/", "/pump-1/"))]
    return dict(form.fields)


def without_what_it_was_opened_with(form):
    return {name: values for name, values in form.items() if not name.startswith("initial-")}


def typed_in(answer):
    assert answer.status_code == 409
    return {one.label: one.text for one in answer.context["typed"]}


def test_what_somebody_else_changed_is_not_listed_as_typed(operator, path):
    mine = form_in(page(operator, path))
    post_once(operator, path, {**mine, "initial_twin": THEIRS, "iot_edge": "on"})

    answer = post_once(operator, path, {**mine, "webhook_api_version": "2030-01-01", "reason": "new version"})

    assert typed_in(answer) == {"API version for the webhook": "2030-01-01", "Reason": "new version"}
    assert "somebody else" in answer.context["form"]["initial_twin"].value()


def test_what_both_changed_is_listed_unless_it_is_the_same(operator, path):
    mine = form_in(page(operator, path))
    post_once(operator, path, {**mine, "initial_twin": THEIRS, "reprovisioning_policy": "never"})

    answer = post_once(operator, path, {**mine, "initial_twin": MINE, "reprovisioning_policy": "never"})

    assert typed_in(answer) == {"Initial twin state": MINE}


def test_what_was_changed_back_to_what_it_was_opened_with_counts_as_left_alone(operator, path):
    mine = form_in(page(operator, path))
    wrong = post_once(operator, path, {**mine, "initial_twin": "[1]"}, headers=HTMX)
    post_once(operator, path, {**mine, "initial_twin": THEIRS})

    answer = post_once(
        operator, path, {**form_in(wrong.text_shown), "initial_twin": mine["initial_twin"], "iot_edge": "on"}
    )

    assert typed_in(answer) == {"IoT Edge device": "yes"}


def test_a_form_that_does_not_say_what_it_was_opened_with_lists_all_that_differs(operator, path):
    mine = without_what_it_was_opened_with(form_in(page(operator, path)))
    post_once(operator, path, {**mine, "reprovisioning_policy": "never"})

    answer = post_once(operator, path, {**mine, "iot_edge": "on"})

    assert typed_in(answer) == {
        "Reprovisioning policy": "Re-provision and migrate data",
        "IoT Edge device": "yes",
    }


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_what_it_was_opened_with_outlives_errors(operator, path, headers):
    mine = form_in(page(operator, path))
    wrong = post_once(operator, path, {**mine, "initial_twin": "[1]", "iot_edge": "on"}, headers=headers)
    looked_at = post_once(operator, path, {**form_in(wrong.text_shown), "preview": "1"}, headers=headers)
    post_once(operator, path, {**mine, "reprovisioning_policy": "never"})

    again = {**form_in(looked_at.text_shown), "initial_twin": MINE}
    answer = post_once(operator, path, again, headers=headers)

    assert (wrong.status_code, looked_at.status_code) == (422, 422)
    assert typed_in(answer) == {"Initial twin state": MINE, "IoT Edge device": "yes"}


def test_errors_fill_in_nothing_where_the_form_did_not_say_it(operator, path):
    """What was typed since would stand for what it was opened with, and not be listed."""
    mine = without_what_it_was_opened_with(form_in(page(operator, path)))
    wrong = post_once(operator, path, {**mine, "webhook_api_version": "2030-01-01", "initial_twin": "[1]"})
    post_once(operator, path, {**mine, "initial_twin": THEIRS})

    again = {**form_in(wrong.text_shown), "initial_twin": mine["initial_twin"]}

    assert not any(name.startswith("initial-") for name in again)
    assert set(typed_in(post_once(operator, path, again))) == {
        "API version for the webhook",
        "Initial twin state",
    }


def test_what_it_was_opened_with_outlives_a_question(operator, path):
    mine = form_in(page(operator, path))
    changed = {**mine, "secondary_pem": root("Plant 2").pem, "iot_edge": "on"}
    if "pump-1" in path:
        changed["secondary_pem"] = self_signed("pump-1").pem
    asked = post_once(operator, path, changed)
    post_once(operator, path, {**mine, "reprovisioning_policy": "never"})

    answer = post_once(operator, path, {**form_in(asked.text_shown), "confirmed": mark_in(asked.text_shown)})

    assert typed_in(answer) == {"IoT Edge device": "yes"}


def test_pages_of_the_preview_hand_on_what_it_was_opened_with(operator, path):
    mine = form_in(page(operator, path))

    shown = post_once(operator, f"{path}preview/", {**mine, "enabled": "no"})

    (form,) = [one for one in Page(shown.text_shown).forms if "initial_twin" in one.fields]
    told = {name: values for name, values in mine.items() if name.startswith("initial-")}
    assert told and told.items() <= form.fields.items()


def test_after_a_conflict_the_form_is_opened_with_what_holds_then(operator, path):
    mine = form_in(page(operator, path))
    post_once(operator, path, {**mine, "reprovisioning_policy": "never"})
    fresh = form_in(post_once(operator, path, {**mine, "iot_edge": "on"}).text_shown)

    post_once(operator, path, {**fresh, "reprovisioning_policy": "reset"})
    answer = post_once(operator, path, {**fresh, "initial_twin": MINE})

    assert fresh["initial-reprovisioning_policy"] == fresh["reprovisioning_policy"] == ["never"]
    assert typed_in(answer) == {"Initial twin state": MINE}


@pytest.mark.parametrize(
    ("theirs", "mine", "is_listed"),
    [
        pytest.param(["a"], None, False, id="only they chose"),
        pytest.param(["a"], ["b"], True, id="both chose"),
        pytest.param(["a"], ["a"], False, id="both chose the same"),
        pytest.param([], ["c", "b"], True, id="chosen again in another order, and one more"),
    ],
)
@pytest.mark.parametrize("before", [[], ["c"]])
def test_hubs(operator, service, path, before, theirs, mine, is_listed):
    hubs = {name: LinkedHub.objects.create(service=service, name=name, host_name=name) for name in "abc"}

    def chosen(names):
        return [str(hubs[name].pk) for name in names]

    opened = form_in(page(operator, path))
    if before:
        post_once(operator, path, {**opened, "hubs": chosen(before)})
        opened = form_in(page(operator, path))
    post_once(operator, path, {**opened, "hubs": chosen(theirs), "reprovisioning_policy": "never"})

    answer = post_once(operator, path, opened if mine is None else {**opened, "hubs": chosen(mine)})

    assert opened["initial-hubs"] == [",".join(chosen(before))]
    assert ("Hubs" in typed_in(answer)) is is_listed


@pytest.mark.parametrize("hub", ["9" * 40, "one", "999999", "\x00"])
def test_hubs_that_nobody_can_have_chosen_only_list_what_was_typed(operator, service, path, hub):
    there = LinkedHub.objects.create(service=service, name="a", host_name="a")
    mine = form_in(page(operator, path))
    post_once(operator, path, {**mine, "hubs": [str(there.pk)]})

    assert typed_in(post_once(operator, path, {**mine, "initial-hubs": hub})) == {"Hubs": ""}


def test_a_switch_that_somebody_else_turned_is_not_listed(operator, path):
    mine = form_in(page(operator, path))
    off = post_once(operator, path, {**mine, "enabled": "no"})
    post_once(operator, path, {**mine, "enabled": "no", "confirmed": mark_in(off.text_shown)})

    answer = post_once(operator, path, {**mine, "iot_edge": "on"})

    assert typed_in(answer) == {"IoT Edge device": "yes"}
    assert answer.context["form"]["enabled"].value() == "no"


@pytest.mark.parametrize(
    "twin",
    [
        pytest.param('{"tags": {}}', id="without what is empty"),
        pytest.param('{\r\n  "tags": {},\r\n  "properties": {\r\n    "desired": {}\r\n  }\r\n}', id="CRLF"),
        pytest.param("", id="empty"),
    ],
)
def test_a_twin_that_is_written_otherwise_is_as_it_was_opened(operator, path, twin):
    mine = form_in(page(operator, path))
    post_once(operator, path, {**mine, "initial_twin": THEIRS})

    assert typed_in(post_once(operator, path, {**mine, "initial_twin": twin})) == {}


def test_what_a_form_says_it_was_opened_with_is_never_saved(operator, service, path):
    mine = form_in(page(operator, path))
    given = {**mine, "initial-initial_twin": THEIRS, "initial-iot_edge": "True", "initial-hubs": "9"}

    post_once(operator, path, {**given, "reprovisioning_policy": "never", "initial-enabled": "no"})

    (entry,) = [
        one
        for one in (service.enrollmentgroups.get(), service.individualenrollments.get())
        if one.reprovisioning_policy == "never"
    ]
    assert (entry.initial_twin, entry.iot_edge, entry.hubs.count(), entry.enabled) == (
        {"tags": {}, "properties": {"desired": {}}},
        False,
        0,
        True,
    )


def test_a_form_says_so_of_what_conflicts_list_and_of_no_secret(operator, service, path):
    carried = {name for name in form_in(page(operator, path)) if name.startswith("initial-")}
    kind = GroupForm if path.startswith("groups") else IndividualForm
    held = service.enrollmentgroups.get() if kind is GroupForm else service.individualenrollments.get()
    form = kind(service, current=held)
    expected = {
        name
        for name in (*form.initial, "primary_reference", "secondary_reference")
        if name in form.fields and name not in SECRET_FIELDS and not form[name].is_hidden
    }

    assert carried == {f"initial-{name}" for name in expected}
    assert not set(SECRET_FIELDS) & set(EntryForm.told_as_opened)


@pytest.mark.parametrize("kind", ["groups", "enrollments"])
def test_a_form_to_add_an_entry_carries_nothing_twice(operator, service, kind):
    assert 'name="initial-' not in page(operator, f"{kind}/add/")


def test_what_is_hidden_has_an_id_of_its_own_and_no_aria(operator, path):
    text = page(operator, path)

    ids = re.findall(r'\bid="([^"]+)"', text)
    hidden = re.findall(r'<(?:input|textarea)\b[^>]*name="initial-[^>]*>', text)
    assert len(ids) == len(set(ids))
    assert hidden and all('type="hidden"' in one and "aria-" not in one for one in hidden)


def test_a_large_twin_is_carried_whole(operator, path):
    twin = '{"tags": {"text": "%s & <b>"}}' % ("x" * 8000)
    post_once(operator, path, {**form_in(page(operator, path)), "initial_twin": twin})
    mine = form_in(page(operator, path))
    post_once(operator, path, {**mine, "initial_twin": THEIRS})

    assert html.unescape(mine["initial-initial_twin"][0]) == mine["initial_twin"][0]
    assert typed_in(post_once(operator, path, {**mine, "iot_edge": "on"})) == {"IoT Edge device": "yes"}


def test_a_choice_of_several_and_a_box_of_any_form():
    class AForm(OpenedForm):
        note = forms.CharField()
        is_loud = forms.BooleanField(required=False)

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.carry_what_it_was_opened_with(["note", "is_loud"])

    now = AForm(initial={"note": "theirs", "is_loud": True})
    left_alone = AForm(QueryDict("note=a&initial-note=a&initial-is_loud=False"))
    changed = AForm(QueryDict("note=b&initial-note=a&initial-is_loud=True"))

    assert typed_otherwise(left_alone, now, ()) == []
    assert typed_otherwise(changed, now, ()) == [("Note", "b"), ("Is loud", "no")]
