"""CA certificates on pages: uploading, the code and its answer, deleting, and the state wherever a CA is shown."""

import re
import shutil
import subprocess
from html import unescape

import pytest

from enrollments.actions.ca_certificates import make_verification_code, verify_ca_certificate
from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.schedule import as_text
from enrollments.models import CaCertificate, Certificate, HistoryEvent, ProvisioningService
from enrollments.policy.roles import Role
from tests.certificates import EXPIRED, root, self_signed
from tests.devices import ALICE, demand_proof, enroll_ca, prove, register, shows, upload_ca
from tests.factories import a_user
from tests.portal.entry_forms import a_file, epoch_in, group_form, mark_in, page, post, post_once

pytestmark = pytest.mark.django_db
LIST = "ca-certificates/"
DETAIL = "ca-certificates/c/plant-ca/"


@pytest.fixture
def operator(client, plant):
    client.force_login(a_user(Role.OPERATOR, plant))
    return client


@pytest.fixture(scope="module")
def ca():
    return root("Plant CA")


@pytest.fixture
def row(plant, ca):
    """With a code that waits."""
    return make_verification_code(plant, upload_ca(plant, ca).name, actor=ALICE)


def answer_of(row, proof, **changes):
    return {"etag": row.etag, "proof_pem": proof if isinstance(proof, str) else proof.pem, **changes}


# --- Uploading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["text", "PEM file", "DER file"])
def test_upload_goes_to_the_page_of_the_certificate(operator, ca, way):
    given = {
        "text": {"certificate_pem": ca.pem},
        "PEM file": {"certificate_upload": a_file(ca.pem)},
        "DER file": {"certificate_upload": a_file(ca.der)},
    }[way]

    answer = post_once(operator, f"{LIST}add/", {"name": "plant-ca", "reason": "new line", **given})

    assert answer["Location"].endswith(DETAIL)
    assert HistoryEvent.objects.get(event="ca_certificate.added").reason == "new line"
    text = page(operator, DETAIL)
    assert "CN=Plant CA" in text and ca.parsed.thumbprint_sha256 in text
    assert "Possession not verified" in text and "Make a verification code" in text


def test_preview_stores_nothing_and_keeps_a_file(operator, ca):
    answer = post_once(
        operator, f"{LIST}add/", {"name": "x", "certificate_upload": a_file(ca.der), "preview": "1"}
    )

    assert answer.status_code == 200
    assert "CN=Plant CA" in answer.text_shown and ca.pem in unescape(answer.text_shown)
    assert not CaCertificate.objects.exists() and not Certificate.objects.exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param({}, "Choose a file, or paste the certificate as text.", id="nothing"),
        pytest.param({"certificate_pem": "hello"}, "This is no certificate", id="text"),
        pytest.param(
            {"certificate_pem": lambda ca: ca.pem + root("Two").pem}, "This holds 2 certificates", id="two"
        ),
        pytest.param(
            {"certificate_pem": lambda ca: ca.pem + ca.key_pem}, "contains a private key", id="a key"
        ),
        pytest.param(
            {"certificate_pem": lambda ca: self_signed("pump").pem}, "is not a CA certificate", id="no CA"
        ),
        pytest.param(
            {"certificate_pem": lambda ca: ca.pem, "name": "a/b"}, "cannot be a name", id="a wrong name"
        ),
        pytest.param(
            {"certificate_pem": lambda ca: ca.pem, "name": ""}, "Give the certificate a name", id="none"
        ),
        pytest.param({"certificate_pem": "x" * 70_000}, "more than 64 KiB", id="too much"),
    ],
)
def test_what_cannot_be_uploaded(operator, ca, given, says):
    data = {name: value(ca) if callable(value) else value for name, value in given.items()}

    answer = post_once(operator, f"{LIST}add/", {"name": "plant-ca", **data})

    assert answer.status_code == 422
    assert says in unescape(answer.text_shown)
    assert "PRIVATE KEY" not in answer.text_shown
    assert not CaCertificate.objects.exists()


