"""What people ask before and after a change, in a real browser: why, what would happen, what was, who did what."""

import csv
import io
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from enrollments.portal.paging import PAGE_SIZE
from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import CertificateFiles, Credential, SharedKey, TpmKeys
from tests.certificates import Minted, root
from tests.e2e.pages import SERVICE, Portal
from tests.e2e.soundness import problems_of
from tests.e2e.test_history import rows
from tests.live import ADMIN, LiveListeners
from tests.soft_tpm import SoftTpm

pytestmark = pytest.mark.e2e


@pytest.fixture(params=[True, False], ids=["script on", "script off"])
def portal(request, open_window, administrator_cookies) -> Portal:
    page = open_window(storage_state=administrator_cookies, java_script_enabled=request.param)
    page.goto(f"/services/{SERVICE}/")
    return Portal(page)


@pytest.fixture
def name(request) -> str:
    """Names of the test's own: both of its runs share the installation."""
    return "scripted" if "script on" in request.node.name else "plain"


def device_of(leaf: Minted, folder: Path) -> Device:
    registration_id = leaf.parsed.common_names[0]
    return Device(registration_id, CertificateFiles(*leaf.write(folder, registration_id)))


def disable(live: LiveListeners, group: str) -> None:
    live.manage("disable", "group", group, "--service", SERVICE, "--reason", "drill")


def enable(live: LiveListeners, group: str) -> None:
    live.python(
        "from enrollments.actions.enrollment_groups import enable_enrollment_group\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "from enrollments.models import ProvisioningService\n"
        "service = ProvisioningService.objects.get(name='local')\n"
        f"enable_enrollment_group(service, {group!r}, actor=Actor('cli', 'test', Way.COMMAND_LINE))\n"
    )


def table_in(page: Page, link: str) -> list[dict[str, str]]:
    """The rows of a CSV that a link on the page leads to."""
    with page.expect_download() as download:
        page.get_by_role("link", name=link, exact=True).click()
    return list(csv.DictReader(io.StringIO(download.value.path().read_text("utf-8-sig"))))


# --- Why -------------------------------------------------------------------------------------------


def test_an_attempt_leads_to_its_steps_as_they_were_and_to_what_would_be_answered_now(
    portal, name, live, tmp_path
):
    ca, page = root(f"then-{name}"), portal.page
    pump = device_of(ca.leaf(f"then-pump-{name}"), tmp_path)
    live.enroll_ca(f"then-{name}", ca)
    disable(live, f"then-{name}")
    assert live.register(pump).outcome is Outcome.DISABLED
    enable(live, f"then-{name}")

    portal.go_to("Attempts")
    page.get_by_role("link", name=f"then-pump-{name}", exact=True).click()
    page.get_by_role("main").get_by_role("link", name="Explain", exact=True).click()

    assert "tracking_id=" in page.url
    verdict = page.get_by_role("heading", level=2, name=f"then-pump-{name}")
    expect(verdict).to_have_text(f"then-pump-{name} was told that it is disabled")
    steps = page.get_by_role("region", name="Step by step").get_by_role("listitem")
    expect(steps.filter(has_text="This decides")).to_contain_text(f"enrollment group then-{name}")
    page.get_by_role("link", name="What would be answered now").click()
    expect(verdict).to_have_text(f"then-pump-{name} would be admitted")


