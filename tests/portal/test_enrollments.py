"""Pages of individual enrollments: the list, the form, the acts of a row, and who may."""

import json

import pytest

from enrollments.models import HistoryEvent, IndividualEnrollment, ProvisioningService, Slot
from enrollments.policy.roles import Role
from enrollments.portal.paging import PAGE_SIZE
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, register
from tests.factories import a_group, a_service, a_user, an_individual
from tests.portal.entry_forms import HTMX, OUT_OF_BAND, a_file, entry_form, epoch_in, events, page, post

pytestmark = pytest.mark.django_db
KEY = "c2l4dGVlbiBieXRlcyAhISE="


@pytest.fixture
def service():
    return a_service()


@pytest.fixture
def administrator(client, service):
    client.force_login(a_user(Role.ADMINISTRATOR, service))
    return client


def get(service, registration_id) -> IndividualEnrollment:
    return service.individualenrollments.by_registration_id(registration_id)


# --- The list --------------------------------------------------------------------------------


def test_an_empty_list_says_what_to_do_next(operator):
    text = page(operator, "enrollments/")

    assert "No individual enrollments yet" in text
    assert "/services/plant/enrollments/add/" in text


def test_a_viewer_is_offered_nothing_that_changes_something(client, service):
    an_individual(service)
    client.force_login(a_user(Role.VIEWER, service))

    text = page(client, "enrollments/")

    assert "pump-042" in text
    for offer in ("/add/", "/delete/", "/disable/", "data-select-row"):
        assert offer not in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=pump", {"pump-1", "Pump-2"}),
        ("q=PUMP-2", {"Pump-2"}),
        ("q=ump", set()),
        ("q=%C5%B1", set()),
        ("status=disabled", {"valve-1"}),
        ("mechanism=symmetricKey", {"key-1"}),
        ("status=enabled&mechanism=x509", {"pump-1", "Pump-2"}),
        ("mechanism=magic", set()),
    ],
)
def test_filters_of_the_address_say_what_is_listed(operator, service, query, found):
    an_individual(service, "pump-1")
    an_individual(service, "Pump-2")
    an_individual(service, "valve-1", enabled=False)
    an_individual(service, "key-1", keys=True)

    text = page(operator, f"enrollments/?{query}")

    assert {name for name in ("pump-1", "Pump-2", "valve-1", "key-1") if f"Select {name}" in text} == found
    assert ("No individual enrollment matches" in text) is not bool(found)


def test_htmx_gets_the_results_alone_and_caches_are_told(operator, service):
    an_individual(service)

    answer = operator.get("/services/plant/enrollments/", headers=HTMX)

    assert b"<html" not in answer.content
    assert b"pump-042" in answer.content
    assert "HX-Request" in answer["Vary"]


def test_a_full_page_takes_as_many_queries_as_a_short_one(operator, service, django_assert_max_num_queries):
    for number in range(60):
        an_individual(service, f"pump-{number:03}", keys=number % 2 == 0)

    with django_assert_max_num_queries(8):
        text = page(operator, "enrollments/")

    assert text.count("data-select-row") == PAGE_SIZE
    assert 'rel="next"' in text


def test_entries_of_another_service_are_not_there(operator, service):
    an_individual(a_service("elsewhere"), "pump-042")

    assert "pump-042" not in page(operator, "enrollments/")
    assert operator.get("/services/plant/enrollments/i/pump-042/").status_code == 404
    for act in ("enable/", "disable/", ""):
        assert post(operator, f"enrollments/i/pump-042/{act}", entry_form()).status_code == 404
    assert operator.get("/services/elsewhere/enrollments/").status_code == 404


# --- The toggle of a row ---------------------------------------------------------------------


def test_turning_off_asks_why_and_shows_the_row_as_it_then_is(operator, service):
    entry = an_individual(service)

    question = page(operator, "enrollments/i/pump-042/disable/", **HTMX)
    answer = post(operator, "enrollments/i/pump-042/disable/", {"reason": "stolen"}, headers=HTMX)

    assert 'name="reason"' in question
    assert "autofocus" in question
    assert f'hx-target="#entry-{entry.pk}"' in question
    assert f'id="entry-{entry.pk}"' in answer.text_shown
    assert 'aria-checked="false"' in answer.text_shown
    assert "dialog:close" in json.loads(answer["HX-Trigger"])
    assert not get(service, "pump-042").enabled
    assert [(row.actor_name, row.reason) for row in events(service, "enrollment.disabled")] == [
        ("some-operator", "stolen")
    ]


