"""A real browser on a live installation, what is watched on every page, and a picture of each test that failed."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    sync_playwright,
)

from dpsportal.serving.supervisor import PROJECT_DIR
from tests.certificates import root
from tests.e2e.pages import Portal
from tests.live import ADMIN, ADMIN_PASSWORD, LiveListeners, installation

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 10_000
ARTIFACTS = PROJECT_DIR / "test-artifacts"
REPORT = pytest.StashKey[pytest.TestReport]()

# Chromium writes this for every answer that is no success; ours to forms say 409, 422 and 429 on purpose.
# htmx writes the other when a search is typed on and the answer to what stood there before is no longer wanted.
_EXPECTED = re.compile(
    r"Failed to load resource: the server responded with a status of (409|422|429)\b"
    r"|htmx:(afterRequest|sendAbort), "
)
_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`securitypolicyviolation: ${event.violatedDirective} ${event.blockedURI} in ${event.sourceFile}`);
});
"""


def found_or_skipped(what: str, *names: str) -> str:
    """Where a program is. Without it the test is skipped, or fails where `DPS_E2E=required`."""
    for name in names:
        if path := shutil.which(name):
            return path
    missing = f"no {what} was found (looked for {', '.join(names)})"
    if os.environ.get("DPS_E2E") == "required":
        pytest.fail(f"DPS_E2E=required, and {missing}")
    pytest.skip(f"{missing}; install it, or leave these tests to where it is")


@pytest.fixture(scope="session")
def browser_path() -> str:
    return found_or_skipped("Chromium", *BROWSERS)


@pytest.fixture(scope="session")
def curl() -> str:
    return found_or_skipped("curl", "curl")


@pytest.fixture(scope="session")
def live(browser_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveListeners]:
    """An installation with its device listener and its portal. Tests share it, so each uses names of its own."""
    with installation(tmp_path_factory.mktemp("e2e"), DPS_WEBHOOK_HOSTS="localhost") as live:
        live.start("device")
        live.start("portal")
        yield live


@pytest.fixture(scope="session")
def plant(live: LiveListeners) -> LiveListeners:
    """A service in which every kind of entry, outcome and record occurs."""
    live.manage("demo_fleet")
    wrong = live.data_dir / "wrong.jsonl"
    wrong.write_text("no entry")
    live.manage("import_enrollments", wrong, "--service", "local", check=False)
    live.python(
        "from datetime import timedelta\n"
        "from enrollments.actions.api_tokens import add_api_token\n"
        "from enrollments.actions.people import add_person\n"
        "from enrollments.actions.quiet_periods import start_quiet_period\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "from django.contrib.auth.models import User\n"
        "from enrollments.models import ProvisioningService\n"
        "from enrollments.policy.roles import Role\n"
        "actor = Actor('cli', 'test', Way.COMMAND_LINE)\n"
        "service = ProvisioningService.objects.get(name='local')\n"
        "refused = service.attempts.filter(outcome='refused').exclude(source='').first()\n"
        "start_quiet_period(service, refused, timedelta(days=1), actor=actor)\n"
        "add_person('visitor', role=Role.VIEWER, service=service, actor=actor)\n"
        "add_api_token(service, User.objects.get(username='admin'), 'ci', ['EnrollmentRead'], days=1, actor=actor)\n"
    )
    live.enroll_keys("scheduled-pump")
    live.enroll_ca("scheduled-plant", root("scheduled-plant"))
    until = f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%dT%H:%MZ}"
    for kind, name in (("individual", "scheduled-pump"), ("group", "scheduled-plant")):
        live.manage("disable", kind, name, "--until", until, "--reason", "audit")
    return live


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    """One browser for a module: Playwright keeps an event loop, and tests of models refuse to run beside one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        yield browser
        browser.close()


class Window:
    """A browser window of its own cookies, and what went wrong in it."""

    def __init__(self, context: BrowserContext, own_host: str) -> None:
        self.context = context
        self.own_host = own_host
        self.complaints: list[str] = []
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(_REPORT_VIOLATIONS)
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.complaints.append(f"exception: {error.error}"))
        context.on("request", self._on_request)
        context.on("response", self._on_response)
        self.page = context.new_page()

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not _EXPECTED.match(message.text):
            self.complaints.append(f"console at {self.page.url}: {message.text}")

    def _on_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != self.own_host:
            self.complaints.append(f"request to another host: {request.url}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 500:
            self.complaints.append(f"{response.status} from {response.request.method} {response.url}")


OpenWindow = Callable[..., Page]


@pytest.fixture
def open_window(
    browser: Browser, live: LiveListeners, request: pytest.FixtureRequest
) -> Iterator[OpenWindow]:
    """Open a window, with the options of a Playwright context.

    Whatever went wrong in one fails the test, unless it was opened for that with `complains=False`.
    """
    windows: list[Window] = []
    watched: list[Window] = []

    def open_one(*, complains: bool = True, **options: object) -> Page:
        context = browser.new_context(base_url=live.portal_url, locale="en-GB", timezone_id="UTC", **options)
        windows.append(Window(context, urlsplit(live.portal_url).netloc))
        watched.extend(windows[-1:] if complains else [])
        return windows[-1].page

    yield open_one

    report = request.node.stash.get(REPORT, None)
    if report is not None and report.failed:
        pages = [page for window in windows for page in window.context.pages]
        _save_what_is_there(request.node.name, pages, live)
    complaints = [complaint for window in watched for complaint in window.complaints]
    for window in windows:
        window.context.close()
    assert not complaints, "\n".join(complaints)


@pytest.fixture(scope="module")
def administrator_cookies(browser: Browser, live: LiveListeners) -> dict:
    """Cookies of a signed-in administrator. Sign out in no window that uses them."""
    with browser.new_context(base_url=live.portal_url) as context:
        Portal(context.new_page()).sign_in(ADMIN, ADMIN_PASSWORD)
        return context.storage_state()


@pytest.fixture
def administrator(open_window: OpenWindow, administrator_cookies: dict) -> Portal:
    """The portal in a window where the administrator is signed in, at *All resources*."""
    page = open_window(storage_state=administrator_cookies)
    page.goto("/")
    return Portal(page)


def _save_what_is_there(test: str, pages: list[Page], live: LiveListeners) -> None:
    """Pictures and sources of the pages of a test that failed, and the last that the portal logged."""
    ARTIFACTS.mkdir(exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "-", test)
    for number, page in enumerate(pages, 1):
        page.screenshot(path=ARTIFACTS / f"{stem}-{number}.png", full_page=True)
        (ARTIFACTS / f"{stem}-{number}.html").write_text(page.content())
    (ARTIFACTS / f"{stem}-portal.log").write_text(live.log("portal")[-20_000:])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[REPORT] = report
    return report
