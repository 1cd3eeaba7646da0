"""No page violates a rule of axe-core: every address of the URL configuration, what forms answer, and open dialogs."""

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from tests.certificates import self_signed
from tests.e2e.axe import ALL_VIEWS, SCRIPT, SOURCE, VIEWS, violations_of
from tests.portal.addresses import ADDRESSES

pytestmark = pytest.mark.e2e

# Parameters of addresses. The demonstration fleet has all of this.
VALUES = {
    "service_name": "local",
    "registration_id": "gauge-01",
    "group_id": "demo-pumps",
    "policy_name": "provisioningserviceowner",
    "username": "somebody",
    "which": "primary",
    "device_id": "gauge-01",
    "exported": "individuals",
}
# What shows no page of its own: a file, or nothing but the way to another page.
NO_PAGE = {
    "preview-export": "a file",
    "past-export": "a file",
    "history-export": "a file",
    "history-checkpoint-download": "a file",
    "installation-history-export": "a file",
    "installation-checkpoint-download": "a file",
    "history-whole": "a file",
    "installation-history-whole": "a file",
    "import-problems": "a file",
    "import-preview-export": "a file",
    "import-part": "answers a script",
    "import-check": "leads back to the import",
    "import-start": "leads back to the import",
    "import-cancel": "leads back to the import",
    "ca-code": "leads back to the CA certificate",
    "history-seen": "leads back to the history",
    "installation-history-seen": "leads back to the history",
    "history-view-delete": "leads back to the saved views",
    "installation-history-view-delete": "leads back to the saved views",
    "sign-out": "leads to sign-in",
    "person-activate": "leads back to the person",
    "sign-in": "shown to nobody who is signed in; visited by its own test",
}
Post = dict[str, str]


