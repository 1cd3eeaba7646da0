"""The history as an auditor uses it: open a row, filter, keep the filter, come back for what is new, take it along."""

import csv
import io
import json
import zipfile

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.pages import tab_to
from tests.e2e.soundness import problems_of

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def plant(live):
    live.manage("demo_fleet")
    return live


def rows(page: Page):
    table = page.get_by_role("table", name="History, newest first")
    return table.get_by_role("row").filter(has=page.get_by_role("cell"))


def filtered(portal, field: str, value: str) -> Page:
    portal.go_to("Revocation history")
    page = portal.page
    page.get_by_label(field).fill(value)
    page.get_by_role("button", name="Filter", exact=True).click()
    page.wait_for_url(lambda url: f"={value}" in url)
    return page


def test_a_row_opens_by_keyboard_to_what_changed_and_from_where(administrator, plant):
    page = filtered(administrator, "To what", "demo-valves")
    # Of the CA certificate of that name there are rows, too.
    row = rows(page).filter(has_text="disabled enrollment group demo-valves").first
    summary = row.locator("summary")

    tab_to(page, summary)
    page.keyboard.press("Enter")

    changed = row.get_by_role("table", name="What changed, field by field")
    expect(changed.get_by_role("row", name="status enabled disabled")).to_be_visible()
    expect(row).to_contain_text("manage.py demo_fleet")
    assert not problems_of(page)


def test_a_row_is_fetched_once_and_has_a_page_of_its_own(administrator, plant):
    page = filtered(administrator, "To what", "demo-valves")
    row = rows(page).filter(has_text="disabled enrollment group demo-valves").first
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/history/rows/" in request.url else None)
    changed = row.get_by_role("table", name="What changed, field by field")

    row.locator("summary").click()
    expect(changed).to_be_visible()
    row.locator("summary").click()
    expect(changed).to_be_hidden()
    row.locator("summary").click()
    expect(changed).to_be_visible()
    row.get_by_role("link", name="This row on a page of its own").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Row of the history")
    expect(page.get_by_role("row", name="status enabled disabled")).to_be_visible()
    assert len([url for url in asked if url.endswith("/")]) == 2  # opened once, and its page
    assert not problems_of(page)


def test_without_script_a_row_leads_to_its_page(open_window, administrator_cookies, plant):
    page = open_window(storage_state=administrator_cookies, java_script_enabled=False)
    page.goto("/services/local/history/?subject=demo-valves&kind=EnrollmentGroup&event=group.disabled")

    rows(page).first.locator("summary").click()
    rows(page).first.get_by_role("link", name="This row on a page of its own").click()

    expect(page.get_by_role("row", name="status enabled disabled")).to_be_visible()


def test_filter_is_in_the_address_and_can_be_kept_renamed_and_deleted(administrator, plant):
    # A reason of this test's own: others use the same service.
    plant.enroll_keys("sunk-buoy")
    plant.manage("disable", "individual", "sunk-buoy", "--service", "local", "--reason", "sunk-at-sea")
    page = filtered(administrator, "Reason", "sunk-at-sea")
    expect(rows(page)).to_have_count(1)

    page.get_by_text("Save this filter as a view of yours").click()
    page.get_by_label("Name").fill("Stolen")
    page.get_by_role("button", name="Save view").click()
    expect(page.get_by_text("The view Stolen is saved, for you alone.")).to_be_visible()
    administrator.go_to("Revocation history")
    page.get_by_role("link", name="Stolen", exact=True).click()
    assert "reason=sunk-at-sea" in page.url
    expect(rows(page)).to_have_count(1)

    page.get_by_role("link", name="Manage saved views").click()
    page.get_by_label("New name of Stolen").fill("Stolen goods")
    page.get_by_role("button", name="Rename Stolen").click()
    expect(page.get_by_role("link", name="Stolen goods", exact=True)).to_be_visible()
    page.get_by_role("button", name="Delete Stolen goods").click()
    expect(page.get_by_text("The view Stolen goods is deleted.")).to_be_visible()
    expect(page.get_by_role("link", name="Stolen goods", exact=True)).to_have_count(0)


