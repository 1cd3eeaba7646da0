"""How people shut devices out, in a real browser, with real devices that register before and after."""

import json
import re
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from dpsportal.serving.supervisor import PROJECT_DIR
from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import CertificateFiles
from tests.certificates import Minted, root
from tests.e2e.pages import Portal
from tests.e2e.soundness import problems_of
from tests.live import ADMIN, ADMIN_PASSWORD, LiveListeners

pytestmark = pytest.mark.e2e


@dataclass
class Workshop:
    """Makes files of certificates, and devices that hold them."""

    live: LiveListeners
    folder: Path

    def file_of(self, certificate: Minted) -> Path:
        """What somebody uploads: one certificate, no key."""
        path = self.folder / f"{certificate.parsed.common_names[0]}.pem"
        path.write_text(certificate.pem)
        return path

    def outcome_of(self, leaf: Minted) -> Outcome:
        """What becomes of the device with this certificate when it registers over mutual TLS now."""
        registration_id = leaf.parsed.common_names[0]
        chain, key = leaf.write(self.folder, registration_id)
        return self.live.register(Device(registration_id, CertificateFiles(chain, key))).outcome

    def outcomes_of(self, *leaves: Minted) -> list[Outcome]:
        return [self.outcome_of(leaf) for leaf in leaves]


@pytest.fixture
def workshop(live, tmp_path):
    return Workshop(live, tmp_path)


def test_1_disable_and_enable_an_individual_enrollment(administrator, workshop):
    supplier = root("one-supplier")
    pump, sibling = supplier.leaf("one-pump"), supplier.leaf("one-sibling")
    administrator.add_individual("one-pump", workshop.file_of(pump), reason="delivered")
    administrator.add_individual("one-sibling", workshop.file_of(sibling), reason="delivered")
    assert workshop.outcomes_of(pump, sibling) == [Outcome.ASSIGNED, Outcome.ASSIGNED]

    administrator.individual_enrollments()
    administrator.open_entry("one-pump")
    administrator.enable_entry(False)
    told = administrator.save("Saved individual enrollment one-pump", reason="stolen from the yard")
    assert "1 known device will be refused: one-pump" in told

    expect(administrator.row("one-pump").get_by_role("cell", name="Disabled", exact=True)).to_be_visible()
    expect(administrator.toggle("one-pump")).not_to_be_checked()
    assert workshop.outcomes_of(pump, sibling) == [Outcome.DISABLED, Outcome.ASSIGNED]

    administrator.open_entry("one-pump")
    administrator.enable_entry(True)
    told = administrator.save("Saved individual enrollment one-pump", reason="found again")

    assert "1 known device will come in anew through individual enrollment of its own: one-pump" in told

    expect(administrator.row("one-pump").get_by_role("cell", name="Enabled", exact=True)).to_be_visible()
    assert workshop.outcomes_of(pump, sibling) == [Outcome.ASSIGNED, Outcome.ASSIGNED]
    enabled, disabled, added = administrator.history_of("one-pump", 3)
    assert_told(enabled, ADMIN, "enabled", "one-pump", "found again")
    assert_told(disabled, ADMIN, "disabled", "one-pump", "stolen from the yard")
    assert_told(added, ADMIN, "added", "one-pump", "delivered")


def test_1_by_the_switch_in_the_row(administrator, workshop):
    supplier = root("switch-supplier")
    pump, sibling = supplier.leaf("switch-pump"), supplier.leaf("switch-sibling")
    administrator.add_individual("switch-pump", workshop.file_of(pump))
    administrator.add_individual("switch-sibling", workshop.file_of(sibling))
    toggle = administrator.toggle("switch-pump")
    expect(toggle).to_be_checked()

    toggle.click()
    dialog = administrator.page.get_by_role("dialog", name="Disable individual enrollment switch-pump?")
    dialog.get_by_role("link", name="Cancel").click()
    expect(dialog).to_be_hidden()
    expect(toggle).to_be_checked()
    assert workshop.outcome_of(pump) is Outcome.ASSIGNED

    toggle.click()
    dialog.get_by_label("Reason").fill("leaks")
    dialog.get_by_role("button", name="Disable").click()

    expect(toggle).not_to_be_checked()
    expect(dialog).to_be_hidden()
    administrator.expect_said("Disabled individual enrollment switch-pump: 1 device is refused from now on.")
    assert workshop.outcomes_of(pump, sibling) == [Outcome.DISABLED, Outcome.ASSIGNED]

    told = administrator.turn_on("switch-pump")

    assert "1 known device will come in anew through individual enrollment of its own: switch-pump" in told
    assert workshop.outcome_of(pump) is Outcome.ASSIGNED