@dataclass(frozen=True)
class Visit:
    """One page: an address with its parameters, and what is posted to it, if anything."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    query: str = ""
    post: Post | None = None


KEYS: Post = {"primary_key": "no key"}
ONE_CERTIFICATE: Post = {"mechanism": "x509", "enabled": "true", "primary_pem": self_signed("axe-pump").pem}
HISTORIES = ("history", "installation-history")
ACT_ON_PUMPS = "act=disable&entry=group:demo-pumps&entry=individual:meter-01"
# In place of a plain visit: addresses that answer posts alone, or that need more than their parameters.
INSTEAD = {
    "certificate-preview": Visit("certificate-preview", post={"primary_pem": ONE_CERTIFICATE["primary_pem"]}),
    "tpm-preview": Visit("tpm-preview", post={"endorsement_key": "no key"}),
    "enrollment-add-preview": Visit("enrollment-add-preview", post=ONE_CERTIFICATE),
    "enrollment-edit-preview": Visit("enrollment-edit-preview", post=KEYS),
    "enrollment-keys": Visit("enrollment-keys", post={}),
    "history-check": Visit("history-check", post={}),
    "installation-check": Visit("installation-check", post={}),
    "ca-verify": Visit("ca-verify", post={"pem": "no certificate"}),
    **{f"{place}-view-save": Visit(f"{place}-view-save", post={}) for place in HISTORIES},
    **{
        f"{place}-view-rename": Visit(f"{place}-view-rename", post={"view": f"{{{place}_view}}"})
        for place in HISTORIES
    },
    "group-add-preview": Visit("group-add-preview", post={}),
    "group-edit-preview": Visit("group-edit-preview", post={}),
    "group-keys": Visit("group-keys", {"group_id": "demo-lamps"}, post={}),
    "policy-keys": Visit("policy-keys", post={}),
    "device-keys": Visit("device-keys", post={}),
    "person-role": Visit("person-role", post={"role": "none such"}),
    "person-role-take-away": Visit("person-role-take-away", query="where={service_name}"),
    "service-person-role": Visit("service-person-role", post={"role": "none such"}),
    "service-settings-change": Visit("service-settings-change", post={"retry_after_seconds": "never"}),
    "preview": Visit("preview", query=ACT_ON_PUMPS),
    "enrollment-cancel-schedule": Visit("enrollment-cancel-schedule", {"registration_id": "gauge-02"}),
    "token-revoke": Visit("token-revoke", query="token={token}"),
    **{
        f"enrollment-{act}": Visit(f"enrollment-{act}", query="entry={device}&entry={other_device}")
        for act in ("delete", "disable-chosen", "enable-chosen")
    },
    **{
        f"group-{act}": Visit(f"group-{act}", query="entry={group}&entry={other_group}")
        for act in ("delete", "disable-chosen", "enable-chosen")
    },
}
# Besides: other kinds of the same page, forms that were not accepted, questions before saving, pages about errors.
BESIDES = [
    *(
        Visit("enrollment-edit", {"registration_id": one})
        for one in ("meter-01", "press-01", "pump-07", "gauge-02")
    ),
    *(Visit("group-edit", {"group_id": one}) for one in ("demo-valves", "demo-lamps")),
    *(Visit("registration-detail", {"registration_id": one}) for one in ("pump-01", "pump-07", "gauge-04")),
    *(
        Visit("explain", query=f"registration_id={one}")
        for one in ("pump-01", "pump-07", "valve-01", "stray-01")
    ),
    *(Visit("past", query=f"at={{at}}{more}") for more in ("", "&effect=still_out", "&effect=unknown")),
    *(Visit("past", query=f"at={{at}}&registration_id={one}") for one in ("pump-01", "pump-07", "gauge-01")),
    Visit("past", query="at=never&registration_id=no+name"),
    Visit("enrollment-list", query="q=no-such-device"),
    Visit("group-list", query="q=no-such-group"),
    Visit("registration-list", query="q=no-such-device"),
    Visit("attempt-list", query="q=no-such-device"),
    Visit("device-list", query="q=no-such-device"),
    Visit("history-list", query="subject=nothing+of+the+kind"),
    *(
        Visit("registration-history", {"registration_id": one}, query="event=shuts-out")
        for one in ("pump-01", "pump-07", "gauge-01", "nobody-01")
    ),
    Visit("preview", query="act=delete&entry=group:demo-pumps&effect=refused"),
    *(
        Visit("preview", query=one)
        for one in ("act=deny&device=pump-01", "act=settings&symmetric_key_groups=off")
    ),
    Visit("enrollment-add", post=ONE_CERTIFICATE),
    Visit(
        "enrollment-add", post={"mechanism": "x509", "primary_pem": "no certificate", "initial_twin": "[1]"}
    ),
    Visit("group-add", post={"primary_pem": "no certificate"}),
    Visit("hub-add", post={}),
    Visit("policy-add", post={}),
    Visit("token-add", post={}),
    Visit("service-add", post={}),
    Visit("person-add", post={}),
    Visit("own-password", post={}),
    Visit("registration-detail", {"registration_id": "no-such-device"}),
]
VISITS = [
    *(INSTEAD.get(one.name, Visit(one.name)) for one in ADDRESSES if one.name not in NO_PAGE),
    *BESIDES,
]
_SUBMIT = """([action, fields]) => {
  const form = document.createElement("form");
  const token = JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];
  Object.assign(form, { method: "post", action });
  for (const [name, value] of [...Object.entries(fields), ["csrfmiddlewaretoken", token]]) {
    const field = form.appendChild(document.createElement("input"));
    Object.assign(field, { type: "hidden", name, value });
  }
  document.body.append(form);
  form.submit();
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core, or the reason why nothing is looked at."""
    if SOURCE.exists():
        return SOURCE.read_text()
    missing = "axe-core is not installed; `make test` does it where it finds npm, which comes with Node.js"
    if os.environ.get("DPS_E2E") == "required":
        pytest.fail(f"DPS_E2E=required, and {missing}")
    pytest.skip(missing)


@pytest.fixture(scope="session")
def values(plant) -> dict[str, Any]:
    """Every parameter of an address, with rows that are there."""
    found = plant.python(
        "import json\n"
        "from datetime import timedelta\n"
        "from django.utils import timezone\n"
        "from enrollments.actions.enrollments import disable_enrollment\n"
        "from django.contrib.auth.models import User\n"
        "from enrollments.actions.history_views import save_view\n"
        "from enrollments.actions.people import add_person\n"
        "from enrollments.audit.actor import Actor, Way\n"
        "from enrollments.models import HistoryEvent, ProvisioningService\n"
        "from enrollments.policy.roles import Role\n"
        "service = ProvisioningService.objects.get(name='local')\n"
        "actor = Actor('cli', 'test', Way.COMMAND_LINE)\n"
        "add_person('somebody', role=Role.VIEWER, service=service, actor=actor)\n"
        "disable_enrollment(service, 'gauge-02', actor=actor, at=timezone.now() + timedelta(days=10))\n"
        "admin = User.objects.get(username='admin')\n"
        "device, other_device = service.individualenrollments.filter(registration_id__in=['gauge-01', 'meter-01'])\n"
        "group, other_group = service.enrollmentgroups.filter(group_id__in=['demo-pumps', 'demo-valves'])\n"
        "print(json.dumps({\n"
        "    'device': device.pk, 'other_device': other_device.pk,\n"
        "    'group': group.pk, 'other_group': other_group.pk,\n"
        "    'hub_pk': service.registrations.by_registration_id('gauge-01').hub_id,\n"
        "    'token': service.api_tokens.first().pk,\n"
        "    'pk': service.attempts.filter(outcome='refused').first().pk,\n"
        "    'quiet_pk': service.quiet_periods.first().pk,\n"
        "    'event_pk': HistoryEvent.objects.of_service(service.pk)\n"
        "        .filter(event='enrollment.disabled').latest('pk').pk,\n"
        "    'ca_name': service.ca_certificates.first().name,\n"
        "    'history_view': save_view(admin, service, 'Who was let in', 'event=shuts-out')[0].pk,\n"
        "    'installation-history_view': save_view(admin, None, 'Who was let in', 'event=shuts-out')[0].pk,\n"
        "    'import_pk': service.imports.first().pk,\n"
        # When half of it was done, so that there is something to compare.
        "    'at': service.registrations.order_by('created_at')[3].created_at.isoformat()[:23],\n"
        "}))\n"
    )
    return {**VALUES, **json.loads(found)}


@pytest.fixture
def page(open_window, administrator_cookies, axe) -> Page:
    page = open_window(storage_state=administrator_cookies, complains=False)
    page.context.add_init_script(axe)
    page.context.add_init_script(SCRIPT)
    return page


def open_page(page: Page, visit: Visit, values: dict[str, Any]) -> str:
    """Go there, and say where that was."""
    address = next(one for one in ADDRESSES if one.name == visit.name)
    wanted = {**values, **visit.values}
    path = reverse(f"portal:{visit.name}", kwargs={one: wanted[one] for one in address.parameters})
    query = visit.query.format(**wanted)
    if visit.post is None:
        page.goto(f"{path}?{query}" if query else path)
    else:
        page.goto("/")
        fields = {name: text.format(**wanted) for name, text in visit.post.items()}
        with page.expect_navigation():
            page.evaluate(_SUBMIT, [path, fields])
    assert urlsplit(page.url).path == path, f"{path} led to {page.url}"
    return f"{'GET' if visit.post is None else 'POST'} {path}{query and '?'}{query}"


def test_no_page_violates_a_rule(page, values):
    problems, questions = [], []
    for visit in VISITS:
        address = open_page(page, visit, values)
        views = VIEWS if visit in BESIDES else ALL_VIEWS
        problems += [f"{address}: {violation}" for violation in violations_of(page, views=views)]
        if visit.post is None and page.locator(".dialog-page").count():
            questions.append(address.removeprefix("GET "))

    assert len(questions) > 10
    problems += [f"in the dialog, {one}" for one in problems_of_dialogs(page, questions)]
    assert not problems, "\n".join(problems)


def test_the_api_reference_violates_no_rule(page):
    """It is no page of the portal's own; what is folded up is looked at, too."""
    page.goto("/docs/api/")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

    problems = violations_of(page)
    assert not problems, "\n".join(problems)


