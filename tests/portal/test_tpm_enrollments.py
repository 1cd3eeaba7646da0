"""TPM enrollments in the form: keys by file or as text, the preview, and each way in which a key can be wrong."""

import base64

import pytest

from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import add_individual_enrollment
from enrollments.attestation.tpm import read_endorsement_key
from enrollments.models import AttestationMechanism, IndividualEnrollment
from enrollments.policy.roles import Role
from tests.attestation.test_tpm_public_area import public_area
from tests.certificates import self_signed
from tests.devices import ALICE
from tests.factories import a_service, a_user, an_individual
from tests.portal.entry_forms import HTMX, OUT_OF_BAND, a_file, entry_form, events, page, post
from tests.soft_tpm import SoftTpm

pytestmark = pytest.mark.django_db

TPM, OTHER = SoftTpm(0).keys, SoftTpm(1).keys
EK, SRK = TPM.endorsement_key, TPM.storage_root_key
PRIVATE = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAsecret\n-----END RSA PRIVATE KEY-----\n"


def text_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


def sha256_of(key: bytes) -> str:
    return read_endorsement_key(key).digest


def tpm_form(**changes):
    return entry_form(mechanism="tpm", **changes)


@pytest.fixture
def service():
    return a_service()


@pytest.fixture
def press(service) -> IndividualEnrollment:
    spec = IndividualSpec(
        registration_id="press-01",
        mechanism=AttestationMechanism.TPM,
        endorsement_key=EK,
        storage_root_key=SRK,
    )
    return add_individual_enrollment(service, spec, actor=ALICE)


def held(service, registration_id="press-01") -> tuple[bytes, bytes]:
    entry = service.individualenrollments.by_registration_id(registration_id)
    return bytes(entry.endorsement_key or b""), bytes(entry.storage_root_key or b"")


# --- Adding ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"endorsement_key": text_of(EK)}, id="pasted"),
        pytest.param(
            {"endorsement_key": base64.encodebytes(EK).decode().replace("\n", "\r\n")}, id="pasted in lines"
        ),
        pytest.param({"endorsement_key_upload": EK}, id="a file of bytes"),
        pytest.param({"endorsement_key_upload": base64.encodebytes(EK)}, id="a file of base64 in lines"),
        pytest.param(
            {"endorsement_key": text_of(OTHER.endorsement_key), "endorsement_key_upload": EK},
            id="a file, before what stands in the text",
        ),
    ],
)
def test_endorsement_key_is_enrolled(operator, service, given):
    if "endorsement_key_upload" in given:
        given = {**given, "endorsement_key_upload": a_file(given["endorsement_key_upload"], "ek.pub")}

    answer = post(operator, "enrollments/add/", tpm_form(registration_id="press-01", **given))

    assert answer["Location"] == "/services/plant/enrollments/"
    assert held(service) == (EK, b"")
    (row,) = events(service, "enrollment.added")
    assert row.after["endorsement_key_sha256"] == sha256_of(EK)


def test_without_a_name_it_is_called_by_its_key_and_the_preview_said_so(operator, service):
    name = read_endorsement_key(EK).default_registration_id
    data = tpm_form(endorsement_key=text_of(EK), storage_root_key=text_of(SRK))

    preview = post(operator, "tpm-preview/", data, headers=HTMX)
    post(operator, "enrollments/add/", data)

    assert name in preview.text_shown
    assert held(service, name) == (EK, SRK)


WRONG = [
    pytest.param(PRIVATE, "This is a private key", id="private key"),
    pytest.param("-----BEGIN PUBLIC KEY-----\nMIIB\n", "was given as PEM", id="PEM"),
    pytest.param("no key at all!", "is not base64", id="no base64"),
    pytest.param(text_of(EK[:200]), "is cut off", id="cut off"),
    pytest.param(text_of(EK[2:]), "is a TPMT_PUBLIC", id="without its size"),
    pytest.param(text_of(public_area(kind=0x0023)), "is not an RSA key", id="ECC"),
    pytest.param(text_of(public_area(attributes=0x00050072)), "restricted decryption key", id="signing key"),
    pytest.param(text_of(b"\x30\x82\x04\x00" + b"c" * 99), "was given as DER", id="certificate"),
    pytest.param("A" * 5_000, "characters long", id="too long"),
]


@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
@pytest.mark.parametrize(("given", "sentence"), WRONG)
def test_what_is_no_endorsement_key_is_refused_where_it_was_pasted(
    operator, service, given, sentence, headers
):
    data = tpm_form(registration_id="press-01", endorsement_key=given, reason="new press")

    answer = post(operator, "enrollments/add/", data, headers=headers)

    assert answer.status_code == 422
    (said,) = answer.context["form"].errors["endorsement_key"]
    assert sentence in said
    assert said.endswith("It is not shown again here in case it was secret.")
    assert given.split("\n")[1 if "\n" in given else 0] not in answer.text_shown
    assert 'value="new press"' in answer.text_shown
    assert not service.individualenrollments.exists()


