"""Proof of possession from the upload to the device that comes in by it, in a real browser and with OpenSSL itself."""

import subprocess

import pytest
from playwright.sync_api import expect

from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import CertificateFiles
from tests.certificates import root
from tests.e2e.conftest import found_or_skipped
from tests.e2e.pages import Portal

pytestmark = pytest.mark.e2e


@pytest.fixture
def openssl() -> str:
    return found_or_skipped("OpenSSL", "openssl")


@pytest.fixture(params=[True, False], ids=["with script", "without script"])
def portal(request, open_window, administrator_cookies):
    page = open_window(storage_state=administrator_cookies, java_script_enabled=request.param)
    page.goto("/")
    return Portal(page)


def test_device_comes_in_once_possession_is_proven(portal, live, openssl, tmp_path, request):
    name = "possession-" + ("scripted" if "with script" in request.node.name else "plain")
    ca = root(f"{name} CA")
    (tmp_path / "ca.pem").write_text(ca.pem)
    (tmp_path / "ca.key").write_text(ca.key_pem)
    live.enroll_ca(name, ca)
    pump = Device(f"{name}-pump", CertificateFiles(*ca.leaf(f"{name}-pump").write(tmp_path, "pump")))
    page = portal.page

    set_demand(portal, True)
    try:
        assert live.register(pump).outcome is Outcome.UNAUTHORIZED

        portal.go_to("CA certificates")
        page.get_by_role("link", name="Upload", exact=True).click()
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_label("Certificate file").set_input_files(tmp_path / "ca.pem")
        page.get_by_role("button", name="Upload").click()
        portal.expect_heading(name)
        page.get_by_role("button", name="Make a verification code").click()
        portal.expect_said("has a new verification code")

        commands = page.locator("#commands").inner_text()
        subprocess.run(["sh", "-ec", commands], cwd=tmp_path, check=True, capture_output=True, timeout=60)
        page.get_by_label("Verification certificate file").set_input_files(tmp_path / "verification.pem")
        page.get_by_role("button", name="Verify", exact=True).click()
        portal.expect_heading(f"Verify possession of the key of {name}?")
        page.get_by_role("button", name="Verify", exact=True).click()

        portal.expect_said(f"Possession of the key of CA certificate {name} is verified.")
        expect(page.get_by_role("main")).to_contain_text("Possession verified")
        assert live.register(pump).outcome is Outcome.ASSIGNED
    finally:
        set_demand(portal, False)


def set_demand(portal: Portal, demanded: bool) -> None:
    """The setting, on its preview."""
    page = portal.page
    portal.go_to("Settings")
    page.get_by_label("Enrollment groups need proof of possession").set_checked(demanded)
    page.get_by_role("button", name="Save", exact=True).click()
    asks = "Demand proof of possession?" if demanded else "Admit devices without proof of possession?"
    portal.expect_heading(asks)
    page.get_by_role("button", name="Save", exact=True).click()
    portal.expect_said("The settings are saved and hold from now on")
