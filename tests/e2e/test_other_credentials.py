"""In a real browser: TPMs, groups with keys, devices that never give up, and names that two entries want."""

import base64
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import CertificateFiles, SharedKey, TpmKeys, derived_key
from tests.certificates import root
from tests.e2e.pages import SERVICE, Portal, tab_to
from tests.e2e.soundness import problems_of
from tests.live import LiveListeners, free_port
from tests.soft_tpm import SoftTpm

pytestmark = pytest.mark.e2e

ADD = f"/services/{SERVICE}/enrollments/add/"
ADD_GROUP = f"/services/{SERVICE}/groups/add/"
NO_KEY = "bm9ib2R5IGdhdmUgdGhpcyBrZXkgdG8gYW55Ym9keQ=="
PRIVATE = "-----BEGIN PRIVATE KEY-----\nMIIEvsecret\n-----END PRIVATE KEY-----"


def text_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


def tpm_preview(page: Page) -> Locator:
    return page.get_by_role("region", name="Preview of the TPM's keys")


def choose_tpm(page: Page) -> None:
    page.goto(ADD)
    page.get_by_role("radio", name="TPM").check()


def shut_out(portal: Portal, entry: str, kind: str, reason: str) -> None:
    """By the switch in its row."""
    portal.toggle(entry).click()
    dialog = portal.page.get_by_role("dialog", name=f"Disable {kind} {entry}?")
    dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name="Disable").click()
    expect(portal.toggle(entry)).not_to_be_checked()


def allow_groups_with_keys(portal: Portal, allowed: bool) -> None:
    portal.go_to("Settings")
    portal.page.get_by_label("Enrollment groups may use symmetric keys").set_checked(allowed)
    portal.page.get_by_label("Reason").fill("as the lamps need")
    portal.page.get_by_role("main").get_by_role("button", name="Save").click()
    # Where groups wait for it, or lose it, a question comes first.
    asks = re.compile(r"(Let|Keep) groups with symmetric keys (in|out)\?")
    question = portal.page.get_by_role("heading", level=1, name=asks)
    expect(
        question.or_(portal.page.get_by_role("status").filter(has_text="settings are saved")).first
    ).to_be_visible()
    if question.is_visible():
        portal.page.get_by_role("button", name="Save").last.click()
    portal.expect_said("The settings are saved and hold from now on")


# --- TPM -------------------------------------------------------------------------------------


def test_a_tpm_is_enrolled_by_paste_let_in_and_shut_out(administrator, live):
    tpm = SoftTpm(7)
    device = Device("pasted-press", TpmKeys(tpm.tpm))
    stranger = Device("pasted-press", TpmKeys(SoftTpm(8).tpm))
    page = administrator.page
    choose_tpm(page)

    page.get_by_label("Registration ID").fill("pasted-press")
    page.get_by_label("Endorsement key as text").fill(text_of(tpm.keys.endorsement_key))
    expect(tpm_preview(page)).to_contain_text("SHA-256")
    administrator.save("Added individual enrollment pasted-press", reason="press of hall 2")

    expect(administrator.row("pasted-press").get_by_role("cell", name="TPM", exact=True)).to_be_visible()
    admitted = live.register(device)
    assert (admitted.outcome, admitted.hub_key_used) == (Outcome.ASSIGNED, True)
    refused = live.register(stranger)
    assert (refused.outcome, "404201" in refused.detail) == (Outcome.ERROR, True)

    shut_out(administrator, "pasted-press", "individual enrollment", "moved to the museum")

    assert live.register(device).outcome is Outcome.DISABLED
    administrator.expect_record("pasted-press", "Disabled")
    disabled, added = administrator.history_of("pasted-press", 2)
    assert ("disabled" in disabled, "moved to the museum" in disabled, "press of hall 2" in added) == (
        True,
    ) * 3