@pytest.mark.parametrize("name", ["endorsement_key", "storage_root_key"])
@pytest.mark.parametrize(("given", "sentence"), WRONG)
def test_what_is_wrong_with_a_file_is_said_at_the_file(operator, service, name, given, sentence):
    keys = {"endorsement_key": text_of(EK), f"{name}_upload": a_file(given)}

    answer = post(operator, "enrollments/add/", tpm_form(registration_id="press-01", **keys))

    errors = answer.context["form"].errors
    assert list(errors) == [f"{name}_upload"]
    assert not errors[f"{name}_upload"][0].endswith("secret.")
    assert f'href="#id_{name}_upload"' in answer.text_shown
    assert not service.individualenrollments.exists()


@pytest.mark.parametrize(
    ("given", "field", "sentence"),
    [
        ({}, "endorsement_key", "Give the endorsement key of the device&#x27;s TPM."),
        ({"storage_root_key": text_of(SRK)}, "endorsement_key", "Give the endorsement key"),
        (
            {"endorsement_key": text_of(EK), "storage_root_key": text_of(EK)},
            "storage_root_key",
            "This is the endorsement key once more.",
        ),
        ({"endorsement_key_upload": b""}, "endorsement_key_upload", "The endorsement key is missing."),
    ],
)
def test_what_is_missing_or_twice_there_is_said_in_its_place(operator, service, given, field, sentence):
    given = {name: a_file(one) if isinstance(one, bytes) else one for name, one in given.items()}

    answer = post(operator, "enrollments/add/", tpm_form(registration_id="press-01", **given))

    assert (answer.status_code, list(answer.context["form"].errors)) == (422, [field])
    assert sentence in answer.text_shown
    assert not service.individualenrollments.exists()


def test_key_in_a_file_comes_back_as_text_where_something_else_is_to_be_mended(operator, service):
    data = tpm_form(initial_twin="[]", endorsement_key_upload=a_file(EK, "ek.pub"))

    answer = post(operator, "enrollments/add/", data)

    assert answer.status_code == 422
    assert text_of(EK) in answer.text_shown
    assert sha256_of(EK) in answer.text_shown


@pytest.mark.parametrize(
    ("mechanism", "own"),
    [
        ("x509", {"primary_pem": self_signed("press-01").pem}),
        ("symmetricKey", {"registration_id": "press-01"}),
    ],
)
@pytest.mark.parametrize("keys", [{"endorsement_key": PRIVATE}, {"endorsement_key": text_of(EK)}])
def test_keys_that_were_given_for_another_mechanism_are_not_looked_at(
    operator, service, mechanism, own, keys
):
    answer = post(operator, "enrollments/add/", entry_form(mechanism=mechanism, **own, **keys))

    assert answer.status_code == 302
    assert held(service) == (b"", b"")


@pytest.mark.parametrize("given", [{"primary_pem": "no certificate"}, {"primary_upload": PRIVATE}])
def test_certificates_that_were_given_for_another_mechanism_are_not_looked_at(operator, service, given):
    given = {name: a_file(one) if name.endswith("upload") else one for name, one in given.items()}

    post(operator, "enrollments/add/", tpm_form(endorsement_key=text_of(EK), **given))

    assert service.individualenrollments.get().certificates.count() == 0


# --- The preview -----------------------------------------------------------------------------


def test_preview_shows_what_was_read_and_stores_nothing(operator, service):
    data = tpm_form(endorsement_key_upload=a_file(EK, "ek.pub"), storage_root_key=text_of(SRK))

    answer = post(operator, "tpm-preview/", data, headers=HTMX)

    assert answer.status_code == 200
    assert 'id="tpm-preview"' in answer.text_shown
    assert "<html" not in answer.text_shown
    assert (sha256_of(EK) in answer.text_shown, sha256_of(SRK) in answer.text_shown) == (True, True)
    assert "Read the endorsement key. Read the storage root key." in answer["HX-Trigger"]
    assert not service.individualenrollments.exists()


def test_preview_says_what_is_wrong_and_shows_nothing_of_it(operator):
    answer = post(operator, "tpm-preview/", tpm_form(endorsement_key=PRIVATE), headers=HTMX)

    assert answer.status_code == 422
    assert "This is a private key" in answer.text_shown
    assert "MIIEow" not in answer.text_shown + answer["HX-Trigger"]
    assert "SHA-256" not in answer.text_shown


def test_preview_of_nothing_is_empty(operator):
    answer = post(operator, "tpm-preview/", tpm_form(), headers=HTMX)

    assert (answer.status_code, "SHA-256" in answer.text_shown) == (200, False)
    assert "Nothing was given." in answer["HX-Trigger"]


def test_preview_without_script_is_the_form_with_what_was_read(operator, service):
    data = tpm_form(endorsement_key=text_of(EK), preview="1", device_id="at-the-hub")

    answer = post(operator, "enrollments/add/", data)

    assert answer.status_code == 200
    assert sha256_of(EK) in answer.text_shown
    assert 'value="at-the-hub"' in answer.text_shown
    assert not service.individualenrollments.exists()


