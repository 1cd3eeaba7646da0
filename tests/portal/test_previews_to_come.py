"""Who comes in later by a change, or stays in: questions say so, and lead to a list and an export of these."""

import csv
import html
import re

import pytest

from enrollments.actions.enrollment_groups import disable_enrollment_group, enable_enrollment_group
from enrollments.actions.schedule import as_text
from enrollments.models import HistoryEvent
from tests.certificates import root
from tests.devices import ALICE, register
from tests.factories import a_group, a_service
from tests.portal.entry_forms import HTMX, entry_form, page, post_once

pytestmark = pytest.mark.django_db
PREVIEW = "/services/plant/preview/"


@pytest.fixture
def service():
    return a_service()


@pytest.fixture
def line(service):
    """A group below an enabled root, with seven devices."""
    ca = root("Factory CA")
    plant = ca.intermediate("Plant 7")
    a_group(service, "root", ca=ca)
    a_group(service, "plant-7", ca=plant)
    for number in range(7):
        register(service, plant.leaf(f"pump-{number}"))
    return plant


def words(text):
    return " ".join(re.sub(r"<[^>]+>", "", text).split())


def links(text, path):
    """The addresses in a page that lead to a page of a preview at a time to come."""
    found = [html.unescape(one) for one in re.findall(r'href="([^"]+)"', text)]
    return [one for one in dict.fromkeys(found) if one.startswith(f"{path}?") and "later=" in one]


def rows(response):
    return list(csv.reader(b"".join(response.streaming_content).decode().splitlines()))


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_a_bar_that_goes_with_what_is_deleted_is_told_with_a_list_and_an_export(
    operator, service, line, database_clock, headers
):
    at = database_clock.ahead(days=1)
    disable_enrollment_group(service, "plant-7", at=at, actor=ALICE)
    entry = service.enrollmentgroups.by_group_id("plant-7")

    question = page(operator, f"groups/delete/?entry={entry.pk}", **headers)

    said = words(question)
    assert "7 known devices will still be admitted through enrollment group root" in said
    assert f"From {as_text(at)} on, when these would be refused without this change" in said
    assert "7 known devices will stay in through enrollment group root: pump-0, pump-1" in said
    assert "UTC: deleting it drops that bar." in said
    assert "are kept out from now on, not from then on" in said
    assert "Delete, but keep these 7 devices out" in question
    one_effect, every = links(question, PREVIEW)
    assert one_effect == f"{every}&effect=comes_in"
    listed = words(operator.get(every).content.decode())
    assert f"From {as_text(at)} on, when these would be refused without this change" in listed
    assert "Then without itThen with it" in listed
    assert "Will stay in (7)" in listed
    assert "pump-6" in listed
    (export,) = links(question, f"{PREVIEW}export/")
    taken = rows(operator.get(export))
    assert taken[0][2:6] == ["then without it", "then without it by", "then with it", "then with it by"]
    assert taken[1][:5] == ["pump-0", "comes_in", "disabled", "enrollment group plant-7", "admitted"]
    assert len(taken) == 8
    row = HistoryEvent.objects.filter(subject_name="preview as CSV").latest("pk")
    assert as_text(at) in str(row.after)


def test_of_deleting_what_bars_nobody_later_no_bar_is_told(operator, service, line):
    entry = service.enrollmentgroups.by_group_id("plant-7")

    said = words(page(operator, f"groups/delete/?entry={entry.pk}"))

    assert "drops that bar" not in said
    assert "kept out from now on" not in said


def test_who_comes_in_later_has_a_list_too(operator, service, line, database_clock):
    at = database_clock.ahead(days=1)
    disable_enrollment_group(service, "root", until=at, actor=ALICE)
    entry = service.enrollmentgroups.by_group_id("plant-7")

    question = page(operator, f"groups/delete/?entry={entry.pk}")

    _, every = links(question, PREVIEW)
    listed = words(operator.get(every).content.decode())
    assert "Before thenFrom then on" in listed
    assert "Will come in anew (7)" in listed
    assert words(operator.get(f"{every}&after=pump-5").content.decode()).count("pump-") < 7


def test_enabling_has_one_as_well(operator, service, line, database_clock):
    at = database_clock.ahead(days=1)
    disable_enrollment_group(service, "plant-7", actor=ALICE)
    disable_enrollment_group(service, "root", until=at, actor=ALICE)

    question = page(operator, "groups/g/plant-7/enable/", **HTMX)

    _, every = links(question, PREVIEW)
    assert "act=enable" in every
    assert "Will come in anew (7)" in words(operator.get(every).content.decode())


def test_saving_a_form_leads_to_the_same_by_the_form(operator, service, line, database_clock):
    at = database_clock.ahead(days=1)
    disable_enrollment_group(service, "plant-7", at=at, actor=ALICE)
    leaf = line.leaf("pump-8")
    register(service, leaf)
    form = entry_form(registration_id="pump-8", primary_pem=leaf.pem)

    question = post_once(operator, "enrollments/add/", form, headers=HTMX).text_shown

    assert "1 known device will stay in through individual enrollment of its own: pump-8." in words(question)
    (address, export) = re.findall(r'formaction="([^"]+later=[^"]+)"', question)
    assert address == export
    listed = operator.post(html.unescape(address), form).content.decode()
    assert "Will stay in (1)" in words(listed)
    assert "Then with it" in listed
    assert "later=" in re.search(r'id="preview-form" method="post" action="([^"]+)"', listed)[1]
    taken = rows(operator.post(html.unescape(address), {**form, "export": "csv"}))
    assert [one[0] for one in taken[1:]] == ["pump-8"]


def test_at_times_at_which_nobody_comes_in_the_list_is_empty(operator, service, line, database_clock):
    enable_enrollment_group(service, "plant-7", actor=ALICE)
    at = database_clock.ahead(days=1)

    for later in (f"{at:%Y-%m-%dT%H:%M:%SZ}", "other"):
        answer = operator.get(f"{PREVIEW}?act=delete&entry=group:plant-7&later={later}")
        assert "No device that is known is touched." in words(answer.content.decode())


@pytest.mark.parametrize("query", ["later=tomorrow", "later=2026-05-03", "later=other&scheduled=1"])
@pytest.mark.parametrize("path", [PREVIEW, f"{PREVIEW}export/"])
def test_what_is_no_time_is_refused(operator, service, line, query, path):
    assert operator.get(f"{path}?act=enable&entry=group:plant-7&{query}").status_code == 422
