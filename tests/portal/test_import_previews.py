"""What an import would do to known devices: shown before it starts, and what it is started on."""

import csv
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.import_holding import hold
from enrollments.actions.import_previews import claim_preview, tell_progress
from enrollments.actions.import_work import pause_import
from enrollments.actions.preview import Act, Device, Preview, carry_out
from enrollments.actions.preview import Outcome as PreviewOutcome
from enrollments.actions.preview.limits import turn_to_examine_all
from enrollments.actions.schedule import as_text
from enrollments.errors import SecretUnreadable
from enrollments.models import (
    HistoryEvent,
    ImportPreview,
    ImportRun,
    ImportState,
    IndividualEnrollment,
)
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.roles import Role
from enrollments.portal.views import import_previews
from enrollments.transfer import foreseen, kept, kept_devices, previewing
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_keys, register, signs
from tests.portal.import_pages import signed_in, text_of, url
from tests.transfer.lists import below, checked, json_lines, keys, started

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("imports_at_once")]


@pytest.fixture
def begun(monkeypatch):
    """Previews that a thread would have begun to work out, for each time that one was wanted."""
    wanted = []
    monkeypatch.setattr(previewing, "in_background", lambda run_id, *, everyone: wanted.append(everyone))
    return wanted


@pytest.fixture
def operator(service):
    return signed_in(Role.OPERATOR, service)


def epoch_on(page):
    return re.search(r'name="epoch" value="([0-9]+)"', page)[1]


def names():
    return sorted(IndividualEnrollment.objects.values_list("registration_id", flat=True))


def test_what_an_import_does_to_known_devices_is_shown_before_it_starts(service, operator):
    entry = enroll_keys(service, "pump-1")
    register(service, signs(service, "pump-1", entry.primary_key), "pump-1")
    run = checked(service, json_lines(keys("a"), {"registrationId": "pump-1", "operation": "disable"}))
    where = url("import-preview", service, import_pk=run.pk)

    page = text_of(operator.get(url("import-detail", service, import_pk=run.pk)))
    listed = text_of(operator.get(where, {"effect": "refused"}))
    told = operator.get(f"{where}export/")

    assert 'known device <strong>will be refused</strong>: <span class="id-text">pump-1</span>.' in page
    assert f'href="{where}?later=0"' in page
    assert "1 to 1 of 1 device" in listed
    assert b"".join(told.streaming_content).decode().splitlines()[1].startswith("pump-1,refused,admitted")
    assert HistoryEvent.objects.filter(event="history.exported").count() == 1
    entry.refresh_from_db()
    assert entry.enabled


def test_a_request_works_nothing_out(service, operator, begun, monkeypatch):
    """It says how far that is, asks again by itself, and without script when it is told to."""
    run = checked(service, json_lines(keys("a")))
    where = url("import-detail", service, import_pk=run.pk)
    monkeypatch.setattr(previewing, "foresee", None)

    first = text_of(operator.get(where))
    preview = claim_preview(run.pk, type(service).epoch_of(service.pk), everyone=False)
    tell_progress(preview, {"step": "reading", "done": 500, "of": 1200, "is_later": False})
    fragment = operator.get(where, headers={"HX-Request": "true"})

    assert 'hx-trigger="every 1s"' in first
    assert f'<noscript><a class="btn" href="{where}">' in first
    assert "Lines read: 500 of 1,200." in text_of(fragment)
    assert 'max="1200" value="500"' in text_of(fragment)
    assert "<html" not in text_of(fragment)
    assert begun == [False], "somebody has it by then"
    answer = operator.get(f"{url('import-preview', service, import_pk=run.pk)}export/")
    assert (answer.status_code, begun) == (409, [False])
    assert "export it when it is there" in text_of(answer)


def test_whoever_looks_begins_anew_what_somebody_left(service, operator):
    run = checked(service, json_lines(keys("a")))
    claim_preview(run.pk, type(service).epoch_of(service.pk), everyone=False)
    where = url("import-detail", service, import_pk=run.pk)
    assert "Working out what this does" in text_of(operator.get(where))

    ImportPreview.objects.update(held_until=run.created_at)

    page = text_of(operator.get(where))
    assert "No device that is known is touched." in page
    assert "hx-trigger" not in page.split("<main")[1]


