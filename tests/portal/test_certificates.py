"""Certificates and forms as they should not be: one clear sentence, the right status, nothing changed."""

import base64
import html
import json
import re

import pytest

from enrollments.models import Certificate, EnrollmentGroup, HistoryEvent, IndividualEnrollment
from tests.certificates import EXPIRED, NOT_YET_VALID, root, self_signed, signed_with_sha1
from tests.devices import register
from tests.factories import a_group, a_service, an_individual
from tests.portal.entry_forms import HTMX, a_file, entry_form, group_form, post

pytestmark = pytest.mark.django_db


@pytest.fixture
def service():
    return a_service()


@pytest.fixture(scope="module")
def ca():
    return root("Plant 7")


@pytest.fixture(scope="module")
def leaf(ca):
    return ca.leaf("pump-042")


def everything():
    """What a refused form must not have touched; the refusal of a right is the only row that may come."""
    return (
        list(IndividualEnrollment.objects.values_list("pk", "etag")),
        list(EnrollmentGroup.objects.values_list("pk", "etag")),
        Certificate.objects.count(),
        HistoryEvent.objects.count(),
    )


def add(client, **changes):
    return post(client, "enrollments/add/", entry_form(**changes))


def add_group(client, **changes):
    return post(client, "groups/add/", group_form(**changes))


def preview(client, *, kind="individual", **given):
    return post(client, "certificate-preview/", {"kind": kind, **given}, headers=HTMX)


# --- What is accepted ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda one: one.pem.encode(), id="PEM"),
        pytest.param(lambda one: one.der, id="DER"),
        pytest.param(lambda one: base64.b64encode(one.der), id="base64"),
        pytest.param(lambda one: one.pem.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(lambda one: b"\xef\xbb\xbf" + one.pem.encode(), id="BOM"),
        pytest.param(lambda one: b"subject=CN = pump\nissuer=x\n\n" + one.pem.encode(), id="leading text"),
        pytest.param(lambda one: one.pem.encode("utf-16"), id="UTF-16"),
    ],
)
def test_a_certificate_in_every_usual_wrapping(operator, service, leaf, wrap):
    seen = preview(operator, primary_upload=a_file(wrap(leaf)))
    answer = add(operator, primary_upload=a_file(wrap(leaf)))

    assert (seen.status_code, answer.status_code) == (200, 302)
    assert leaf.parsed.thumbprint_sha256 in seen.text_shown
    assert register(service, leaf).outcome == "assigned"


def test_the_preview_tells_what_was_parsed_and_stores_nothing(operator, service, ca, leaf):
    before = everything()

    answer = preview(operator, primary_pem=leaf.pem)

    one = leaf.parsed
    for told in ("CN=pump-042", "CN=Plant 7", one.thumbprint_sha1, one.thumbprint_sha256, one.serial_number):
        assert told in answer.text_shown
    for told in ("P-256", f"{one.not_before:%Y-%m-%d %H:%M}", f"{one.not_after:%Y-%m-%d %H:%M}"):
        assert told in answer.text_shown
    assert "Registration ID (from the CN)" in answer.text_shown
    assert "Read CN=pump-042." in json.loads(answer["HX-Trigger"])["announce"]["value"]
    assert everything() == before


def test_without_script_the_form_comes_back_with_its_preview(operator, service, leaf):
    before = everything()

    answer = add(operator, primary_upload=a_file(leaf.der), preview="1", device_id="dev-1")

    assert answer.status_code == 200
    assert leaf.parsed.thumbprint_sha256 in answer.text_shown
    assert leaf.pem.splitlines()[1] in answer.text_shown  # the file went into the paste field
    assert 'value="dev-1"' in answer.text_shown
    assert everything() == before


def test_the_preview_of_a_group_says_which_certificates_are_helpers(operator, ca):
    plant = ca.intermediate("Line 3")

    answer = preview(operator, kind="group", primary_pem=plant.pem + ca.pem)

    assert "2 certificates were given: the first is the CA of the group" in answer.text_shown
    assert answer.text_shown.count("certificate-card") == 2


def test_the_preview_links_to_where_a_certificate_is_enrolled(operator, service, ca, leaf):
    group = a_group(service, "Line-7", ca=ca)
    an_individual(service, leaf=leaf)

    of_group = preview(operator, kind="group", primary_pem=ca.pem)
    of_device = preview(operator, primary_pem=leaf.pem)
    of_itself = preview(operator, kind="group", primary_pem=ca.pem, current=group.pk)

    assert "/services/plant/groups/g/Line-7/" in of_group.text_shown
    assert "/services/plant/enrollments/i/pump-042/" in of_device.text_shown
    assert "already enrolled" not in of_itself.text_shown