def test_findings_are_told_with_the_certificate(operator):
    expired = root("Old CA", **EXPIRED)

    answer = post_once(
        operator, f"{LIST}add/", {"name": "old", "certificate_pem": expired.pem, "preview": "1"}
    )

    assert "expired on" in answer.text_shown


# --- The code and its answer ----------------------------------------------------------------------


def test_code_is_shown_with_the_commands_that_answer_it(operator, plant, ca):
    row = upload_ca(plant, ca)

    answer = post_once(operator, f"{DETAIL}code/", {"etag": row.etag})

    assert answer["Location"].endswith(DETAIL)
    row.refresh_from_db()
    text = page(operator, DETAIL)
    assert f'<pre id="verification-code">{row.code}</pre>' in text
    assert f"/CN={row.code}" in text and "code waiting until" in text


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_the_commands_on_the_page_do_what_they_say(operator, plant, ca, row, tmp_path):
    commands = unescape(re.search(r'<pre id="commands">(.*?)</pre>', page(operator, DETAIL), re.DOTALL)[1])
    (tmp_path / "ca.pem").write_text(ca.pem)
    (tmp_path / "ca.key").write_text(ca.key_pem)

    subprocess.run(["sh", "-ec", commands], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    proof = a_file((tmp_path / "verification.pem").read_bytes(), "verification.pem")
    answer = post_once(operator, f"{DETAIL}verify/", {"etag": row.etag, "proof_upload": proof})

    assert answer["Location"].endswith(DETAIL)
    row.refresh_from_db()
    assert row.is_verified
    assert "Possession verified" in page(operator, DETAIL)


def test_code_is_not_replaced_behind_somebodys_back(operator, plant, ca, row):
    seen = row.etag
    make_verification_code(plant, row.name, actor=ALICE)
    row.refresh_from_db()

    answer = operator.post(f"/services/plant/{DETAIL}code/", {"etag": seen}, follow=True)

    assert "was changed by somebody else" in answer.content.decode()
    assert CaCertificate.objects.get().code == row.code


@pytest.mark.parametrize(
    ("proof", "says"),
    [
        pytest.param(lambda ca, code: ca.leaf("x").pem, "is not the verification code", id="another name"),
        pytest.param(
            lambda ca, code: root("Plant CA").leaf(code).pem, "is not signed with the key", id="another key"
        ),
        pytest.param(lambda ca, code: ca.leaf(code).pem + ca.pem, "This holds 2 certificates", id="a chain"),
        pytest.param(
            lambda ca, code: ca.leaf(code).pem + ca.key_pem, "contains a private key", id="a private key"
        ),
        pytest.param(lambda ca, code: "", "Choose a file", id="nothing"),
    ],
)
def test_what_proves_nothing_is_said_beside_the_field(operator, ca, row, proof, says):
    answer = post_once(operator, f"{DETAIL}verify/", answer_of(row, proof(ca, row.code)))

    assert answer.status_code == 422
    assert says in unescape(answer.text_shown)
    assert "PRIVATE KEY" not in answer.text_shown
    assert not CaCertificate.objects.get().is_verified


def test_expired_code_asks_for_a_new_one(operator, ca, row):
    CaCertificate.objects.update(code_expires_at="2026-01-01T00:00:00Z")

    answer = post_once(operator, f"{DETAIL}verify/", answer_of(row, ca.leaf(row.code)))

    assert answer.status_code == 422
    assert "has expired: make a new one" in answer.text_shown
    assert "The verification code expired on" in page(operator, DETAIL)


def test_without_a_demand_nobody_is_asked(operator, plant, ca, row):
    enroll_ca(plant, ca)

    answer = post_once(operator, f"{DETAIL}verify/", answer_of(row, ca.leaf(row.code)))

    assert answer.status_code == 302
    assert CaCertificate.objects.get().is_verified


def test_where_devices_may_come_in_the_preview_is_confirmed(operator, plant, ca, row):
    enroll_ca(plant, ca)
    register(plant, ca.leaf("pump-042"))
    demand_proof(plant)
    row.refresh_from_db()
    given = answer_of(row, ca.leaf(row.code), reason="plant opens")

    asked = post_once(operator, f"{DETAIL}verify/", given)

    assert asked.status_code == 200 and "will come in anew" in asked.text_shown
    assert "pump-042" in asked.text_shown
    assert not CaCertificate.objects.get().is_verified
    hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', asked.text_shown))
    ProvisioningService.objects.get(pk=plant.pk).raise_epoch()

    outdated = post_once(operator, f"{DETAIL}verify/", {**hidden, "proof_pem": given["proof_pem"]})

    assert outdated.status_code == 409 and "nothing was verified" in outdated.text_shown
    confirmed = {**given, "epoch": epoch_in(outdated.text_shown)}
    assert post_once(operator, f"{DETAIL}verify/", confirmed).status_code == 302
    assert HistoryEvent.objects.get(event="ca_certificate.verified").reason == "plant opens"


def test_who_comes_in_when_the_group_is_enabled_by_itself_is_told(operator, plant, ca, row, database_clock):
    enroll_ca(plant, ca, "waiting")
    register(plant, ca.leaf("pump-042"))
    demand_proof(plant)
    at = database_clock.ahead(days=1)
    disable_enrollment_group(plant, "waiting", until=at, actor=ALICE)
    row.refresh_from_db()

    asked = post_once(operator, f"{DETAIL}verify/", answer_of(row, ca.leaf(row.code))).text_shown

    assert f"shut out already, not counting what is scheduled from {as_text(at)} on" in asked
    assert f"From {as_text(at)} on, with whatever else is scheduled until then:" in asked
    assert "will come in anew</strong> through enrollment group waiting" in asked


def test_wrong_answer_is_refused_before_anybody_is_asked(operator, plant, ca, row):
    enroll_ca(plant, ca)
    demand_proof(plant)

    answer = post_once(operator, f"{DETAIL}verify/", answer_of(row, ca.leaf("x")))

    assert answer.status_code == 422


# --- Deleting -------------------------------------------------------------------------------------


def test_deleting_tells_what_it_does_and_did(operator, plant, ca):
    prove(plant, ca)
    enroll_ca(plant, ca)
    register(plant, ca.leaf("pump-042"))
    demand_proof(plant)

    assert "will be refused" in page(operator, f"{DETAIL}delete/")
    answer = operator.post(f"/services/plant/{DETAIL}delete/", {"reason": "gone"}, follow=True)

    assert "1 device is refused from now on" in answer.content.decode()
    assert HistoryEvent.objects.get(event="ca_certificate.deleted").reason == "gone"


def test_what_groups_refer_to_is_not_deleted(operator, plant, row):
    post(operator, "groups/add/", group_form(primary_reference="plant-ca"))

    for answer in (
        operator.get(f"/services/plant/{DETAIL}delete/"),
        operator.post(f"/services/plant/{DETAIL}delete/"),
    ):
        assert answer.status_code == 409
        assert "refer to it: plant-7" in answer.content.decode()
    assert CaCertificate.objects.exists()
    assert "is referred to by" in page(operator, DETAIL)


# --- Groups that refer ----------------------------------------------------------------------------


def test_group_form_takes_the_name_of_an_uploaded_one(operator, plant, ca, row):
    assert '<option value="plant-ca">' in page(operator, "groups/add/")

    answer = post(operator, "groups/add/", group_form(primary_reference="PLANT-ca"))

    assert answer.status_code == 302
    held = plant.enrollmentgroups.get().certificates.get()
    assert (held.ca_certificate, held.certificate.thumbprint_sha256) == (row, ca.parsed.thumbprint_sha256)
    assert 'name="primary_reference" value="plant-ca"' in page(operator, "groups/g/plant-7/")


def saved(operator, plant, **changes):
    group = plant.enrollmentgroups.get()
    form = group_form(**{"primary_reference": "plant-ca", "expected_etag": group.etag, **changes})
    return post(operator, "groups/g/plant-7/", form)


def test_group_goes_from_a_reference_to_a_certificate_of_its_own_and_back(operator, plant, ca, row):
    post(operator, "groups/add/", group_form(primary_reference="plant-ca"))

    assert saved(operator, plant, primary_reference="").status_code == 302
    assert plant.enrollmentgroups.get().certificates.get().ca_certificate is None
    assert saved(operator, plant).status_code == 302
    assert plant.enrollmentgroups.get().certificates.get().ca_certificate == row
    other = root("Other")
    assert saved(operator, plant, primary_reference="", primary_pem=other.pem).status_code == 302
    held = plant.enrollmentgroups.get().certificates.get()
    assert (held.certificate.subject, held.ca_certificate) == ("CN=Other", None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"primary_reference": "lost"}, "There is no CA certificate lost", id="unknown"),
        pytest.param({"primary_reference": "a b"}, "There is no CA certificate a b", id="no name"),
        pytest.param(
            {"primary_reference": "plant-ca", "primary_pem": "own"}, "clear one of the two", id="both"
        ),
        pytest.param(
            {"primary_reference": "plant-ca", "secondary_pem": "own"}, "not one of each", id="one of each"
        ),
    ],
)
def test_references_that_cannot_be(operator, plant, row, changes, says):
    own = root("Own").pem
    given = {name: own if value == "own" else value for name, value in changes.items()}

    answer = post(operator, "groups/add/", group_form(**given))

    assert answer.status_code == 422
    assert says in unescape(answer.text_shown)
    assert not plant.enrollmentgroups.exists()