def test_an_import_can_be_cancelled_while_its_preview_is_worked_out(service, operator, begun):
    run = checked(service, json_lines(keys("a")))
    claim_preview(run.pk, type(service).epoch_of(service.pk), everyone=False)
    page = text_of(operator.get(url("import-detail", service, import_pk=run.pk)))
    assert url("import-cancel", service, import_pk=run.pk) in page

    operator.post(url("import-cancel", service, import_pk=run.pk))

    assert not ImportPreview.objects.exists()


def test_what_may_let_somebody_in_waits_for_its_preview(service, operator, begun):
    """The epoch of a page that is fetched again and again would be that of nothing that anybody looked at."""
    run = checked(service, json_lines(keys("a")))
    where, start = (url(f"import-{name}", service, import_pk=run.pk) for name in ("detail", "start"))

    waiting = text_of(operator.get(where))
    previewing.work_out_preview(run.pk)
    ready = text_of(operator.get(where))
    enroll_keys(service, "another")
    again = text_of(operator.get(where))

    for page in (waiting, again):
        assert f'action="{start}"' not in page
        assert "it can be started as soon as this is worked out" in page
        assert "hx-include=" not in page, "what is not there is complained about"
    assert f'action="{start}"' in ready
    assert f'<input type="hidden" name="epoch" value="{ImportPreview.objects.get().epoch}">' in ready
    assert begun == [False, False]


def test_what_only_shuts_out_can_be_started_before_its_preview_is_there(service, operator, begun):
    enroll_keys(service, "pump-1")
    run = checked(service, json_lines({"registrationId": "pump-1", "operation": "disable"}, "bad"))
    where, start = (url(f"import-{name}", service, import_pk=run.pk) for name in ("detail", "start"))

    page = text_of(operator.get(where))
    ticked = text_of(operator.get(f"{where}?without_bad_lines=on", headers={"HX-Request": "true"}))
    done = text_of(operator.post(start, {"without_bad_lines": "on"}, follow=True))

    assert "Working out what this does" in page
    assert f'action="{start}"' in page
    assert 'name="epoch"' not in page
    assert 'name="without_bad_lines" required>' in page
    assert 'hx-include="#import-without-bad-lines"' in page
    assert 'name="without_bad_lines" required checked>' in ticked, "what was ticked stays so"
    assert "1 of 1 lines were carried out" in done
    assert "None was kept: it was started before one was worked out." in done


def test_r12_what_was_paused_shows_what_the_rest_does_and_goes_on_on_that_state(service, operator):
    enroll_keys(service, "pump-1")
    run = checked(service, json_lines(keys("a"), keys("pump-1", operation="update", deviceId="other")))
    started(run)
    _, holder = hold(run.pk)
    pause_import(run.pk, holder)
    where = url("import-detail", service, import_pk=run.pk)
    operator.get(where)
    seen = text_of(operator.get(where))
    disable_enrollment(service, "pump-1", actor=ALICE, reason="stolen")

    outdated = operator.post(f"{where}start/", {"epoch": epoch_on(seen)}, follow=True)

    assert "What the rest does, as things stand now:" in seen
    assert "nothing was started" in text_of(outdated)
    assert not service.individualenrollments.get(registration_id="pump-1").enabled
    operator.get(where)
    now = text_of(operator.get(where))
    assert '<span class="id-text">pump-1</span>' in now
    operator.post(f"{where}start/", {"epoch": epoch_on(now)})
    run.refresh_from_db()
    assert run.state == ImportState.DONE


def test_r16_where_it_cannot_be_told_that_is_said_and_only_what_shuts_out_can_be_started(
    service, operator, monkeypatch
):
    enroll_keys(service, "b")
    run = checked(service, json_lines(keys("a")))
    shuts_out = checked(service, json_lines(keys("b", operation="disable")))

    def fails(*_, **__):
        raise SecretUnreadable

    monkeypatch.setattr(previewing, "foresee", fails)
    page = text_of(operator.get(url("import-detail", service, import_pk=run.pk)))
    listed = text_of(operator.get(url("import-preview", service, import_pk=run.pk)))
    export = operator.get(f"{url('import-preview', service, import_pk=run.pk)}export/")

    for told in (page, listed):
        assert f"cannot be told. <strong>{escape(SecretUnreadable().message)}</strong>" in told
    assert "What may let somebody in waits until it can" in page
    assert 'name="epoch"' not in page
    assert export.status_code == 409
    operator.post(url("import-start", service, import_pk=run.pk))
    assert "a" not in names()
    page = text_of(operator.get(url("import-detail", service, import_pk=shuts_out.pk)))
    assert "can be started all the same" in page
    operator.post(url("import-start", service, import_pk=shuts_out.pk))
    assert not service.individualenrollments.get(registration_id="b").enabled