def problems_of_dialogs(page: Page, questions: list[str]) -> list[str]:
    """Each question once more, as script shows it: in the dialog, on a page that it does not depend on."""
    page.goto(f"/services/{VALUES['service_name']}/")
    dialog = page.get_by_role("dialog")
    problems = []
    for address in questions:
        page.evaluate("(address) => htmx.ajax('GET', address, '#dialog')", address)
        expect(dialog).to_be_visible()
        problems += [f"{address}: {violation}" for violation in violations_of(page, "#dialog")]
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
    return problems


@pytest.mark.parametrize(
    ("name", "values_of_it"),
    [
        ("enrollment-edit", "registration_id"),
        ("group-edit", "group_id"),
        ("registration-detail", "registration_id"),
    ],
)
def test_questions_over_the_page_that_asks_them_violate_no_rule(page, values, name, values_of_it):
    """What they ask for, the page below may ask for as well: each field still has a label of its own."""
    page.goto(reverse(f"portal:{name}", args=[values["service_name"], values[values_of_it]]))
    links = page.get_by_role("main").locator("a[hx-target='#dialog']")
    dialog, problems = page.get_by_role("dialog"), []
    questions = {link.get_attribute("href") for link in links.all()}
    for address in sorted(questions):
        page.evaluate("(address) => htmx.ajax('GET', address, '#dialog')", address)
        expect(dialog).to_be_visible()
        problems += [f"{address}: {violation}" for violation in violations_of(page)]
        expect(dialog.get_by_label("Reason")).to_be_visible()
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()

    assert questions
    assert not problems, "\n".join(problems)