def test_turning_on_says_what_it_does_and_shows_the_row_as_it_then_is(operator, service):
    entry = an_individual(service, enabled=False)

    question = page(operator, "enrollments/i/pump-042/enable/", **HTMX)
    answer = post(operator, "enrollments/i/pump-042/enable/", {"epoch": epoch_in(question)}, headers=HTMX)

    assert "<strong>will come in anew</strong> through individual enrollment of its own" in question
    assert f'hx-target="#entry-{entry.pk}"' in question
    assert 'aria-checked="true"' in answer.text_shown
    assert "dialog:close" in json.loads(answer["HX-Trigger"])
    assert get(service, "pump-042").enabled


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_turning_on_rests_on_the_preview_that_was_seen(operator, service, headers):
    an_individual(service, enabled=False)
    epoch = epoch_in(page(operator, "enrollments/i/pump-042/enable/"))
    an_individual(service, "valve-1")

    unseen = post(operator, "enrollments/i/pump-042/enable/", headers=headers)
    stale = post(operator, "enrollments/i/pump-042/enable/", {"epoch": epoch}, headers=headers)

    assert (unseen.status_code, stale.status_code) == (409, 409)
    assert "so nothing was enabled. This is what holds now." in stale.text_shown
    assert stale.get("HX-Retarget") == "#dialog"
    assert not get(service, "pump-042").enabled
    fresh = {"epoch": epoch_in(stale.text_shown)}
    assert post(operator, "enrollments/i/pump-042/enable/", fresh, headers=headers).status_code in (200, 302)
    assert get(service, "pump-042").enabled


def test_turning_off_is_not_held_up_by_what_changes_meanwhile(operator, service):
    an_individual(service)
    page(operator, "enrollments/i/pump-042/disable/")
    an_individual(service, "valve-1")

    assert post(operator, "enrollments/i/pump-042/disable/").status_code == 302
    assert not get(service, "pump-042").enabled


def test_without_script_a_toggle_leads_back_to_the_list(operator, service):
    an_individual(service)

    answer = post(operator, "enrollments/i/PUMP-042/disable/", follow=True)

    assert answer.redirect_chain == [("/services/plant/enrollments/", 302)]
    assert "Disabled individual enrollment pump-042: 1 device is refused from now on." in answer.text_shown


def test_turning_off_what_is_off_says_so(operator, service):
    an_individual(service, enabled=False)

    answer = post(operator, "enrollments/i/pump-042/disable/", follow=True)

    assert "Individual enrollment pump-042 was disabled already." in answer.text_shown
    assert events(service, "enrollment.disabled") == []


def test_a_reason_that_is_too_long_comes_back_into_the_dialog(operator, service):
    an_individual(service)

    answer = post(operator, "enrollments/i/pump-042/disable/", {"reason": "x" * 501}, headers=HTMX)

    assert (answer.status_code, answer["HX-Retarget"]) == (422, "#dialog")
    assert get(service, "pump-042").enabled


def test_a_row_that_is_gone_is_404(operator):
    assert post(operator, "enrollments/i/pump-042/enable/", headers=HTMX).status_code == 404


# --- Deleting --------------------------------------------------------------------------------


def delete_path(*entries):
    return "enrollments/delete/?" + "&".join(f"entry={entry.pk}" for entry in entries)


def test_the_question_names_what_is_deleted_and_who_comes_back(operator, service):
    ca = root("Plant 7")
    enroll_ca(service, ca, "Plant-7")
    entries = [
        an_individual(service, leaf=ca.leaf("pump-042"), enabled=False),
        an_individual(service, "valve-1"),
    ]

    text = page(operator, delete_path(*entries))

    assert "Delete 2 individual enrollments?" in text
    assert "pump-042" in text
    assert "valve-1" in text
    assert "enrollment group Plant-7" in text
    assert "ends its bar" in text
    assert "Disable instead" in text
    # The one that is known by its certificate, and whoever comes by the name of the other.
    assert "Delete, but keep these 2 devices out" in text


