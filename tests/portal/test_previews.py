"""Nobody is let in before it was said who that is: saving, turning on and deleting, with htmx and without (R7, R12)."""

import csv
import re
import threading

import pytest
from django.db import connection

from enrollments.actions import deleting
from enrollments.actions.enrollment_groups import delete_enrollment_groups, disable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.preview import limits
from enrollments.actions.revocation import deny_device, release_registration
from enrollments.actions.schedule import as_text
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.policy.roles import Role
from enrollments.portal import previews
from enrollments.portal.views import enrollment_groups
from tests.certificates import root, self_signed
from tests.devices import ALICE, derived_key, enroll_ca, enroll_key_group, register, signs
from tests.factories import a_group, a_service, a_user, an_individual
from tests.portal.entry_forms import (
    HTMX,
    a_file,
    entry_form,
    epoch_in,
    events,
    group_form,
    mark_in,
    page,
    post,
    post_once,
)

pytestmark = pytest.mark.django_db
KEY = "c2l4dGVlbiBieXRlcyAhISE="
BOTH_WAYS = pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])


@pytest.fixture
def service():
    return a_service()


@pytest.fixture
def ca():
    return root("Factory CA")


@pytest.fixture
def line(service, ca):
    """A group below an enabled root, with two devices that registered."""
    plant = ca.intermediate("Plant 7")
    a_group(service, "root", ca=ca)
    a_group(service, "plant-7", ca=plant)
    for number in range(2):
        register(service, plant.leaf(f"pump-{number}"))
    return plant


def words(text):
    """What a page says, without its marks."""
    return " ".join(re.sub(r"<[^>]+>", "", text).split())


def group(service, group_id="plant-7"):
    return service.enrollmentgroups.by_group_id(group_id)


def epoch_of(service):
    return ProvisioningService.epoch_of(service.pk)


def somebody_changes_something(service):
    deny_device(service, f"somebody-{epoch_of(service)}", actor=ALICE)


# --- Saving ----------------------------------------------------------------------------------


@BOTH_WAYS
def test_a_first_ca_is_asked_about_in_one_sentence(operator, service, ca, headers):
    data = group_form(primary_upload=a_file(ca.pem))

    asked = post_once(operator, "groups/add/", data, headers=headers)

    assert asked.status_code == 200
    assert (
        "No device that is known is touched. Devices below Factory CA that register from now on are admitted."
        in words(asked.text_shown)
    )
    assert "Add enrollment group plant-7?" in asked.text_shown
    assert not service.enrollmentgroups.exists()
    assert mark_in(asked.text_shown).startswith(f"{epoch_of(service)}-")


def test_htmx_gets_the_question_as_a_dialog_that_sends_the_form_of_the_page(operator, service, ca):
    data = group_form(primary_upload=a_file(ca.pem))
    asked = post_once(operator, "groups/add/", data, headers=HTMX)

    assert (asked["HX-Retarget"], asked["HX-Reswap"]) == ("#dialog", "innerHTML")
    assert "<form" not in asked.text_shown
    assert 'type="submit" class="btn btn-primary" form="entry-form" name="confirmed"' in asked.text_shown
    data["primary_upload"].seek(0)
    data["confirmed"] = mark_in(asked.text_shown)
    saved = post_once(operator, "groups/add/", data, headers=HTMX)
    assert saved["HX-Redirect"] == "/services/plant/groups/"
    assert group(service).enabled


def test_without_script_the_form_comes_back_as_it_was_typed_below_the_preview(operator, service, ca):
    data = group_form(
        primary_upload=a_file(ca.pem), reason="our first", enabled="yes", initial_twin='{"a": 1}'
    )

    asked = post_once(operator, "groups/add/", {**data, "initial_twin": '{"tags": {"a": 1}}'})

    text = asked.text_shown
    assert text.index('id="save-question"') < text.index('id="entry-form"')
    assert ca.pem.strip() in text
    assert 'value="our first"' in text
    assert text.count(f'name="confirmed" value="{mark_in(text)}"') == 3  # of the preview, of Enter, of Save
    shown = group_form(primary_pem=ca.pem, confirmed=mark_in(text))
    assert post_once(operator, "groups/add/", shown).status_code == 302
    assert group(service).enabled


