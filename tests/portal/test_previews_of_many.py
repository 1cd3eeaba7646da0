"""Previews of more devices than are looked at for a dialog, and changes that are held up by no preview."""

import csv
from pathlib import Path

import pytest
from django.conf import settings

from enrollments.actions.preview import limits
from enrollments.actions.preview.lately import Lately
from enrollments.models import HistoryEvent
from enrollments.models.locks import if_nobody_else
from enrollments.portal import previews_lately
from tests.certificates import root, self_signed
from tests.devices import enroll_ca, enroll_device, register
from tests.factories import a_group, a_service
from tests.portal.entry_forms import HTMX, epoch_in, group_form, page, post

pytestmark = pytest.mark.django_db


@pytest.fixture
def service():
    return a_service()


@pytest.fixture
def glance(monkeypatch):
    """One class of evidence is looked at, and no device alone."""
    monkeypatch.setattr(limits, "MAX_CLASSES", 1)
    monkeypatch.setattr(limits, "MAX_SINGLY", 0)
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)


@pytest.fixture
def lines(service, glance):
    """A group above three devices, each below an intermediate of its own."""
    ca = root("Factory CA")
    group = enroll_ca(service, ca, "plant-7")
    for number in range(3):
        register(service, ca.intermediate(f"Line {number}").leaf(f"pump-{number}"))
    return group


def text_of(response):
    content = b"".join(response) if response.streaming else response.content
    return content.decode()


def exported(response):
    rows = csv.reader(text_of(response).splitlines())
    next(rows)
    return {row[0]: row[1] for row in rows}