def test_yes_deletes_and_goes_back_to_the_list_as_it_was_filtered(operator, service):
    ca = root("Plant 7")
    enroll_ca(service, ca, "plant-7")
    leaf = ca.leaf("pump-042")
    entry = an_individual(service, leaf=leaf, enabled=False)
    assert register(service, leaf).outcome == "disabled"
    path = delete_path(entry) + "&back=q%3Dpump"

    epoch = epoch_in(page(operator, path))
    answer = post(operator, path, {"reason": "sold", "epoch": epoch})

    assert answer["Location"] == "/services/plant/enrollments/?q=pump"
    assert not service.individualenrollments.exists()
    assert [row.reason for row in events(service, "enrollment.deleted")] == ["sold"]
    assert register(service, leaf).outcome == "assigned"


def test_the_way_back_stays_in_the_list(operator, service):
    answer = post(operator, "enrollments/delete/?back=%0d%0aX-Evil:%201%2F%2Fevil.example", {"epoch": "1"})

    assert answer["Location"].startswith("/services/plant/enrollments/?")
    assert "\n" not in answer["Location"]


def test_an_answer_to_an_outdated_question_deletes_nothing(operator, service):
    entry = an_individual(service)
    a_group(service)  # which may admit its device once it is gone
    epoch = epoch_in(page(operator, delete_path(entry)))
    an_individual(service, "valve-1")

    answer = post(operator, delete_path(entry), {"epoch": epoch})

    assert answer.status_code == 409
    assert "nothing was deleted" in answer.text_shown
    assert service.individualenrollments.count() == 2
    assert post(operator, delete_path(entry), {"epoch": epoch_in(answer.text_shown)}).status_code == 302


@pytest.mark.parametrize("query", ["", "?entry=", "?entry=x", "?entry=" + "9" * 30])
def test_nothing_selected_deletes_nothing(operator, service, query):
    an_individual(service)

    answer = post(operator, f"enrollments/delete/{query}", {"epoch": "1"}, follow=True)

    assert "Nothing was selected" in answer.text_shown
    assert service.individualenrollments.count() == 1


def test_an_entry_of_another_service_cannot_be_selected(operator, service):
    other = an_individual(a_service("elsewhere"))

    answer = post(operator, delete_path(other), {"epoch": "1"}, follow=True)

    assert "nothing was deleted" in answer.text_shown
    assert IndividualEnrollment.objects.count() == 1


# --- Adding ----------------------------------------------------------------------------------


def test_the_registration_id_is_read_from_the_certificate(operator, service):
    leaf, spare = self_signed("Pump-042"), self_signed("pump-042")
    data = entry_form(
        primary_upload=a_file(leaf.der, "pump.der"), secondary_pem=spare.pem, device_id="dev-1", reason="new"
    )

    answer = post(operator, "enrollments/add/", data)

    entry = get(service, "pump-042")
    assert answer.status_code == 302
    assert (entry.registration_id, entry.device_id, entry.enabled) == ("Pump-042", "dev-1", True)
    held = entry.certificates.order_by("slot").values_list("slot", "certificate__thumbprint_sha256")
    assert dict(held) == {
        Slot.PRIMARY: leaf.parsed.thumbprint_sha256,
        Slot.SECONDARY: spare.parsed.thumbprint_sha256,
    }
    assert register(service, leaf).outcome == "assigned"


def test_one_device_of_a_group_is_shut_out_from_the_form(operator, service):
    ca = root("Plant 7")
    enroll_ca(service, ca, "plant-7")
    stolen, sibling = ca.leaf("pump-042"), ca.leaf("pump-043")

    post(operator, "enrollments/add/", entry_form(primary_upload=a_file(stolen.pem), enabled="no"))

    assert register(service, stolen).outcome == "disabled"
    assert register(service, sibling).outcome == "assigned"


def test_every_field_is_kept(operator, service):
    hub = service.hubs.get()
    data = entry_form(
        mechanism="symmetricKey",
        registration_id="key-1",
        primary_key=KEY,
        secondary_key=KEY,
        allocation_policy="static",
        hubs=[hub.pk],
        reprovisioning_policy="never",
        initial_twin='{"tags": {"floor": 3}}',
        iot_edge="on",
    )

    assert post(operator, "enrollments/add/", data).status_code == 302

    entry = get(service, "key-1")
    assert (entry.primary_key, entry.allocation_policy, entry.reprovisioning_policy) == (
        KEY,
        "static",
        "never",
    )
    assert (entry.iot_edge, list(entry.hubs.all())) == (True, [hub])
    assert entry.initial_twin["tags"] == {"floor": 3}