# --- The state, wherever a CA is shown ------------------------------------------------------------


@pytest.mark.parametrize("demanded", [False, True])
def test_state_is_always_visible(operator, plant, ca, demanded):
    enroll_ca(plant, ca, "plant-7")
    demand_proof(plant, demanded)
    pages = ("groups/", "groups/g/plant-7/", "explain/?group=plant-7")

    for path in pages:
        assert "Possession not verified" in page(operator, path), path
    assert ("it admits nobody" in page(operator, "groups/g/plant-7/")) is demanded
    row = make_verification_code(plant, upload_ca(plant, ca).name, actor=ALICE)
    for path in (*pages, LIST, DETAIL):
        assert "code waiting until" in page(operator, path), path
    verify_ca_certificate(plant, row.name, ca.leaf(row.code).parsed, actor=ALICE)
    for path in (*pages, LIST, DETAIL):
        text = page(operator, path)
        assert "Possession verified" in text and "it admits nobody" not in text, path


def test_proof_by_another_certificate_of_the_same_ca_is_told(operator, plant, ca):
    prove(plant, ca, "first")
    upload_ca(plant, ca.reissued())

    text = page(operator, DETAIL)

    assert "The same name and key are proven by" in text and ">first</a>" in text


def test_questions_do_not_promise_what_lacks_proof(operator, plant, ca):
    demand_proof(plant)
    asked = post_once(operator, "groups/add/", group_form(primary_pem=ca.pem))
    assert "there is none of Plant CA: the group admits nobody until there is" in unescape(asked.text_shown)
    enroll_ca(plant, ca, "plant-7", enabled=False)
    assert "enabled or not, it admits nobody until there is" in page(operator, "groups/g/plant-7/enable/")

    prove(plant, ca)

    assert "that register while it is enabled are admitted" in page(operator, "groups/g/plant-7/enable/")