def pass_the_time_of(live: LiveListeners, table: str, column: str, name: str) -> None:
    """Nobody waits: what is scheduled for one entry is moved into the past, behind the back of the application."""
    with closing(sqlite3.connect(live.data_dir / "db.sqlite3", timeout=10)) as connection, connection:
        connection.execute(
            f"UPDATE enrollments_{table} SET switches_at = datetime('now', '-1 second') WHERE {column} = ?",
            [name],
        )


def test_disable_until_a_time_with_the_keyboard_alone(administrator, workshop):
    """Chosen in the row; shown in the list and on the page; over by itself, with nothing there to notice."""
    pump = root("timed-supplier").leaf("timed-pump")
    administrator.add_individual("timed-pump", workshop.file_of(pump))
    toggle, page = administrator.toggle("timed-pump"), administrator.page
    until = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(days=400)
    dialog = page.get_by_role("dialog", name="Disable individual enrollment timed-pump?")

    toggle.focus()
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("audit")
    dialog.get_by_role("radio", name="until further notice").focus()
    page.keyboard.press("ArrowDown")
    expect(dialog.get_by_role("radio", name="until the time below")).to_be_checked()
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_be_focused()
    expect(dialog.get_by_role("alert")).to_contain_text("Give the time, or choose until further notice.")
    # In which order its parts are typed is a matter of the browser's own language.
    dialog.get_by_label("Time (UTC)").fill(f"{until:%Y-%m-%dT%H:%M}")
    page.keyboard.press("Enter")

    expect(toggle).not_to_be_checked()
    then = f"{until:%Y-%m-%d %H:%M:00} UTC"
    administrator.expect_said(f"Disabled individual enrollment timed-pump until {then}")
    expect(administrator.row("timed-pump").get_by_role("cell", name=f"Disabled until {then}")).to_be_visible()
    assert workshop.outcome_of(pump) is Outcome.DISABLED

    pass_the_time_of(workshop.live, "individualenrollment", "registration_id", "timed-pump")

    assert workshop.outcome_of(pump) is Outcome.ASSIGNED
    by_itself, by_hand, _ = administrator.history_of("timed-pump", 3)
    assert_told(by_itself, ADMIN, "schedule", "enabled individual enrollment timed-pump", "audit")
    assert_told(by_hand, ADMIN, "disabled individual enrollment timed-pump until", "audit")


def test_schedule_a_disabling_change_it_and_drop_it_on_the_page_of_a_group(administrator, workshop):
    ca = root("timed-plant")
    pump = ca.leaf("timed-valve")
    administrator.add_group("timed-plant", workshop.file_of(ca))
    administrator.open_entry("timed-plant")
    page, dialog = administrator.page, administrator.page.get_by_role("dialog")
    scheduled = page.get_by_role("group", name="Scheduled change")

    page.get_by_role("link", name="Disable", exact=True).click()
    dialog.get_by_role("radio", name="From the time below on").check()
    dialog.get_by_label("Time (UTC)").fill("2030-05-03T14:00")
    dialog.get_by_role("button", name="Disable").click()
    administrator.expect_heading("timed-plant")
    expect(scheduled).to_contain_text("Disables at 2030-05-03 14:00:00 UTC. Scheduled by admin")
    scheduled.get_by_role("link", name="Choose another time").click()
    expect(dialog.get_by_role("radio", name="From the time below on")).to_be_checked()
    dialog.get_by_label("Time (UTC)").fill("2031-05-03T14:00")
    dialog.get_by_role("button", name="Disable").click()
    # Its devices come in for a year more, so that is shown before it is done.
    expect(page.get_by_role("main")).to_contain_text("At 2031-05-03 14:00:00 UTC, when it is disabled")
    page.get_by_role("button", name="Disable", exact=True).click()
    expect(scheduled).to_contain_text("Disables at 2031-05-03 14:00:00 UTC.")
    assert workshop.outcome_of(pump) is Outcome.ASSIGNED

    scheduled.get_by_role("link", name="Drop what is scheduled").click()
    dialog.get_by_role("link", name="Cancel").click()
    expect(scheduled).to_be_visible()
    scheduled.get_by_role("link", name="Drop what is scheduled").click()
    dialog.get_by_role("button", name="Drop it").click()

    administrator.expect_said("Nothing is scheduled for enrollment group timed-plant any more.")
    expect(scheduled).to_have_count(0)


