"""Pages of enrollment groups: the list, the form, the acts of a row, and who may."""

import pytest

from enrollments.models import EnrollmentGroup, HeldRole, Slot
from enrollments.policy.roles import Role
from enrollments.portal.paging import PAGE_SIZE
from tests.certificates import EXPIRED, root
from tests.devices import register
from tests.factories import a_group, a_service, a_user
from tests.portal.entry_forms import HTMX, OUT_OF_BAND, a_file, epoch_in, events, group_form, page, post

pytestmark = pytest.mark.django_db


@pytest.fixture
def service():
    return a_service()


@pytest.fixture
def ca():
    return root("Root")


def get(service, group_id) -> EnrollmentGroup:
    return service.enrollmentgroups.by_group_id(group_id)


def held(group, role):
    rows = group.certificates.filter(role=role).order_by("pk")
    return list(rows.values_list("certificate__thumbprint_sha256", flat=True))


# --- The list --------------------------------------------------------------------------------


def test_an_empty_list_says_what_to_do_next(operator):
    text = page(operator, "groups/")

    assert "No enrollment groups yet" in text
    assert "/services/plant/groups/add/" in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=PLANT", {"plant-7", "plant-8"}),
        ("q=root", {"root"}),
        ("status=disabled", {"plant-8"}),
        ("q=7", set()),
    ],
)
def test_filters_of_the_address_say_what_is_listed(operator, service, query, found):
    a_group(service, "plant-7")
    a_group(service, "plant-8", enabled=False)
    a_group(service, "root")

    text = page(operator, f"groups/?{query}")

    assert {name for name in ("plant-7", "plant-8", "root") if f"Select {name}" in text} == found


def test_a_full_page_takes_as_many_queries_as_a_short_one(operator, service, django_assert_max_num_queries):
    for number in range(52):
        a_group(service, f"plant-{number:03}")

    with django_assert_max_num_queries(9):
        text = page(operator, "groups/")

    assert text.count("data-select-row") == PAGE_SIZE


def test_the_row_tells_of_the_certificate_that_expires_first(operator, service):
    ca = root("Plant 7")
    a_group(service, certificates={Slot.PRIMARY: ca.parsed, Slot.SECONDARY: ca.reissued(**EXPIRED).parsed})

    text = page(operator, "groups/")

    assert "CN=Plant 7" in text
    assert f"{EXPIRED['not_after']:%Y-%m-%d}" in text
    assert "Expired" in text


def test_groups_of_another_service_are_not_there(operator, service):
    a_group(a_service("elsewhere"))

    assert "plant-7" not in page(operator, "groups/")
    assert operator.get("/services/plant/groups/g/plant-7/").status_code == 404
    for act in ("enable/", "disable/", ""):
        assert post(operator, f"groups/g/plant-7/{act}", group_form()).status_code == 404


# --- The toggle of a row ---------------------------------------------------------------------


def test_turning_off_bars_the_group_and_turning_on_lifts_the_bar(operator, service, ca):
    plant = ca.intermediate("Plant 7")
    a_group(service, "root", ca=ca)
    group = a_group(service, ca=plant)

    off = post(operator, "groups/g/plant-7/disable/", {"reason": "leaked"}, headers=HTMX)
    barred = register(service, plant.leaf("pump-1")).outcome
    question = page(operator, "groups/g/plant-7/enable/", **HTMX)
    on = post(operator, "groups/g/plant-7/enable/", {"epoch": epoch_in(question)}, headers=HTMX)

    assert f'id="entry-{group.pk}"' in off.text_shown
    assert ('aria-checked="false"' in off.text_shown, 'aria-checked="true"' in on.text_shown) == (True, True)
    assert barred == "disabled"
    assert register(service, plant.leaf("pump-1")).outcome == "assigned"
    assert [row.reason for row in events(service, "group.disabled")] == ["leaked"]


# --- Deleting --------------------------------------------------------------------------------


