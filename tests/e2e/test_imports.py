"""Importing a list in a real browser: in pieces, with what is wrong, past a portal that dies, and without script."""

import json

import pytest
from playwright.sync_api import expect

from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import CertificateFiles
from tests.certificates import self_signed
from tests.e2e.soundness import problems_of
from tests.transfer.lists import json_lines, keys, pinned

pytestmark = pytest.mark.e2e
ADD = "/services/local/imports/add/"
# A line of so many bytes makes a list that the listener does not read in one body.
LINES, PADDING = 2500, "x" * 600


@pytest.fixture
def page(open_window, administrator_cookies):
    return open_window(storage_state=administrator_cookies)


@pytest.fixture(autouse=True)
def _list_as_it_was(live):
    """Others look for their own entries on the first page of the list."""
    yield
    live.python(
        "from enrollments.actions.enrollments import delete_enrollments\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "from enrollments.models import ProvisioningService\n"
        "service = ProvisioningService.objects.get(name='local')\n"
        "found = service.individualenrollments.filter(registration_key__regex='^(imported|no-script|again)-')\n"
        "names = list(found.values_list('registration_id', flat=True))\n"
        "delete_enrollments(service, names, actor=Actor('cli', 'test', Way.COMMAND_LINE))\n"
    )


def upload(page, path, reason=""):
    page.goto(ADD)
    page.get_by_label("List").set_input_files(path)
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name="Upload and check").click()
    expect(page.get_by_role("heading", level=1, name=f"Import of {path.name}")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Nothing is changed yet")).to_be_visible(timeout=120_000)


def test_a_large_list_goes_on_past_whoever_watches_and_whoever_carries_it_out(live, page, tmp_path):
    leaf = self_signed("imported-pump")
    path = tmp_path / "line-9.jsonl"
    path.write_bytes(
        json_lines(
            *(
                keys(f"imported-{number:05}", optionalDeviceInformation={"x": PADDING})
                for number in range(LINES)
            ),
            "no entry",
            pinned(leaf),
        )
    )
    assert path.stat().st_size > 1024 * 1024

    upload(page, path, "line 9")
    assert problems_of(page) == []
    expect(page.get_by_role("cell", name="That is not valid JSON")).to_be_visible()
    page.get_by_label("Leave out 1 line that is wrong").check()
    page.get_by_role("button", name=f"Import {LINES + 1:,} lines").click()
    expect(page.get_by_text("This goes on when you leave the page")).to_be_visible()
    assert problems_of(page) == []
    address = page.url
    page.goto("/services/local/")
    live.stop("portal")
    live.start("portal")
    live.python("from enrollments.models import ImportRun; ImportRun.objects.update(held_until=None)")
    page.goto(address)

    carried_out = f"{LINES + 1:,} of {LINES + 1:,} lines were carried out"
    expect(page.get_by_text(carried_out)).to_be_visible(timeout=120_000)
    (count,) = live.rows(
        "SELECT count(*) AS number, count(DISTINCT subject_name) AS names FROM enrollments_historyevent "
        "WHERE event = 'enrollment.added' AND subject_name LIKE 'imported-%' AND reason = 'line 9'"
    )
    assert count == {"number": LINES + 1, "names": LINES + 1}
    chain, key = leaf.write(tmp_path, "imported-pump")
    assert live.register(Device("imported-pump", CertificateFiles(chain, key))).outcome is Outcome.ASSIGNED


def test_what_is_refused_is_said_on_the_page(page, tmp_path):
    path = tmp_path / "list.xlsx"
    path.write_bytes(b"x")
    page.goto(ADD)
    page.get_by_label("List").set_input_files(path)
    page.get_by_role("button", name="Upload and check").click()

    expect(page.get_by_role("alert").filter(has_text="has to end in .csv or .jsonl")).to_be_visible()


def test_without_script_small_lists_go_all_the_way(live, open_window, administrator_cookies, tmp_path):
    page = open_window(storage_state=administrator_cookies, java_script_enabled=False)
    path = tmp_path / "small.jsonl"
    path.write_bytes(json_lines(keys("no-script-1"), keys("no-script-2")))
    page.goto(ADD)
    page.get_by_label("List").set_input_files(path)
    page.get_by_role("button", name="Upload and check").click()
    reload_until(page, "Nothing is changed yet")
    reload_until(page, "Import 2 lines")
    page.get_by_role("button", name="Import 2 lines").click()
    reload_until(page, "2 of 2 lines were carried out")

    rows = live.rows(
        "SELECT registration_id FROM enrollments_individualenrollment WHERE registration_id LIKE 'no-s%'"
    )
    assert len(rows) == 2


def reload_until(page, text):
    for _ in range(60):
        if page.get_by_text(text).count():
            return
        page.wait_for_timeout(500)
        page.reload()
    raise AssertionError(f"{text!r} never stood there")


def test_an_export_is_downloaded_and_imported_again(page, tmp_path):
    path = tmp_path / "again.jsonl"
    path.write_bytes(json_lines(keys("again-1", deviceId="a1"), keys("again-2")))
    upload(page, path)
    page.get_by_role("button", name="Import 2 lines").click()
    expect(page.get_by_text("2 of 2 lines were carried out")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("heading", name="Preview that it was started on")).to_be_visible()
    assert problems_of(page) == []

    page.goto("/services/local/enrollments/?q=again-")
    page.get_by_role("link", name="Export").click()
    assert problems_of(page) == []
    page.get_by_role("radio", name="JSON Lines").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export", exact=True).click()
    taken = tmp_path / "taken.jsonl"
    download.value.save_as(taken)

    lines = [json.loads(line) for line in taken.read_text().splitlines()]
    assert [line["registrationId"] for line in lines] == ["again-1", "again-2"]
    upload(page, taken)
    expect(page.get_by_role("row", name="As they are already 2")).to_be_visible()


def test_an_export_with_keys_is_asked_about_also_without_script(
    live, open_window, administrator_cookies, tmp_path
):
    live.enroll_keys("again-keys")
    page = open_window(storage_state=administrator_cookies, java_script_enabled=False)
    page.goto("/services/local/exports/individuals/?q=again-keys")
    page.get_by_role("link", name="Export with keys in clear").click()
    expect(
        page.get_by_role("heading", name="Export 1 individual enrollment with keys in clear?")
    ).to_be_visible()
    page.get_by_role("radio", name="JSON Lines").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export with keys").click()
    taken = tmp_path / "taken.jsonl"
    download.value.save_as(taken)

    assert download.value.suggested_filename.startswith("individuals-with-keys-local-")
    assert json.loads(taken.read_text())["attestation"]["symmetricKey"]["primaryKey"]