@BOTH_WAYS
def test_what_is_wrong_with_the_form_is_said_before_anything_is_asked(operator, service, ca, headers):
    a_group(service, "other", ca=ca)

    invalid = post_once(operator, "groups/add/", group_form(), headers=headers)
    taken = post_once(operator, "groups/add/", group_form(primary_pem=ca.pem), headers=headers)

    assert (invalid.status_code, taken.status_code) == (422, 409)
    assert "already enrolled in group other" in taken.text_shown
    for answer in (invalid, taken):
        assert mark_in(answer.text_shown) == ""
        assert "HX-Retarget" not in answer
    assert service.enrollmentgroups.count() == 1


@BOTH_WAYS
def test_a_confirmation_of_a_former_state_is_answered_with_the_preview_of_now(operator, service, ca, headers):
    leaf = ca.leaf("pump-1")
    a_group(service, "root", ca=ca, enabled=False)
    register(service, leaf)
    entry = group(service, "root")
    data = group_form(expected_etag=entry.etag, enabled="yes")
    del data["group_id"]
    path = "groups/g/root/"
    first = post_once(operator, path, data, headers=headers)
    assert "1 known device will come in anew through enrollment group root: pump-1." in words(
        first.text_shown
    )
    deny_device(service, "pump-1", actor=ALICE)

    stale = post_once(operator, path, {**data, "confirmed": mark_in(first.text_shown)}, headers=headers)

    assert stale.status_code == 409
    assert "so nothing was saved. This is what holds now." in words(stale.text_shown)
    assert "1 known device is shut out already, and stays so: pump-1." in words(stale.text_shown)
    assert not group(service, "root").enabled
    fresh = post_once(operator, path, {**data, "confirmed": mark_in(stale.text_shown)}, headers=headers)
    assert fresh.status_code in (200, 302)
    assert group(service, "root").enabled


@BOTH_WAYS
def test_saving_that_was_outrun_while_it_waited_for_the_lock_asks_again(
    operator, service, ca, headers, monkeypatch
):
    data = group_form(primary_pem=ca.pem)
    mark = mark_in(post_once(operator, "groups/add/", data, headers=headers).text_shown)
    really = enrollment_groups.add_enrollment_group

    def outrun(*args, expected_epoch, **rest):
        if expected_epoch is not None:
            somebody_changes_something(service)
        return really(*args, expected_epoch=expected_epoch, **rest)

    monkeypatch.setattr(enrollment_groups, "add_enrollment_group", outrun)
    answer = post_once(operator, "groups/add/", {**data, "confirmed": mark}, headers=headers)

    assert answer.status_code == 409
    assert "so nothing was saved. This is what holds now." in words(answer.text_shown)
    assert mark_in(answer.text_shown) not in ("", mark)
    assert not service.enrollmentgroups.exists()


@BOTH_WAYS
def test_confirming_a_form_that_has_errors_by_now_shows_them(operator, service, ca, headers):
    data = group_form(primary_pem=ca.pem)
    mark = mark_in(post_once(operator, "groups/add/", data, headers=headers).text_shown)
    a_group(service, "quicker", ca=ca)

    answer = post_once(operator, "groups/add/", {**data, "confirmed": mark}, headers=headers)

    assert answer.status_code == 409
    assert "already enrolled in group quicker" in answer.text_shown
    assert "HX-Retarget" not in answer
    assert "dialog:close" in answer["HX-Trigger"]


def test_devices_that_register_meanwhile_do_not_hold_up_who_confirms(operator, service, line):
    entry = group(service)
    data = group_form(expected_etag=entry.etag, predecessor="root")
    asked = post_once(operator, "groups/g/plant-7/", data)
    register(service, line.leaf("pump-9"))

    saved = post_once(operator, "groups/g/plant-7/", {**data, "confirmed": mark_in(asked.text_shown)})

    assert saved.status_code == 302
    assert group(service).predecessor == group(service, "root")


def test_what_is_confirmed_is_what_was_looked_at(operator, service, ca):
    """Without script the form stands open below the preview, and may be filled with something else."""
    seen = post_once(operator, "groups/add/", group_form(primary_pem=ca.pem))
    other = group_form(primary_pem=root("Another CA").pem, confirmed=mark_in(seen.text_shown))

    answer = post_once(operator, "groups/add/", other)

    assert answer.status_code == 200
    assert "Devices below Another CA" in answer.text_shown
    assert not service.enrollmentgroups.exists()