def test_2_delete_an_individual_enrollment(administrator, workshop):
    supplier = root("two-supplier")
    pump, sibling = supplier.leaf("two-pump"), supplier.leaf("two-sibling")
    administrator.add_individual("two-pump", workshop.file_of(pump))
    administrator.add_individual("two-sibling", workshop.file_of(sibling))
    assert workshop.outcomes_of(pump, sibling) == [Outcome.ASSIGNED, Outcome.ASSIGNED]

    told = administrator.delete("two-pump", reason="scrapped")

    assert "1 known device will be refused" in told
    expect(administrator.row("two-sibling")).to_be_visible()
    assert workshop.outcomes_of(pump, sibling) == [Outcome.UNAUTHORIZED, Outcome.ASSIGNED]
    assert_told(administrator.history_of("two-pump", 2)[0], ADMIN, "deleted", "two-pump", "scrapped")


def test_2_cancelling_deletes_nothing(administrator, workshop):
    pump = root("no-supplier").leaf("no-pump")
    administrator.add_individual("no-pump", workshop.file_of(pump))

    administrator.ask_to_delete("no-pump").get_by_role("link", name="Cancel").click()

    expect(administrator.page.get_by_role("dialog")).to_be_hidden()
    expect(administrator.row("no-pump")).to_be_visible()
    assert workshop.outcome_of(pump) is Outcome.ASSIGNED


def test_3_disable_the_group_of_an_intermediate_below_an_enabled_root(administrator, workshop):
    ca = root("three-root")
    bad, good = ca.intermediate("three-bad-line"), ca.intermediate("three-good-line")
    below, sibling = bad.leaf("three-below"), good.leaf("three-sibling")
    administrator.add_group("three-root", workshop.file_of(ca))
    administrator.add_group("three-bad-line", workshop.file_of(bad))
    assert workshop.outcomes_of(below, sibling) == [Outcome.ASSIGNED, Outcome.ASSIGNED]

    administrator.open_entry("three-bad-line")
    administrator.enable_entry(False)
    administrator.save("Saved enrollment group three-bad-line", reason="its key was copied")

    expect(administrator.toggle("three-bad-line")).not_to_be_checked()
    expect(administrator.toggle("three-root")).to_be_checked()
    assert workshop.outcomes_of(below, sibling) == [Outcome.DISABLED, Outcome.ASSIGNED]
    assert_told(
        administrator.history_of("three-bad-line", 2)[0],
        ADMIN,
        "disabled",
        "three-bad-line",
        "its key was copied",
    )


def test_4_deleting_that_group_leaves_its_devices_to_the_group_of_the_root_and_says_so(
    administrator, workshop
):
    ca = root("four-root")
    line, other = ca.intermediate("four-line"), ca.intermediate("four-other-line")
    below, sibling = line.leaf("four-below"), other.leaf("four-sibling")
    administrator.add_group("four-root", workshop.file_of(ca))
    administrator.add_group("four-line", workshop.file_of(line))
    assert workshop.outcomes_of(below, sibling) == [Outcome.ASSIGNED, Outcome.ASSIGNED]

    told = administrator.delete("four-line", reason="no longer bought there")

    assert "Devices below four-line can still register through enrollment group four-root" in told
    assert "1 known device will still be admitted through enrollment group four-root: four-below" in told
    assert "That includes devices that have not registered yet." in told
    assert "Disable instead" in told
    expect(administrator.row("four-root")).to_be_visible()
    assert workshop.outcomes_of(below, sibling) == [Outcome.ASSIGNED, Outcome.ASSIGNED]