def test_all_devices_are_examined_when_somebody_asks(service, operator, begun):
    run = checked(service, json_lines(*disabling(service, "pump-1")))
    previewing.work_out_preview(run.pk)
    where = f"{url('import-preview', service, import_pk=run.pk)}?later=0&everyone=1"

    waiting = text_of(operator.get(where))
    with turn_to_examine_all():
        previewing.work_out_preview(run.pk, everyone=True)
        fragment = operator.get(where, headers={"HX-Request": "true"})
        assert "this one waits" in text_of(fragment)
        previewing.work_out_preview(run.pk)
    previewing.work_out_preview(run.pk, everyone=True)
    with turn_to_examine_all():
        there = operator.get(where, headers={"HX-Request": "true"})
        page = text_of(operator.get(where))

    assert f'hx-get="{where.replace("&", "&amp;")}"' in waiting
    assert there.headers["HX-Refresh"] == "true"
    assert "1 to 1 of 1 device" in page
    assert "with all devices examined" in text_of(
        operator.get(url("import-detail", service, import_pk=run.pk))
    )
    assert begun == [True, True], "and not any more"


def test_pages_of_devices(service, operator, monkeypatch, django_assert_max_num_queries):
    monkeypatch.setattr(import_previews, "PAGE_SIZE", 2)
    monkeypatch.setattr(kept_devices, "PORTION", 2)
    run = checked(service, json_lines(*disabling(service, "e", "b", "d", "a", "c")))
    where = url("import-preview", service, import_pk=run.pk)
    operator.get(where)

    first = text_of(operator.get(where))
    with django_assert_max_num_queries(17):
        second = text_of(operator.get(f"{where}?later=0&after=b"))
    back = text_of(operator.get(f"{where}?later=0&effect=refused&before=c"))

    assert ("1 to 2 of 5 devices" in first, "3 to 4 of 5 devices" in second) == (True, True)
    assert f'href="{where}?later=0&amp;after=d"' in second
    assert f'href="{where}?later=0&amp;before=c"' in second
    assert "1 to 2 of 5 devices" in back


def test_what_may_let_somebody_in_starts_on_the_state_that_was_looked_at(service, operator):
    run = checked(service, json_lines(keys("a")))
    start = url("import-start", service, import_pk=run.pk)
    epoch = type(service).epoch_of(service.pk)
    enroll_keys(service, "another")

    for answer in ({}, {"epoch": epoch}):
        page = text_of(operator.post(start, answer, follow=True))

        assert "nothing was started" in page
        assert ImportRun.objects.get().state == ImportState.CHECKED
    operator.post(start, {"epoch": type(service).epoch_of(service.pk)})
    assert "a" in names()


def test_what_only_shuts_out_is_not_held_up(service, operator):
    enroll_keys(service, "pump-1")
    run = checked(
        service,
        json_lines(
            {"registrationId": "pump-1", "operation": "disable"}, keys("b", provisioningStatus="disabled")
        ),
    )
    enroll_keys(service, "another")

    operator.post(url("import-start", service, import_pk=run.pk))

    assert not IndividualEnrollment.objects.get(registration_id="pump-1").enabled