def test_htmx_is_led_on_to_the_list(operator):
    answer = post(operator, "enrollments/add/", entry_form(primary_pem=self_signed("a").pem), headers=HTMX)

    assert answer["HX-Redirect"] == "/services/plant/enrollments/"


def test_keys_are_generated_and_stay_out_of_the_pages(operator, service):
    data = entry_form(mechanism="symmetricKey", registration_id="key-1")

    answer = post(operator, "enrollments/add/", data, follow=True)

    entry = get(service, "key-1")
    assert len(entry.primary_key) == 88
    assert entry.primary_key != entry.secondary_key
    assert entry.primary_key not in answer.text_shown
    assert "An administrator can show its keys" in answer.text_shown


def test_a_key_that_was_typed_never_comes_back(operator, service):
    wrong = "bm90LWEta2V5"
    data = entry_form(mechanism="symmetricKey", registration_id="key-1", primary_key=wrong, secondary_key=KEY)

    answer = post(operator, "enrollments/add/", data)

    assert answer.status_code == 422
    assert wrong not in answer.text_shown
    assert KEY not in answer.text_shown
    assert not service.individualenrollments.exists()


# --- Keys ------------------------------------------------------------------------------------


def test_showing_keys_is_recorded(administrator, service):
    entry = an_individual(service, "key-1", keys=True)

    before = page(administrator, "enrollments/i/key-1/")
    answer = post(administrator, "enrollments/i/key-1/keys/", headers=HTMX)

    assert entry.primary_key not in before
    assert entry.primary_key in answer.text_shown
    assert entry.secondary_key in answer.text_shown
    (row,) = events(service, "keys.revealed")
    assert (row.actor_name, row.subject_name) == ("some-administrator", "key-1")
    assert entry.primary_key not in str((row.before, row.after, row.reason))


def test_an_operator_sees_no_keys_and_the_attempt_is_recorded(operator, service):
    entry = an_individual(service, "key-1", keys=True)

    assert "Show keys" not in page(operator, "enrollments/i/key-1/")
    answer = post(operator, "enrollments/i/key-1/keys/")

    assert answer.status_code == 403
    assert entry.primary_key not in answer.text_shown
    assert len(events(service, "action.refused")) == 1


def test_an_entry_with_certificates_has_no_keys_to_show(administrator, service):
    an_individual(service)

    assert post(administrator, "enrollments/i/pump-042/keys/").status_code == 404
    assert events(service, "keys.revealed") == []


# --- Editing ---------------------------------------------------------------------------------


def edit(client, entry, **changes):
    data = entry_form(**{"mechanism": entry.mechanism, "expected_etag": entry.etag, **changes})
    return post(client, f"enrollments/i/{entry.registration_id}/", data)


def test_saving_keeps_the_certificate_that_is_held(operator, service):
    leaf = self_signed("pump-042")
    entry = an_individual(service, leaf=leaf)

    shown = page(operator, "enrollments/i/pump-042/")
    answer = edit(operator, entry, device_id="dev-9")

    assert leaf.parsed.thumbprint_sha256 in shown
    assert answer.status_code == 302
    assert get(service, "pump-042").device_id == "dev-9"
    assert register(service, leaf).outcome == "assigned"


def test_saving_what_is_there_already_changes_nothing_and_says_so(operator, service):
    entry = an_individual(service, "key-1", keys=True)
    epoch, rows = ProvisioningService.epoch_of(service.pk), HistoryEvent.objects.count()

    answer = edit(operator, entry)

    assert "was like this already; nothing was changed" in operator.get(answer["Location"]).content.decode()
    assert (ProvisioningService.epoch_of(service.pk), HistoryEvent.objects.count()) == (epoch, rows)
    assert get(service, "key-1").etag == entry.etag


def test_the_switch_and_save_shut_the_device_out_and_in(operator, service):
    leaf = self_signed("pump-042")
    entry = an_individual(service, leaf=leaf)

    edit(operator, entry, enabled="no", reason="stolen")
    assert register(service, leaf).outcome == "disabled"

    edit(operator, get(service, "pump-042"), enabled="yes")
    assert register(service, leaf).outcome == "assigned"
    assert [row.reason for row in events(service, "enrollment.disabled")] == ["stolen"]


