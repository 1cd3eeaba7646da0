"""Where a stored certificate cannot be read any more: entries are told, and what shuts out is answered (R16)."""

from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.models import EnrollmentGroup, HistoryEvent, IndividualEnrollment
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from tests.certificates import root, self_signed
from tests.devices import enroll_ca, enroll_device, make_unreadable, prove
from tests.factories import a_user
from tests.service_api.conftest import error_of
from tests.service_api.test_access import a_token, bearer

pytestmark = pytest.mark.django_db
PATHS = {"enrollment": "/enrollments/pump-1", "group": "/enrollmentGroups/pump-1"}


@pytest.fixture
def api(service):
    return bearer(a_token(service, a_user(Role.ADMINISTRATOR, service), *list(AccessRight)[1:]))


@pytest.fixture(params=list(PATHS))
def path(request):
    return PATHS[request.param]


@pytest.fixture
def held(service, path):
    """The certificate of the one entry that there is."""
    held = self_signed("pump-1") if path == PATHS["enrollment"] else root("Plant")
    if path == PATHS["enrollment"]:
        enroll_device(service, held)
    else:
        enroll_ca(service, held, "pump-1")
    return held


def entry():
    kinds = (IndividualEnrollment, EnrollmentGroup)
    (found,) = [one for kind in kinds for one in kind.objects.all()]
    return found


def info_in(body):
    ((_, pair),) = body["attestation"]["x509"].items()
    return pair["primary"]["info"]


def test_it_is_told_by_what_was_kept_of_it(api, path, held):
    before = info_in(api.get(path).json())
    make_unreadable(held)

    answer = api.get(path)

    assert answer.status_code == 200
    assert {**info_in(answer.json()), "version": before["version"]} == before
    assert "version" not in info_in(answer.json())


@pytest.mark.parametrize("read", ["before", "after"])
def test_a_put_that_disables_is_done_and_answered(api, path, held, read):
    """By the body that was told, whether it was asked for before or since."""
    body = api.get(path).json()
    make_unreadable(held)
    body = api.get(path).json() if read == "after" else body

    answer = api.put(path, {**body, "provisioningStatus": "disabled"}, If_Match=body["etag"])

    assert (answer.status_code, answer.json()["provisioningStatus"]) == (200, "disabled")
    (kept,) = entry().certificates.select_related("certificate")
    assert not entry().enabled
    assert kept.certificate.thumbprint_sha256 == held.parsed.thumbprint_sha256
    assert HistoryEvent.objects.latest("pk").after == {"status": "disabled"}


def test_so_is_one_that_gives_the_certificate(api, path, held):
    body = api.get(path).json()
    ((_, pair),) = body["attestation"]["x509"].items()
    pair["primary"] = {"certificate": held.parsed.pem}
    make_unreadable(held)

    answer = api.put(path, {**body, "provisioningStatus": "disabled"}, If_Match="*")

    assert (answer.status_code, entry().enabled) == (200, False)


def test_bulk_disables_as_well(api, path, held):
    make_unreadable(held)
    body = api.get(path).json()
    member = "enrollments" if path == PATHS["enrollment"] else "enrollmentGroups"
    items = [{**body, "provisioningStatus": "disabled"}]

    answer = api.post(path.removesuffix("/pump-1"), {"mode": "update", member: items})

    assert answer.json() == {"isSuccessful": True, "errors": []}
    assert not entry().enabled


def test_one_that_enables_is_refused_with_the_cause(api, path, held):
    make_unreadable(held)
    body = api.get(path).json()
    api.put(path, {**body, "provisioningStatus": "disabled"}, If_Match="*")

    status, _, message = error_of(api.put(path, {**body, "provisioningStatus": "enabled"}, If_Match="*"))

    assert status == 400
    assert f"The certificate {held.parsed.thumbprint_sha256} cannot be read." in message
    assert not entry().enabled


def test_one_that_enables_at_a_time_is_refused_as_well(api, path, held):
    make_unreadable(held)
    body = {**api.get(path).json(), "provisioningStatus": "disabled"}
    assert api.put(path, body, If_Match="*").status_code == 200
    body, then = api.get(path).json(), timezone.now() + timedelta(hours=1)

    status, _, message = error_of(api.put(path, {**body, "switchesAt": then.isoformat()}, If_Match="*"))

    assert status == 400
    assert f"The certificate {held.parsed.thumbprint_sha256} cannot be read." in message
    assert entry().switches_at is None


def test_it_can_be_listed_and_deleted(api, path, held):
    make_unreadable(held)

    listed = api.post(f"{path.removesuffix('/pump-1')}/query", {"query": "SELECT * FROM enrollments"})

    assert listed.status_code == 200
    assert api.delete(path).status_code == 204


def test_a_dry_run_that_cannot_be_worked_out_is_an_answer(api, service):
    top = root("Root")
    enroll_ca(service, top, "root")
    enroll_ca(service, top.intermediate("Mid"), "mid", enabled=False)
    make_unreadable(top)
    body = api.get("/enrollmentGroups/mid").json()

    asked = api.put(
        "/enrollmentGroups/mid",
        {**body, "provisioningStatus": "enabled"},
        query="api-version=2021-10-01&dryRun=true",
        If_Match="*",
    )

    status, _, message = error_of(asked)
    assert status == 500
    assert "A stored certificate that this needs cannot be read" in message


def test_a_group_that_refers_to_a_ca_certificate_is_disabled(api, service):
    ca = root("Plant")
    prove(service, ca, "plant-ca")
    body = {
        "enrollmentGroupId": "by-name",
        "attestation": {"type": "x509", "x509": {"caReferences": {"primary": "plant-ca"}}},
    }
    made = api.put("/enrollmentGroups/by-name", body).json()
    make_unreadable(ca)

    answer = api.put(
        "/enrollmentGroups/by-name", {**made, "provisioningStatus": "disabled"}, If_Match=made["etag"]
    )

    assert (answer.status_code, answer.json()["provisioningStatus"]) == (200, "disabled")