def test_with_script_off_a_tpm_is_enrolled_by_file(open_window, administrator_cookies, live, tmp_path):
    tpm = SoftTpm(9)
    keys = {"ek": tpm.keys.endorsement_key, "srk": base64.encodebytes(tpm.keys.storage_root_key)}
    for name, octets in keys.items():
        (tmp_path / name).write_bytes(octets)
    page = open_window(storage_state=administrator_cookies, java_script_enabled=False)
    choose_tpm(page)
    expect(page.get_by_label("Primary certificate file")).to_be_hidden()
    page.get_by_label("Registration ID").fill("filed-press")
    page.get_by_label("Endorsement key file").set_input_files(tmp_path / "ek")
    page.get_by_label("Storage root key file").set_input_files(tmp_path / "srk")

    page.get_by_role("button", name="Preview").click()

    expect(tpm_preview(page).get_by_text("SHA-256", exact=True)).to_have_count(2)
    expect(page.get_by_label("Endorsement key as text")).to_have_value(text_of(keys["ek"]))
    Portal(page).save("Added individual enrollment filed-press")
    assert live.register(Device("filed-press", TpmKeys(tpm.tpm))).outcome is Outcome.ASSIGNED


def test_by_keyboard_alone_a_tpm_is_enrolled(administrator):
    page = administrator.page
    page.goto(ADD)
    tab_to(page, page.get_by_role("radio", name="X.509"))
    page.keyboard.press("ArrowLeft")  # from the first to the last
    expect(page.get_by_role("radio", name="TPM")).to_be_checked()
    tab_to(page, page.get_by_label("Registration ID"))
    page.keyboard.type("typed-press")
    tab_to(page, page.get_by_label("Endorsement key as text"))
    page.keyboard.insert_text("not a key")
    tab_to(page, page.get_by_role("button", name="Preview"))
    page.keyboard.press("Enter")

    expect(tpm_preview(page)).to_contain_text("is not base64")
    expect(page.get_by_role("button", name="Preview")).to_be_focused()

    tab_to(page, page.get_by_label("Endorsement key as text"))
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text_of(SoftTpm(10).keys.endorsement_key))
    expect(tpm_preview(page)).to_contain_text("SHA-256")
    tab_to(page, administrator.save_button)
    page.keyboard.press("Enter")
    tab_to(page, administrator.question.get_by_role("button", name="Save", exact=True))
    page.keyboard.press("Enter")

    administrator.expect_said("Added individual enrollment typed-press")


@pytest.mark.parametrize("script", [True, False], ids=["script on", "script off"])
def test_what_is_no_public_key_is_refused_where_it_was_given(
    script, open_window, administrator_cookies, tmp_path
):
    (tmp_path / "cut").write_bytes(SoftTpm(0).keys.storage_root_key[:100])
    page = open_window(storage_state=administrator_cookies, java_script_enabled=script)
    choose_tpm(page)
    page.get_by_label("Endorsement key as text").fill(PRIVATE)
    page.get_by_label("Storage root key file").set_input_files(tmp_path / "cut")
    page.get_by_label("Reason").fill("trying it out")

    with page.expect_response(lambda answer: answer.url.endswith(ADD)) as answer:
        page.get_by_role("button", name="Save").click()

    assert answer.value.status == 422
    pasted, file = page.get_by_label("Endorsement key as text"), page.get_by_label("Storage root key file")
    expect(pasted).to_have_accessible_description(re.compile("This is a private key"))
    expect(pasted).to_have_value("")
    expect(file).to_have_accessible_description(re.compile("is cut off"))
    expect(page.get_by_label("Storage root key as text")).not_to_have_attribute("aria-invalid", "true")
    assert "MIIEvsecret" not in page.content()
    expect(page.get_by_role("radio", name="TPM")).to_be_checked()
    expect(page.get_by_label("Reason")).to_have_value("trying it out")
    page.get_by_role("alert").get_by_role("link", name="Storage root key file").click()
    expect(file).to_be_in_viewport()


# --- What belongs to a choice -----------------------------------------------------------------


@pytest.mark.parametrize("script", [True, False], ids=["script on", "script off"])
def test_form_shows_what_belongs_to_mechanism_and_policy(script, open_window, administrator_cookies):
    page = open_window(storage_state=administrator_cookies, java_script_enabled=script)
    fields = {
        "X.509": page.get_by_label("Primary certificate file"),
        "Symmetric key": page.get_by_label("Primary key"),
        "TPM": page.get_by_label("Endorsement key file"),
    }
    for address, mechanisms in ((ADD, tuple(fields)), (ADD_GROUP, ("X.509", "Symmetric key"))):
        page.goto(address)
        for chosen in mechanisms:
            page.get_by_role("radio", name=chosen).check()
            shown = {name for name, field in fields.items() if field.is_visible()}
            assert shown == {chosen}
        policy, webhook = page.get_by_label("Allocation policy"), page.get_by_label("Webhook URL")
        for label in ("Custom (webhook)", "Lowest latency", "Custom (webhook)"):
            policy.select_option(label)
            expect(webhook).to_be_visible(visible=label.startswith("Custom"))


