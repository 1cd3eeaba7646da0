"""Every page of the portal in a real browser: what holds for all of them, and for people without script or mouse."""

import re
from collections import Counter
from urllib.parse import urljoin, urlsplit

import pytest
from django.urls import URLPattern, resolve
from playwright.sync_api import Locator, Page, Request, expect

from dpsportal.serving.limits import MIB, PORTAL_LIMITS
from enrollments.portal import urls_enrollments, urls_imports, urls_service
from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import CertificateFiles, SharedKey
from tests.certificates import root, self_signed
from tests.e2e.conftest import Window
from tests.e2e.pages import SERVICE, Portal, tab_to
from tests.e2e.soundness import BRIGHTNESS, problems_of
from tests.live import ADMIN, ADMIN_PASSWORD

pytestmark = pytest.mark.e2e

# Of one kind of page so many are looked at: with filters and without, of one kind of entry and of another.
OF_EACH_KIND = 2
DOWNLOADS = {
    "history-export",
    "import-preview-export",
    "import-problems",
    "installation-history-export",
    "preview-export",
    "openapi-document",
    "past-export",
}
# Answer posts alone, or nobody who is signed in.
NOT_SHOWN = {
    # Files that are linked once something was asked for, or went wrong; tests of their own take them.
    "import-preview",
    "import-preview-export",
    "import-problems",
    "past-export",
    "sign-in",
    "sign-out",
    "certificate-preview",
    "tpm-preview",
    "enrollment-add-preview",
    "enrollment-edit-preview",
    "enrollment-keys",
    "group-add-preview",
    "group-edit-preview",
    "group-keys",
    "import-part",
    "import-check",
    "import-start",
    "import-cancel",
    "policy-keys",
    "ca-code",
    "ca-verify",
    "device-keys",
    "person-activate",
    "person-role",
    "service-person-role",
    "service-settings-change",
    "history-checkpoint-download",
    "installation-checkpoint-download",
    "history-check",
    "installation-check",
    "history-whole",
    "installation-history-whole",
    "history-seen",
    "history-view-delete",
    "history-view-rename",
    "history-view-save",
    "installation-history-seen",
    "installation-history-view-delete",
    "installation-history-view-rename",
    "installation-history-view-save",
}
# Where links and the questions before changes lead; a list is asked about its first row.
_WAYS_ON = """() => {
  const forms = [...document.querySelectorAll("form[method=get]")].flatMap((form) => {
    const box = [...form.elements].find((one) => one.matches("[data-select-row]"));
    if (box) box.checked = true;
    const buttons = [...form.querySelectorAll("[formaction]")];
    return [form.action, ...buttons.map((button) => button.formAction)].map(
      (action) => `${action.split("?")[0]}?${new URLSearchParams(new FormData(form))}`);
  });
  return [...[...document.querySelectorAll("a[href]")].map((link) => link.href), ...forms];
}"""


# Few pages of a kind are looked at, so these come first.
SCHEDULED = [
    f"/services/{SERVICE}/enrollments/i/scheduled-pump/",
    f"/services/{SERVICE}/groups/g/scheduled-plant/",
]


def test_every_page_that_links_lead_to_is_sound(open_window, administrator_cookies, plant):
    page = open_window(storage_state=administrator_cookies)
    seen: Counter[str] = Counter()
    waiting = ["/", *SCHEDULED]
    known = set(waiting)
    problems: list[str] = []
    while waiting:
        address = waiting.pop(0)
        view = resolve(urlsplit(address).path).url_name
        seen[view] += 1
        if view in DOWNLOADS or seen[view] > OF_EACH_KIND:
            continue

        answer = page.goto(address)

        assert answer.status == 200, address
        problems += [f"{address}: {problem}" for problem in problems_of(page)]
        for url in page.evaluate(_WAYS_ON):
            own = urljoin(address, url).removeprefix(plant.portal_url).partition("#")[0]
            if own.startswith("/") and own not in known:
                known.add(own)
                waiting.append(own)

    assert not problems, "\n".join(problems)
    assert names_of_views() - NOT_SHOWN - set(seen) == set()


