"""The portal as its users see it: pages by the names of their links, fields and buttons."""

from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.live import ADMIN

SERVICE = "local"


@dataclass(frozen=True)
class Portal:
    """One window. What has a visible result waits for it, so that a device may register right afterwards."""

    page: Page

    def sign_in(self, username: str, password: str) -> None:
        self.page.goto("/")
        self.page.get_by_label("Name", exact=True).fill(username)
        self.page.get_by_label("Password", exact=True).fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.expect_heading("All resources")

    def expect_heading(self, name: str) -> None:
        expect(self.page.get_by_role("heading", level=1, name=name)).to_be_visible()

    def expect_said(self, sentence: str) -> None:
        """What the page says after something was done."""
        expect(self._saying(sentence)).not_to_have_count(0)

    def go_to(self, label: str) -> None:
        """A page of the service, by the navigation."""
        navigation = self.page.get_by_role("navigation", name="Main")
        if not navigation.get_by_role("link", name=label).is_visible():
            self.page.get_by_role("link", name="dpsportal").click()
            self.page.get_by_role("main").get_by_role("link", name=SERVICE, exact=True).click()
            self.expect_heading("Overview")
        navigation.get_by_role("link", name=label).click()
        self.expect_heading(label)

    # --- Manage enrollments ---------------------------------------------------------------------

    def individual_enrollments(self) -> None:
        self._tab("Individual Enrollments")

    def enrollment_groups(self) -> None:
        self._tab("Enrollment Groups")

    def _tab(self, name: str) -> None:
        self.go_to("Manage enrollments")
        tab = self.page.get_by_role("navigation", name="Kinds of enrollment").get_by_role("link", name=name)
        tab.click()
        expect(tab).to_have_attribute("aria-current", "page")

    def row(self, entry: str) -> Locator:
        """The row of an entry in the list that is shown. Where it is on a later page, it is searched for."""
        found = self.page.get_by_role("row").filter(has=self.page.get_by_role("link", name=entry, exact=True))
        if self._search.count() and not found.count():
            # Those of one test begin alike, so that its other entries are found too.
            self.only(entry.partition("-")[0])
        return found

    def only(self, beginning: str) -> None:
        """Have the list show those that begin so, and no others: what is checked stays on the page then."""
        if self._search.input_value() != beginning:
            self._search.fill(beginning)
            if not self.page.evaluate("'htmx' in window"):
                self._search.press("Enter")
        self.page.wait_for_url(lambda url: f"q={beginning}" in url)

    @property
    def _search(self) -> Locator:
        return self.page.locator("#filters #id_q")

    def open_entry(self, entry: str) -> None:
        self.row(entry).get_by_role("link", name=entry, exact=True).click()
        self.expect_heading(entry)

    def add_group(self, group_id: str, certificate: Path, *, enabled: bool = True, reason: str = "") -> None:
        self.enrollment_groups()
        self.page.get_by_role("link", name="Add", exact=True).click()
        self.expect_heading("Add enrollment group")
        self.page.get_by_label("Group ID", exact=True).fill(group_id)
        self.upload(certificate)
        self.enable_entry(enabled)
        self.save(f"Added enrollment group {group_id}", reason)

    def add_individual(
        self,
        registration_id: str,
        certificate: Path,
        *,
        device_id: str = "",
        enabled: bool = True,
        reason: str = "",
    ) -> None:
        """The registration ID is read from the certificate; it is here to know what the page will say."""
        self.individual_enrollments()
        self.page.get_by_role("link", name="Add", exact=True).click()
        self.expect_heading("Add enrollment")
        self.page.get_by_role("radio", name="X.509").check()
        self.upload(certificate)
        self.page.get_by_label("IoT Hub device ID").fill(device_id)
        self.enable_entry(enabled)
        self.save(f"Added individual enrollment {registration_id}", reason)

    def upload(self, certificate: Path, slot: str = "Primary") -> None:
        """Choose a file, and wait until the page shows what it read in it."""
        self.page.get_by_label(f"{slot} certificate file").set_input_files(certificate)
        expect(self.preview.get_by_text("SHA-256 thumbprint")).to_be_visible()

    @property
    def preview(self) -> Locator:
        return self.page.get_by_role("region", name="Preview of the certificates")

    def enable_entry(self, enabled: bool) -> None:
        switch = self.page.get_by_role("group", name="Enable entry")
        switch.get_by_role("radio", name="Enable" if enabled else "Disable").check()

    def save(self, said: str, reason: str = "") -> str:
        """*Save*, and once more where the preview asks. Returns what that said."""
        told = ""
        self.page.get_by_label("Reason").fill(reason)
        self.save_button.click()
        expect(self.question.or_(self._saying(said)).first).to_be_visible()
        if self.question.count():
            told = " ".join(self.question.inner_text().split())
            self.question.get_by_role("button", name="Save", exact=True).click()
        self.expect_said(said)
        return told

    @property
    def save_button(self) -> Locator:
        return self.page.locator("#entry-form").get_by_role("button", name="Save")

    @property
    def question(self) -> Locator:
        """The preview before saving: a dialog, or without script a part of the page."""
        return self.page.get_by_role("dialog").or_(self.page.locator("#save-question"))

    def _saying(self, sentence: str) -> Locator:
        return self.page.get_by_role("status").filter(has_text=sentence)

    def turn_on(self, entry: str) -> str:
        """The switch and *Enable*. Returns what the dialog said would happen."""
        self.toggle(entry).click()
        dialog = self.page.get_by_role("dialog")
        expect(dialog.get_by_role("heading", level=1)).to_contain_text(f"Enable {self._kind_of(entry)}")
        told = " ".join(dialog.inner_text().split())
        dialog.get_by_role("button", name="Enable").click()
        expect(self.toggle(entry)).to_be_checked()
        return told

    def _kind_of(self, entry: str) -> str:
        of_group = "/groups/" in self.page.url
        return f"{'enrollment group' if of_group else 'individual enrollment'} {entry}?"

    def toggle(self, entry: str) -> Locator:
        return self.row(entry).get_by_role("switch", name=f"Enable entry {entry}")

    def ask_to_delete(self, entry: str) -> Locator:
        """Check box and *Delete* in the list that is shown. Returns the dialog."""
        self.row(entry).get_by_role("checkbox", name=f"Select {entry}").check()
        self.page.get_by_role("button", name="Delete", exact=True).click()
        dialog = self.page.get_by_role("dialog")
        expect(dialog.get_by_role("heading", level=1)).to_contain_text(entry)
        return dialog

    def delete(self, entry: str, *, reason: str = "") -> str:
        """Answer *Delete* as well. Returns what the dialog said would happen."""
        dialog = self.ask_to_delete(entry)
        told = dialog.inner_text()
        dialog.get_by_label("Reason").fill(reason)
        dialog.get_by_role("button", name="Delete", exact=True).click()
        self.expect_said("Deleted")
        expect(self.row(entry)).to_have_count(0)
        return " ".join(told.split())

    # --- Registration records -------------------------------------------------------------------

    def expect_record(self, registration_id: str, status: str) -> None:
        self.go_to("Registration records")
        self.page.get_by_label("Registration ID").fill(registration_id)
        self.page.get_by_role("button", name="Filter").click()
        self.page.wait_for_url(lambda url: f"q={registration_id}" in url)
        expect(self.row(registration_id).get_by_role("cell", name=status, exact=True)).to_be_visible()

    # --- Revocation history ---------------------------------------------------------------------

    def history_of(self, subject: str, number: int, *, who: str = ADMIN) -> list[str]:
        """What somebody did to one object, a sentence per row, newest first. There are to be `number` of them."""
        self.go_to("Revocation history")
        self.page.get_by_label("Who").fill(who)
        self.page.get_by_label("To what").fill(subject)
        self.page.get_by_role("button", name="Filter").click()
        rows = self.page.get_by_role("table", name="History, newest first").get_by_role("row")
        rows = rows.filter(has=self.page.get_by_role("cell")).filter(has_text=subject)
        self.page.wait_for_url(lambda url: f"subject={subject}" in url)
        expect(rows).to_have_count(number)
        return [" ".join(text.split()) for text in rows.all_inner_texts()]


def tab_to(page: Page, wanted: Locator, at_most: int = 60) -> None:
    """Press Tab until the focus is there; where it was is where it goes on from."""
    expect(wanted).to_be_visible()
    for _ in range(at_most):
        if wanted.evaluate("(one) => one === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{wanted} was not reached by {at_most} times Tab")