def test_4_without_a_group_above_the_devices_are_refused_and_the_dialog_says_so(administrator, workshop):
    ca = root("four-alone")
    below = ca.leaf("four-alone-device")
    administrator.add_group("four-alone", workshop.file_of(ca))
    assert workshop.outcome_of(below) is Outcome.ASSIGNED

    told = administrator.delete("four-alone")

    assert "1 known device will be refused" in told
    assert "can still register" not in told
    assert workshop.outcome_of(below) is Outcome.UNAUTHORIZED


def test_5_shut_one_device_of_a_group_out(administrator, workshop):
    ca = root("five-ca")
    bad, *siblings = (ca.leaf(f"five-{number}") for number in range(3))
    administrator.add_group("five-ca", workshop.file_of(ca))
    assert workshop.outcomes_of(bad, *siblings) == [Outcome.ASSIGNED] * 3

    administrator.add_individual(
        "five-0", workshop.file_of(bad), device_id="five-0", enabled=False, reason="sends nonsense"
    )

    expect(administrator.row("five-0").get_by_role("cell", name="Disabled", exact=True)).to_be_visible()
    assert workshop.outcomes_of(bad, *siblings) == [Outcome.DISABLED, Outcome.ASSIGNED, Outcome.ASSIGNED]
    administrator.expect_record("five-0", "Disabled")
    administrator.expect_record("five-1", "Assigned")
    assert_told(administrator.history_of("five-0", 1)[0], ADMIN, "added", "five-0", "sends nonsense")


def test_6_bar_an_intermediate_that_was_never_enrolled(administrator, workshop):
    ca = root("six-root")
    bad, good = ca.intermediate("six-bad-line"), ca.intermediate("six-good-line")
    below, sibling = bad.leaf("six-below"), good.leaf("six-sibling")
    administrator.add_group("six-root", workshop.file_of(ca))
    assert workshop.outcomes_of(below, sibling) == [Outcome.ASSIGNED, Outcome.ASSIGNED]

    administrator.add_group("six-bad-line", workshop.file_of(bad), enabled=False, reason="found on a forum")

    administrator.expect_said("disabled: 1 device is refused from now on.")
    expect(administrator.toggle("six-bad-line")).not_to_be_checked()
    assert workshop.outcomes_of(below, sibling) == [Outcome.DISABLED, Outcome.ASSIGNED]
    assert_told(
        administrator.history_of("six-bad-line", 1)[0], ADMIN, "added", "six-bad-line", "found on a forum"
    )


def test_7_delete_a_group_but_keep_its_devices_out(administrator, workshop):
    ca = root("seven-root")
    line, other = ca.intermediate("seven-line"), ca.intermediate("seven-other-line")
    below, later, sibling = line.leaf("seven-below"), line.leaf("seven-later"), other.leaf("seven-sibling")
    administrator.add_group("seven-root", workshop.file_of(ca))
    administrator.add_group("seven-line", workshop.file_of(line))
    assert workshop.outcomes_of(below, sibling) == [Outcome.ASSIGNED, Outcome.ASSIGNED]

    dialog = administrator.ask_to_delete("seven-line")
    expect(dialog).to_contain_text("Only a disabled entry keeps out devices that are not known yet")
    dialog.get_by_label("Reason").fill("sold to somebody")
    dialog.get_by_role("button", name="Delete, but keep this device out").click()

    administrator.expect_said(
        "Deleted enrollment group seven-line: 1 device is kept out, by an entry of its own."
    )
    assert workshop.outcomes_of(below, sibling) == [Outcome.DISABLED, Outcome.ASSIGNED]
    # As the dialog said: nobody knew of this one.
    assert workshop.outcome_of(later) is Outcome.ASSIGNED
    assert_told(
        administrator.history_of("seven-below", 1)[0], ADMIN, "added", "seven-below", "sold to somebody"
    )