def test_explanation_names_what_is_missing(operator, plant, ca):
    enroll_ca(plant, ca)
    demand_proof(plant)
    shown = "".join(one.pem for one in ca.leaf("pump-042").chain)

    answer = post_once(operator, "explain/", {"chain_pem": shown})

    assert "nobody has proven to have the key of CN=Plant CA" in answer.text_shown


def test_search_and_pages(operator, plant):
    for number in range(52):
        upload_ca(plant, root(f"CA {number}"), f"{'line' if number % 2 else 'hall'}-{number:02}")

    pages = [page(operator, LIST)]
    while leads_on := re.search(r'rel="next" href="([^"]+)"', pages[-1]):
        pages.append(page(operator, LIST + unescape(leads_on[1])))
    assert len(pages) > 1
    assert ["hall-00" in one for one in pages] == [True] + [False] * (len(pages) - 1)
    assert ["line-51" in one for one in pages] == [False] * (len(pages) - 1) + [True]
    assert page(operator, f"{LIST}?q=LINE-5").count('<th scope="row">') == 1
    assert "No CA certificate matches" in page(operator, f"{LIST}?q=-")
    page(operator, f"{LIST}?after=x~x")


def test_viewer_sees_and_is_offered_nothing(client, plant, row):
    client.force_login(a_user(Role.VIEWER, plant))

    for path in (LIST, DETAIL):
        text = page(client, path)
        assert "code waiting until" in text
        assert 'method="post"' not in text.replace(page_forms_of_the_frame(text), "")
        assert "Upload</a>" not in text