def test_a_certificate_is_replaced_and_removed(operator, service):
    old, new = self_signed("pump-042"), self_signed("pump-042")
    entry = an_individual(service, leaf=old)

    edit(operator, entry, secondary_pem=new.pem)
    assert [register(service, leaf).outcome for leaf in (old, new)] == ["assigned", "assigned"]

    edit(operator, get(service, "pump-042"), primary_remove="on")
    assert [register(service, leaf).outcome for leaf in (old, new)] == ["unauthorized", "assigned"]


def test_the_last_certificate_of_an_enabled_entry_stays(operator, service):
    entry = an_individual(service)

    answer = edit(operator, entry, primary_remove="on")

    assert answer.status_code == 422
    assert get(service, "pump-042").certificates.count() == 1


def test_keys_stay_unless_others_are_given(operator, service):
    entry = an_individual(service, "key-1", keys=True)

    edit(operator, entry, device_id="dev-1")
    kept = get(service, "key-1")
    edit(operator, kept, primary_key=KEY)
    replaced = get(service, "key-1")

    assert (kept.primary_key, kept.secondary_key) == (entry.primary_key, entry.secondary_key)
    assert (replaced.primary_key, replaced.secondary_key) == (KEY, entry.secondary_key)


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_what_somebody_else_changed_meanwhile_is_not_overwritten(operator, service, headers):
    entry = an_individual(service)
    edit(operator, entry, device_id="theirs")

    answer = post(
        operator,
        "enrollments/i/pump-042/",
        entry_form(expected_etag=entry.etag, device_id="mine"),
        headers=headers,
    )

    current = get(service, "pump-042")
    assert answer.status_code == 409
    assert "was changed by somebody else" in answer.text_shown
    assert 'value="theirs"' in answer.text_shown
    assert current.etag in answer.text_shown
    assert current.device_id == "theirs"


def test_the_whole_page_shows_what_somebody_else_made_of_the_entry(administrator, service):
    entry = an_individual(service)
    edit(administrator, entry, mechanism="symmetricKey", enabled="no")

    stale = entry_form(expected_etag=entry.etag, mechanism="symmetricKey")
    answer = post(administrator, "enrollments/i/pump-042/", stale, headers=HTMX)

    assert answer.status_code == 409
    state, acts, scheduled, keys = OUT_OF_BAND.findall(answer.text_shown)
    assert 'id="entry-state"' in state and "Disabled" in state
    assert 'id="entry-acts"' in acts and ">Enable<" in acts and ">Disable<" not in acts
    assert 'id="entry-schedule"' in scheduled
    assert 'id="entry-keys"' in keys and "Show keys" in keys


def test_what_is_replaced_beside_the_form_is_on_the_page_once(administrator, service):
    an_individual(service)

    shown = page(administrator, "enrollments/i/pump-042/")

    replaced = [shown.count(f'id="entry-{one}"') for one in ("state", "acts", "schedule", "keys")]
    assert replaced == [1, 1, 1, 1]
    assert not OUT_OF_BAND.search(shown)


def test_a_form_without_version_is_taken_for_an_old_one(operator, service):
    entry = an_individual(service)

    assert edit(operator, entry, expected_etag="").status_code == 409


def test_the_edit_page_leads_to_the_registration_records(operator, service):
    an_individual(service, "pump:042")

    assert "/services/plant/registrations/?entry=individual:pump%3A042" in page(
        operator, "enrollments/i/pump:042/"
    )


# --- Who may ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR])
@pytest.mark.parametrize(
    "path",
    [
        "enrollments/add/",
        "enrollments/delete/?entry=1",
        "enrollments/i/pump-042/",
        "enrollments/i/pump-042/disable/",
        "enrollments/i/pump-042/enable/",
        "enrollments/i/pump-042/keys/",
        "certificate-preview/",
    ],
)
def test_who_may_only_look_changes_nothing_and_leaves_a_trace(client, service, role, path):
    entry = an_individual(service)
    client.force_login(a_user(role, service))

    answer = post(client, path, entry_form(expected_etag=entry.etag, enabled="no"))

    assert answer.status_code == 403
    assert get(service, "pump-042").etag == entry.etag
    (row,) = events(service, "action.refused")
    told = f"{row.subject_name} {row.after}"
    assert (row.actor_name, path.split("?")[0] in told) == (f"some-{role.value}", True)