def test_keys_that_were_typed_never_come_back_and_are_part_of_what_is_confirmed(operator, service):
    data = entry_form(registration_id="key-1", mechanism="symmetricKey", primary_key=KEY)

    asked = post_once(operator, "enrollments/add/", data)

    assert KEY not in asked.text_shown
    assert "Whoever registers as key-1 with one of its keys is admitted from now on." in asked.text_shown
    mark = mark_in(asked.text_shown)
    forgotten = {**data, "primary_key": "", "confirmed": mark}
    assert post_once(operator, "enrollments/add/", forgotten).status_code == 200
    assert not service.individualenrollments.exists()
    assert post_once(operator, "enrollments/add/", {**data, "confirmed": mark}).status_code == 302
    assert service.individualenrollments.get().primary_key == KEY


@BOTH_WAYS
def test_what_an_entry_is_for_does_not_contradict_what_becomes_of_the_device(operator, service, ca, headers):
    """It has shown a certificate so far, and is refused with it once its name is one of keys."""
    a_group(service, "root", ca=ca)
    register(service, ca.leaf("pump-1"))
    data = entry_form(registration_id="pump-1", mechanism="symmetricKey")

    asked = words(post_once(operator, "enrollments/add/", data, headers=headers).text_shown)

    assert "1 known device will be refused: pump-1." in asked
    assert "Whoever registers as pump-1 with one of its keys is admitted from now on." in asked


def test_a_ca_is_named_in_full_in_the_question(operator):
    pem = root("Plant 7, Regensburg").pem

    asked = post_once(operator, "groups/add/", group_form(primary_pem=pem))

    assert "Devices below Plant 7, Regensburg that register from now on are admitted." in words(
        asked.text_shown
    )


@pytest.mark.parametrize(
    "changes", [{"device_id": "dev-9"}, {"iot_edge": "on"}, {"initial_twin": '{"tags": {"a": 1}}'}]
)
def test_what_cannot_affect_access_is_saved_without_a_question(operator, service, changes):
    entry = an_individual(service)

    answer = post_once(
        operator, "enrollments/i/pump-042/", entry_form(expected_etag=entry.etag, **changes), follow=True
    )

    assert "Saved individual enrollment pump-042." in answer.text_shown
    assert service.individualenrollments.get().etag != entry.etag


@BOTH_WAYS
def test_disabling_in_the_form_is_asked_once_and_says_what_it_did(operator, service, ca, headers):
    leaf = ca.leaf("pump-042")
    a_group(service, "root", ca=ca)
    entry = an_individual(service, leaf=leaf)
    register(service, leaf)
    form = entry_form(expected_etag=entry.etag, enabled="no")

    asked = post_once(operator, "enrollments/i/pump-042/", form, headers=headers)

    assert "1 known device will be refused" in words(asked.text_shown)
    assert service.individualenrollments.get().enabled
    somebody_changes_something(service)

    answer = post_once(
        operator,
        "enrollments/i/pump-042/",
        {**form, "confirmed": mark_in(asked.text_shown)},
        follow=True,
    )

    assert "Saved individual enrollment pump-042: 1 device is refused from now on." in answer.text_shown
    assert register(service, leaf).outcome == "disabled"


def test_adding_a_bar_is_asked_once_and_says_what_it_did(operator, service, ca):
    plant = ca.intermediate("Plant 7")
    a_group(service, "root", ca=ca)
    leaf = plant.leaf("pump-1")
    an_individual(service, leaf=leaf)
    register(service, leaf)
    register(service, plant.leaf("pump-2"))

    asked = post_once(operator, "groups/add/", group_form(primary_pem=plant.pem, enabled="no"))
    assert "1 known device will be refused" in words(asked.text_shown)
    assert service.enrollmentgroups.count() == 1
    bar = post(operator, "groups/add/", group_form(primary_pem=plant.pem, enabled="no"), follow=True)

    assert (
        "Added enrollment group plant-7, disabled: 1 device is refused from now on, 1 is still admitted through "
        "individual enrollment of its own." in words(bar.text_shown)
    )
    assert register(service, plant.leaf("pump-2")).outcome == "disabled"


@BOTH_WAYS
def test_another_certificate_rests_on_a_preview_that_names_who_is_refused_by_it(operator, service, headers):
    entry = an_individual(service)
    data = entry_form(expected_etag=entry.etag, primary_pem=self_signed("pump-042").pem)

    asked = post_once(operator, "enrollments/i/pump-042/", data, headers=headers)

    assert "Save individual enrollment pump-042?" in asked.text_shown
    assert service.individualenrollments.get().etag == entry.etag
    assert mark_in(asked.text_shown)