class TestExamineAll:
    def test_a_dialog_leads_to_the_preview_of_all_and_its_export(self, operator, service, lines):
        asked = f"/services/{service.name}/preview/?act=disable&entry=group%3Aplant-7"

        question = page(operator, f"groups/disable/?entry={lines.pk}", **HTMX)
        assert f'href="{asked.replace("&", "&amp;")}&amp;everyone=1"' in question
        assert "2</strong> known devices <strong>were not examined" in question

        every = text_of(operator.get(f"{asked}&everyone=1"))
        assert "not examined" not in every
        assert "(3)" in every
        export = asked.replace("/preview/", "/preview/export/")
        assert f'href="{export.replace("&", "&amp;")}&amp;everyone=1"' in every
        assert exported(operator.get(f"{export}&everyone=1")) == {
            f"pump-{number}": "refused" for number in range(3)
        }
        assert len(exported(operator.get(export))) == 1

    def test_a_form_can_be_looked_at_with_all_of_them(self, operator, service, lines):
        data = group_form(expected_etag=lines.etag, enabled="no")
        del data["group_id"]
        where = f"/services/{service.name}/groups/g/{lines.group_id}/preview/"

        few, every = (text_of(operator.post(where, {**data, **more})) for more in ({}, {"everyone": "1"}))

        assert "2</strong> known devices <strong>were not examined" in few
        assert "not examined" not in every
        assert '<input type="hidden" name="everyone" value="1">' in every, (
            "the next page is of all of them too"
        )

    def test_a_preview_is_worked_out_once_for_all_its_pages(self, operator, service, lines, monkeypatch):
        from enrollments.portal.views import previews

        worked_out = []
        preview_of_act = previews.preview_of_act

        def noting(*args, **more):
            worked_out.append(more)
            return preview_of_act(*args, **more)

        monkeypatch.setattr(previews_lately, "_LATELY", Lately())
        monkeypatch.setattr(previews, "preview_of_act", noting)
        asked = f"/services/{service.name}/preview/?act=disable&entry=group%3Aplant-7"

        for url in (
            asked,
            f"{asked}&after=pump-1",
            f"{asked}&everyone=1",
            f"{asked}&everyone=1&after=pump-1",
        ):
            operator.get(url)
        assert len(worked_out) == 2

        enroll_device(service, self_signed("valve-1"))
        operator.get(asked)
        assert len(worked_out) == 3, "something was changed in the service"

    @pytest.mark.parametrize("act", ["disable", "delete"])
    def test_the_list_of_devices_goes_on_where_the_question_began(
        self, operator, service, lines, act, monkeypatch
    ):
        """Worked out for the question, and once more only on another epoch (R12)."""
        from enrollments.portal.views import previews

        worked_out = []
        monkeypatch.setattr(previews_lately, "_LATELY", Lately())
        preview_of_act = previews.preview_of_act
        monkeypatch.setattr(
            previews, "preview_of_act", lambda *a, **more: worked_out.append(a) or preview_of_act(*a, **more)
        )
        asked = f"/services/{service.name}/preview/?act={act}&entry=group%3Aplant-7"
        one = "g/plant-7/disable/" if act == "disable" else f"delete/?entry={lines.pk}"
        question = f"/services/{service.name}/groups/{one}"

        assert operator.get(question).status_code == 200
        first = text_of(operator.get(asked))
        assert worked_out == []
        enroll_device(service, self_signed("valve-1"))
        again = text_of(operator.get(asked))

        assert len(worked_out) == 1, "something was changed in the service"
        assert "pump-" in first and "pump-" in again

    def test_all_are_examined_for_one_person_at_a_time(self, operator, service, lines):
        asked = f"/services/{service.name}/preview/?act=disable&entry=group%3Aplant-7"

        with if_nobody_else(Path(settings.DPS_DATA_DIR) / "examining-all"):
            busy, glance = operator.get(f"{asked}&everyone=1"), operator.get(asked)

        assert (busy.status_code, glance.status_code) == (409, 200)
        assert "load this page again when it is done" in text_of(busy)
        assert operator.get(f"{asked}&everyone=1").status_code == 200

    def test_who_deletes_can_keep_out_whoever_was_not_examined(self, operator, service, lines):
        above = root("Above")
        service.enrollmentgroups.all().delete()
        plant = above.intermediate("Plant")
        enroll_ca(service, above, "above")
        group = enroll_ca(service, plant, "plant")
        for number in range(2):
            register(service, plant.intermediate(f"Part {number}").leaf(f"valve-{number}"))
        path = f"groups/delete/?entry={group.pk}"

        question = page(operator, path)
        assert "Delete, but keep out the devices that would come in" in question
        done = post(operator, path, {"epoch": epoch_in(question), "keep_out": "1"}, follow=True)

        assert "2 devices are kept out" in done.text_shown


class TestNarrowing:
    """R12: what only narrows is never held up, whatever has changed since the question."""

    def test_deleting_where_nobody_comes_in_is_done_and_told(self, operator, service):
        ca = root("Factory CA")
        group = enroll_ca(service, ca, "plant-7")
        register(service, ca.leaf("pump-1"))
        path = f"groups/delete/?entry={group.pk}"
        epoch = epoch_in(page(operator, path))
        enroll_device(service, self_signed("valve-1"))

        done = post(operator, path, {"epoch": epoch, "reason": "sold"}, follow=True)

        assert "Deleted enrollment group plant-7: 1 device is refused from now on." in done.text_shown
        assert HistoryEvent.objects.get(event="group.deleted").reason == "sold"

    @pytest.mark.parametrize("why", ["a group above", "a bar"])
    def test_deleting_where_somebody_may_come_in_is_held_up(self, operator, service, why):
        ca = root("Factory CA")
        plant = ca.intermediate("Plant 7")
        if why == "a group above":
            a_group(service, "root", ca=ca)
        group = enroll_ca(service, plant, "plant-7", enabled=why != "a bar")
        path = f"groups/delete/?entry={group.pk}"
        epoch = epoch_in(page(operator, path))
        enroll_device(service, self_signed("valve-1"))

        answer = post(operator, path, {"epoch": epoch})

        assert answer.status_code == 409
        assert service.enrollmentgroups.filter(pk=group.pk).exists()