def test_another_mechanism_warns_of_what_it_removes_while_it_is_chosen(administrator):
    page = administrator.page
    choose_tpm(page)
    page.get_by_label("Registration ID").fill("warned-press")
    page.get_by_label("Endorsement key as text").fill(text_of(SoftTpm(11).keys.endorsement_key))
    administrator.save("Added individual enrollment warned-press")
    administrator.open_entry("warned-press")
    warning = page.get_by_role("status").filter(has_text="removes the keys of its TPM")

    expect(warning).to_be_hidden()
    page.get_by_role("radio", name="Symmetric key").check()
    expect(warning).to_be_visible()
    page.get_by_role("radio", name="TPM").check()
    expect(warning).to_be_hidden()


# --- Groups with keys ---------------------------------------------------------------------------


def test_a_group_with_keys_is_allowed_added_shown_and_shut_out(administrator, live):
    page = administrator.page
    allow_groups_with_keys(administrator, False)
    page.goto(ADD_GROUP)
    page.get_by_label("Group ID", exact=True).fill("street-lamps")
    page.get_by_role("radio", name="Symmetric key").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("are switched off in this service")

    allow_groups_with_keys(administrator, True)
    page.goto(ADD_GROUP)
    page.get_by_label("Group ID", exact=True).fill("street-lamps")
    page.get_by_role("radio", name="Symmetric key").check()
    administrator.save("Its keys can be shown below.", reason="lamps have no certificate store")
    page.get_by_role("button", name="Show keys").click()
    expect(page.get_by_role("button", name="Copy the primary key")).to_be_visible()
    primary, secondary = page.locator("#keys pre").all_inner_texts()

    def outcomes() -> list[Outcome]:
        keys = [
            derived_key(primary, "lamp-1"),
            derived_key(secondary, "lamp-1"),
            derived_key(NO_KEY, "lamp-1"),
        ]
        return [live.register(Device("lamp-1", key)).outcome for key in keys]

    assert outcomes() == [Outcome.ASSIGNED, Outcome.ASSIGNED, Outcome.UNAUTHORIZED]

    administrator.enrollment_groups()
    shut_out(administrator, "street-lamps", "enrollment group", "the key was in the firmware")

    assert outcomes() == [Outcome.DISABLED, Outcome.DISABLED, Outcome.UNAUTHORIZED]
    disabled, revealed, added = administrator.history_of("street-lamps", 3)
    assert ("the key was in the firmware" in disabled, "keys" in revealed) == (True, True)
    assert "lamps have no certificate store" in added


# --- Devices that never give up -------------------------------------------------------------------


def test_a_device_that_is_refused_again_and_again_is_counted_and_told_to_wait(administrator, live):
    device = Device("stubborn-1", SharedKey(NO_KEY))

    outcomes = [live.register(device).outcome for _ in range(6)]

    assert outcomes == [*[Outcome.UNAUTHORIZED] * 5, Outcome.THROTTLED]
    page = administrator.page
    administrator.go_to("Registration records")
    page.get_by_role("main").get_by_role("link", name="Attempts").click()
    page.get_by_label("Registration ID").fill("stubborn-1")
    page.get_by_role("button", name="Filter").click()
    expect(administrator.row("stubborn-1").get_by_role("cell", name=re.compile("^[5-8]$"))).to_be_visible()
    administrator.row("stubborn-1").get_by_role("link").click()
    administrator.expect_heading("stubborn-1")
    facts = page.get_by_role("region", name="What was counted")
    expect(facts).to_contain_text("401, the same for every cause")
    # The process that held it back adds that up, and writes it down within ten seconds.
    expect(facts).to_contain_text("5, told to wait 48 s")


# --- Sound in each state ---------------------------------------------------------------------------