@BOTH_WAYS
@pytest.mark.parametrize("until", [True, False])
def test_other_certificates_of_what_is_disabled_until_a_time_say_who_comes_in_then(
    operator, service, database_clock, headers, until
):
    at = database_clock.ahead(days=1)
    old, new = self_signed("pump-042"), self_signed("pump-042")
    an_individual(service, leaf=old)
    register(service, new)
    times = {"until": at} if until else {}
    disable_enrollment(service, "pump-042", actor=ALICE, **times)
    etag = service.individualenrollments.get().etag
    form = entry_form(expected_etag=etag, primary_pem=new.pem, enabled="no")

    question = words(post_once(operator, "enrollments/i/pump-042/", form, headers=headers).text_shown)

    stays = f"not counting what is scheduled from {as_text(at)} on" if until else "and stays so"
    assert f"1 known device is shut out already, {stays}: pump-042." in question
    comes_in = "1 known device will come in anew through individual enrollment of its own: pump-042."
    assert (comes_in in question) is until
    assert ("admits nobody before. Whoever registers as pump-042" in question) is until


@BOTH_WAYS
def test_another_ca_of_a_group_that_is_disabled_until_a_time_says_so_too(
    operator, service, ca, database_clock, headers
):
    at = database_clock.ahead(days=1)
    a_group(service, "plant-7", ca=root("Old"))
    enroll_ca(service, ca, "former")
    register(service, ca.leaf("pump-1"))
    delete_enrollment_groups(service, ["former"], actor=ALICE)
    disable_enrollment_group(service, "plant-7", until=at, actor=ALICE)
    form = group_form(expected_etag=group(service).etag, primary_pem=ca.pem, enabled="no")

    question = words(post_once(operator, "groups/g/plant-7/", form, headers=headers).text_shown)

    assert f"From {as_text(at)} on, with whatever else is scheduled until then:" in question
    assert "1 known device will come in anew through enrollment group plant-7: pump-1." in question


@BOTH_WAYS
def test_another_ca_says_who_comes_in_by_sending_the_former_one_along(operator, service, line, headers):
    leaf = line.leaf("pump-9")
    alone = PresentedCredential(certificates=(leaf.der,))
    assert register(service, alone, "pump-9").outcome == "assigned"
    release_registration(service, "pump-9", actor=ALICE)
    form = group_form(expected_etag=group(service).etag, primary_pem=root("New").pem)

    question = words(post_once(operator, "groups/g/plant-7/", form, headers=headers).text_shown)
    listed = words(post_once(operator, "groups/g/plant-7/preview/", form).text_shown)

    for text in (question, listed):
        assert "1 known device will be refused" in text
        assert (
            "1 of these is admitted all the same, through enrollment group root, if it sends the CA certificates along "
            "that are removed." in text
        )


# --- The switch, for one and for several -----------------------------------------------------


def test_a_page_that_asks_opens_where_reading_begins(operator, line):
    """A browser shows what has the focus. In a dialog the script sees to it, which knows how much is in sight."""
    path = "groups/g/plant-7/disable/"

    assert "autofocus" not in page(operator, path)
    assert "autofocus" in page(operator, path, **HTMX)


def test_turning_a_group_off_says_before_and_after_who_is_still_admitted(operator, service, line):
    leaf = line.leaf("pump-1")
    an_individual(service, leaf=leaf)
    register(service, leaf)

    question = page(operator, "groups/g/plant-7/disable/", **HTMX)
    done = post(operator, "groups/g/plant-7/disable/", {"reason": "leaked"}, headers=HTMX)

    assert "1 known device will be refused: pump-0." in words(question)
    assert "1 known device will still be admitted through individual enrollment of its own: pump-1." in words(
        question
    )
    said = (
        "Disabled enrollment group plant-7: 1 device is refused from now on, 1 is still admitted through "
        "individual enrollment of its own."
    )
    assert said in words(done.text_shown)
    assert [row.reason for row in events(service, "group.disabled")] == ["leaked"]


def several(service, kind="groups", number=3):
    entries = [a_group(service, f"line-{one}", ca=root(f"Line {one}")) for one in range(number)]
    return entries, "&".join(f"entry={one.pk}" for one in entries)


def test_several_groups_are_turned_off_and_on_together(operator, service):
    entries, chosen = several(service)

    off = post(operator, f"groups/disable/?{chosen}", {"reason": "audit"}, follow=True)
    question = page(operator, f"groups/enable/?{chosen}", **HTMX)
    states = set(service.enrollmentgroups.values_list("enabled", flat=True))
    on = post(operator, f"groups/enable/?{chosen}", {"epoch": epoch_in(question)}, headers=HTMX)

    assert "Disabled 3 enrollment groups." in words(off.text_shown)
    assert "Enable 3 enrollment groups?" in question
    assert states == {False}
    assert on["HX-Redirect"] == "/services/plant/groups/"
    assert set(service.enrollmentgroups.values_list("enabled", flat=True)) == {True}
    assert {row.reason for row in events(service, "group.disabled")} == {"audit"}
    assert len(events(service, "group.enabled")) == len(entries)