def test_the_question_names_the_root_through_which_devices_still_enroll(operator, service, ca):
    plant = ca.intermediate("Plant 7")
    a_group(service, "Root-2024", ca=ca)
    group = a_group(service, ca=plant)

    before = page(operator, f"groups/delete/?entry={group.pk}", **HTMX)
    register(service, plant.leaf("pump-1"))
    after = page(operator, f"groups/delete/?entry={group.pk}", **HTMX)

    assert "can still register</strong> through enrollment group Root-2024" in before
    assert "No device that is known is touched." in before
    assert "<strong>1</strong> known device" in after
    assert "pump-1" in after
    post(operator, f"groups/delete/?entry={group.pk}", {"epoch": epoch_in(after)})
    assert not service.enrollmentgroups.filter(pk=group.pk).exists()
    assert register(service, plant.leaf("pump-1")).outcome == "assigned"


def test_the_question_about_a_lone_group_promises_a_refusal_and_nothing_else(operator, service, ca):
    group = a_group(service, ca=ca)
    register(service, ca.leaf("pump-1"))

    text = page(operator, f"groups/delete/?entry={group.pk}")

    assert "<strong>1</strong> known device <strong>will be refused</strong>" in text
    assert "can still register" not in text
    assert "Disable instead" not in text
    assert "keep this device out" not in text


def test_the_question_about_a_disabled_group_says_that_it_stops_barring(operator, service, ca):
    a_group(service, "root", ca=ca)
    group = a_group(service, ca=ca.intermediate("Plant 7"), enabled=False)

    text = page(operator, f"groups/delete/?entry={group.pk}")

    assert "ends its bar" in text
    assert "will be able to register</strong> through enrollment group root" in text


# --- Adding ----------------------------------------------------------------------------------


def test_the_first_certificate_is_the_ca_and_the_rest_are_helpers(operator, service, ca):
    middle = ca.intermediate("Middle")
    plant = middle.intermediate("Plant 7")
    data = group_form(primary_upload=a_file(plant.pem + middle.pem + ca.pem))

    assert post(operator, "groups/add/", data).status_code == 302

    group = get(service, "plant-7")
    assert held(group, HeldRole.ANCHOR) == [plant.parsed.thumbprint_sha256]
    assert held(group, HeldRole.HELPER) == [one.parsed.thumbprint_sha256 for one in (middle, ca)]
    assert register(service, plant.leaf("pump-1")).outcome == "assigned"
    assert register(service, middle.leaf("pump-2")).outcome == "unauthorized"


def test_an_intermediate_that_was_never_enrolled_is_barred_from_the_form(operator, service, ca):
    a_group(service, "root", ca=ca)
    bad, good = ca.intermediate("Bad"), ca.intermediate("Good")

    post(operator, "groups/add/", group_form(primary_pem=bad.pem, enabled="no"))

    assert register(service, bad.leaf("pump-1")).outcome == "disabled"
    assert register(service, good.leaf("pump-2")).outcome == "assigned"


def test_a_predecessor_is_named_by_its_id(operator, service, ca):
    old = a_group(service, "old")

    post(operator, "groups/add/", group_form(primary_pem=ca.pem) | {"predecessor": "OLD"})
    wrong = post(operator, "groups/add/", group_form(primary_pem=ca.pem) | {"predecessor": "none"})

    assert get(service, "plant-7").predecessor == old
    assert (wrong.status_code, "There is no enrollment group none" in wrong.text_shown) == (422, True)


# --- Editing ---------------------------------------------------------------------------------


def edit(client, group, **changes):
    return post(client, f"groups/g/{group.group_id}/", group_form(expected_etag=group.etag, **changes))


def test_saving_keeps_certificate_and_helpers(operator, service, ca):
    middle = ca.intermediate("Middle")
    plant = middle.intermediate("Plant 7")
    group = a_group(service, ca=plant, helpers=(middle.parsed, ca.parsed))

    shown = page(operator, "groups/g/plant-7/")
    edit(operator, group, iot_edge="on")

    group = get(service, "plant-7")
    assert "2 helpers held now" in shown
    assert group.iot_edge
    assert (len(held(group, HeldRole.ANCHOR)), len(held(group, HeldRole.HELPER))) == (1, 2)