def test_an_entry_leads_to_what_would_be_answered_to_its_device(portal, name, live, tmp_path):
    ca, page = root(f"own-{name}"), portal.page
    leaf = ca.leaf(f"own-pump-{name}")
    certificate = tmp_path / "certificate.pem"
    certificate.write_text(leaf.pem)
    live.python(
        "from enrollments.actions.enrollment_specs import IndividualSpec\n"
        "from enrollments.actions.enrollments import add_individual_enrollment\n"
        "from enrollments.attestation.x509 import read_upload\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "from enrollments.models import ProvisioningService, Slot\n"
        f"(leaf,) = read_upload(open({str(certificate)!r}, 'rb').read())\n"
        "service = ProvisioningService.objects.get(name='local')\n"
        "actor = Actor('cli', 'test', Way.COMMAND_LINE)\n"
        "add_individual_enrollment(service, IndividualSpec(certificates={Slot.PRIMARY: leaf}), actor=actor)\n"
    )

    page.goto(f"/services/{SERVICE}/enrollments/i/own-pump-{name}/")
    page.get_by_role("main").get_by_role("link", name="Explain", exact=True).click()

    verdict = page.get_by_role("heading", level=2, name=f"own-pump-{name} would be admitted")
    expect(verdict).to_be_visible()
    steps = page.get_by_role("region", name="Step by step").get_by_role("listitem")
    expect(steps.filter(has_text="This decides")).to_contain_text(f"individual enrollment own-pump-{name}")


# --- Denying, for what has no certificate at all -----------------------------------------------------


@pytest.mark.parametrize("mechanism", ["keys", "tpm"])
def test_a_device_without_a_certificate_is_denied_from_its_record(portal, name, live, mechanism):
    bad, page = f"denied-{mechanism}-{name}", portal.page
    device = Device(bad, credential_enrolled(live, bad, mechanism))
    assert live.register(device).outcome is Outcome.ASSIGNED

    portal.expect_record(bad, "Assigned")
    page.get_by_role("rowheader", name=bad).get_by_role("link").click()
    page.get_by_role("link", name="Deny this device").click()
    page.get_by_label("Reason").fill("sends nonsense")
    page.get_by_role("button", name="Deny", exact=True).click()

    portal.expect_said(f"Device {bad} is denied from now on")
    assert live.register(device).outcome is Outcome.DISABLED
    assert "sends nonsense" in portal.history_of(bad, 1)[0]


def credential_enrolled(live: LiveListeners, registration_id: str, mechanism: str) -> Credential:
    if mechanism == "keys":
        return SharedKey(live.enroll_keys(registration_id))
    tpm = SoftTpm()
    live.python(
        "from enrollments.actions.enrollment_specs import IndividualSpec\n"
        "from enrollments.actions.enrollments import add_individual_enrollment\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "from enrollments.models import AttestationMechanism, ProvisioningService\n"
        f"spec = IndividualSpec(registration_id={registration_id!r}, mechanism=AttestationMechanism.TPM,\n"
        f"                      endorsement_key={tpm.keys.endorsement_key!r})\n"
        "service = ProvisioningService.objects.get(name='local')\n"
        "add_individual_enrollment(service, spec, actor=Actor('cli', 'test', Way.COMMAND_LINE))\n"
    )
    return TpmKeys(tpm.tpm)


# --- What would happen -------------------------------------------------------------------------------


def test_a_preview_is_paged_through_and_exported(portal, name, live, tmp_path):
    ca, page, many = root(f"fleet-{name}"), portal.page, PAGE_SIZE + 3
    live.enroll_ca(f"fleet-{name}", ca)
    devices = [device_of(ca.leaf(f"fleet-{name}-{number:02}"), tmp_path) for number in range(many)]
    with ThreadPoolExecutor(8) as at_once:
        assert {one.outcome for one in at_once.map(live.register, devices)} == {Outcome.ASSIGNED}
    names = [one.registration_id for one in devices]

    portal.enrollment_groups()
    portal.only(f"fleet-{name}")
    portal.row(f"fleet-{name}").get_by_role("checkbox").check()
    page.get_by_role("button", name="Disable", exact=True).click()
    question = page.locator(".dialog-body")
    expect(question).to_contain_text(f"{many} known devices will be refused")
    with page.context.expect_page() as opened:
        question.get_by_role("link", name=re.compile("Show all that will be refused")).click()
    preview = opened.value

    listed = preview.get_by_role("table", name="Devices of the preview").get_by_role("rowheader")
    expect(listed).to_have_count(PAGE_SIZE)
    first = listed.all_inner_texts()
    if name == "scripted":
        assert problems_of(preview) == []
    preview.get_by_role("link", name="Next").click()
    expect(listed).to_have_count(many - PAGE_SIZE)
    assert [*first, *listed.all_inner_texts()] == names
    preview.get_by_role("link", name="Previous").click()
    expect(listed).to_have_text(first)
    exported = table_in(preview, "Export (CSV)")
    assert [next(iter(row.values())) for row in exported] == names
    # Looking has changed nothing.
    assert live.register(devices[0]).outcome is Outcome.ASSIGNED


