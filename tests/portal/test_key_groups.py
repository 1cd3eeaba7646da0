"""Groups with symmetric keys in the portal: switched off and on, generated and given keys, and who sees them (R4)."""

import base64

import pytest

from enrollments.actions.services import change_settings
from enrollments.models import EnrollmentGroup, HeldRole
from enrollments.policy.roles import Role
from enrollments.portal.paging import PAGE_SIZE
from tests.certificates import root
from tests.devices import ALICE, derived_key, enroll_key_group, register, signs
from tests.factories import a_group, a_service, a_user
from tests.portal.entry_forms import HTMX, OUT_OF_BAND, events, group_form, page, post

pytestmark = pytest.mark.django_db

KEY = base64.b64encode(b"k" * 32).decode()
OTHER_KEY = base64.b64encode(b"o" * 32).decode()


def key_form(**changes):
    return group_form(**{"mechanism": "symmetricKey", **changes})


@pytest.fixture
def service():
    return a_service()


@pytest.fixture
def allowed(service):
    return change_settings(service, {"symmetric_key_groups": True}, actor=ALICE)


@pytest.fixture
def administrator(client, service):
    client.force_login(a_user(Role.ADMINISTRATOR, service))
    return client


@pytest.fixture
def line(service) -> EnrollmentGroup:
    return enroll_key_group(service, "line-9", primary_key=KEY, secondary_key=OTHER_KEY)


def get(service, group_id="plant-7") -> EnrollmentGroup:
    return service.enrollmentgroups.by_group_id(group_id)


def outcome(service, group_key: str, registration_id: str = "lamp-01") -> str:
    token = signs(service, registration_id, derived_key(group_key, registration_id))
    return register(service, token, registration_id).outcome


# --- Adding ----------------------------------------------------------------------------------


def test_switched_off_it_is_refused_with_the_reason_and_the_form_said_so(operator, service):
    form = page(operator, "groups/add/")

    answer = post(operator, "groups/add/", key_form(primary_key=KEY))

    assert 'switched off in the <a href="/services/plant/settings/">settings</a>' in form
    assert answer.status_code == 422
    (said,) = answer.context["form"].errors["mechanism"]
    assert "whoever reads the key of such a group can be any device of it" in said
    # In the list of errors and at the field, and not in a help text once more.
    assert answer.text_shown.count("are switched off in") == 2
    assert KEY not in answer.text_shown
    assert not service.enrollmentgroups.exists()


def test_switched_on_keys_are_generated_and_stay_out_of_the_pages(operator, service, allowed):
    assert "switched off" not in page(operator, "groups/add/")

    answer = post(operator, "groups/add/", key_form(), follow=True)

    group = get(service)
    assert (len(group.primary_key), group.primary_key != group.secondary_key) == (88, True)
    assert answer.redirect_chain == [("/services/plant/groups/g/plant-7/", 302)]
    assert "An administrator can show its keys" in answer.text_shown
    assert group.primary_key not in answer.text_shown
    assert outcome(allowed, group.primary_key) == outcome(allowed, group.secondary_key) == "assigned"


def test_keys_that_were_given_are_those_of_the_group(administrator, service, allowed):
    answer = post(
        administrator, "groups/add/", key_form(primary_key=KEY, secondary_key=OTHER_KEY), follow=True
    )

    assert "Its keys can be shown below." in answer.text_shown
    assert (get(service).primary_key, get(service).secondary_key) == (KEY, OTHER_KEY)
    assert outcome(allowed, KEY) == "assigned"


@pytest.mark.parametrize("wrong", ["not base64!", base64.b64encode(b"short").decode()])
def test_what_is_no_key_is_refused_and_never_comes_back(operator, service, allowed, wrong):
    answer = post(operator, "groups/add/", key_form(primary_key=wrong, secondary_key=KEY))

    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["primary_key"])
    assert (wrong in answer.text_shown, KEY in answer.text_shown) == (False, False)
    assert not service.enrollmentgroups.exists()


def test_a_tpm_is_no_mechanism_of_a_group(operator, service, allowed):
    answer = post(operator, "groups/add/", group_form(mechanism="tpm", primary_pem=root("CA").pem))

    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["mechanism"])
    assert 'value="tpm"' not in page(operator, "groups/add/")


@pytest.mark.parametrize(
    ("mechanism", "given"),
    [
        ("x509", {"primary_key": KEY, "primary_pem": root("Plant 7").pem}),
        ("symmetricKey", {"primary_pem": root("Plant 7").pem}),
        ("symmetricKey", {"primary_pem": "no certificate"}),
    ],
)
def test_what_was_given_for_another_mechanism_is_not_looked_at(operator, service, allowed, mechanism, given):
    assert post(operator, "groups/add/", group_form(mechanism=mechanism, **given)).status_code == 302

    group = get(service)
    is_ca = mechanism == "x509"
    assert (group.certificates.filter(role=HeldRole.ANCHOR).exists(), group.primary_key == "") == (
        is_ca,
        is_ca,
    )


# --- Keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_showing_keys_is_recorded(administrator, service, line, headers):
    before = page(administrator, "groups/g/line-9/")

    answer = post(administrator, "groups/g/line-9/keys/", headers=headers)

    assert (KEY in before, "Show keys" in before) == (False, True)
    assert (KEY in answer.text_shown, OTHER_KEY in answer.text_shown) == (True, True)
    assert ("<html" in answer.text_shown) is not bool(headers)
    (row,) = events(service, "keys.revealed")
    assert (row.actor_name, row.subject_name) == ("some-administrator", "line-9")
    assert KEY not in str((row.before, row.after, row.reason))


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR, Role.OPERATOR])
def test_who_is_no_administrator_sees_no_keys_and_the_attempt_is_recorded(client, service, line, role):
    client.force_login(a_user(role, service))

    assert "Show keys" not in page(client, "groups/g/line-9/")
    answer = post(client, "groups/g/line-9/keys/")

    assert (answer.status_code, KEY in answer.text_shown) == (403, False)
    assert (len(events(service, "action.refused")), events(service, "keys.revealed")) == (1, [])