def test_what_holds_once_the_times_of_a_list_have_come_is_shown_by_itself(service, operator):
    enroll_keys(service, "pump-1")
    at = (timezone.now() + timedelta(days=1)).isoformat()
    line = keys("pump-1", operation="update", provisioningStatus="enabled", switchesAt=at)
    run = checked(service, json_lines(line))
    previewing.work_out_preview(run.pk)
    # Each says of how many of its own nothing is told.
    told = ImportPreview.objects.get()
    told.told |= {"not_examined": 3, "later": {**told.told["later"], "not_examined": 7}}
    told.save()

    where = url("import-preview", service, import_pk=run.pk)
    page = text_of(operator.get(url("import-detail", service, import_pk=run.pk)))
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    now, sentence, later = words.partition(
        "1 entry turns by itself at a time that the list gives. Once it has:"
    )

    assert sentence
    assert "known device will still be admitted" in now
    assert "3 known devices were not examined" in now
    assert "were not examined" not in now.replace("3 known devices were not examined", "")
    assert "known device will be refused" in later
    assert "7 known devices were not examined" in later
    assert f'href="{where}?later=0&amp;everyone=1"' in page
    assert f'href="{where}?later=1&amp;everyone=1"' in page


def test_what_holds_later_has_pages_and_an_export_of_its_own(service, operator):
    for name in ("pump-1", "pump-2"):
        enroll_keys(service, name)
    at = (timezone.now() + timedelta(days=1)).isoformat()
    line = keys("pump-1", operation="update", provisioningStatus="enabled", switchesAt=at)
    run = checked(service, json_lines(line, {"registrationId": "pump-2", "operation": "disable"}))
    where = url("import-preview", service, import_pk=run.pk)

    at_once, later = text_of(operator.get(where)), text_of(operator.get(f"{where}?later=1"))

    assert "Once its entries have turned" in at_once
    assert "1 entry turns by itself" not in at_once
    assert "1 entry turns by itself at a time that the list gives. Once it has:" in later
    assert table(operator.get(f"{where}export/?later=0")) == {"pump-1": "still_admitted", "pump-2": "refused"}
    assert table(operator.get(f"{where}export/?later=1&everyone=1")) == {
        "pump-1": "refused",
        "pump-2": "refused",
    }
    assert table(operator.get(f"{where}export/?later=1&effect=comes_in")) == {}
    rows = HistoryEvent.objects.filter(subject_kind="export").order_by("pk")
    once_turned = f"import {run.pk}, once its entries have turned"
    assert [row.after["change"] for row in rows] == [f"import {run.pk}", once_turned, once_turned]


def table(response):
    assert response.status_code == 200
    lines = csv.reader(b"".join(response).decode().splitlines())
    next(lines)
    return {row[0]: row[1] for row in lines}


def test_of_an_import_in_which_nothing_turns_there_is_no_later_export(service, operator):
    run = checked(service, json_lines(keys("a")))

    answer = operator.get(f"{url('import-preview', service, import_pk=run.pk)}export/?later=1")

    assert answer.status_code == 409


def test_of_an_import_that_has_ended_there_is_no_preview(service, operator):
    run = checked(service, json_lines(keys("a")))
    operator.post(url("import-cancel", service, import_pk=run.pk))
    where = url("import-preview", service, import_pk=run.pk)

    assert "not waiting to be started any more" in text_of(operator.get(where))
    assert operator.get(f"{where}export/").status_code == 409


def disabling(service, *names):
    for name in names:
        entry = enroll_keys(service, name)
        register(service, signs(service, name, entry.primary_key), name)
    return [{"registrationId": name, "operation": "disable"} for name in names]


def test_the_numbers_that_were_looked_at_stay_with_the_import(service, operator):
    run = checked(service, json_lines(*disabling(service, "pump-1", "pump-2")))
    here = {"service_name": service.name, "import_pk": run.pk}
    looked_at = text_of(operator.get(reverse("portal:import-detail", kwargs=here)))
    (epoch,) = re.findall(r'<input type="hidden" name="epoch" value="(\d+)">', looked_at)
    enroll_keys(service, "another")

    page = text_of(
        operator.post(url("import-start", service, import_pk=run.pk), {"epoch": epoch}, follow=True)
    )
    afterwards = text_of(operator.get(reverse("portal:import-preview", kwargs=here)))
    row = HistoryEvent.objects.get(event="import.started")

    assert f"on the state of epoch {epoch};" in page
    assert "<strong>2</strong> known devices <strong>will be refused</strong>." in page
    assert ImportRun.objects.get().foreseen["effects"]["refused"]["devices"] == 2
    assert row.after["preview"] == {"epoch": int(epoch), "devices": {"refused": 2}, "not examined": 0}
    assert "has the numbers of the preview that it was started on" in afterwards