def test_several_individuals_are_turned_on_only_on_a_fresh_preview(operator, service):
    entries = [an_individual(service, f"pump-{one}", enabled=False) for one in range(2)]
    path = "enrollments/enable/?" + "&".join(f"entry={one.pk}" for one in entries)
    epoch = epoch_in(page(operator, path))
    somebody_changes_something(service)

    assert post(operator, path, {"epoch": epoch}).status_code == 409
    assert not service.individualenrollments.filter(enabled=True).exists()


def test_r16_a_group_is_turned_off_although_its_preview_cannot_be_worked_out(operator, service, settings):
    enroll_key_group(service)
    settings.DPS_ENCRYPTION_KEY = "A" * 43 + "="

    question = page(operator, "groups/g/line-9/disable/")
    done = post(operator, "groups/g/line-9/disable/", follow=True)

    assert "Shutting out works all the same." in question
    assert (
        "Disabled enrollment group line-9. What that changed for the devices could not be worked out."
        in words(done.text_shown)
    )
    assert not service.enrollmentgroups.without_secrets().get().enabled
    assert operator.get("/services/plant/groups/g/line-9/enable/").status_code == 503


# --- Deleting --------------------------------------------------------------------------------


@BOTH_WAYS
def test_deleting_offers_to_disable_instead_and_to_keep_devices_out(operator, service, line, headers):
    entry = group(service)

    question = page(operator, f"groups/delete/?entry={entry.pk}", **headers)

    assert "2 known devices will still be admitted through enrollment group root: pump-0, pump-1." in words(
        question
    )
    assert "That includes devices that have not registered yet." in question
    assert f'href="/services/plant/groups/disable/?entry={entry.pk}"' in question
    assert "Delete, but keep these 2 devices out" in question
    instead = page(operator, f"groups/disable/?entry={entry.pk}", **headers)
    assert "Disable enrollment group plant-7?" in instead
    assert "2 known devices will be refused: pump-0, pump-1." in words(instead)


def test_the_list_behind_a_question_says_what_the_question_says(operator, service, line, database_clock):
    """A switch of another group turns, which lets none of these in: it was looked at for the question."""
    disable_enrollment_group(service, "root", actor=ALICE)
    enroll_ca(service, root("Other"), "other")
    disable_enrollment_group(service, "other", until=database_clock.ahead(days=1), actor=ALICE)
    before = words(page(operator, "preview/?act=delete&entry=group:plant-7"))

    question = words(page(operator, f"groups/delete/?entry={group(service).pk}"))

    assert "2 known devices are shut out already, and stay so: pump-0, pump-1." in question
    assert "not counting what is scheduled" in before
    assert "not counting what is scheduled" not in words(
        page(operator, "preview/?act=delete&entry=group:plant-7")
    )


def test_devices_that_another_group_lets_in_later_are_told_and_can_be_kept_out(
    operator, service, line, database_clock
):
    """It is disabled until a time: until then all stay out, whatever is deleted."""
    at = database_clock.ahead(days=1)
    disable_enrollment_group(service, "root", until=at, actor=ALICE)
    path = f"groups/delete/?entry={group(service).pk}"

    question = page(operator, path)

    said = words(question)
    stay = f"not counting what is scheduled from {as_text(at)} on"
    assert f"2 known devices are shut out already, {stay}: pump-0, pump-1." in said
    assert f"From {as_text(at)} on, with whatever else is scheduled until then:" in said
    assert "2 known devices will come in anew through enrollment group root: pump-0, pump-1." in said
    assert "stay barred by the disabled enrollment group root until" in said
    assert "Disable instead" in question
    assert "Delete, but keep these 2 devices out" in question
    post(operator, path, {"epoch": epoch_in(question), "keep_out": "1"}, follow=True)
    assert service.individualenrollments.count() == 2