def test_an_entry_is_enabled_until_a_time_and_shut_again_by_itself(portal, name, live):
    pump, page = f"visit-{name}", portal.page
    device = Device(pump, SharedKey(live.enroll_keys(pump)))
    live.manage("disable", "individual", pump, "--service", SERVICE, "--reason", "for good")
    assert live.register(device).outcome is Outcome.DISABLED
    until = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=3)

    page.goto(f"/services/{SERVICE}/enrollments/i/{pump}/")
    page.get_by_role("link", name="Enable", exact=True).click()
    question = page.locator(".dialog-body")
    expect(question).to_contain_text("1 known device will come in anew")
    question.get_by_label("Reason").fill("the service van")
    question.get_by_role("radio", name="until the time below").check()
    question.get_by_label("Time (UTC)").fill(f"{until:%Y-%m-%dT%H:%M}")
    question.get_by_role("button", name="Enable", exact=True).click()

    portal.expect_said(f"until {until:%Y-%m-%d %H:%M:00} UTC")
    assert live.register(device).outcome is Outcome.ASSIGNED
    with closing(sqlite3.connect(live.data_dir / "db.sqlite3", timeout=10)) as connection, connection:
        connection.execute(
            "UPDATE enrollments_individualenrollment SET switches_at = datetime('now', '-1 second')"
            " WHERE registration_id = ?",
            [pump],
        )
    assert live.register(device).outcome is Outcome.DISABLED
    by_itself = portal.history_of(pump, 2)[0]
    assert "schedule" in by_itself
    assert "the service van" in by_itself


def test_a_bar_that_is_scheduled_and_would_go_leads_to_who_stays_in_by_that(portal, name, live, tmp_path):
    ca, page = root(f"recall-{name}"), portal.page
    line = ca.intermediate(f"recall-line-{name}")
    live.enroll_ca(f"recall-{name}", ca)
    live.enroll_ca(f"recall-line-{name}", line)
    device = device_of(line.leaf(f"recalled-{name}"), tmp_path)
    assert live.register(device).outcome is Outcome.ASSIGNED
    at = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=3)
    when = ("--at", f"{at:%Y-%m-%dT%H:%MZ}", "--service", SERVICE, "--reason", "recalled")
    live.manage("groups", "disable", f"recall-line-{name}", *when)

    portal.enrollment_groups()
    portal.only(f"recall-line-{name}")
    portal.row(f"recall-line-{name}").get_by_role("checkbox").check()
    page.get_by_role("button", name="Delete", exact=True).click()
    question = page.locator(".dialog-body")
    expect(question).to_contain_text(f"From {at:%Y-%m-%d %H:%M}:00 UTC on, when these would be refused")
    expect(question).to_contain_text(f"1 known device will stay in through enrollment group recall-{name}")
    expect(question).to_contain_text("deleting it drops that bar")
    with page.context.expect_page() as opened:
        question.get_by_role("link", name=re.compile("All devices that stay in from")).click()
    staying = opened.value

    expect(staying.get_by_role("table", name="Devices of the preview").get_by_role("rowheader")).to_have_text(
        [f"recalled-{name}"]
    )
    expect(staying.get_by_role("columnheader")).to_have_text(
        ["Registration ID", "Then without it", "Then with it"]
    )
    if name == "scripted":
        assert problems_of(staying) == []
    (row,) = table_in(staying, "Export (CSV)")
    assert (row["registration ID"], row["then without it"]) == (f"recalled-{name}", "disabled")
    # Cancelled, the bar stays as it was.
    page.get_by_role("link", name="Cancel").click()
    live.manage("groups", "disable", f"recall-line-{name}", "--service", SERVICE, "--reason", "recalled now")
    assert live.register(device).outcome is Outcome.DISABLED


