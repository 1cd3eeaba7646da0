"""Previews in a real browser, on a phone and without script: read from the beginning, and listed to the last device."""

import base64
import re

import pytest
from playwright.sync_api import Page, expect

from tests.certificates import root
from tests.e2e.pages import SERVICE
from tests.e2e.test_procedures import Workshop

pytestmark = pytest.mark.e2e
# As much as an address bar leaves of a small one.
PHONE = {"width": 390, "height": 540}
KEY = base64.b64encode(b"typed on a phone").decode()


@pytest.fixture(params=[True, False], ids=["script", "no script"])
def script(request) -> bool:
    return request.param


@pytest.fixture
def page(script, open_window, administrator_cookies) -> Page:
    return open_window(storage_state=administrator_cookies, java_script_enabled=script, viewport=PHONE)


def test_a_question_is_read_from_its_beginning(page, script, live, tmp_path):
    """Its last field is out of sight: opened there, it would have hidden the numbers that it is about."""
    stem = "phone-a" if script else "phone-b"
    ca = root(stem)
    live.enroll_ca(stem, ca)
    Workshop(live, tmp_path).outcomes_of(*(ca.leaf(f"{stem}-{number}") for number in range(2)))
    page.goto(f"/services/{SERVICE}/groups/g/{stem}/")

    page.get_by_role("link", name="Disable", exact=True).click()

    heading = page.get_by_role("heading", level=1, name=f"Disable enrollment group {stem}?")
    numbers = page.get_by_text("2 known devices will be refused")
    for one in (heading, numbers):
        expect(one).to_be_in_viewport()
    expect(page.locator(".dialog-body").get_by_label("Reason")).not_to_be_in_viewport()
    if script:
        expect(heading).to_be_focused()


def test_a_form_with_typed_keys_is_listed_to_the_last_device(page, script, live):
    name = "phone-with-script" if script else "phone-without-script"
    former = base64.b64encode(name[:16].encode()).decode()
    live.python(ENROLL.format(name=name, key=former))
    page.goto(f"/services/{SERVICE}/groups/g/{name}/")
    page.get_by_label("Primary key").fill(KEY)
    page.get_by_label("Secondary key").fill(KEY)
    page.locator("#entry-form").get_by_role("button", name="Save").click()
    with page.context.expect_page() as opened:
        page.get_by_role("button", name="All devices of this preview").click()
    listed = opened.value

    listed.get_by_role("button", name=re.compile("^Will be refused")).click()
    seen = names_on(listed, "1 to 25 of 30 devices")
    listed.get_by_role("button", name="Next").click()
    seen += names_on(listed, "26 to 30 of 30 devices")

    assert seen == [f"{name}-{number:02}" for number in range(30)]
    expect(listed.get_by_role("button", name=re.compile("^Will be refused"))).to_have_attribute(
        "aria-current", "true"
    )
    assert KEY not in listed.content()
    listed.close()
    if not script:
        assert KEY not in page.content()
        page.locator("#save-question").get_by_role("button", name="Save", exact=True).click()
        expect(
            page.get_by_role("status").filter(has_text=f"Saved enrollment group {name}")
        ).not_to_have_count(0)
        held = live.python(HELD.format(name=name)).split()
        assert held == [KEY, KEY]


def names_on(page: Page, summary: str) -> list[str]:
    expect(page.get_by_text(summary)).to_be_visible()
    return page.get_by_role("rowheader").all_inner_texts()


ENROLL = """
from tests.devices import derived_key, enroll_key_group, register, signs
from enrollments.models import ProvisioningService
service = ProvisioningService.objects.get(name="local")
enroll_key_group(service, "{name}", primary_key="{key}", secondary_key="{key}")
service.refresh_from_db()
for number in range(30):
    name = f"{name}-{{number:02}}"
    register(service, signs(service, name, derived_key("{key}", name)), name)
"""
HELD = """
from enrollments.models import EnrollmentGroup
group = EnrollmentGroup.objects.get(group_id="{name}")
print(group.primary_key, group.secondary_key)
"""
