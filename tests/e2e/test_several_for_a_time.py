"""Entries that were ticked, disabled until a time in a real browser, with script and without, and devices that call."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from enrollments.simulator.client import Outcome
from tests.certificates import root
from tests.e2e.pages import Portal
from tests.e2e.test_procedures import Workshop, assert_told, pass_the_time_of
from tests.live import ADMIN

pytestmark = pytest.mark.e2e


@pytest.fixture(params=[True, False], ids=["script", "no script"])
def portal(request, open_window, administrator_cookies):
    page = open_window(storage_state=administrator_cookies, java_script_enabled=request.param)
    page.goto("/")
    return Portal(page)


def test_several_groups_are_disabled_until_a_time(portal, live, tmp_path, request):
    """Of three, one is off for good already: the question says that it opens then, too."""
    workshop, stem = Workshop(live, tmp_path), f"box-{'with' if 'no' not in request.node.name else 'less'}"
    cas = [root(f"{stem}-{number}") for number in range(3)]
    leaves = [ca.leaf(f"{stem}-pump-{number}") for number, ca in enumerate(cas)]
    for ca in cas:
        live.enroll_ca(ca.parsed.common_names[0], ca)
    assert workshop.outcomes_of(*leaves) == [Outcome.ASSIGNED] * 3
    live.manage("disable", "group", f"{stem}-2", "--reason", "sold")
    until = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=2)
    then, page = f"{until:%Y-%m-%d %H:%M:00} UTC", portal.page

    portal.enrollment_groups()
    portal.only(stem)
    for number in range(3):
        portal.row(f"{stem}-{number}").get_by_role("checkbox").check()
    page.get_by_role("button", name="Disable", exact=True).click()
    question = page.locator(".dialog-body")
    expect(question).to_contain_text("Disable 3 enrollment groups?")
    expect(question).to_contain_text(
        f"Disabled already: {stem}-2. If you choose an end, it is enabled then, too."
    )
    question.get_by_label("Reason").fill("audit")
    question.get_by_role("radio", name="until the time below").check()
    question.get_by_label("Time (UTC)").fill(f"{until:%Y-%m-%dT%H:%M}")
    question.get_by_role("button", name="Show what happens then").click()

    expect(question).to_contain_text(f"At {then}, when they are enabled again")
    expect(question).to_contain_text("From now on: 2 known devices will be refused")
    expect(question).to_contain_text("3 known devices will come in anew")
    expect(question.get_by_text("From now on:")).to_be_focused()
    expect(question.get_by_label("Reason")).to_have_value("audit")
    assert workshop.outcomes_of(*leaves) == [Outcome.ASSIGNED, Outcome.ASSIGNED, Outcome.DISABLED]

    question.get_by_role("button", name="Disable", exact=True).click()

    portal.expect_said(f"Disabled 3 enrollment groups until {then}: 2 devices are refused from now on.")
    for number in range(3):
        expect(
            portal.row(f"{stem}-{number}").get_by_role("cell", name=f"Disabled until {then}")
        ).to_be_visible()
    assert workshop.outcomes_of(*leaves) == [Outcome.DISABLED] * 3

    for number in range(3):
        pass_the_time_of(live, "enrollmentgroup", "group_id", f"{stem}-{number}")

    assert workshop.outcomes_of(*leaves) == [Outcome.ASSIGNED] * 3
    by_itself, by_hand = portal.history_of(f"{stem}-0", 2)
    assert_told(by_itself, ADMIN, "schedule", f"enabled enrollment group {stem}-0", "audit")
    assert_told(by_hand, ADMIN, f"disabled enrollment group {stem}-0 until", "audit")
