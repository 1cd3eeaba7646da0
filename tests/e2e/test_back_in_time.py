"""Could it have come in between? Answered by a real browser from the portal alone, after a device really did."""

import re
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import CertificateFiles
from tests.certificates import root
from tests.e2e.pages import SERVICE, Portal
from tests.e2e.soundness import problems_of

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


@pytest.fixture
def pump(live, name, tmp_path) -> str:
    """A device that came in, and was shut out with its group."""
    ca = root(f"past-{name}")
    line = ca.intermediate(f"past-line-{name}")
    leaf = line.leaf(f"past-pump-{name}")
    registration_id = leaf.parsed.common_names[0]
    device = Device(registration_id, CertificateFiles(*leaf.write(tmp_path, registration_id)))
    live.enroll_ca(f"past-{name}", ca)
    live.enroll_ca(f"past-line-{name}", line)
    assert live.register(device).outcome is Outcome.ASSIGNED
    group = ("group", f"past-line-{name}", "--service", SERVICE)
    live.manage("disable", *group, "--reason", "copied key")
    assert live.register(device).outcome is Outcome.DISABLED
    return registration_id


def test_a_record_leads_to_every_spell_in_which_the_device_could_have_come_in(portal, name, pump):
    page = portal.page
    page.goto(f"/services/{SERVICE}/registrations/{pump}/")

    page.get_by_role("main").get_by_role("link", name="Back in time").click()

    verdict = page.get_by_role("heading", level=2, name=f"{pump} could have registered at")
    expect(verdict).to_contain_text(f"through enrollment group past-line-{name}")
    spells = page.get_by_role("region", name="Could it have come in between?")
    rows = spells.get_by_role("row")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text(f"Admitted by enrollment group past-line-{name}")
    expect(rows.nth(2)).to_contain_text("Disabled")
    expect(rows.nth(2)).to_contain_text("Reason: copied key")
    expect(spells.get_by_role("img", name="it would have been let in during one spell")).to_be_visible()
    expect(page.get_by_role("region", name="Step by step at that time")).to_contain_text("This decides")
    if name == "scripted":
        assert problems_of(page) == []

    page.get_by_role("link", name="All devices at that time").click()
    fleet = page.get_by_role("heading", level=2, name=re.compile("known devices could have registered"))
    expect(fleet).to_be_visible()
    page.get_by_role("link", name=re.compile("Shut out")).click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=pump, exact=True))
    expect(row).to_contain_text("Disabled")
    if name == "scripted":
        assert problems_of(page) == []

    # And after the group was disabled: the form is filled in by hand.
    at = datetime.now(UTC)
    row.get_by_role("link").click()
    page.get_by_label("At (UTC)").fill(f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}")
    page.get_by_role("button", name="Look back").click()
    expect(page.get_by_role("heading", level=2, name=f"{pump} could not have registered at")).to_be_visible()