def test_8_disable_a_group_instead_of_deleting_it(administrator, workshop):
    ca = root("eight-root")
    line = ca.intermediate("eight-line")
    below, later = line.leaf("eight-below"), line.leaf("eight-later")
    administrator.add_group("eight-root", workshop.file_of(ca))
    administrator.add_group("eight-line", workshop.file_of(line))
    assert workshop.outcome_of(below) is Outcome.ASSIGNED

    dialog = administrator.ask_to_delete("eight-line")
    dialog.get_by_role("link", name="Disable instead").click()
    expect(dialog.get_by_role("heading", level=1)).to_contain_text("Disable enrollment group eight-line?")
    expect(dialog).to_contain_text("1 known device will be refused: eight-below.")
    dialog.get_by_role("button", name="Disable").click()

    administrator.expect_said("Disabled enrollment group eight-line: 1 device is refused from now on.")
    expect(administrator.toggle("eight-line")).not_to_be_checked()
    assert workshop.outcomes_of(below, later) == [Outcome.DISABLED, Outcome.DISABLED]


def test_9_what_changed_since_the_preview_is_shown_before_anybody_is_let_in(
    administrator, open_window, administrator_cookies, workshop
):
    ca = root("nine-ca")
    pump, sibling = ca.leaf("nine-pump"), ca.leaf("nine-sibling")
    administrator.add_group("nine-ca", workshop.file_of(ca))
    assert workshop.outcomes_of(pump, sibling) == [Outcome.ASSIGNED, Outcome.ASSIGNED]
    administrator.toggle("nine-ca").click()
    dialog = administrator.page.get_by_role("dialog")
    dialog.get_by_role("button", name="Disable").click()
    expect(administrator.toggle("nine-ca")).not_to_be_checked()
    administrator.toggle("nine-ca").click()
    expect(dialog).to_contain_text("2 known devices will come in anew through enrollment group nine-ca")

    somebody_else = Portal(open_window(storage_state=administrator_cookies))
    somebody_else.page.goto("/")
    somebody_else.add_individual("nine-pump", workshop.file_of(pump), enabled=False, reason="stolen")
    dialog.get_by_role("button", name="Enable").click()

    expect(dialog.get_by_role("alert")).to_contain_text("so nothing was enabled. This is what holds now.")
    expect(dialog).to_contain_text("1 known device will come in anew through enrollment group nine-ca")
    expect(dialog).to_contain_text("1 known device is shut out already, and stays so: nine-pump.")
    assert workshop.outcomes_of(pump, sibling) == [Outcome.DISABLED, Outcome.DISABLED]

    dialog.get_by_role("button", name="Enable").click()
    expect(administrator.toggle("nine-ca")).to_be_checked()
    assert workshop.outcomes_of(pump, sibling) == [Outcome.DISABLED, Outcome.ASSIGNED]


def test_10_another_certificate_is_saved_once_it_was_seen_whom_that_refuses(administrator, workshop):
    """The file that was chosen is sent with the question, with all devices in another window, and with the answer."""
    old, new = root("ten-old"), root("ten-new")
    below, sibling = old.leaf("ten-below"), new.leaf("ten-sibling")
    others = [old.leaf(f"ten-other-{number}") for number in range(5)]
    administrator.add_group("ten-line", workshop.file_of(old))
    assert workshop.outcomes_of(below, *others) == [Outcome.ASSIGNED] * 6
    administrator.open_entry("ten-line")
    administrator.upload(workshop.file_of(new))
    administrator.save_button.click()

    dialog = administrator.question
    expect(dialog).to_contain_text("6 known devices will be refused: ten-below, ten-other-0")
    expect(dialog).to_contain_text("and 1 more.")
    with administrator.page.expect_popup() as popup:
        dialog.get_by_role("button", name="Show all that will be refused").click()
    expect(popup.value.get_by_role("heading", level=1)).to_have_text(
        "Preview: save enrollment group ten-line"
    )
    expect(
        popup.value.get_by_role("row").filter(has_text="Admitted by enrollment group ten-line")
    ).to_have_count(6)
    assert problems_of(popup.value) == []
    popup.value.close()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert workshop.outcome_of(below) is Outcome.ASSIGNED

    told = administrator.save("Saved enrollment group ten-line", reason="the supplier has a new CA")

    assert "Devices below ten-new that register from now on are admitted." in told
    assert workshop.outcomes_of(below, sibling) == [Outcome.UNAUTHORIZED, Outcome.ASSIGNED]


