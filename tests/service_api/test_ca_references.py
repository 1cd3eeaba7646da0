"""Groups that refer to uploaded CA certificates by name (contract 6.4, 6.9)."""

import pytest

from enrollments.actions.ca_certificates import delete_ca_certificate
from enrollments.actions.registrations import Outcome
from enrollments.actions.services import change_settings
from enrollments.errors import Conflict
from enrollments.models import EnrollmentGroup, HeldCertificate
from tests.certificates import root
from tests.devices import ALICE, demand_proof, enroll_ca, new_service, prove, register, upload_ca
from tests.service_api.conftest import HOST, error_of

pytestmark = pytest.mark.django_db
PATH = "/enrollmentGroups/plant-7"


@pytest.fixture
def ca(service):
    ca = root("Plant CA")
    upload_ca(service, ca)
    return ca


def referring(**references):
    return attested({"caReferences": references})


def attested(x509, **members):
    return {"enrollmentGroupId": "plant-7", "attestation": {"type": "x509", "x509": x509}, **members}


def test_answers_tell_the_names_as_they_were_sent(api, service, ca):
    upload_ca(service, root("Next"), "Next_CA.2")
    sent = referring(primary="plant-ca", secondary="Next_CA.2")

    created = api.put(PATH, sent)

    assert created.status_code == 200
    for body in (
        created.json(),
        api.get(PATH).json(),
        api.post("/enrollmentGroups/query", {"query": "SELECT *"}).json()[0],
        api.post(f"{PATH}/attestationmechanism").json(),
    ):
        assert body.get("attestation", body) == sent["attestation"]
    assert register(service, ca.leaf("pump-042")).outcome is Outcome.ASSIGNED


def test_an_answer_can_be_handed_back(api, ca):
    api.put(PATH, referring(primary="plant-ca"))
    shown = api.get(PATH).json()

    again = api.put(PATH, {**shown, "provisioningStatus": "disabled"}, if_match=shown["etag"])

    assert again.status_code == 200
    assert again.json()["attestation"] == shown["attestation"]
    assert again.json()["provisioningStatus"] == "disabled"


def test_case_of_a_name_does_not_count(api, ca):
    api.put(PATH, referring(primary="PLANT-ca"))

    assert api.get(PATH).json()["attestation"]["x509"] == {"caReferences": {"primary": "plant-ca"}}


def test_group_changes_between_names_and_certificates_of_its_own(api, service, ca):
    own = {"signingCertificates": {"primary": {"certificate": ca.pem + root("Helper").pem}}}
    assert api.put(PATH, attested(own)).status_code == 200
    assert HeldCertificate.objects.helpers().exists()

    assert api.put(PATH, referring(primary="plant-ca"), if_match="*").status_code == 200
    assert not HeldCertificate.objects.helpers().exists()
    with pytest.raises(Conflict):
        delete_ca_certificate(service, "plant-ca", actor=ALICE)

    assert api.put(PATH, attested(own), if_match="*").status_code == 200
    assert "signingCertificates" in api.get(PATH).json()["attestation"]["x509"]
    delete_ca_certificate(service, "plant-ca", actor=ALICE)


def test_reference_needs_no_proof_and_admission_may(api, service, ca):
    demand_proof(service)

    assert api.put(PATH, referring(primary="plant-ca")).status_code == 200
    assert register(service, ca.leaf("pump-042")).outcome is Outcome.UNAUTHORIZED

    prove(service, ca, "the-same")
    assert register(service, ca.leaf("pump-042")).outcome is Outcome.ASSIGNED


def test_in_bulk(api, ca):
    entry = referring(primary="plant-ca")
    lost = {**referring(primary="lost"), "enrollmentGroupId": "plant-8"}

    answer = api.post("/enrollmentGroups", {"mode": "create", "enrollmentGroups": [entry, lost]}).json()

    assert [one["enrollmentGroupId"] for one in answer["errors"]] == ["plant-8"]
    assert "caReferences.primary" in answer["errors"][0]["errorStatus"]
    assert EnrollmentGroup.objects.get().group_id == "plant-7"


@pytest.mark.parametrize(
    ("x509", "named"),
    [
        pytest.param({"caReferences": {}}, "attestation.x509.caReferences", id="none"),
        pytest.param({"caReferences": {"primary": None}}, "attestation.x509.caReferences", id="null"),
        pytest.param({"caReferences": {"primary": ""}}, "caReferences.primary", id="empty"),
        pytest.param({"caReferences": {"primary": "lost"}}, "caReferences.primary", id="unknown"),
        pytest.param(
            {"caReferences": {"primary": "plant-ca", "secondary": "lost"}},
            "caReferences.secondary",
            id="the second unknown",
        ),
        pytest.param({"caReferences": {"primary": "elsewhere"}}, "caReferences.primary", id="of another"),
        pytest.param({"caReferences": {"primary": "plant\x00ca"}}, "NUL", id="NUL"),
        pytest.param({"caReferences": {"primary": "\ud800"}}, "surrogate", id="lone surrogate"),
        pytest.param({"caReferences": {"primary": "x" * 70_000}}, "caReferences.primary", id="long"),
        pytest.param({"caReferences": {"primary": "plant-\u212aa"}}, "caReferences.primary", id="Kelvin"),
        pytest.param({"caReferences": {"primary": 7}}, "caReferences.primary", id="a number"),
        pytest.param({"caReferences": {"primary": ["plant-ca"]}}, "caReferences.primary", id="a list"),
        pytest.param({"caReferences": {"Primary": "plant-ca"}}, "caReferences.Primary", id="another case"),
        pytest.param({"caReferences": ["plant-ca"]}, "caReferences", id="no object"),
        pytest.param(
            {"caReferences": {"primary": "plant-ca"}, "signingCertificates": {}},
            "attestation.x509",
            id="both",
        ),
    ],
)
def test_references_that_cannot_be(api, service, ca, x509, named):
    change_settings(service, {"host_name": HOST}, actor=ALICE)
    upload_ca(new_service("other"), root("Else"), "elsewhere")

    status, _code, message = error_of(api.put(PATH, attested(x509)))

    assert status == 400
    assert named in message
    assert len(message) < 1000
    assert not service.enrollmentgroups.exists()


def test_individual_enrollment_refers_to_none(api, ca):
    body = {
        "registrationId": "pump-042",
        "attestation": {"type": "x509", "x509": {"caReferences": {"primary": "plant-ca"}}},
    }

    status, _code, message = error_of(api.put("/enrollments/pump-042", body))

    assert status == 400
    assert "clientCertificates" in message


def test_ca_that_another_group_holds(api, service, ca):
    enroll_ca(service, ca, "older")

    status, code, _message = error_of(api.put(PATH, referring(primary="plant-ca")))

    assert (status, code) == (409, 409203)


def test_query_states_its_queries(api, service, ca, django_assert_max_num_queries):
    for number in range(3):
        other = root(f"CA {number}")
        upload_ca(service, other, f"ca-{number}")
        body = {**referring(primary=f"ca-{number}"), "enrollmentGroupId": f"g-{number}"}
        assert api.put(f"/enrollmentGroups/g-{number}", body).status_code == 200

    with django_assert_max_num_queries(10):
        answer = api.post("/enrollmentGroups/query", {"query": "SELECT *"})

    assert len(answer.json()) == 3