def test_preview_at_its_own_address_is_a_page(operator):
    answer = post(operator, "tpm-preview/", tpm_form(endorsement_key=text_of(EK)))

    assert "<html" in answer.text_shown
    assert sha256_of(EK) in answer.text_shown


# --- Editing ---------------------------------------------------------------------------------


def edit(client, entry, **changes):
    data = tpm_form(expected_etag=entry.etag, **changes)
    return post(client, f"enrollments/i/{entry.registration_id}/", data)


@pytest.mark.parametrize(
    ("given", "then"),
    [
        pytest.param({}, (EK, SRK), id="nothing given: both are kept"),
        pytest.param(
            {"storage_root_key": OTHER.storage_root_key}, (EK, OTHER.storage_root_key), id="its SRK"
        ),
        pytest.param(
            {"endorsement_key": OTHER.endorsement_key},
            (OTHER.endorsement_key, b""),
            id="its EK, and SRK with it",
        ),
        pytest.param(
            {"endorsement_key": OTHER.endorsement_key, "storage_root_key": OTHER.storage_root_key},
            (OTHER.endorsement_key, OTHER.storage_root_key),
            id="both",
        ),
    ],
)
def test_keys_are_kept_or_replaced(operator, service, press, given, then):
    shown = page(operator, "enrollments/i/press-01/")

    answer = edit(operator, press, **{name: text_of(key) for name, key in given.items()})

    assert (sha256_of(EK) in shown, sha256_of(SRK) in shown, text_of(EK) in shown) == (True, True, False)
    assert answer.status_code == 302
    assert held(service) == then


@pytest.mark.parametrize("given", [{"endorsement_key": PRIVATE}, {"storage_root_key_upload": b"junk"}])
def test_keys_stay_as_they_are_where_something_wrong_was_given(operator, service, press, given):
    given = {name: a_file(one) if isinstance(one, bytes) else one for name, one in given.items()}

    assert edit(operator, press, **given).status_code == 422
    assert held(service) == (EK, SRK)


@pytest.mark.parametrize(
    ("mechanism", "warned"),
    [
        ("x509", "removes its certificates"),
        ("symmetricKey", "its symmetric keys"),
        ("tpm", "keys of its TPM"),
    ],
)
def test_form_says_what_another_mechanism_would_remove(operator, service, press, mechanism, warned):
    an_individual(service, "x509")
    an_individual(service, "symmetricKey", keys=True)
    name = "press-01" if mechanism == "tpm" else mechanism

    text = page(operator, f"enrollments/i/{name}/")

    assert f"leaves-{mechanism}" in text
    assert warned in text
    assert "leaves-" not in page(operator, "enrollments/add/")


def test_another_mechanism_removes_the_keys(operator, service, press):
    post(operator, "enrollments/i/press-01/", entry_form(mechanism="symmetricKey", expected_etag=press.etag))

    assert held(service) == (b"", b"")
    assert service.individualenrollments.get().primary_key


def test_conflict_brings_the_keys_that_are_held_now(operator, service, press):
    edit(operator, press, endorsement_key=text_of(OTHER.endorsement_key))

    answer = post(operator, "enrollments/i/press-01/", tpm_form(expected_etag=press.etag), headers=HTMX)

    assert answer.status_code == 409
    assert sha256_of(OTHER.endorsement_key) in answer.text_shown
    assert sha256_of(EK) not in answer.text_shown
    # The state, what turns the switch, what is scheduled, and the keys.
    assert len(OUT_OF_BAND.findall(answer.text_shown)) == 4


# --- Lists, and who may ------------------------------------------------------------------------


def test_list_is_filtered_by_tpm(operator, service, press):
    an_individual(service, "pump-1")

    found = page(operator, "enrollments/?mechanism=tpm")

    assert ("Select press-01" in found, "Select pump-1" in found) == (True, False)
    assert '<option value="tpm" selected>TPM</option>' in found


def test_question_before_disabling_speaks_of_certificates_only_where_there_are_some(operator, service, press):
    an_individual(service, "pump-1")

    assert "certificates" not in page(operator, "enrollments/i/press-01/disable/", **HTMX)
    assert "keys of its certificates are barred" in page(operator, "enrollments/i/pump-1/disable/", **HTMX)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR])
def test_who_may_only_look_sees_the_keys_and_saves_nothing(client, service, press, role):
    client.force_login(a_user(role, service))

    text = page(client, "enrollments/i/press-01/")
    saved = edit(client, press, endorsement_key=text_of(OTHER.endorsement_key))
    previewed = post(client, "tpm-preview/", tpm_form(endorsement_key=text_of(EK)))

    assert sha256_of(EK) in text
    for offer in ("Endorsement key file", "tpm-preview", "leaves-tpm", "Save"):
        assert offer not in text
    assert (saved.status_code, previewed.status_code) == (403, 403)
    assert held(service) == (EK, SRK)
    assert len(events(service, "action.refused")) == 2
