"""Where the key of the installation does not fit what is stored: shutting out works, and nothing is a crash."""

import pytest
from cryptography.fernet import Fernet

from enrollments.models import AttestationMechanism, EnrollmentGroup, HistoryEvent, IndividualEnrollment
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from tests.certificates import root
from tests.devices import enroll_ca, enroll_key_group, enroll_keys
from tests.factories import a_user
from tests.service_api.conftest import BackEnd, error_of
from tests.service_api.test_access import a_token, bearer
from tests.service_api.test_enrollments import KEY, OTHER_KEY

pytestmark = pytest.mark.django_db
PATHS = {"enrollment": "/enrollments/a", "group": "/enrollmentGroups/a"}


@pytest.fixture(params=list(PATHS))
def path(request, service):
    """Of an entry whose keys cannot be decrypted any more from the moment in which it is used."""
    enroll = enroll_keys if request.param == "enrollment" else enroll_key_group
    enroll(service, "a")
    return PATHS[request.param]


@pytest.fixture
def token(service, path, settings) -> BackEnd:
    """API tokens need no key; those of administrators are told keys."""
    administrator = bearer(a_token(service, a_user(Role.ADMINISTRATOR, service), *list(AccessRight)[1:]))
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()
    return administrator


def entry():
    kinds = (IndividualEnrollment, EnrollmentGroup)
    (found,) = [one for kind in kinds for one in kind.objects.without_secrets()]
    return found


def stored():
    """The keys as they stand in the database."""
    return (
        type(entry()).objects.extra(select={"raw": "primary_key || secondary_key"}).values_list("raw").get()
    )


def told_keys():
    return HistoryEvent.objects.filter(event="keys.revealed").count()


def test_a_put_that_disables_works_and_leaves_the_keys_alone(token, path):
    body, before = token.get(path).json(), stored()

    answer = token.put(path, {**body, "provisioningStatus": "disabled"}, If_Match=body["etag"])

    assert (answer.status_code, answer.json()["provisioningStatus"]) == (200, "disabled")
    assert "symmetricKey" not in answer.json()["attestation"]
    assert (entry().enabled, stored(), told_keys()) == (False, before, 0)
    row = HistoryEvent.objects.latest("pk")
    assert (row.event.endswith(".disabled"), row.after) == (True, {"status": "disabled"})


def test_the_keys_of_a_predecessor_are_in_the_way_of_nothing(service, settings):
    enroll_ca(service, root("Plant CA"), "a", predecessor=enroll_key_group(service, "old"))
    administrator = bearer(a_token(service, a_user(Role.ADMINISTRATOR, service), *list(AccessRight)[1:]))
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()
    body = administrator.get("/enrollmentGroups/a").json()

    disabled = administrator.put(
        "/enrollmentGroups/a", {**body, "provisioningStatus": "disabled"}, If_Match="*"
    )
    left = service.enrollmentgroups.without_secrets().by_group_id("a")
    deleted = administrator.call("DELETE", "/enrollmentGroups/a")

    assert (disabled.status_code, left.enabled, left.predecessor_name) == (200, False, "old")
    assert deleted.status_code == 204
    row = HistoryEvent.objects.filter(event="group.deleted").get()
    assert row.before["predecessor"] == "old"


def test_bulk_disables_as_well(token, path):
    body = token.get(path).json()
    member = "enrollments" if path == PATHS["enrollment"] else "enrollmentGroups"
    items = [{**body, "provisioningStatus": "disabled"}]

    answer = token.post(path.removesuffix("/a"), {"mode": "update", member: items})

    assert answer.json() == {"isSuccessful": True, "errors": []}
    assert not entry().enabled


def test_new_keys_take_the_place_of_what_cannot_be_read(token, path):
    body, before = token.get(path).json(), stored()
    keys = {"primaryKey": KEY, "secondaryKey": OTHER_KEY}
    body["attestation"]["symmetricKey"] = keys

    answer = token.put(path, body, If_Match="*")

    assert answer.json()["attestation"]["symmetricKey"] == keys
    assert stored() != before
    row = HistoryEvent.objects.latest("pk")
    for name in ("primary_key", "secondary_key"):
        assert (row.before[name], row.after[name]) == ("(a key)", "(another key)")
        # What identifies keys cannot be decrypted either: that is not a reason to enroll none.
        assert row.after[f"{name}_id"] is None
    assert type(entry()).objects.get().primary_key == KEY


def test_keys_that_cannot_be_told_are_an_answer_and_no_row(token, path, caplog):
    caplog.set_level("INFO")

    status, code, message = error_of(token.post(f"{path}/attestationmechanism"))

    assert (status, code) == (500, 500001)
    assert "cannot be decrypted" in message
    assert told_keys() == 0
    (line,) = [one for one in caplog.records if one.name == "dpsportal.requests"]
    assert line.fields["refused"] == "secret_unreadable"
    assert "Traceback" not in caplog.text


def test_it_can_be_deleted_and_shown(token, path):
    assert token.get(path).json()["attestation"]["type"] == AttestationMechanism.SYMMETRIC_KEY
    assert token.delete(path).status_code == 204
