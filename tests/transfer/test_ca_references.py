"""Groups in lists that refer to uploaded CA certificates: the same devices, whatever has that name here."""

import pytest

from enrollments.actions.ca_certificates import delete_ca_certificate
from enrollments.actions.registrations import Outcome
from enrollments.models import EnrollmentGroup, ImportFormat
from tests.certificates import root
from tests.devices import ALICE, register, upload_ca
from tests.transfer.lists import below, carried_out, checked, csv_of, imported, json_lines, pinned, problems
from tests.transfer.test_round_trip import exported

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("alice")]
OLD, NEW, OTHER = root("Old CA"), root("New CA"), root("Other CA")


def named(group_id, certificates=(), **references):
    """A line with names, beside certificates where these are given."""
    pair = {slot: {"certificate": one} for slot, one in zip(references, certificates, strict=False)}
    x509 = {**({"signingCertificates": pair} if pair else {}), "caReferences": references}
    return {"enrollmentGroupId": group_id, "attestation": {"type": "x509", "x509": x509}}


def as_format(line, format):
    if format == ImportFormat.JSON_LINES:
        return json_lines(line)
    x509 = line["attestation"]["x509"]
    given = x509.get("signingCertificates", {}), x509["caReferences"]
    row = {"enrollmentGroupId": line["enrollmentGroupId"]}
    for slot in ("primary", "secondary"):
        if slot in given[0]:
            row[f"{slot}Certificate"] = given[0][slot]["certificate"]
        if slot in given[1]:
            row[f"{slot}CaReference"] = given[1][slot]
    return csv_of(row)


def held(service):
    rows = service.enrollmentgroups.get().certificates.select_related("certificate", "ca_certificate")
    return {
        one.slot or one.role: (
            one.certificate.thumbprint_sha256,
            one.ca_certificate and one.ca_certificate.name,
        )
        for one in rows
    }


@pytest.mark.parametrize("format", list(ImportFormat))
def test_where_the_same_certificate_has_that_name_the_group_refers_to_it(service, format):
    upload_ca(service, OLD, "Old-CA")
    line = named("plant", [OLD.pem], primary="old-ca")

    run = carried_out(checked(service, as_format(line, format), format=format))

    assert run.counts == {"added": 1}
    assert held(service) == {"primary": (OLD.parsed.thumbprint_sha256, "Old-CA")}


@pytest.mark.parametrize("format", list(ImportFormat))
def test_where_nobody_has_uploaded_it_the_group_holds_the_certificate_itself(service, format):
    line = named("plant", [OLD.pem], primary="old-ca")

    carried_out(checked(service, as_format(line, format), format=format))

    assert held(service) == {"primary": (OLD.parsed.thumbprint_sha256, None)}
    assert register(service, OLD.leaf("pump-1")).outcome is Outcome.ASSIGNED
    assert register(service, OTHER.leaf("pump-2")).outcome is Outcome.UNAUTHORIZED


def test_it_refers_to_all_of_them_or_to_none(service):
    upload_ca(service, OLD, "old-ca")

    imported(service, named("plant", [OLD.pem, NEW.pem], primary="old-ca", secondary="new-ca"))

    thumbprints = OLD.parsed.thumbprint_sha256, NEW.parsed.thumbprint_sha256
    assert held(service) == {"primary": (thumbprints[0], None), "secondary": (thumbprints[1], None)}


@pytest.mark.parametrize("format", list(ImportFormat))
def test_names_alone_have_to_be_here(service, format):
    upload_ca(service, OLD, "old-ca")
    good, bad = named("plant", primary="old-ca"), named("other", primary="new-ca")

    carried_out(checked(service, as_format(good, format), format=format))
    run = checked(service, as_format(bad, format), format=format)

    assert held(service) == {"primary": (OLD.parsed.thumbprint_sha256, "old-ca")}
    (told,) = problems(run).values()
    assert told == "attestation.x509.caReferences.primary: 'new-ca' is no CA certificate of this service."


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        pytest.param(
            named("plant", [OTHER.pem], primary="old-ca"),
            "attestation.x509.caReferences.primary: in this service old-ca is another certificate",
            id="another certificate",
        ),
        pytest.param(
            named("plant", [OLD.pem], primary="old ca"),
            "attestation.x509.caReferences.primary: 'old ca' cannot be a name.",
            id="no name",
        ),
        pytest.param(
            named("plant", [OLD.pem], primary="old-ca", secondary="new-ca"),
            "attestation.x509.caReferences: beside certificates, give a name for each",
            id="more names than certificates",
        ),
        pytest.param(
            named("plant", [OLD.pem + OTHER.pem], primary="old-ca"),
            "attestation.x509.caReferences.primary: a group that refers to uploaded CA certificates has no helpers",
            id="helpers",
        ),
        pytest.param(
            named("plant", [OLD.pem + OTHER.pem], primary="not-here"),
            "attestation.x509.caReferences.primary: a group that refers to uploaded CA certificates has no helpers",
            id="helpers of one that is not here",
        ),
    ],
)
@pytest.mark.parametrize("format", list(ImportFormat))
def test_names_that_cannot_be_are_told(service, line, sentence, format):
    upload_ca(service, OLD, "old-ca")

    run = checked(service, as_format(line, format), format=format)

    (told,) = problems(run).values()
    assert told.startswith(sentence)


@pytest.mark.parametrize("references", [{}, {"primary": None}, {"primary": 5}, ["old-ca"]])
def test_references_of_another_form_are_told(service, references):
    line = below("plant", OLD)
    line["attestation"]["x509"]["caReferences"] = references

    run = checked(service, json_lines(line))

    assert "attestation.x509.caReferences" in problems(run)[1]


def test_a_device_refers_to_none(service):
    leaf = OLD.leaf("pump-1")
    line = pinned(leaf)
    line["attestation"]["x509"]["caReferences"] = {"primary": "old-ca"}
    row = {"registrationId": "pump-1", "primaryCertificate": leaf.pem, "primaryCaReference": "old-ca"}

    for content, format in (
        (json_lines(line), ImportFormat.JSON_LINES),
        (csv_of(row), ImportFormat.CSV),
        (csv_of({**row, "primaryCertificate": ""}), ImportFormat.CSV),
    ):
        (told,) = problems(checked(service, content, format=format)).values()
        assert "attestation.x509: " in told


def test_a_ca_that_is_deleted_between_check_and_run_leaves_its_certificate(service):
    upload_ca(service, OLD, "old-ca")
    run = checked(service, json_lines(named("plant", [OLD.pem], primary="old-ca")))
    delete_ca_certificate(service, "old-ca", actor=ALICE)

    assert carried_out(run).counts == {"added": 1}
    assert held(service) == {"primary": (OLD.parsed.thumbprint_sha256, None)}


def test_an_import_without_the_names_takes_a_reference_away(service):
    """As a PUT does it: what is not given goes back to its default."""
    upload_ca(service, OLD, "old-ca")
    imported(service, named("plant", [OLD.pem], primary="old-ca"))
    content = exported(service, ImportFormat.JSON_LINES, with_secrets=False)

    assert carried_out(checked(service, content)).counts == {"unchanged": 1}
    assert imported(service, {**below("plant", OLD), "operation": "update"}).counts == {"changed": 1}
    assert held(service) == {"primary": (OLD.parsed.thumbprint_sha256, None)}
    assert carried_out(checked(service, content)).counts == {"changed": 1}
    assert EnrollmentGroup.objects.get().certificates.get().ca_certificate.name == "old-ca"