def test_deleting_that_cannot_keep_out_all_who_come_meanwhile_is_not_done(
    operator, service, line, monkeypatch
):
    path = f"groups/delete/?entry={group(service).pk}"
    data = {"epoch": epoch_in(page(operator, path)), "keep_out": "1"}
    monkeypatch.setattr(deleting, "EXAMINED_UNDER_LOCK", 2)
    monkeypatch.setattr(deleting, "ROUNDS", 1)
    really = deleting.preview_of_act

    def while_others_come(*args, **kwargs):
        told = really(*args, **kwargs)
        for number in range(3):
            register(service, line.leaf(f"valve-{number}"))
        return told

    monkeypatch.setattr(deleting, "preview_of_act", while_others_come)
    monkeypatch.setattr(deleting, "_passing_once_gone", lambda *_: [])
    first = deleting.Newcomers.from_now_on(service, [group(service)])
    monkeypatch.setattr(deleting.Newcomers, "from_now_on", lambda *_: first)

    answer = post(operator, path, data)

    assert (
        "3 devices registered meanwhile that may have to be kept out too: nothing was deleted."
        in answer.text_shown
    )
    assert group(service).enabled


def test_where_devices_could_not_be_examined_disabling_is_offered_all_the_same(
    operator, service, monkeypatch
):
    monkeypatch.setattr(limits, "SECONDS_SINGLY", -1)
    entry = an_individual(service)

    question = page(operator, f"enrollments/delete/?entry={entry.pk}&back=q%3Dpump")

    assert "1 known device was not examined" in words(question)
    assert f'href="/services/plant/enrollments/disable/?entry={entry.pk}&amp;back=q%3Dpump"' in question


def test_where_not_all_attempts_were_looked_at_that_is_said(operator, service, line, monkeypatch):
    path = f"groups/delete/?entry={group(service).pk}"
    monkeypatch.setattr(limits, "MAX_ATTEMPTS", service.attempts.count())
    assert "were not looked at" not in words(page(operator, path))
    monkeypatch.setattr(limits, "MAX_ATTEMPTS", 1)

    question = words(page(operator, path))

    assert (
        "UTC were not looked at: by what a device proved then alone, it may come in all the same." in question
    )
    assert "Examine all attempts, in a new tab leaves none out." in question


def test_deleting_and_keeping_out(operator, service, line):
    path = f"groups/delete/?entry={group(service).pk}"
    data = {"epoch": epoch_in(page(operator, path)), "reason": "sold", "keep_out": "1"}

    done = post(operator, path, data, follow=True)

    assert (
        "Deleted enrollment group plant-7: 2 devices are kept out, each by an entry of its own."
        in done.text_shown
    )
    assert {register(service, line.leaf(f"pump-{one}")).outcome for one in range(2)} == {"disabled"}
    assert {row.reason for row in events(service, "enrollment.added_disabled")} == {"sold"}
    assert len(events(service, "enrollment.added_disabled")) == 2


def test_a_name_that_a_group_with_keys_would_take_is_told_and_can_be_kept(operator, service):
    keys = enroll_key_group(service)
    entry = an_individual(service, leaf=self_signed("line-9-1"))
    path = f"enrollments/delete/?entry={entry.pk}"
    sentence = (
        "Nothing keeps the registration ID line-9-1 any more: a device that nobody knows here can come in under it "
        "through enrollment group line-9."
    )

    question = page(operator, path)

    assert sentence in words(question)
    assert sentence in words(page(operator, "preview/?act=delete&entry=individual:line-9-1"))
    assert "Disable instead" in question
    post(operator, path, {"epoch": epoch_in(question), "keep_out": "1"}, follow=True)
    derived = signs(service, "line-9-1", derived_key(keys.primary_key, "line-9-1"))
    assert register(service, derived, "line-9-1").outcome == "disabled"


def test_deleting_and_keeping_out_rests_on_the_preview_too(operator, service, line):
    path = f"groups/delete/?entry={group(service).pk}"
    data = {"epoch": epoch_in(page(operator, path)), "keep_out": "1"}
    somebody_changes_something(service)

    assert post(operator, path, data).status_code == 409
    assert group(service).enabled


def test_what_is_left_of_many_is_asked_about_again(operator, service, line, monkeypatch):
    monkeypatch.setattr("enrollments.actions.deleting.DENIED_AT_ONCE", 1)
    monkeypatch.setattr("enrollments.actions.deleting.MAX_DENIED", 1)
    register(service, line.leaf("pump-2"))
    path = f"groups/delete/?entry={group(service).pk}"

    first = post(operator, path, {"epoch": epoch_in(page(operator, path)), "keep_out": "1"})

    assert "1 device is denied now by an entry of its own, and nothing is deleted yet: 2 are left." in words(
        first.text_shown
    )
    assert group(service).enabled
    second = post(operator, path, {"epoch": epoch_in(first.text_shown), "keep_out": "1"}, follow=True)
    assert "Deleted enrollment group plant-7: 2 devices are kept out" in second.text_shown