def test_who_may_only_look_sees_the_entry_in_a_form_that_cannot_be_sent(client, service):
    leaf = self_signed("pump-042")
    an_individual(service, leaf=leaf)
    client.force_login(a_user(Role.VIEWER, service))

    text = page(client, "enrollments/i/pump-042/")

    assert leaf.parsed.thumbprint_sha256 in text
    assert "disabled>" in text
    assert "certificate file" not in text
    assert "Save" not in text


def test_nobody_sees_anything_without_signing_in(client, service):
    an_individual(service)

    answer = client.get("/services/plant/enrollments/")

    assert (answer.status_code, "sign-in" in answer["Location"]) == (302, True)


@pytest.mark.parametrize(("length", "status"), [(600_000, 422), (3_000_000, 400)])
def test_a_form_too_large_to_be_read_changes_nothing(operator, service, length, status):
    """The form answers up to what its listener lets through, and Django's own page beyond."""
    answer = post(operator, "enrollments/add/", entry_form(primary_pem="x" * length))

    assert answer.status_code == status
    assert not service.individualenrollments.exists()


def test_a_history_row_names_the_person_and_the_way(operator, service):
    post(operator, "enrollments/add/", entry_form(primary_pem=self_signed("pump-1").pem, reason="new pump"))

    (row,) = events(service, "enrollment.added")
    assert (row.actor_kind, row.actor_name, row.way, row.reason) == (
        "user",
        "some-operator",
        "portal",
        "new pump",
    )
    assert HistoryEvent.objects.exclude(actor_name__in=["some-operator", ALICE.name]).count() == 0


# --- What an edit or a filter must not do without a word --------------------------------------

ENDS_THE_BAR = "This entry is disabled: removing or replacing this certificate ends the bar on its key."
SYMMETRIC_ENDS_THE_BAR = (
    "This entry is disabled: saving it with another mechanism removes its certificates and ends"
)


def test_the_form_of_a_disabled_entry_says_what_would_end_its_bar(operator, service):
    an_individual(service, "pump-042", enabled=False)
    an_individual(service, "pump-043")
    an_individual(service, "key-1", keys=True, enabled=False)

    barring, admitting, of_keys = (
        page(operator, f"enrollments/i/{name}/") for name in ("pump-042", "pump-043", "key-1")
    )

    assert (barring.count(ENDS_THE_BAR), barring.count(SYMMETRIC_ENDS_THE_BAR)) == (1, 1)
    for text in (admitting, of_keys):
        assert "ends the bar" not in text


def test_who_may_not_change_a_disabled_entry_is_not_warned(client, service):
    an_individual(service, enabled=False)
    client.force_login(a_user(Role.VIEWER, service))

    assert "ends the bar" not in page(client, "enrollments/i/pump-042/")


@pytest.mark.parametrize("path", ["enrollments/", "registrations/"])
@pytest.mark.parametrize("found", [True, False])
def test_the_order_comes_with_the_results_and_belongs_to_the_filter(operator, service, path, found):
    leaf = self_signed("pump-042")
    an_individual(service, leaf=leaf)
    register(service, leaf)
    query = "sort=-created" if path == "enrollments/" else "sort=-registration_id"
    query += "" if found else "&q=none"

    results = page(operator, f"{path}?{query}", **HTMX)

    value = query.split("&")[0].removeprefix("sort=")
    assert f'<input type="hidden" name="sort" value="{value}" form="filters">' in results
    assert 'id="filters"' in page(operator, f"{path}?{query}")
    assert 'name="sort"' not in page(operator, path, **HTMX)


def test_links_that_sort_and_turn_pages_keep_their_ids(operator, service):
    for number in range(52):
        an_individual(service, f"pump-{number:03}", keys=True)

    first = page(operator, "enrollments/", **HTMX)
    last = page(operator, "enrollments/?sort=-name&before=pump-000~1", **HTMX)

    for text in (first, last):
        for one in ("sort-name", "sort-created", "page-next"):
            assert text.count(f'id="{one}"') == 1
    assert 'id="page-previous"' in last