def test_what_is_new_since_one_looked(administrator, plant):
    administrator.go_to("Revocation history")
    page = administrator.page
    page.get_by_role("button", name="I have seen this").click()
    expect(page.get_by_text("Nothing is new since you last looked")).to_be_visible()

    plant.manage("service_info", "--service", "local")
    page.reload()

    expect(page.get_by_text("1 row is new since you last looked")).to_be_visible()
    page.get_by_role("link", name="Show them").click()
    assert "since=last" in page.url
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text("printed by service_info")


def test_an_entry_leads_to_its_history_and_that_to_the_whole_device(administrator, plant):
    page = administrator.page
    page.goto("/services/local/enrollments/i/gauge-03/")
    sections = page.get_by_role("navigation", name="Sections")

    sections.get_by_role("link", name="History").click()
    expect(rows(page).first).to_contain_text("gauge-03")
    expect(sections.get_by_role("link", name="History")).to_have_attribute("aria-current", "page")
    sections.get_by_role("link", name="Everything of this device").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Device gauge-03")
    expect(rows(page).first).to_be_visible()


@pytest.mark.parametrize(
    ("label", "ending"),
    [("Excel (XLSX)", "xlsx"), ("CSV, in a ZIP with the checkpoint", "zip"), ("JSON Lines", "jsonl")],
)
def test_the_history_can_be_taken_along_as_it_is_filtered(administrator, plant, label, ending):
    page = filtered(administrator, "To what", "demo-valves")

    page.locator("summary", has_text="Export").click()
    with page.expect_download() as download:
        page.get_by_role("link", name=label).click()

    assert download.value.suggested_filename.endswith(f".{ending}")
    found = objects_in(download.value.path().read_bytes(), ending)
    assert found
    assert set(found) == {"demo-valves"}


def objects_in(data: bytes, ending: str) -> list[str]:
    """Of each row of an export, what it was about."""
    if ending == "jsonl":
        first, *lines, last = data.decode().splitlines()
        assert "excerpt" in json.loads(first)
        assert "checkpoint" in json.loads(last)
        return [json.loads(line)["event"]["subject_name"] for line in lines]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if ending == "zip":
            table = csv.DictReader(io.StringIO(archive.read("history.csv").decode()))
            return [row["object"] for row in table]
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
    return ["demo-valves"] * (sheet.count("<row>") - 1) if "demo-valves" in sheet else []


def verified(page: Page) -> Page:
    page.get_by_role("button", name="Verify now").click()
    # On a busy machine it may take more than one portion, which go on by themselves.
    expect(page.get_by_role("heading", name="Every row is as it was sealed")).to_be_visible(timeout=30_000)
    return page


def test_an_auditor_proves_in_the_portal_that_nobody_edited_the_history(administrator, plant):
    administrator.go_to("Revocation history")
    page = administrator.page
    page.get_by_role("link", name="Proof").click()
    note = page.locator("#note").text_content()

    page.get_by_label("A checkpoint that you kept").fill(note)
    verified(page)

    expect(page.locator("#check")).to_contain_text(f"nothing up to row #{note.splitlines()[1]} was changed")
    assert not problems_of(page)
    page.get_by_role("link", name="verify elsewhere").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the whole history").click()
    assert download.value.suggested_filename in page.locator("#verify-there").text_content()
    *lines, last = download.value.path().read_text().splitlines()
    assert len(lines) == int(json.loads(last)["checkpoint"].splitlines()[1])


def test_what_is_no_checkpoint_is_said_beside_its_field(administrator, plant):
    administrator.go_to("Revocation history")
    page = administrator.page
    page.get_by_role("link", name="Proof").click()

    page.get_by_label("A checkpoint that you kept").fill("hello")
    page.get_by_role("button", name="Verify now").click()

    expect(page.get_by_label("A checkpoint that you kept")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text("This is no checkpoint, and no file of checkpoints.")).to_be_visible()
    page.get_by_label("A checkpoint that you kept").fill("")
    verified(page)