def test_the_question_before_saving_violates_no_rule(page, values):
    page.goto(reverse("portal:enrollment-add", args=[values["service_name"]]))
    page.get_by_label("Primary certificate as text").fill(ONE_CERTIFICATE["primary_pem"])
    page.locator("#entry-form").get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_be_visible()

    assert violations_of(page) == []


def test_what_several_switches_do_at_a_time_violates_no_rule(page, values):
    page.goto(reverse("portal:service-overview", args=[values["service_name"]]))
    address = reverse("portal:group-disable-chosen", args=[values["service_name"]])
    query = "entry={group}&entry={other_group}&when=until".format(**values)
    page.evaluate("(address) => htmx.ajax('GET', address, '#dialog')", f"{address}?{query}")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Time (UTC)").fill(f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%dT%H:%M}")
    dialog.get_by_role("button", name="Show what happens then").click()
    expect(dialog).to_contain_text("when they are enabled again")

    assert violations_of(page, "#dialog", ALL_VIEWS) == []


def test_menus_violate_no_rule(page, values):
    page.goto(reverse("portal:service-overview", args=[values["service_name"]]))
    page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")

    assert violations_of(page) == []


def test_signing_in_violates_no_rule(open_window, axe):
    page = open_window(complains=False)
    page.context.add_init_script(axe)
    page.context.add_init_script(SCRIPT)
    page.goto(reverse("portal:sign-in"))
    assert violations_of(page) == []

    page.get_by_label("Name", exact=True).fill("nobody")
    page.get_by_label("Password", exact=True).fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()

    assert violations_of(page) == []


def test_the_reference_of_the_apis_violates_no_rule(page):
    page.goto(reverse("api-page"))

    assert violations_of(page) == []