def test_a_deny_entry_of_a_device_with_a_derived_key_is_told_to_let_it_in_again(operator, service):
    keys = enroll_key_group(service)
    register(service, signs(service, "line-9-1", derived_key(keys.primary_key, "line-9-1")), "line-9-1")
    entry = deny_device(service, "line-9-1", actor=ALICE)

    question = page(operator, f"enrollments/delete/?entry={entry.pk}")

    assert "1 known device will come in anew through enrollment group line-9: line-9-1." in words(question)
    assert "ends its bar" in question


# --- All devices, to page through and to take along ------------------------------------------


def rows_in(text):
    return re.findall(r'<th scope="row">.*?>([\w-]+)<', text)


def test_the_preview_of_an_act_has_an_address_and_pages(operator, service, ca, monkeypatch):
    monkeypatch.setattr(previews, "PAGE_SIZE", 2)
    monkeypatch.setattr(previews.page_of, "__defaults__", (2,))
    a_group(service, "plant-7", ca=ca)
    for number in range(5):
        register(service, ca.leaf(f"pump-{number}"))
    url = "preview/?act=disable&entry=group%3Aplant-7&effect=refused"

    seen, address = [], url
    for _ in range(3):
        text = page(operator, address)
        seen.append(rows_in(text))
        following = re.search(r'rel="next" href="([^"]+)"', text)
        address = following[1].replace("&amp;", "&").removeprefix("/services/plant/") if following else ""
    back = re.search(r'rel="prev" href="([^"]+)"', text)[1].replace("&amp;", "&")

    assert seen == [["pump-0", "pump-1"], ["pump-2", "pump-3"], ["pump-4"]]
    assert address == ""
    assert rows_in(operator.get(back).content.decode()) == ["pump-2", "pump-3"]
    assert "1 to 2 of 5 devices" in page(operator, url)
    assert 'href="/services/plant/registrations/pump-0/"' in page(operator, url)


def test_looking_at_a_preview_changes_nothing(operator, service, line):
    before, rows = epoch_of(service), HistoryEvent.objects.count()

    page(operator, "preview/?act=delete&entry=group:plant-7")

    assert (epoch_of(service), HistoryEvent.objects.count()) == (before, rows)
    assert group(service).enabled


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("act=disable", 422),
        ("act=marry&entry=group:plant-7", 422),
        ("act=disable&entry=group:none", 404),
        ("act=disable&entry=plant-7", 404),
        ("act=disable&groups=999", 404),
        ("act=disable&groups=x", 404),
        ("act=disable&entry=group:plant-7&effect=none&after=%F0%9F%92%A5", 200),
    ],
)
def test_an_address_that_says_too_little_is_answered_with_a_sentence(operator, line, query, status):
    assert operator.get(f"/services/plant/preview/?{query}").status_code == status
    if status != 200:
        assert operator.get(f"/services/plant/preview/export/?{query}").status_code == status


def test_many_entries_are_named_by_their_numbers(operator, service):
    entries, _ = several(service, number=11)
    for one in entries:
        type(one).objects.filter(pk=one.pk).update(enabled=False)

    url = previews.preview_url(service, previews.Act.ENABLE, entries)

    assert len(url) < 300
    assert "Preview: enable 11 enrollment groups" in operator.get(url).content.decode()


def test_the_export_holds_what_the_list_holds_and_leaves_a_row(operator, service, line):
    deny_device(service, "pump-1", actor=ALICE)

    answer = operator.get("/services/plant/preview/export/?act=disable&entry=group:plant-7")
    one = operator.get("/services/plant/preview/export/?act=disable&entry=group:plant-7&effect=refused")

    rows = list(csv.reader(b"".join(answer.streaming_content).decode().splitlines()))
    assert rows == [
        [
            "registration ID",
            "effect",
            "now",
            "now by",
            "afterwards",
            "afterwards by",
            "name held through",
            "admitted otherwise through",
        ],
        [
            "pump-0",
            "refused",
            "admitted",
            "enrollment group plant-7",
            "disabled",
            "enrollment group plant-7",
            "",
            "",
        ],
        [
            "pump-1",
            "still_out",
            "disabled",
            "individual enrollment pump-1",
            "disabled",
            "individual enrollment pump-1",
            "",
            "",
        ],
    ]
    assert len(b"".join(one.streaming_content).splitlines()) == 2
    whole, part = events(service, "exported") or HistoryEvent.objects.filter(subject_name="preview as CSV")
    assert whole.after == {"change": "disable enrollment group plant-7"}
    assert part.after == {"change": "disable enrollment group plant-7", "effect": "refused"}
    assert whole.actor_name == "some-operator"