@pytest.mark.parametrize(
    ("dates", "told"), [(EXPIRED, "expired on"), (NOT_YET_VALID, "is not valid before")], ids=["old", "early"]
)
def test_outside_its_dates_it_is_saved_with_a_warning_and_refused_at_registration(
    operator, service, ca, dates, told
):
    leaf, old_ca = ca.leaf("pump-042", **dates), root("Old", **dates)

    assert told in preview(operator, primary_pem=leaf.pem).text_shown
    assert told in preview(operator, kind="group", primary_pem=old_ca.pem).text_shown
    assert add(operator, primary_pem=leaf.pem).status_code == 302
    assert add_group(operator, primary_pem=old_ca.pem).status_code == 302
    assert register(service, leaf).outcome == "unauthorized"
    assert register(service, old_ca.leaf("pump-1")).outcome == "unauthorized"


def test_a_ca_certificate_as_device_certificate_is_saved_with_a_warning(operator, service, ca):
    device = root("pump-042")

    answer = preview(operator, primary_pem=device.pem)

    assert "is a CA certificate" in answer.text_shown
    assert "alert-danger" not in answer.text_shown
    assert add(operator, primary_pem=device.pem).status_code == 302
    assert register(service, device).outcome == "assigned"


# --- What is refused -------------------------------------------------------------------------

OVERSIZED = "x" * (64 * 1024 + 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("hello, I am a certificate", "This is no certificate", id="text"),
        pytest.param("-----BEGIN CERTIFICATE-----\nMIIB", "is cut off", id="cut off"),
        pytest.param(
            "-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----", "cannot be read", id="garbage"
        ),
        pytest.param(OVERSIZED, "more than 64 KiB", id="over 64 KiB"),
        pytest.param("hello\x00", "This is no certificate", id="NUL"),
    ],
)
@pytest.mark.parametrize("kind", ["individual", "group"])
@pytest.mark.parametrize("way", ["pasted", "uploaded"])
def test_what_is_no_certificate_gets_one_sentence(operator, service, text, told, kind, way):
    before = everything()
    given = {"primary_pem": text} if way == "pasted" else {"primary_upload": a_file(text)}
    send = add if kind == "individual" else add_group

    saved = send(operator, **given)
    if way == "uploaded":
        given = {"primary_upload": a_file(text)}
    seen = preview(operator, kind=kind, **given)

    assert (saved.status_code, seen.status_code) == (422, 422)
    assert told in saved.text_shown
    assert told in seen.text_shown
    assert OVERSIZED not in saved.text_shown
    assert everything() == before


def test_an_empty_file_is_refused(operator, service):
    before = everything()

    answer = add(operator, primary_upload=a_file(b""))

    assert (answer.status_code, "Nothing was uploaded" in answer.text_shown) == (422, True)
    assert everything() == before