def page_forms_of_the_frame(text):
    """Signing out is a form too."""
    found = re.search(r'<form[^>]*action="/sign-out/".*?</form>', text, re.DOTALL)
    return found[0] if found else ""


def test_pages_state_their_queries(operator, plant, ca, row, django_assert_max_num_queries):
    enroll_ca(plant, ca)

    for path, most in ((LIST, 5), (DETAIL, 12), ("groups/", 9), (f"{LIST}add/", 8)):
        with django_assert_max_num_queries(most):
            page(operator, path)


# --- The setting ----------------------------------------------------------------------------------


def entered(service, **changed):
    from tests.portal.test_settings import entered as as_it_stands

    service.refresh_from_db()
    return as_it_stands(service, **changed)


def test_demanding_proof_is_asked_once_and_tells_what_it_did(client, plant, ca):
    client.force_login(a_user(Role.ADMINISTRATOR, plant))
    enroll_ca(plant, ca)
    register(plant, shows(ca.leaf("pump-042")), "pump-042")

    asked = post_once(client, "settings/change/", entered(plant, proof_of_possession="on"))
    assert "known device will be refused" in re.sub(r"<[^>]+>", "", asked.text_shown)
    answer = post(client, "settings/change/", entered(plant, proof_of_possession="on"), follow=True)

    plant.refresh_from_db()
    assert plant.proof_of_possession
    assert "1 device is refused from now on" in answer.content.decode()


def test_demanding_it_no_longer_rests_on_a_preview(client, plant, ca):
    client.force_login(a_user(Role.ADMINISTRATOR, plant))
    enroll_ca(plant, ca)
    register(plant, shows(ca.leaf("pump-042")), "pump-042")
    demand_proof(plant)
    given = entered(plant, reason="too early", retry_after_seconds="9")
    change = "settings/change/"

    asked = post_once(client, change, given)

    assert asked.status_code == 200 and "will come in anew" in asked.text_shown
    plant.refresh_from_db()
    assert plant.proof_of_possession and plant.retry_after_seconds == 3
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', asked.text_shown))
    plant.raise_epoch()
    outdated = post_once(client, change, hidden)
    assert outdated.status_code == 409 and "nothing was saved" in outdated.text_shown
    saved_now = post_once(client, change, {**hidden, "confirmed": mark_in(outdated.text_shown)})

    assert saved_now.status_code == 302
    plant.refresh_from_db()
    assert not plant.proof_of_possession and plant.retry_after_seconds == 9
    assert HistoryEvent.objects.filter(event="service.changed").latest("pk").reason == "too early"