def test_what_was_to_hold_later_stays_too(service, operator):
    entry = enroll_keys(service, "pump-1")
    register(service, signs(service, "pump-1", entry.primary_key), "pump-1")
    at = (timezone.now() + timedelta(days=1)).isoformat()
    line = keys("pump-1", operation="update", provisioningStatus="enabled", switchesAt=at)
    run = checked(service, json_lines(line))
    operator.get(url("import-preview", service, import_pk=run.pk))

    epoch = type(service).epoch_of(service.pk)
    page = text_of(
        operator.post(url("import-start", service, import_pk=run.pk), {"epoch": epoch}, follow=True)
    )
    now, _, later = page.partition("1 entry turns by itself at a time that the list gives. Once it has:")
    told = HistoryEvent.objects.get(event="import.started").after["preview"]

    assert "<strong>will still be admitted</strong> through individual enrollment of its own." in now
    assert "<strong>1</strong> known device <strong>will be refused</strong>." in later
    assert (told["devices"], told["turning"]) == ({"still admitted": 1}, 1)
    assert told["once turned"]["devices"] == {"refused": 1}


def test_a_preview_of_another_state_is_not_taken_for_what_was_looked_at(service, operator):
    """Somebody looks, something changes, and somebody else starts it without having looked."""
    run = checked(service, json_lines(*disabling(service, "pump-1")))
    operator.get(url("import-preview", service, import_pk=run.pk))
    enroll_keys(service, "another")

    epoch = type(service).epoch_of(service.pk)
    page = text_of(
        operator.post(url("import-start", service, import_pk=run.pk), {"epoch": epoch}, follow=True)
    )

    assert "None was kept: it was started before one was worked out." in page
    assert ImportRun.objects.get().foreseen is None
    assert "preview" not in HistoryEvent.objects.get(event="import.started").after


def test_entries_are_kept_up_to_a_number_and_the_others_counted(service):
    run = checked(service, json_lines(keys("a")))
    through = [EntryRef(EntryKind.GROUP, number, f"line-{number}") for number in range(30)]
    admitted = [PreviewOutcome(Verdict.ADMIT, one) for one in through]
    devices = tuple(Device(f"pump-{n}", one, one) for n, one in enumerate(admitted))
    seen = replace(foreseen.foresee(run), now=Preview(1, devices))

    (part,) = kept.parts_of(kept.numbers_of(seen))

    (line,) = part.lines
    assert (line.count, len(line.through), line.unnamed) == (30, kept.MOST_THROUGH, 10)


def test_who_comes_in_when_the_switch_of_another_entry_turns_is_shown_and_stays(service, operator):
    """The list opens a group below one that is to be enabled tomorrow: nobody comes in before that."""
    top = root("Root")
    line = top.intermediate("Line")
    low, high = enroll_ca(service, line, "low"), enroll_ca(service, top, "high")
    register(service, line.leaf("pump-1"))
    at = (timezone.now() + timedelta(days=1)).replace(microsecond=0)
    carry_out(service, Act.DISABLE, [low], actor=ALICE)
    carry_out(service, Act.DISABLE, [high], actor=ALICE, until=at)
    run = checked(service, json_lines(below("low", line, operation="update", provisioningStatus="enabled")))
    from_then = f"From {as_text(at)} on, with whatever else is scheduled until then:"

    on_its_page = text_of(operator.get(url("import-detail", service, import_pk=run.pk)))
    listed = text_of(operator.get(url("import-preview", service, import_pk=run.pk)))
    epoch = type(service).epoch_of(service.pk)
    started_on = text_of(
        operator.post(url("import-start", service, import_pk=run.pk), {"epoch": epoch}, follow=True)
    )

    comes_in = "<strong>1</strong> known device <strong>will come in anew</strong>"
    for page in (on_its_page, listed, started_on):
        assert as_text(at) in page.partition(from_then)[0], "until when it is out"
        then = page.partition(from_then)[2]
        assert f"{comes_in} through enrollment group low" in then
    told = HistoryEvent.objects.get(event="import.started").after["preview"]
    assert told["to come"] == {from_then.rstrip(":"): {"comes in": 1}}
