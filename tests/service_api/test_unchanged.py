"""A PUT of what is there already changes nothing; whether its sender may write is asked all the same."""

import pytest

from enrollments.actions.access_policies import change_policy
from enrollments.actions.entries import EnrollmentGroupNotFound
from enrollments.models import EnrollmentGroup, HistoryEvent, IndividualEnrollment, ProvisioningService
from enrollments.policy.access import AccessRight
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_device, enroll_key_group, enroll_keys, enroll_tpm
from tests.service_api.conftest import error_of
from tests.service_api.test_access import during

pytestmark = pytest.mark.django_db
DESIRED = {"properties": {"desired": {"valve": "closed"}}}
ENTRIES = {
    "keys": lambda service: enroll_keys(service, "a", initial_twin={"tags": {}, **DESIRED}),
    "x509": lambda service: enroll_device(service, self_signed("a"), device_information={"line": 9}),
    "tpm": lambda service: enroll_tpm(service, "a"),
    "group": lambda service: enroll_ca(service, root("a"), "a", helpers=(root("Helper").parsed,)),
    "group with keys": lambda service: enroll_key_group(service, "a", enabled=False),
}


@pytest.fixture(params=list(ENTRIES))
def entry(request, service):
    return ENTRIES[request.param](service)


def path_of(entry):
    return "/enrollments/a" if isinstance(entry, IndividualEnrollment) else "/enrollmentGroups/a"


def state(service):
    epoch = ProvisioningService.epoch_of(service.pk)
    rows = [
        list(model.objects.values("etag", "updated_at", "enabled", "initial_twin"))
        for model in (IndividualEnrollment, EnrollmentGroup)
    ]
    # That the answer tells keys that are kept is a row of its own, and no change.
    return epoch, HistoryEvent.objects.exclude(event="keys.revealed").count(), rows


@pytest.mark.parametrize("bulk", [False, True], ids=["single", "bulk"])
def test_what_get_answered_put_back_changes_nothing(service, api, entry, bulk):
    body = api.get(path_of(entry)).json()
    before = state(service)

    if bulk:
        collection, member = path_of(entry).removesuffix("/a"), "enrollments"
        member = "enrollmentGroups" if isinstance(entry, EnrollmentGroup) else member
        answer = api.post(collection, {"mode": "update", member: [body]})
        assert answer.json() == {"isSuccessful": True, "errors": []}
    else:
        answer = api.put(path_of(entry), body, If_Match=body["etag"])
        assert (answer.status_code, answer.json()["etag"]) == (200, entry.etag)

    assert state(service) == before
    changed = {**body, "provisioningStatus": "disabled" if entry.enabled else "enabled"}
    assert api.put(path_of(entry), changed, If_Match=body["etag"]).status_code == 200
    epoch, rows, _entries = state(service)
    assert (epoch > before[0], rows) == (True, before[1] + 1)
    assert api.get(path_of(entry)).json()["etag"] != body["etag"]


@pytest.mark.django_db(transaction=True)
def test_whoever_lost_the_right_meanwhile_is_refused_although_nothing_would_change(
    service, owner, api, monkeypatch
):
    body = api.get(path_of(enroll_keys(service, "a"))).json()
    take = [AccessRight.ENROLLMENT_READ]
    during(
        monkeypatch,
        lambda: change_policy(
            service, owner.name, rights=take, enabled=True, expected_etag=owner.etag, actor=ALICE
        ),
    )
    seen = HistoryEvent.objects.filter(event="keys.revealed").count()

    assert error_of(api.put("/enrollments/a", body, If_Match="*"))[0] == 403
    assert HistoryEvent.objects.filter(event="keys.revealed").count() == seen


def test_it_is_asked_in_the_transaction_of_the_act(service, api, monkeypatch):
    """A refusal there ends the act, before anything is told."""
    body = api.get(path_of(enroll_ca(service, root("a"), "a"))).json()

    def gone(actor):
        raise EnrollmentGroupNotFound("asked")

    monkeypatch.setattr("enrollments.actions.enrollment_groups.require_still", gone)

    assert error_of(api.put("/enrollmentGroups/a", body, If_Match="*"))[1] == 404202