def test_a_helper_is_removed_and_a_certificate_replaced(operator, service, ca):
    middle, new = ca.intermediate("Middle"), root("New")
    group = a_group(service, ca=middle.intermediate("Plant 7"), helpers=(middle.parsed, ca.parsed))

    edit(operator, group, helpers_removed=[ca.parsed.thumbprint_sha256], primary_upload=a_file(new.der))

    group = get(service, "plant-7")
    assert held(group, HeldRole.HELPER) == [middle.parsed.thumbprint_sha256]
    assert held(group, HeldRole.ANCHOR) == [new.parsed.thumbprint_sha256]
    assert register(service, new.leaf("pump-1")).outcome == "assigned"


def test_the_switch_and_save_bar_the_group(operator, service, ca):
    group = a_group(service, ca=ca)

    edit(operator, group, enabled="no", reason="leaked")

    assert register(service, ca.leaf("pump-1")).outcome == "disabled"
    assert [row.reason for row in events(service, "group.disabled")] == ["leaked"]


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(operator, service):
    group = a_group(service)
    edit(operator, group, enabled="no")

    answer = edit(operator, group, enabled="yes")

    assert answer.status_code == 409
    assert "was changed by somebody else" in answer.text_shown
    assert get(service, "plant-7").etag in answer.text_shown
    assert not get(service, "plant-7").enabled


def test_the_state_beside_the_heading_shows_what_somebody_else_made_of_the_group(operator, service):
    group = a_group(service)
    edit(operator, group, enabled="no")

    answer = post(operator, "groups/g/plant-7/", group_form(expected_etag=group.etag), headers=HTMX)

    assert answer.status_code == 409
    state, acts, _scheduled, _keys = OUT_OF_BAND.findall(answer.text_shown)
    assert 'id="entry-state"' in state and "Disabled" in state
    assert 'id="entry-acts"' in acts and ">Enable<" in acts and ">Disable<" not in acts
    assert not OUT_OF_BAND.search(page(operator, "groups/g/plant-7/"))


# --- Who may ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR])
@pytest.mark.parametrize(
    "path",
    [
        "groups/add/",
        "groups/delete/?entry=1",
        "groups/g/plant-7/",
        "groups/g/plant-7/disable/",
        "groups/g/plant-7/enable/",
    ],
)
def test_who_may_only_look_changes_nothing_and_leaves_a_trace(client, service, role, path):
    group = a_group(service)
    client.force_login(a_user(role, service))

    answer = post(client, path, group_form(expected_etag=group.etag, enabled="no"))

    assert answer.status_code == 403
    assert get(service, "plant-7").etag == group.etag
    assert len(events(service, "action.refused")) == 1
    assert "Save" not in page(client, "groups/g/plant-7/")


# --- What must be said first -------------------------------------------------------------------


def test_the_form_of_a_disabled_group_says_what_would_end_its_bar(operator, service, ca):
    a_group(service, ca=ca, enabled=False)
    a_group(service, "plant-8")
    told = "This entry is disabled: removing or replacing this certificate ends the bar on its key."

    assert page(operator, "groups/g/plant-7/").count(told) == 1
    assert "ends the bar" not in page(operator, "groups/g/plant-8/")


def test_the_question_says_that_names_held_through_a_group_become_free(operator, service, ca):
    one, other = a_group(service, ca=ca), a_group(service, "plant-8")

    of_one = page(operator, f"groups/delete/?entry={one.pk}")
    of_both = page(operator, f"groups/delete/?entry={one.pk}&entry={other.pk}")

    free = "devices become free: another entry that admits them may take them over."
    assert f"The registration IDs of its {free}" in of_one
    assert f"The registration IDs of their {free}" in of_both