# --- What was ----------------------------------------------------------------------------------------


def test_two_times_are_compared_and_the_difference_is_taken_along(portal, name, live, tmp_path):
    """Between them a group was disabled. Now it is not, so neither of the two is the present."""
    ca, page = root(f"between-{name}"), portal.page
    pump = device_of(ca.leaf(f"between-pump-{name}"), tmp_path)
    live.enroll_ca(f"between-{name}", ca)
    assert live.register(pump).outcome is Outcome.ASSIGNED
    first = datetime.now(UTC)
    disable(live, f"between-{name}")
    second = datetime.now(UTC)
    enable(live, f"between-{name}")

    page.goto(f"/services/{SERVICE}/back-in-time/")
    for label, at in (("At (UTC)", first), ("Compared with (UTC)", second)):
        page.get_by_label(label).fill(f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}")
    page.get_by_role("button", name="Look back").click()
    page.get_by_role("link", name=re.compile("Shut out")).click()

    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=pump.registration_id, exact=True))
    expect(row.get_by_role("cell").nth(0)).to_contain_text(f"Admitted by enrollment group between-{name}")
    expect(row.get_by_role("cell").nth(1)).to_contain_text("Disabled")
    exported = table_in(page, "Export (CSV)")
    assert pump.registration_id in {next(iter(one.values())) for one in exported}


# --- Who did what ------------------------------------------------------------------------------------


def test_the_history_is_paged_through_and_what_a_person_did_is_found(portal, name, live):
    """Of one device there are more rows than a page holds, each by the same person."""
    pump, page, many = f"busy-{name}", portal.page, PAGE_SIZE + 2
    live.enroll_keys(pump)
    live.python(
        "from django.contrib.auth.models import User\n"
        "from enrollments.actions.enrollments import disable_enrollment, enable_enrollment\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "from enrollments.models import ProvisioningService\n"
        "service = ProvisioningService.objects.get(name='local')\n"
        f"actor = Actor('user', {ADMIN!r}, Way.PORTAL, '192.0.2.7')\n"
        f"for number in range({many}):\n"
        "    act = enable_enrollment if number % 2 else disable_enrollment\n"
        f"    act(service, {pump!r}, actor=actor, reason=f'turn {{number:02}}')\n"
    )

    page.goto(f"/people/p/{ADMIN}/")
    page.get_by_role("navigation", name="Sections").get_by_role("link", name="What they did").click()
    page.get_by_label("To what").fill(pump)
    page.get_by_role("button", name="Filter", exact=True).click()
    page.wait_for_url(lambda url: f"subject={pump}" in url)

    expect(rows(page)).to_have_count(PAGE_SIZE)
    seen = rows(page).all_inner_texts()
    page.get_by_role("link", name="Next").click()
    expect(rows(page)).to_have_count(many - PAGE_SIZE)
    seen += rows(page).all_inner_texts()
    assert [number for text in seen for number in re.findall(r"turn (\d\d)", text)] == [
        f"{number:02}" for number in reversed(range(many))
    ]

    page.get_by_role("link", name="Previous").click()
    expect(rows(page)).to_have_count(PAGE_SIZE)
    page.get_by_label(re.compile("^What")).select_option(label="What shuts out")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.wait_for_url(lambda url: f"subject={pump}" in url and "event=" in url)
    expect(rows(page)).to_have_count((many + 1) // 2)