def test_a_group_with_a_ca_has_no_keys_to_show(administrator, service):
    a_group(service)

    assert "Show keys" not in page(administrator, "groups/g/plant-7/")
    assert post(administrator, "groups/g/plant-7/keys/").status_code == 404
    assert events(service, "keys.revealed") == []


def test_keys_are_asked_for_by_a_post_alone(administrator, service, line):
    assert administrator.get("/services/plant/groups/g/line-9/keys/").status_code == 405
    assert events(service, "keys.revealed") == []


# --- Editing ---------------------------------------------------------------------------------


def edit(client, group, **changes):
    data = key_form(**{"expected_etag": group.etag, **changes})
    return post(client, f"groups/g/{group.group_id}/", data)


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, (KEY, OTHER_KEY)),
        ({"primary_key": OTHER_KEY}, (OTHER_KEY, OTHER_KEY)),
        ({"secondary_key": KEY}, (KEY, KEY)),
    ],
)
def test_keys_stay_unless_others_are_given(operator, service, line, given, then):
    assert edit(operator, line, iot_edge="on", **given).status_code == 302

    group = get(service, "line-9")
    assert (group.iot_edge, group.primary_key, group.secondary_key) == (True, *then)


def test_the_switch_and_save_shut_the_devices_out(operator, service, line):
    service.refresh_from_db()
    assert outcome(service, KEY) == "assigned"

    edit(operator, line, enabled="no", reason="the key was on a forum")

    assert outcome(service, KEY) == "disabled"
    assert [row.reason for row in events(service, "group.disabled")] == ["the key was on a forum"]


def test_changing_to_a_ca_removes_the_keys_and_the_form_warns_of_it(operator, service, line):
    shown = page(operator, "groups/g/line-9/")

    edit(operator, line, mechanism="x509", primary_pem=root("Plant 7").pem)

    assert "removes its symmetric keys, which nothing brings back" in shown
    assert get(service, "line-9").primary_key == ""


def test_form_of_a_disabled_ca_warns_that_keys_would_end_its_bar(operator, service, allowed):
    a_group(service, enabled=False)
    a_group(service, "plant-8")

    disabled, enabled = (page(operator, f"groups/g/plant-{number}/") for number in (7, 8))

    assert "removes its certificates and ends the bar on their keys" in disabled
    assert "Saving this entry with another mechanism removes its certificates." in enabled


def test_conflict_brings_the_button_that_shows_the_keys_of_now(administrator, service, allowed):
    group = a_group(service)
    edit(administrator, group, primary_key=KEY)

    answer = post(administrator, "groups/g/plant-7/", key_form(expected_etag=group.etag), headers=HTMX)

    assert answer.status_code == 409
    _state, _acts, _scheduled, keys = OUT_OF_BAND.findall(answer.text_shown)
    assert 'id="entry-keys"' in keys
    assert "Show keys" in answer.text_shown


# --- The switch of the service ---------------------------------------------------------------


def test_switched_off_again_list_and_form_say_that_the_group_admits_nobody(operator, service, line):
    on = page(operator, "groups/"), page(operator, "groups/g/line-9/")
    change_settings(service, {"symmetric_key_groups": False}, actor=ALICE)

    listed, form = page(operator, "groups/"), page(operator, "groups/g/line-9/")

    service.refresh_from_db()
    assert outcome(service, KEY) == "unauthorized"
    assert ("switched off in the settings" in listed, "this one admits nobody" in form) == (True, True)
    assert form.count("are switched off in the") == 1
    assert "switched off" not in "".join(on)
    assert edit(operator, line, enabled="no").status_code == 302
    assert "bars its devices all the same" in page(operator, "groups/g/line-9/")


@pytest.mark.parametrize(
    ("query", "found"),
    [("", {"line-9", "plant-7"}), ("?mechanism=symmetricKey", {"line-9"}), ("?mechanism=tpm", set())],
)
def test_list_shows_and_filters_groups_with_keys(operator, service, line, query, found):
    a_group(service)

    text = page(operator, f"groups/{query}")

    assert {name for name in ("line-9", "plant-7") if f"Select {name}" in text} == found
    assert '<option value="tpm"' not in text
    assert KEY not in text


def test_a_full_page_of_both_kinds_states_its_queries(
    operator, service, allowed, django_assert_max_num_queries
):
    for number in range(26):
        enroll_key_group(service, f"line-{number:03}")
        a_group(service, f"plant-{number:03}")

    with django_assert_max_num_queries(8):
        text = page(operator, "groups/")

    assert text.count("data-select-row") == PAGE_SIZE


def test_questions_about_a_group_speak_of_what_it_holds(operator, service, line):
    ca = a_group(service)

    of_keys, of_ca = (page(operator, f"groups/g/{name}/disable/", **HTMX) for name in ("line-9", "plant-7"))
    service.refresh_from_db()
    outcome(service, KEY)
    deleting = page(operator, f"groups/delete/?entry={line.pk}")

    assert "key derived from those of the group" in of_keys
    assert "key of its CA" not in of_keys
    assert "key of its CA anywhere on its chain" in of_ca
    assert "<strong>1</strong> known device <strong>will be refused</strong>" in deleting
    assert "can still register" not in deleting
    assert ca.enabled