@pytest.mark.parametrize("slot", ["primary", "secondary"])
@pytest.mark.parametrize("way", ["pem", "upload"])
@pytest.mark.parametrize("kind", ["individual", "group"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside its certificate"])
def test_a_private_key_is_refused_and_never_comes_back(
    operator, service, ca, leaf, slot, way, kind, beside, caplog
):
    before = everything()
    good, other = (leaf, "secondary" if slot == "primary" else "primary")
    text = (good.pem if beside else "") + good.key_pem
    secret = good.key_pem.splitlines()[1]

    def given():
        return {f"{slot}_{way}": a_file(text) if way == "upload" else text}

    path = "enrollments/add/" if kind == "individual" else "groups/add/"
    form = entry_form() if kind == "individual" else group_form()
    saved = post(operator, path, {**form, f"{other}_pem": good.pem, **given()})
    looked = post(operator, path, {**form, **given(), "preview": "1"})
    seen = preview(operator, kind=kind, **given())

    for answer in (saved, looked, seen):
        assert answer.status_code == 422
        assert "contains a private key, which was not stored" in answer.text_shown
        assert secret not in answer.text_shown
        assert "PRIVATE KEY" not in answer.text_shown
    assert good.pem.splitlines()[1] in saved.text_shown  # what was good in the other slot is still there
    assert secret not in caplog.text
    assert everything() == before


def test_several_certificates_for_one_device_are_refused(operator, service, ca, leaf):
    before = everything()

    answer = add(operator, primary_pem=leaf.pem + ca.pem)

    assert answer.status_code == 422
    assert "This holds 2 certificates, and an individual enrollment takes one" in answer.text_shown
    assert leaf.pem.splitlines()[1] in answer.text_shown
    assert everything() == before


def test_a_device_certificate_is_no_ca(operator, service, leaf):
    before = everything()

    answer = add_group(operator, primary_pem=leaf.pem)

    assert answer.status_code == 422
    assert "alert-danger" in preview(operator, kind="group", primary_pem=leaf.pem).text_shown
    assert everything() == before


@pytest.mark.parametrize("weakness", ["key", "curve", "signature"])
def test_a_weak_key_or_signature_admits_nobody_and_can_be_barred(operator, service, ca, weakness):
    weak = {
        "key": lambda: self_signed("pump-042", key="RSA 1024"),
        "curve": lambda: self_signed("pump-042", key="secp256k1"),
        "signature": lambda: signed_with_sha1(self_signed("pump-042")),
    }[weakness]()
    before = everything()

    seen = preview(operator, primary_pem=weak.pem)
    refused = add(operator, primary_pem=weak.pem)

    assert "never admits a device" in seen.text_shown
    assert refused.status_code == 422
    assert everything() == before
    assert add(operator, primary_pem=weak.pem, enabled="no").status_code == 302


def test_an_enrolled_ca_is_refused_with_a_link_to_its_group(operator, service, ca):
    a_group(service, "Line-7", ca=ca)
    before = everything()

    answer = add_group(operator, primary_pem=ca.reissued().pem)

    assert answer.status_code == 409
    assert "is already enrolled in group Line-7" in answer.text_shown
    assert '<a href="/services/plant/groups/g/Line-7/">' in answer.text_shown
    assert everything() == before


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_registration_id_taken_in_another_case_is_refused_with_a_link(operator, service, headers):
    an_individual(service, "Pump-042")
    before = everything()

    answer = post(
        operator, "enrollments/add/", entry_form(primary_pem=self_signed("pump-042").pem), headers=headers
    )

    assert answer.status_code == 409
    assert "Pump-042 is already enrolled" in answer.text_shown
    assert '<a href="/services/plant/enrollments/i/Pump-042/">' in answer.text_shown
    assert everything() == before


def test_the_same_ca_in_another_service_is_none_of_our_business(operator, service, ca):
    a_group(a_service("elsewhere"), "Line-7", ca=ca)

    assert add_group(operator, primary_pem=ca.pem).status_code == 302


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"registration_id": "pump 042", "mechanism": "symmetricKey"}, "cannot be used here"),
        ({"registration_id": "pümp", "mechanism": "symmetricKey"}, "cannot be used here"),
        ({"registration_id": "pump.", "mechanism": "symmetricKey"}, "cannot be used here"),
        ({"registration_id": "a" * 129, "mechanism": "symmetricKey"}, "at most 128 characters"),
        ({"registration_id": "", "mechanism": "symmetricKey"}, "Give the registration ID"),
        ({}, "Give the certificate of the device"),
        ({"registration_id": "pump-042"}, "Give the certificate with which the device will prove itself"),
        ({"mechanism": "tpm"}, "Give the endorsement key of the device"),
        ({"mechanism": "dice"}, "not one of the available choices"),
        ({"device_id": "no/slashes"}, "A device ID has the form"),
    ],
)
def test_a_name_of_wrong_form_gets_one_sentence(operator, service, changes, told):
    before = everything()
    if "device_id" in changes:
        changes = {**changes, "primary_pem": self_signed("pump-042").pem}

    answer = add(operator, **changes)

    assert answer.status_code == 422
    assert told in answer.text_shown
    assert everything() == before


def test_a_registration_id_that_is_not_the_common_name_is_refused(operator, service, leaf):
    before = everything()

    answer = add(operator, primary_pem=leaf.pem, registration_id="pump-043")

    assert (answer.status_code, "they must be the same" in answer.text_shown) == (422, True)
    assert everything() == before


@pytest.mark.parametrize(
    ("names", "told"),
    [(("a", "b"), "has 2 common names"), (("pümp",), "cannot be used here"), ((), "has 0 common names")],
    ids=["two", "not ASCII", "none"],
)
def test_a_common_name_that_is_no_registration_id_is_refused(operator, service, names, told):
    before = everything()

    answer = add(operator, primary_pem=self_signed(*names).pem)

    assert (answer.status_code, told in answer.text_shown) == (422, True)
    assert everything() == before


def test_primary_and_secondary_carry_the_same_name(operator, service, leaf):
    before = everything()

    answer = add(operator, primary_pem=leaf.pem, secondary_pem=self_signed("pump-043").pem)

    assert (answer.status_code, "they must be the same" in answer.text_shown) == (422, True)
    assert everything() == before