def test_several_entries_are_turned_off_together(administrator, workshop):
    cas = [root(f"several-{number}") for number in range(2)]
    leaves = [ca.leaf(f"{ca.parsed.common_names[0]}-pump") for ca in cas]
    for ca in cas:
        administrator.add_group(ca.parsed.common_names[0], workshop.file_of(ca))
    assert workshop.outcomes_of(*leaves) == [Outcome.ASSIGNED, Outcome.ASSIGNED]

    administrator.only("several")
    for number in range(2):
        administrator.row(f"several-{number}").get_by_role("checkbox").check()
    administrator.page.get_by_role("button", name="Disable", exact=True).click()
    dialog = administrator.page.get_by_role("dialog", name="Disable 2 enrollment groups?")
    expect(dialog).to_contain_text("2 known devices will be refused")
    dialog.get_by_role("button", name="Disable").click()

    administrator.expect_said("Disabled 2 enrollment groups: 2 devices are refused from now on.")
    assert workshop.outcomes_of(*leaves) == [Outcome.DISABLED, Outcome.DISABLED]


def test_from_a_first_device_to_who_shut_it_out(open_window, live, curl, tmp_path):
    """What a new user does: sign in, enroll a CA, register with the command of the overview, shut out, read."""
    ca = root("first-ca")
    ca_file = tmp_path / "first-ca.pem"
    ca_file.write_text(ca.pem)
    chain, _ = ca.leaf("pump-001").write(tmp_path, "device")
    chain.rename(tmp_path / "device.pem")
    portal = Portal(open_window())
    portal.sign_in(ADMIN, ADMIN_PASSWORD)

    portal.add_group("first-ca", ca_file, reason="our first supplier")
    portal.go_to("Overview")
    first_device = portal.page.get_by_role("region", name="A first device")
    commands = first_device.get_by_text("curl -sS").text_content()
    admitted = outcome_of_typing(commands, tmp_path)

    assert admitted["status"] == "assigned"
    assert admitted["registrationState"]["deviceId"] == "pump-001"

    portal.enrollment_groups()
    portal.toggle("first-ca").click()
    dialog = portal.page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("the supplier lost its key")
    dialog.get_by_role("button", name="Disable").click()
    expect(portal.toggle("first-ca")).not_to_be_checked()
    refused = outcome_of_typing(commands, tmp_path)

    assert refused["status"] == "disabled"
    assert "assignedHub" not in refused.get("registrationState", {})
    disabled, added = portal.history_of("first-ca", 2)
    assert_told(disabled, ADMIN, "disabled", "first-ca", "the supplier lost its key", "portal")
    newest = portal.page.get_by_role("row").filter(has_text="the supplier lost its key")
    newest.locator("summary").first.click()
    expect(newest).to_contain_text("127.0.0.1")
    assert_told(added, ADMIN, "added", "first-ca", "our first supplier")


def test_the_command_for_a_simulated_fleet_can_be_copied(administrator, live):
    administrator.go_to("Overview")
    first_device = administrator.page.get_by_role("region", name="A first device")
    command = first_device.get_by_text("manage.py simulate").text_content()

    table = typed(command, PROJECT_DIR, env=live.environment)

    assert re.search(r"^assigned +10$", table, re.MULTILINE), table


def outcome_of_typing(commands: str, folder: Path) -> dict:
    """The last answer, where `folder` holds `device.pem` and `device.key`."""
    registered, *polled = map(json.loads, typed(commands, folder).splitlines())
    assert registered["status"] == "assigning"
    (outcome,) = polled
    return outcome


def typed(commands: str, folder: Path, **options: object) -> str:
    done = subprocess.run(
        ["bash", "-c", commands],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_told(row: str, *parts: str) -> None:
    """The row of the history says who did what, and why."""
    missing = [part for part in parts if part not in row]
    assert not missing, f"{missing} not in {row!r}"