def test_a_form_has_all_its_devices_in_a_list_and_as_csv(operator, service, line, monkeypatch):
    monkeypatch.setattr(previews.page_of, "__defaults__", (1,))
    data = group_form(expected_etag=group(service).etag, predecessor="root", effect="still_admitted")
    path = "groups/g/plant-7/preview/"

    first = post_once(operator, path, data)
    second = post_once(operator, path, {**data, "after": "pump-0"})
    export = operator.post(f"/services/plant/{path}", {**data, "export": "csv"})

    assert (rows_in(first.text_shown), rows_in(second.text_shown)) == (["pump-0"], ["pump-1"])
    assert '<input type="hidden" name="predecessor" value="root">' in first.text_shown
    assert 'name="after" value="pump-0"' in first.text_shown
    assert len(b"".join(export.streaming_content).splitlines()) == 3
    assert HistoryEvent.objects.filter(subject_name="preview as CSV").count() == 1
    assert group(service).predecessor is None


def test_a_form_with_errors_has_no_preview(operator, service):
    answer = post_once(operator, "groups/add/preview/", group_form())

    assert answer.status_code == 422
    assert "as long as the form has errors" in answer.text_shown


# --- Who may ---------------------------------------------------------------------------------


def test_r17_an_auditor_looks_and_exports_and_a_viewer_does_neither(client, service, line):
    query = "?act=disable&entry=group:plant-7"
    statuses = {}
    for role in (Role.VIEWER, Role.AUDITOR):
        client.force_login(a_user(role, service))
        statuses[role] = [
            client.get(f"/services/plant/{path}{query}").status_code
            for path in ("preview/", "preview/export/")
        ]
        edit = client.get("/services/plant/groups/g/plant-7/").content.decode()
        assert ("/services/plant/preview/" in edit) is (role is Role.AUDITOR)

    assert statuses == {Role.VIEWER: [403, 403], Role.AUDITOR: [200, 200]}


def test_r1_entries_of_another_service_have_no_preview_here(operator, ca):
    elsewhere = a_service("elsewhere")
    enroll_ca(elsewhere, ca, "theirs")

    assert operator.get("/services/plant/preview/?act=disable&entry=group:theirs").status_code == 404
    assert operator.get("/services/elsewhere/preview/?act=disable&entry=group:theirs").status_code == 404


# --- While devices register ------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_r12_disabling_while_devices_register_is_answered_and_holds(client, service, ca):
    """The preview before it, the deed and the report of it stand in nobody's way, and nobody slips through after."""
    operator = client
    operator.force_login(a_user(Role.OPERATOR, service))
    a_group(service, "plant-7", ca=ca)
    leaves = [ca.leaf(f"pump-{number}") for number in range(4)]
    for leaf in leaves:
        register(service, leaf)
    answered, stop, after, problems = threading.Event(), threading.Event(), [], []

    def keep_registering(leaf):
        try:
            while not stop.is_set():
                was_answered = answered.is_set()
                outcome = register(service, leaf).outcome
                if was_answered:
                    after.append(outcome)
        except Exception as problem:  # told below, in the thread of the test
            problems.append(problem)
        finally:
            connection.close()

    threads = [threading.Thread(target=keep_registering, args=[leaf]) for leaf in leaves]
    for thread in threads:
        thread.start()
    page(operator, "groups/g/plant-7/disable/")
    done = post(operator, "groups/g/plant-7/disable/", {"reason": "leaked"}, follow=True)
    answered.set()
    while len(after) < 12 and not problems:
        stop.wait(0.05)
    stop.set()
    for thread in threads:
        thread.join()

    assert problems == []
    assert "Disabled enrollment group plant-7: 4 devices are refused from now on." in done.text_shown
    assert "assigned" not in after


@BOTH_WAYS
def test_r8_enabling_one_device_says_which_disabled_group_that_overrides(operator, service, ca, headers):
    a_group(service, "barred", ca=ca, enabled=False)
    an_individual(service, "pump-042", leaf=ca.leaf("pump-042"), enabled=False)
    an_individual(service, "pump-043", enabled=False)

    overriding = page(operator, "enrollments/i/pump-042/enable/", **headers)
    plain = page(operator, "enrollments/i/pump-043/enable/", **headers)

    assert "This overrides the disabled enrollment group barred, below which it stands" in overriding
    assert "overrides" not in plain