@pytest.mark.parametrize(
    ("twin", "told"),
    [
        ("[1]", "must be a JSON object"),
        ("{", "not valid JSON"),
        ('{"tags": 1}', "must be a JSON object"),
        ('{"tags": {}, "tags": {}}', "twice"),
        ('{"colour": 1}', "has tags and properties"),
        ('{"tags": {"a": NaN}}', "NaN"),
        ('{"tags": {"a": "\\ud800"}}', "surrogate"),
        ('{"tags": {"a": "\\u0000"}}', "NUL"),
        ('{"tags": {"a": "\x00"}}', "Null characters"),
        ('{"tags": {"a": "' + "x" * 8192 + '"}}', "at most 8192"),
        ('{"tags": ' * 80 + "1" + "}" * 80, "levels deep"),
    ],
    ids=["list", "broken", "tags", "twice", "unknown", "NaN", "surrogate", "NUL", "raw NUL", "large", "deep"],
)
def test_an_initial_twin_that_cannot_be_kept_gets_one_sentence(operator, service, leaf, ca, twin, told):
    before = everything()

    of_device = add(operator, primary_upload=a_file(leaf.der), initial_twin=twin)
    of_group = add_group(operator, primary_upload=a_file(ca.der), initial_twin=twin)

    for answer, given in ((of_device, leaf), (of_group, ca)):
        assert answer.status_code == 422
        assert told in answer.text_shown
        assert given.pem.splitlines()[1] in answer.text_shown  # the uploaded file outlives the error
    assert everything() == before


def test_a_twin_at_its_bound_can_be_saved_again_as_the_form_shows_it(operator, service, leaf):
    twin = json.dumps({"tags": {f"t{n}": n for n in range(560)}}, separators=(",", ":"))

    assert add(operator, primary_pem=leaf.pem, initial_twin=twin).status_code == 302
    shown = operator.get("/services/plant/enrollments/i/pump-042/").context["form"]
    answer = post(
        operator,
        "enrollments/i/pump-042/",
        entry_form(initial_twin=shown["initial_twin"].value(), expected_etag=shown["expected_etag"].value()),
    )

    assert answer.status_code == 302


def test_a_hub_of_another_service_is_unknown_here(operator, service, leaf):
    other = a_service("elsewhere").hubs.get()
    before = everything()

    for hub in (other.pk, 999999, "x"):
        answer = add(operator, primary_pem=leaf.pem, hubs=[hub])
        assert (answer.status_code, "That hub is not linked to this service." in answer.text_shown) == (
            422,
            True,
        )
    assert everything() == before


def test_a_group_without_certificate_or_name_is_refused(operator, service, ca):
    before = everything()

    nothing = add_group(operator)
    nameless = post(operator, "groups/add/", group_form(primary_pem=ca.pem) | {"group_id": ""})
    spaced = post(operator, "groups/add/", group_form(primary_pem=ca.pem) | {"group_id": "plant 7"})

    assert (nothing.status_code, "Give the CA certificate" in nothing.text_shown) == (422, True)
    assert (nameless.status_code, "Give the group an ID." in nameless.text_shown) == (422, True)
    assert (spaced.status_code, "cannot be used here" in spaced.text_shown) == (422, True)
    assert everything() == before


def test_more_helpers_than_are_kept_are_refused(operator, service, ca):
    before = everything()
    bundle = ca.pem + "".join(root(f"Root {number}").pem for number in range(11))

    answer = add_group(operator, primary_upload=a_file(bundle))

    assert (answer.status_code, "At most 10" in answer.text_shown) == (422, True)
    assert everything() == before


def test_markup_in_a_certificate_is_shown_as_text(operator, service):
    nasty = self_signed("<script>alert(1)</script>")

    for answer in (preview(operator, primary_pem=nasty.pem), add(operator, primary_pem=nasty.pem)):
        assert "<script>alert" not in answer.text_shown


# --- What comes back in a form ----------------------------------------------------------------

NOT_SHOWN = "It is not shown again here in case it was a key."


@pytest.mark.parametrize("wrap", ["mistyped header and a part", "hex", "cut off", "too long"])
@pytest.mark.parametrize("send", [add, add_group], ids=["individual", "group"])
@pytest.mark.parametrize("button", [{}, {"preview": "1"}], ids=["save", "preview"])
def test_text_that_is_no_certificate_does_not_come_back(operator, leaf, wrap, send, button):
    body = "".join(leaf.key_pem.splitlines()[1:-1])
    pasted = {
        "mistyped header and a part": f"-----BEGIN PRIVTE KEY-----\n{body[:100]}\n-----END PRIVTE KEY-----",
        "hex": base64.b64decode(body).hex(),
        "cut off": f"-----BEGIN CERTIFICATE-----\n{body}",
        "too long": f"{body[:60]}\n{body[60:]}" + "\n" + OVERSIZED,
    }[wrap]
    secret = pasted.splitlines()[1] if "\n" in pasted.strip() else pasted.strip()

    answer = send(operator, primary_pem=pasted, **button)

    assert answer.status_code == 422
    assert secret[:40] not in answer.text_shown
    # What is recognised as a key is said to be one; of the rest nobody can tell.
    assert NOT_SHOWN in answer.text_shown or "This contains a private key" in answer.text_shown


