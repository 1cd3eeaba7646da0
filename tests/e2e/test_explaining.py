"""Asking why, denying without a certificate at hand, and telling a storm to be quiet, in a real browser."""

import json
import re
import ssl
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection

import pytest
from playwright.sync_api import expect

from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import CertificateFiles, derived_key
from tests.certificates import root, self_signed
from tests.e2e.pages import SERVICE, Portal
from tests.e2e.soundness import problems_of

pytestmark = pytest.mark.e2e


def device_of(leaf, folder) -> Device:
    registration_id = leaf.parsed.common_names[0]
    return Device(registration_id, CertificateFiles(*leaf.write(folder, registration_id)))


def keyed(group_key: str, registration_id: str) -> Device:
    return Device(registration_id, derived_key(group_key, registration_id))


def registering(live, device: Device) -> tuple[int, int]:
    """One request and no patience: its status, and the seconds to wait that it was told."""
    context = ssl.create_default_context(cafile=live.ca_file)
    context.load_cert_chain(device.credential.chain, device.credential.key)
    connection = HTTPSConnection("127.0.0.1", live.device_port, context=context, timeout=10)
    path = f"/{live.id_scope}/registrations/{device.registration_id}/register?api-version=2021-06-01"
    body = json.dumps({"registrationId": device.registration_id})
    connection.request("PUT", path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    connection.close()
    return answer.status, int(answer.headers["Retry-After"])


@pytest.fixture(params=[True, False], ids=["script on", "script off"])
def portal(request, open_window, administrator_cookies) -> Portal:
    page = open_window(storage_state=administrator_cookies, java_script_enabled=request.param)
    page.goto(f"/services/{SERVICE}/")
    return Portal(page)


@pytest.fixture
def name(request) -> str:
    """Names of the test's own: both of its runs share the installation."""
    return "scripted" if "script on" in request.node.name else "plain"


def answer_yes(portal: Portal, button: str, *, reason: str) -> None:
    """In the dialog, or on the page that stands for it without script."""
    portal.page.get_by_label("Reason").fill(reason)
    portal.page.get_by_role("button", name=button, exact=True).click()


def test_a_record_leads_to_why_the_device_would_be_refused(portal, name, live, tmp_path):
    ca = root(f"why-{name}")
    line = ca.intermediate(f"why-line-{name}")
    pump = device_of(line.leaf(f"why-pump-{name}"), tmp_path)
    live.enroll_ca(f"why-{name}", ca)
    assert live.register(pump).outcome is Outcome.ASSIGNED
    live.enroll_ca(f"why-line-{name}", line)
    live.manage("disable", "group", f"why-line-{name}", "--service", SERVICE, "--reason", "copied key")

    portal.expect_record(f"why-pump-{name}", "Assigned")
    portal.page.get_by_role("rowheader", name=f"why-pump-{name}").get_by_role("link").click()
    portal.page.get_by_role("main").get_by_role("link", name="Explain").click()

    page = portal.page
    verdict = page.get_by_role("heading", name=f"why-pump-{name} would be told that it is disabled")
    expect(verdict).to_be_visible()
    path = page.get_by_role("region", name="The path")
    issuer = path.locator("ol.chain > li").nth(1)
    expect(issuer).to_contain_text(f"CN=why-line-{name}")
    expect(issuer).to_contain_text(f"Barred by enrollment group why-line-{name}")
    steps = page.get_by_role("region", name="Step by step").get_by_role("listitem")
    expect(steps.filter(has_text="This decides")).to_contain_text(f"enrollment group why-line-{name}")
    expect(steps.filter(has_text="Not asked")).to_contain_text(f"enrollment group why-{name}")
    assert live.register(pump).outcome is Outcome.DISABLED


def test_certificates_are_judged_at_another_time_and_never_stand_in_the_address(portal, name, live):
    ca = root(f"later-{name}", not_after=datetime.now(UTC) + timedelta(days=3650))
    live.enroll_ca(f"later-{name}", ca)
    leaf = ca.leaf(f"later-pump-{name}", not_after=datetime.now(UTC) + timedelta(days=20))
    page = portal.page
    portal.go_to("Explain")

    page.get_by_label("Certificates as text").fill(leaf.pem)
    page.get_by_role("button", name="Explain these certificates").click()
    expect(page.get_by_role("heading", name=f"later-pump-{name} would be admitted")).to_be_visible()

    later = datetime.now(UTC) + timedelta(days=30)
    form = page.get_by_role("form", name="By certificate")
    form.get_by_label("At another time").fill(f"{later:%Y-%m-%dT%H:%M}")
    form.get_by_role("button", name="Explain these certificates").click()
    expect(page.get_by_role("heading", name=f"later-pump-{name} would be refused")).to_be_visible()
    expect(page.get_by_role("region", name="The path")).to_contain_text("Expired")
    assert "CERTIFICATE" not in page.url


def test_a_private_key_is_refused_and_gone(portal):
    secret = self_signed("secret-pump")
    portal.go_to("Explain")

    portal.page.get_by_label("Certificates as text").fill(secret.pem + secret.key_pem)
    portal.page.get_by_role("button", name="Explain these certificates").click()

    field = portal.page.get_by_label("Certificates as text")
    expect(field).to_have_accessible_description(re.compile("contains a private key"))
    expect(field).to_have_value("")
    assert "PRIVATE KEY" not in portal.page.content()


def test_a_device_below_a_ca_is_denied_from_its_record(portal, name, live, tmp_path):
    ca = root(f"deny-{name}")
    live.enroll_ca(f"deny-{name}", ca)
    bad, sibling = (device_of(ca.leaf(f"deny-{number}-{name}"), tmp_path) for number in range(2))
    assert [live.register(one).outcome for one in (bad, sibling)] == [Outcome.ASSIGNED] * 2

    portal.expect_record(f"deny-0-{name}", "Assigned")
    portal.page.get_by_role("rowheader", name=f"deny-0-{name}").get_by_role("link").click()
    portal.page.get_by_role("link", name="Deny this device").click()
    expect(portal.page.get_by_text("whose key is then barred under any name")).to_be_visible()
    answer_yes(portal, "Deny", reason="sends nonsense")

    portal.expect_said(f"Device deny-0-{name} is denied from now on")
    assert [live.register(one).outcome for one in (bad, sibling)] == [Outcome.DISABLED, Outcome.ASSIGNED]


def test_a_device_of_a_key_group_is_denied_from_its_attempt(portal, name, live):
    key = enroll_key_group(live, f"keys-{name}")
    bad, sibling = (keyed(key, f"keyed-{number}-{name}") for number in range(2))
    assert [live.register(one).outcome for one in (bad, sibling)] == [Outcome.ASSIGNED] * 2

    portal.go_to("Attempts")
    portal.page.get_by_label("Deciding entry").fill(f"keys-{name}")
    portal.page.get_by_role("button", name="Filter").click()
    portal.page.get_by_role("link", name=f"keyed-0-{name}", exact=True).click()
    portal.page.get_by_role("link", name="Deny this device").click()
    expect(portal.page.get_by_text("whichever key signs for it")).to_be_visible()
    answer_yes(portal, "Deny", reason="left the yard")

    portal.expect_said(f"Device keyed-0-{name} is denied from now on")
    assert [live.register(one).outcome for one in (bad, sibling)] == [Outcome.DISABLED, Outcome.ASSIGNED]


def test_a_storm_is_told_to_be_quiet_and_the_device_of_that_name_is_not(portal, name, live, tmp_path):
    ca = root(f"storm-{name}")
    live.enroll_ca(f"storm-{name}", ca)
    stranger = device_of(self_signed(f"storm-pump-{name}"), tmp_path)
    assert live.register(stranger).outcome is Outcome.UNAUTHORIZED
    own = tmp_path / "own"
    own.mkdir()
    page = portal.page
    portal.go_to("Attempts")
    page.get_by_role("link", name="Storms").click()
    portal.expect_heading("Storms")

    page.get_by_role("link", name=f"Quiet period for storm-pump-{name}").click()
    page.get_by_label("For how long").select_option("8 hours")
    answer_yes(portal, "Start the quiet period", reason="test bench")

    portal.expect_said(f"storm-pump-{name} is told to wait until")
    status, retry_after = registering(live, stranger)
    assert (status, retry_after > 28_000) == (429, True)
    assert live.register(device_of(ca.leaf(f"storm-pump-{name}"), own)).outcome is Outcome.ASSIGNED

    page.get_by_role("link", name=f"End the quiet period of storm-pump-{name}").click()
    answer_yes(portal, "End the quiet period", reason="mended")
    portal.expect_said(f"The quiet period of storm-pump-{name} has ended")
    assert "ended the quiet period" in portal.history_of(f"storm-pump-{name}", 2)[0]


def test_storms_come_up_by_themselves_while_somebody_looks(administrator, live, tmp_path):
    page = administrator.page
    page.goto(f"/services/{SERVICE}/storms/")

    live.register(device_of(self_signed("live-storm"), tmp_path))

    expect(page.get_by_role("link", name="live-storm", exact=True)).to_be_visible(timeout=8000)
    assert problems_of(page) == []


def enroll_key_group(live, group_id: str) -> str:
    """A group with symmetric keys in the service `local`; its primary key."""
    return live.python(
        "from enrollments.actions.group_specs import GroupSpec\n"
        "from enrollments.actions.enrollment_groups import add_enrollment_group\n"
        "from enrollments.actions.services import change_settings\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "from enrollments.models import AttestationMechanism, ProvisioningService\n"
        "actor = Actor('cli', 'test', Way.COMMAND_LINE)\n"
        "service = ProvisioningService.objects.get(name='local')\n"
        "change_settings(service, {'symmetric_key_groups': True}, actor=actor)\n"
        f"spec = GroupSpec(group_id={group_id!r}, mechanism=AttestationMechanism.SYMMETRIC_KEY)\n"
        "print(add_enrollment_group(service, spec, actor=actor).primary_key)\n"
    ).strip()