def contest(portal: Portal, live: LiveListeners, folder: Path, registration_id: str) -> None:
    """Two CAs issue the same name, and the second device is not given it."""
    for number, outcome in ((1, Outcome.ASSIGNED), (2, Outcome.FAILED)):
        ca = root(f"CA {number} of {registration_id}")
        (folder / "ca.pem").write_text(ca.pem)
        portal.add_group(f"ca-{number}-of-{registration_id}", folder / "ca.pem")
        files = CertificateFiles(*ca.leaf(registration_id).write(folder, f"{registration_id}-{number}"))
        assert live.register(Device(registration_id, files)).outcome is outcome


def leave_unanswered(portal: Portal, live: LiveListeners, registration_id: str) -> None:
    """A device whose webhook is not there."""
    page = portal.page
    page.goto(ADD)
    page.get_by_role("radio", name="Symmetric key").check()
    page.get_by_label("Registration ID").fill(registration_id)
    page.get_by_label("Primary key").fill(NO_KEY)
    page.get_by_label("Allocation policy").select_option("Custom (webhook)")
    page.get_by_label("Webhook URL").fill(f"https://localhost:{free_port()}/choose?code=hidden")
    portal.save(f"Added individual enrollment {registration_id}")
    assert live.register(Device(registration_id, SharedKey(NO_KEY))).outcome is Outcome.FAILED


def test_each_state_of_the_new_pages_is_sound(administrator, live, tmp_path):
    live.manage("demo_fleet")
    contest(administrator, live, tmp_path, "contested-1")
    leave_unanswered(administrator, live, "unanswered-1")
    page, problems = administrator.page, []

    def look(state: str) -> None:
        problems.extend(f"{state}: {problem}" for problem in problems_of(page))

    choose_tpm(page)
    look("TPM chosen")
    page.get_by_label("Endorsement key as text").fill(text_of(SoftTpm(0).keys.endorsement_key))
    page.get_by_label("Allocation policy").select_option("Custom (webhook)")
    expect(tpm_preview(page)).to_contain_text("SHA-256")
    look("TPM previewed")
    page.get_by_label("Storage root key as text").fill("x" * 300)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved yet")
    look("TPM refused")

    page.goto(ADD_GROUP)
    page.get_by_role("radio", name="Symmetric key").check()
    look("group with keys")

    page.goto(f"/services/{SERVICE}/enrollments/i/press-01/")
    look("TPM held")
    page.get_by_role("radio", name="X.509").check()
    look("another mechanism")
    page.goto(f"/services/{SERVICE}/enrollments/i/unanswered-1/")
    expect(page.get_by_text("A key is held with this address")).to_be_visible()
    assert "hidden" not in page.get_by_label("Webhook URL").input_value()
    look("webhook held")
    page.goto(f"/services/{SERVICE}/groups/g/demo-lamps/")
    page.get_by_role("button", name="Show keys").click()
    expect(page.get_by_role("heading", name="Secondary key")).to_be_visible()
    look("keys of a group")

    page.goto(f"/services/{SERVICE}/settings/")
    page.get_by_label("Host name of the service endpoint").fill("no host name!")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_be_visible()
    look("settings refused")
    page.goto(f"/services/{SERVICE}/hubs/")
    page.get_by_role("link", name="Edit built-in").click()
    page.get_by_label("Latency by region").fill("y" * 200)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_be_visible()
    look("latencies refused")

    for name, said in (
        ("contested-1", "release the registration ID"),
        ("unanswered-1", "It could not be reached"),
    ):
        page.goto(f"/services/{SERVICE}/registrations/{name}/")
        expect(page.get_by_role("main")).to_contain_text(said)
        look(f"record of {name}")
        page.get_by_role("link", name="How it was decided").first.click()
        administrator.expect_heading(name)
        look(f"attempt of {name}")
    page.goto(f"/services/{SERVICE}/registrations/press-01/")
    look("record of a TPM")
    page.get_by_role("region", name="Assignment").get_by_role("link", name="press-01").first.click()
    administrator.expect_heading("Device press-01")
    look("device with a TPM")
    assert not problems, "\n".join(problems)


def test_the_page_of_a_contested_name_leads_to_its_release(administrator, live, tmp_path):
    contest(administrator, live, tmp_path, "contested-2")
    page = administrator.page
    page.goto(f"/services/{SERVICE}/registrations/contested-2/")

    page.get_by_role("link", name="release the registration ID").click()

    dialog = page.get_by_role("dialog", name="Release registration ID contested-2?")
    dialog.get_by_role("button", name="Release").click()
    administrator.expect_said("Registration ID contested-2 is released")