def test_a_file_is_not_said_to_be_hidden(operator):
    assert NOT_SHOWN not in add(operator, primary_upload=a_file("hello")).text_shown


def errors_at(answer) -> dict[str, str]:
    """The text of the errors below each field that has some."""
    found = re.findall(r'class="field-errors" id="id_(\w+)_error">(.*?)</div>', answer.text_shown, re.DOTALL)
    return {field: html.unescape(re.sub(r"<[^>]+>", " ", text)) for field, text in found}


@pytest.mark.parametrize("slot", ["primary", "secondary"])
@pytest.mark.parametrize("given", ["no certificate", "no CA"])
def test_an_error_stands_at_the_field_where_it_is_mended(operator, ca, leaf, slot, given):
    text, told = {
        "no certificate": ("hello", "This is no certificate"),
        "no CA": (leaf.pem, "is not a CA certificate"),
    }[given]
    beside = {} if slot == "primary" else {"primary_pem": ca.pem}

    of_file = add_group(operator, **beside, **{f"{slot}_upload": a_file(text)})
    of_text = add_group(operator, **beside, **{f"{slot}_pem": text})

    for answer, field in ((of_file, f"{slot}_upload"), (of_text, f"{slot}_pem")):
        errors = errors_at(answer)
        assert set(errors) == {field}
        assert told in errors[field]
        assert f'<a href="#id_{field}">' in answer.text_shown


def test_what_is_wrong_with_a_certificate_is_told_in_one_sentence(operator, leaf):
    saved = add_group(operator, primary_pem=leaf.pem)
    seen = preview(operator, kind="group", primary_pem=leaf.pem)

    told = "is not a CA certificate"
    assert saved.text_shown.count(told) == 2  # in the summary and at the field, not in the preview as well
    assert (
        "This certificate never admits a device; a disabled entry can still bar its key." in saved.text_shown
    )
    assert seen.text_shown.count(told) == 1


def test_where_it_is_enrolled_is_told_at_the_field_and_not_in_the_preview_as_well(
    operator, service, ca, leaf
):
    a_group(service, "Line-7", ca=ca)
    an_individual(service, leaf=leaf)

    of_group, of_device = add_group(operator, primary_pem=ca.pem), add(operator, primary_pem=leaf.pem)

    for answer in (of_group, of_device):
        assert answer.status_code == 409
        assert answer.text_shown.count("already enrolled") == 2


def test_a_readable_certificate_outlives_what_is_wrong_beside_it(operator, leaf):
    answer = add(operator, primary_pem=leaf.pem, secondary_pem="nonsense-text", initial_twin="[1]")

    assert answer.status_code == 422
    assert leaf.pem.splitlines()[1] in answer.text_shown
    assert "nonsense-text" not in answer.text_shown
    assert answer.text_shown.count(NOT_SHOWN) == 2  # in the summary, and at the secondary field alone


def test_a_wrong_name_and_a_wrong_certificate_are_told_at_once(operator, service):
    before = everything()

    of_group = post(operator, "groups/add/", {**group_form(primary_pem="hello"), "group_id": "a group"})
    of_device = add(operator, primary_pem="hello", registration_id="a device", device_id="no/slashes")

    for answer, name in ((of_group, "a group"), (of_device, "a device")):
        assert answer.status_code == 422
        assert f"&#x27;{name}&#x27; cannot be used here" in answer.text_shown
        assert "This is no certificate" in answer.text_shown
    assert "A device ID has the form" in of_device.text_shown
    assert everything() == before


@pytest.mark.parametrize("pk", ["9" * 30, "-" + "9" * 30, str(2**63), "9" * 5000, "first"])
def test_a_number_that_no_hub_has_is_no_hub_of_this_service(operator, service, leaf, ca, pk):
    before = everything()

    of_device = add(operator, primary_pem=leaf.pem, hubs=[pk])
    of_group = add_group(operator, primary_pem=ca.pem, hubs=[pk])

    for answer in (of_device, of_group):
        assert answer.status_code == 422
        assert "That hub is not linked to this service." in answer.text_shown
    assert everything() == before