def test_in_a_narrow_window_each_page_of_the_navigation_says_whose_it_is(
    open_window, administrator_cookies, plant
):
    page = open_window(
        storage_state=administrator_cookies,
        viewport={"width": 390, "height": 844},
        color_scheme="dark",
    )
    page.goto(f"/services/{SERVICE}/")
    links = page.locator(".nav-narrow .nav-list").first.get_by_role("link", include_hidden=True)
    addresses = links.evaluate_all("(links) => links.map((link) => link.href)")
    assert len(addresses) > 10

    for address in addresses:
        page.goto(address)
        crumbs = page.get_by_role("navigation", name="Breadcrumb")
        expect(crumbs.get_by_text(SERVICE, exact=True)).to_be_visible()
        assert problems_of(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lists_of_many_columns_do_not_scroll_sideways(scheme, open_window, administrator_cookies, plant):
    page = open_window(storage_state=administrator_cookies, color_scheme=scheme)
    for path in ("attempts/", "enrollments/", "groups/", "registrations/", "storms/?window=24h"):
        page.goto(f"/services/{SERVICE}/{path}")
        for width in (390, 640, 641, 800, 991, 1000, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            beyond = page.locator(".table-wrap").evaluate_all(
                "(tables) => tables.map((table) => table.scrollWidth - table.clientWidth)"
            )
            assert beyond and not any(beyond), (path, width, beyond)
        page.set_viewport_size({"width": 800, "height": 900})
        assert problems_of(page) == []


def test_a_script_within_a_page_does_not_run_and_is_noticed(browser, live, administrator_cookies):
    with browser.new_context(base_url=live.portal_url, storage_state=administrator_cookies) as context:
        window = Window(context, urlsplit(live.portal_url).netloc)
        window.page.goto("/")
        assert window.complaints == []

        with context.expect_console_message(lambda message: "securitypolicyviolation" in message.text):
            window.page.evaluate(
                """() => document.body.append(
                  Object.assign(document.createElement("script"), { textContent: "window.wasRun = true" }))"""
            )

        assert window.page.evaluate("() => window.wasRun") is None
        assert any("script-src" in complaint for complaint in window.complaints)


def test_with_script_off_everything_of_an_entry_can_be_done(open_window, live, tmp_path):
    pump, sibling = self_signed("plain-pump"), self_signed("plain-sibling")
    portal = Portal(open_window(java_script_enabled=False))
    page = portal.page

    def outcome_of(leaf) -> Outcome:
        registration_id = leaf.parsed.common_names[0]
        files = CertificateFiles(*leaf.write(tmp_path, registration_id))
        return live.register(Device(registration_id, files)).outcome

    portal.sign_in(ADMIN, ADMIN_PASSWORD)
    for leaf in (pump, sibling):
        portal.individual_enrollments()
        page.get_by_role("link", name="Add", exact=True).click()
        page.get_by_label("Primary certificate as text").fill(leaf.pem)
        page.get_by_role("button", name="Preview").click()
        expect(portal.preview).to_contain_text(leaf.parsed.thumbprint_sha256)
        expect(page.get_by_label("Primary certificate as text")).to_have_value(
            re.compile("BEGIN CERTIFICATE")
        )
        portal.save("Added individual enrollment plain-", reason="by paste")
    assert [outcome_of(pump), outcome_of(sibling)] == [Outcome.ASSIGNED, Outcome.ASSIGNED]

    portal.open_entry("plain-pump")
    portal.enable_entry(False)
    portal.save("Saved individual enrollment plain-pump")
    assert [outcome_of(pump), outcome_of(sibling)] == [Outcome.DISABLED, Outcome.ASSIGNED]

    portal.toggle("plain-pump").click()
    portal.expect_heading("Enable individual enrollment plain-pump?")
    expect(page.get_by_role("main")).to_contain_text("1 known device will come in anew")
    page.get_by_role("button", name="Enable").click()
    portal.expect_said("Enabled individual enrollment plain-pump.")
    assert outcome_of(pump) is Outcome.ASSIGNED

    portal.toggle("plain-pump").click()
    portal.expect_heading("Disable individual enrollment plain-pump?")
    page.get_by_label("Reason").fill("on the page")
    page.get_by_role("button", name="Disable").click()
    portal.expect_said("Disabled individual enrollment plain-pump: 1 device is refused from now on.")
    assert outcome_of(pump) is Outcome.DISABLED

    portal.row("plain-sibling").get_by_role("checkbox").check()
    page.get_by_role("button", name="Delete", exact=True).click()
    portal.expect_heading("Delete individual enrollment plain-sibling?")
    page.get_by_role("button", name="Delete", exact=True).click()
    portal.expect_said("Deleted individual enrollment plain-sibling.")
    expect(portal.row("plain-sibling")).to_have_count(0)
    assert outcome_of(sibling) is Outcome.UNAUTHORIZED


def test_leaving_the_search_does_not_search_again(administrator, plant):
    """What is clicked next has to lead there, and not be overtaken by the same list once more."""
    page = administrator.page
    administrator.individual_enrollments()
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "?q=" in request.url else None)
    administrator.only("gauge")

    page.keyboard.press("Tab")
    page.get_by_role("combobox", name="Status").select_option("Disabled")
    page.wait_for_url(lambda url: "status=disabled" in url)

    assert [url.partition("status=")[2].partition("&")[0] for url in asked] == ["", "disabled"]


def test_with_script_off_deleting_nothing_says_so(open_window, administrator_cookies, plant):
    page = open_window(storage_state=administrator_cookies, java_script_enabled=False)
    page.goto(f"/services/{SERVICE}/enrollments/")

    page.get_by_role("button", name="Delete", exact=True).click()

    Portal(page).expect_said("Nothing was selected")


def test_by_keyboard_alone_a_device_is_shut_out(administrator, open_window, live, tmp_path):
    leaf = self_signed("typed-pump")
    device = Device("typed-pump", CertificateFiles(*leaf.write(tmp_path, "typed-pump")))
    administrator.add_individual("typed-pump", tmp_path / "typed-pump.crt")
    assert live.register(device).outcome is Outcome.ASSIGNED
    portal = Portal(open_window())
    page = portal.page
    page.goto("/")

    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.keyboard.type(ADMIN)
    page.keyboard.press("Tab")
    page.keyboard.type(ADMIN_PASSWORD)
    page.keyboard.press("Enter")
    portal.expect_heading("All resources")
    tab_to(page, page.get_by_role("main").get_by_role("link", name=SERVICE, exact=True))
    page.keyboard.press("Enter")
    portal.expect_heading("Overview")
    tab_to(page, page.get_by_role("link", name="Manage enrollments"))
    page.keyboard.press("Enter")
    portal.expect_heading("Manage enrollments")
    search_by_keyboard(page, "typed-pump")
    tab_to(page, page.get_by_role("link", name="typed-pump"))
    page.keyboard.press("Enter")
    portal.expect_heading("typed-pump")
    tab_to(page, page.get_by_role("radio", name="Enable"))
    page.keyboard.press("ArrowRight")  # within a group of radio buttons there is no other key
    expect(page.get_by_role("radio", name="Disable")).to_be_checked()
    tab_to(page, page.get_by_role("button", name="Save"))
    page.keyboard.press("Enter")
    tab_to(page, portal.question.get_by_role("button", name="Save", exact=True))
    page.keyboard.press("Enter")

    portal.expect_said("Saved individual enrollment typed-pump")
    assert live.register(device).outcome is Outcome.DISABLED

    search_by_keyboard(page, "typed-pump")
    tab_to(page, portal.toggle("typed-pump"))
    page.keyboard.press("Space")
    expect(page.get_by_role("dialog").get_by_label("Reason")).to_be_focused()
    page.keyboard.press("Enter")

    expect(portal.toggle("typed-pump")).to_be_checked()
    expect(portal.row("typed-pump")).to_be_focused()
    assert live.register(device).outcome is Outcome.ASSIGNED

    tab_to(page, portal.toggle("typed-pump"))
    page.keyboard.press("Space")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    page.keyboard.press("Escape")

    expect(dialog).to_be_hidden()
    expect(portal.toggle("typed-pump")).to_be_checked()

    page.keyboard.press("Space")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("by hand")
    tab_to(page, dialog.get_by_role("button", name="Disable"))
    page.keyboard.press("Space")

    expect(portal.toggle("typed-pump")).not_to_be_checked()
    assert live.register(device).outcome is Outcome.DISABLED


def search_by_keyboard(page: Page, registration_id: str) -> None:
    tab_to(page, page.get_by_label("Registration ID"))
    page.keyboard.type(registration_id)
    page.keyboard.press("Enter")
    expect(page.get_by_role("switch")).to_have_count(1)
    # A moment after typing the list is asked for once more, and its rows are others then.
    page.wait_for_timeout(500)
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("script", [True, False], ids=["script on", "script off"])
def test_a_form_that_is_not_accepted_keeps_what_was_typed(script, open_window, administrator_cookies):
    page = open_window(storage_state=administrator_cookies, java_script_enabled=script)
    page.goto(f"/services/{SERVICE}/groups/add/")
    page.get_by_label("Group ID", exact=True).fill(f"kept-{script}")
    page.get_by_label("Primary certificate as text").fill("this is no certificate")
    page.get_by_label("Initial twin state").fill("[1, 2]")
    page.get_by_role("radio", name="Disable").check()
    page.get_by_label("Reason").fill("trying it out")

    with page.expect_response(lambda answer: answer.request.method == "POST") as answer:
        page.get_by_role("button", name="Save").click()

    assert answer.value.status == 422
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved yet")
    certificate, twin = (
        page.get_by_label("Primary certificate as text"),
        page.get_by_label("Initial twin state"),
    )
    expect(certificate).to_have_accessible_description(re.compile("This is no certificate"))
    expect(certificate).to_have_attribute("aria-invalid", "true")
    expect(twin).to_have_accessible_description(re.compile("JSON object"))
    expect(page.get_by_label("Secondary certificate as text")).not_to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Group ID", exact=True)).to_have_value(f"kept-{script}")
    # It might have been a key: only what is a certificate comes back.
    expect(certificate).to_have_value("")
    expect(twin).to_have_value("[1, 2]")
    expect(page.get_by_role("radio", name="Disable")).to_be_checked()
    expect(page.get_by_label("Reason")).to_have_value("trying it out")


@pytest.mark.parametrize("script", [True, False], ids=["script on", "script off"])
def test_a_role_is_taken_away_after_a_question(script, open_window, administrator_cookies, live):
    name = f"leaver-{script}"
    live.python(
        "from enrollments.actions.people import add_person\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "from enrollments.models import ProvisioningService\n"
        "from enrollments.policy.roles import Role\n"
        f"service = ProvisioningService.objects.get(name={SERVICE!r})\n"
        f"add_person({name!r}, role=Role.VIEWER, service=service, actor=Actor('cli', 'test', Way.COMMAND_LINE))\n"
    )
    page = open_window(storage_state=administrator_cookies, java_script_enabled=script)
    page.goto(f"/services/{SERVICE}/people/")
    row = Portal(page).row(name)
    question = page.get_by_role("dialog" if script else "main")

    row.get_by_role("link", name="Take away").click()
    expect(question).to_contain_text(f"{name} is viewer in service {SERVICE}.")
    question.get_by_role("link", name="Cancel").click()
    expect(row).to_contain_text("Viewer")
    row.get_by_role("link", name="Take away").click()
    question.get_by_label("Reason").fill("left")
    question.get_by_role("button", name="Take away", exact=True).click()

    Portal(page).expect_said(f"{name} is now without a role of their own in service {SERVICE}.")
    expect(row).to_have_count(0)


def test_what_is_wrong_with_a_file_is_said_before_saving(administrator, tmp_path):
    secret = self_signed("secret-pump")
    both = tmp_path / "both.pem"
    both.write_text(secret.pem + secret.key_pem)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(root("preview-ca").pem)
    administrator.individual_enrollments()
    administrator.page.get_by_role("link", name="Add", exact=True).click()

    administrator.page.get_by_label("Primary certificate file").set_input_files(both)
    expect(administrator.preview).to_contain_text("private key")
    expect(administrator.preview.get_by_text("SHA-256 thumbprint")).to_have_count(0)
    assert "PRIVATE KEY-----\n" not in administrator.page.content()

    administrator.upload(ca_file)
    expect(administrator.preview).to_contain_text("CN=preview-ca")
    expect(administrator.preview).to_contain_text("CA certificate")
    expect(administrator.preview).not_to_contain_text("private key")


def test_a_form_that_somebody_else_made_stale_is_not_saved(open_window, administrator_cookies, tmp_path):
    file = tmp_path / "shared.pem"
    file.write_text(self_signed("shared-pump").pem)
    first = Portal(open_window(storage_state=administrator_cookies))
    second = Portal(open_window(storage_state=administrator_cookies))
    first.page.goto("/")
    first.add_individual("shared-pump", file)
    second.page.goto("/")
    for portal in (first, second):
        portal.individual_enrollments()
        portal.open_entry("shared-pump")

    first.enable_entry(False)
    first.save("Saved individual enrollment shared-pump", reason="the first to say so")
    second.page.get_by_label("IoT Hub device ID").fill("another-name")
    second.page.get_by_label("Reason").fill("the second, on what was true before")
    second.page.get_by_role("button", name="Save").click()

    expect(second.page.get_by_role("alert")).to_contain_text("Your changes were not saved")
    expect(second.page.get_by_role("radio", name="Disable")).to_be_checked()
    expect(second.page.locator("#entry-state")).to_have_text("Disabled")
    expect(second.page.get_by_label("IoT Hub device ID")).to_have_value("")
    # The switch was turned by the other one.
    typed = second.page.locator("details", has_text="What you had typed, where it differs")
    expect(typed.get_by_role("term")).to_have_text(["Reason", "IoT Hub device ID"])
    first.individual_enrollments()
    expect(first.toggle("shared-pump")).not_to_be_checked()
    assert "the first to say so" in first.history_of("shared-pump", 2)[0]

    second.page.get_by_label("IoT Hub device ID").fill("another-name")
    second.save("Saved individual enrollment shared-pump", reason="now on what holds")
    expect(second.row("shared-pump").get_by_role("cell", name="another-name")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    ("happens", "told"),
    [
        pytest.param(lambda route: route.abort(), "The service did not answer.", id="no answer"),
        pytest.param(
            lambda route: route.fulfill(status=418, body=""), "answered with error 418", id="an error"
        ),
    ],
)
def test_a_failure_is_seen_from_the_end_of_a_long_form(
    open_window, administrator_cookies, width, happens, told
):
    page = open_window(
        storage_state=administrator_cookies, viewport={"width": width, "height": 740}, complains=False
    )
    page.goto(f"/services/{SERVICE}/groups/add/")
    page.get_by_label("Group ID", exact=True).fill("never-saved")
    page.route("**/groups/add/", happens)

    page.get_by_role("button", name="Save").click()

    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(told)
    expect_seen(alert)


TOO_LARGE = f"larger than {PORTAL_LIMITS.body_bytes // MIB} MiB"


def test_an_upload_that_is_too_large_is_not_sent_and_names_the_limit(administrator, tmp_path):
    page = administrator.page
    administrator.individual_enrollments()
    page.get_by_role("link", name="Add", exact=True).click()
    file = tmp_path / "large.pem"
    file.write_bytes(b"x" * (PORTAL_LIMITS.body_bytes + 1))
    posts: list[Request] = []
    page.on("request", lambda request: posts.append(request) if request.method == "POST" else None)

    page.get_by_label("Primary certificate file").set_input_files(file)

    expect(page.get_by_role("alert")).to_contain_text(TOO_LARGE)
    expect(page.get_by_role("alert")).to_contain_text("Choose a smaller file")
    expect_seen(page.get_by_role("alert"))
    assert posts == []

    # A smaller one is taken, and the sentence is gone.
    smaller = tmp_path / "smaller.pem"
    smaller.write_text(self_signed("small-enough").pem)
    administrator.upload(smaller)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_form_that_the_listener_finds_too_large_names_the_limit(open_window, administrator_cookies):
    page = open_window(storage_state=administrator_cookies, complains=False)
    page.goto(f"/services/{SERVICE}/groups/add/")
    page.get_by_label("Group ID", exact=True).fill("too-large")
    page.get_by_label("Initial twin state").evaluate(
        "(field, bytes) => { field.value = 'x'.repeat(bytes); }", PORTAL_LIMITS.body_bytes
    )

    page.get_by_role("button", name="Save").click()

    expect(page.get_by_role("alert")).to_contain_text(TOO_LARGE)
    expect_seen(page.get_by_role("alert"))


@pytest.mark.parametrize("mebibytes", [2, 40])
def test_with_script_off_an_upload_that_is_too_large_names_the_limit(
    open_window, administrator_cookies, tmp_path, mebibytes
):
    page = open_window(storage_state=administrator_cookies, java_script_enabled=False, complains=False)
    page.goto(f"/services/{SERVICE}/groups/add/")
    file = tmp_path / "large.pem"
    file.write_bytes(bytes(mebibytes * MIB))
    page.get_by_label("Primary certificate file").set_input_files(file)

    page.get_by_role("button", name="Save").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("This was not accepted")
    expect(page.get_by_text(TOO_LARGE)).to_be_visible()
    expect(page.get_by_text("go back and choose a smaller file")).to_be_visible()


def expect_seen(element: Locator) -> None:
    """Wait, while the page scrolls, until the middle of it is within the window and nothing lies on top."""
    element.page.wait_for_function(
        """(one) => {
          const box = one.getBoundingClientRect();
          return one.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2));
        }""",
        arg=element.element_handle(),
        timeout=3000,
    )


def test_a_device_registers_with_the_keys_that_were_generated(administrator, live):
    page = administrator.page
    administrator.individual_enrollments()
    page.get_by_role("link", name="Add", exact=True).click()
    page.get_by_role("radio", name="Symmetric key").check()
    page.get_by_label("Registration ID").fill("keyed-pump")
    administrator.save("Added individual enrollment keyed-pump", reason="no certificate store")

    page.get_by_role("button", name="Show keys").click()
    expect(page.get_by_role("button", name="Copy the primary key")).to_be_visible()
    keys = page.locator("pre").all_inner_texts()

    assert [live.register(Device("keyed-pump", SharedKey(key))).outcome for key in keys] == [
        Outcome.ASSIGNED,
        Outcome.ASSIGNED,
    ]
    wrong = "d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXkgaGVyZQ=="
    assert live.register(Device("keyed-pump", SharedKey(wrong))).outcome is Outcome.UNAUTHORIZED
    assert "keys" in administrator.history_of("keyed-pump", 2)[0]


def test_search_finds_by_beginning_and_stays_in_the_address(administrator, plant):
    page = administrator.page
    administrator.individual_enrollments()

    page.get_by_label("Registration ID").fill("gauge-0")
    page.wait_for_url(lambda url: "q=gauge-0" in url)
    expect(page.get_by_role("switch")).to_have_count(4)
    page.get_by_label("Status").select_option("Disabled")
    expect(page.get_by_role("switch")).to_have_count(1)
    expect(administrator.row("gauge-03")).to_be_visible()

    page.reload()

    expect(page.get_by_role("switch")).to_have_count(1)
    expect(page.get_by_label("Registration ID")).to_have_value("gauge-0")
    page.go_back()
    expect(page.get_by_role("switch")).to_have_count(4)


def test_the_theme_that_was_chosen_stays(administrator):
    page = administrator.page
    assert page.evaluate(BRIGHTNESS) > 200

    page.get_by_text(ADMIN, exact=True).first.click()
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(BRIGHTNESS) < 60

    page.reload()
    assert page.evaluate(BRIGHTNESS) < 60
    administrator.go_to("Settings")
    assert page.evaluate(BRIGHTNESS) < 60


def names_of_views() -> set[str]:
    patterns = [
        *urls_service.installation_urlpatterns,
        *urls_service.urlpatterns,
        *urls_enrollments.urlpatterns,
        *urls_imports.urlpatterns,
    ]
    return {pattern.name for pattern in patterns if isinstance(pattern, URLPattern)}
