"""`dryRun=true` and `epoch=`: what a write would do to devices, and doing it only on that state (R7, R12)."""

from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions.access_policies import add_policy
from enrollments.actions.preview import Act, turn
from enrollments.actions.revocation import deny_device, release_registration
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import HistoryEvent, IndividualEnrollment, ProvisioningService, Slot
from enrollments.policy.access import AccessRight
from tests.certificates import root, self_signed
from tests.devices import (
    ALICE,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    enroll_line,
    register,
)
from tests.service_api.conftest import VERSION, error_of, keys, with_policy

pytestmark = pytest.mark.django_db
DRY = f"{VERSION}&dryRun=true"


@pytest.fixture
def line(service):
    """A group below an enabled root, with two devices."""
    return enroll_line(service, "pump-0", "pump-1")


def state(service):
    return (
        ProvisioningService.epoch_of(service.pk),
        HistoryEvent.objects.count(),
        list(IndividualEnrollment.objects.values_list("registration_key", "enabled", "etag")),
        list(service.enrollmentgroups.values_list("group_key", "enabled", "etag")),
    )


def devices(answer, effect):
    assert answer.status_code == 200, answer.content
    return answer.json()["effects"][effect]


def test_deleting_a_group_is_told_with_what_stands_above_and_not_done(api, service, line):
    before = state(service)

    answer = api.call("DELETE", "/enrollmentGroups/plant-7", query=DRY)

    assert answer.json()["dryRun"] is True
    assert devices(answer, "stillAdmitted") == {
        "devices": 2,
        "through": [{"entry": "enrollment group root", "devices": 2}],
        "nameHeldThrough": [],
        "admittedOtherwiseThrough": [],
    }
    assert answer.json()["below"][0]["through"] == ["enrollment group root"]
    assert answer.json()["epoch"] == before[0]
    assert state(service) == before


def test_who_sent_its_leaf_alone_comes_in_with_what_is_deleted_and_it_is_told(api, service, line):
    leaf = PresentedCredential(certificates=(line.leaf("pump-2").der,))
    assert register(service, leaf, "pump-2").outcome == "assigned"

    answer = api.call("DELETE", "/enrollmentGroups/plant-7", query=f"{DRY}&devices=refused")

    through = {"entry": "enrollment group root", "devices": 1}
    assert devices(answer, "refused")["admittedOtherwiseThrough"] == [through]
    (device,) = answer.json()["devices"]
    assert device["admittedOtherwiseThrough"] == "enrollment group root"


def test_so_does_who_is_below_a_ca_that_another_takes_the_place_of(api, service, line):
    leaf = PresentedCredential(certificates=(line.leaf("pump-2").der,))
    assert register(service, leaf, "pump-2").outcome == "assigned"
    release_registration(service, "pump-2", actor=ALICE)
    pair = {"primary": {"certificate": root("New").pem}}
    changed = {
        "enrollmentGroupId": "plant-7",
        "attestation": {"type": "x509", "x509": {"signingCertificates": pair}},
    }
    before = state(service)

    answer = api.call(
        "PUT", "/enrollmentGroups/plant-7", changed, query=f"{DRY}&devices=refused", If_Match="*"
    )

    through = {"entry": "enrollment group root", "devices": 1}
    assert devices(answer, "refused")["admittedOtherwiseThrough"] == [through]
    (device,) = answer.json()["devices"]
    assert (device["registrationId"], device["admittedOtherwiseThrough"]) == (
        "pump-2",
        "enrollment group root",
    )
    assert state(service) == before


def test_disabling_by_a_change_is_told_and_not_done(api, service, line):
    group = api.call("GET", "/enrollmentGroups/plant-7").json()
    before = state(service)

    answer = api.call(
        "PUT",
        "/enrollmentGroups/plant-7",
        {**group, "provisioningStatus": "disabled"},
        query=DRY,
        If_Match="*",
    )

    assert devices(answer, "refused")["devices"] == 2
    assert state(service) == before


def test_what_is_added_is_told_of_and_not_there(api, service):
    before = state(service)

    answer = api.call("PUT", "/enrollments/a", keys("a"), query=DRY)

    assert devices(answer, "comesIn")["devices"] == 1
    assert b"Key" not in answer.content
    assert state(service) == before


def test_a_bulk_is_told_of_as_a_whole_with_what_is_wrong_with_one(api, service):
    enroll_keys(service, "there")
    before = state(service)

    answer = api.call(
        "POST", "/enrollments", {"mode": "create", "enrollments": [keys("a"), keys("there")]}, query=DRY
    )

    assert devices(answer, "comesIn")["devices"] == 1
    assert (answer.json()["isSuccessful"], [one["registrationId"] for one in answer.json()["errors"]]) == (
        False,
        ["there"],
    )
    assert state(service) == before


def test_a_name_that_deleting_leaves_open_is_told(api, service):
    enroll_key_group(service)
    enroll_keys(service, "line-9-1")

    told = api.call("DELETE", "/enrollments/line-9-1", query=DRY).json()["leftOpen"]

    assert told == {"registrationIds": ["line-9-1"], "through": ["enrollment group line-9"]}


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("DELETE", "/enrollments/nobody", 404201), ("DELETE", "/enrollmentGroups/nobody", 404202)],
)
def test_what_would_be_refused_is_refused(api, method, path, code):
    assert error_of(api.call(method, path, query=DRY))[1] == code


def test_what_exists_is_refused_in_a_dry_run_as_in_the_act(api, service):
    enroll_keys(service, "a")

    assert error_of(api.call("PUT", "/enrollments/a", keys("a"), query=DRY))[1] == 409201


def test_a_dry_run_asks_for_the_right_of_the_act(service):
    reader = with_policy(add_policy(service, "reader", {AccessRight.ENROLLMENT_READ}, actor=ALICE))
    enroll_keys(service, "a")

    assert reader.call("DELETE", "/enrollments/a", query=DRY).status_code == 403


@pytest.mark.parametrize("text", ["yes", "1", "", "true%00"])
def test_whoever_cannot_be_understood_to_rehearse_does_not_get_the_act(api, service, text):
    enroll_keys(service, "a")

    answer = api.call("DELETE", "/enrollments/a", query=f"{VERSION}&dryRun={text}")

    assert error_of(answer)[:2] == (400, 400102)
    assert service.individualenrollments.exists()


# --- A registration record --------------------------------------------------------------------------


@pytest.fixture
def wanted(service):
    """A record whose name one group holds and another one wants."""
    one, other = root("Supplier 1"), root("Supplier 2")
    enroll_ca(service, one, "supplier-1")
    enroll_ca(service, other, "supplier-2")
    register(service, one.leaf("pump-0"))
    register(service, other.leaf("pump-0"))
    return service.registrations.get()


def test_deleting_a_record_is_told_with_who_gets_the_name_and_not_done(api, service, wanted):
    before = state(service)

    told = api.call("DELETE", "/registrations/pump-0", query=DRY).json()

    freed = told["frees"]
    assert (freed["registrationId"], freed["heldBy"]) == ("pump-0", "enrollment group supplier-1")
    assert [(one["entry"], one["refused"]) for one in freed["wantedBy"]] == [
        ("enrollment group supplier-2", 1)
    ]
    assert (told["dryRun"], told["epoch"], told["known"]) == (True, before[0], 0)
    assert freed["etag"] == service.registrations.get().etag == wanted.etag
    assert state(service) == before


def test_a_record_is_deleted_on_the_epoch_and_the_etag_that_were_told(api, service, wanted):
    told = api.call("DELETE", "/registrations/pump-0", query=DRY).json()
    query = f"{VERSION}&epoch={told['epoch']}"

    other = api.call("DELETE", "/registrations/pump-0", query=query, If_Match="another")
    answer = api.call("DELETE", "/registrations/pump-0", query=query, If_Match=told["frees"]["etag"])

    assert error_of(other)[:2] == (412, 412001)
    assert answer.status_code == 204
    assert not service.registrations.exists()


def test_a_record_stays_where_something_changed_since(api, service, wanted):
    epoch = api.call("DELETE", "/registrations/pump-0", query=DRY).json()["epoch"]
    deny_device(service, "somebody", actor=ALICE)

    answer = api.call("DELETE", "/registrations/pump-0", query=f"{VERSION}&epoch={epoch}")

    assert error_of(answer)[:2] == (412, 412002)
    assert service.registrations.exists()


def test_what_would_be_refused_of_a_record_is_refused(api, service, wanted):
    missing = api.call("DELETE", "/registrations/nobody", query=DRY)
    other = api.call("DELETE", "/registrations/pump-0", query=DRY, If_Match="another")

    assert error_of(missing)[:2] == (404, 404203)
    assert error_of(other)[:2] == (412, 412001)


# --- On the state that was told of ------------------------------------------------------------------


def test_the_act_is_done_on_the_epoch_that_was_told(api, service, line):
    epoch = api.call("DELETE", "/enrollmentGroups/plant-7", query=DRY).json()["epoch"]

    answer = api.call("DELETE", "/enrollmentGroups/plant-7", query=f"{VERSION}&epoch={epoch}")

    assert answer.status_code == 204
    assert not service.enrollmentgroups.filter(group_key="plant-7").exists()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("DELETE", "/enrollmentGroups/plant-7", None, id="delete a group"),
        pytest.param("DELETE", "/enrollments/a", None, id="delete an individual"),
        pytest.param("PUT", "/enrollments/b", keys("b"), id="add"),
        pytest.param("POST", "/enrollments", {"mode": "create", "enrollments": [keys("b")]}, id="bulk"),
    ],
)
def test_nothing_is_done_where_something_changed_since(api, service, line, method, path, body):
    enroll_keys(service, "a")
    epoch = api.call(method, path, body, query=DRY).json()["epoch"]
    deny_device(service, "somebody", actor=ALICE)
    before = state(service)

    answer = api.call(method, path, body, query=f"{VERSION}&epoch={epoch}")

    assert error_of(answer)[:2] == (412, 412002)
    assert state(service) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"provisioningStatus": "disabled"}, 200),
        ({"provisioningStatus": "disabled", "switchesAt": "2999-01-01T00:00:00Z"}, 412),
        ({"provisioningStatus": "disabled", "attestation": keys()["attestation"] | {"type": "tpm"}}, 400),
        ({"provisioningStatus": "enabled", "deviceId": "other"}, 412),
    ],
)
def test_what_only_shuts_out_is_done_on_whatever_epoch(api, service, body, status):
    enroll_keys(service, "a")
    epoch = ProvisioningService.epoch_of(service.pk)
    deny_device(service, "somebody", actor=ALICE)
    query = f"{VERSION}&epoch={epoch}"

    answers = [
        api.call("PUT", "/enrollments/a", {**keys("a"), **body}, query=query, If_Match="*") for _ in range(2)
    ]

    assert [one.status_code for one in answers] == [status, status]
    assert service.individualenrollments.get(registration_key="a").enabled is (status != 200)


def test_a_certificate_less_is_done_on_whatever_epoch_and_refused_once_it_is_done(api, service):
    first, second = self_signed("a"), self_signed("a")
    entry = enroll_device(
        service, first, certificates={Slot.PRIMARY: first.parsed, Slot.SECONDARY: second.parsed}
    )
    epoch = ProvisioningService.epoch_of(service.pk)
    deny_device(service, "somebody", actor=ALICE)
    pair = {"primary": {"certificate": first.pem}}
    body = {"registrationId": "a", "attestation": {"type": "x509", "x509": {"clientCertificates": pair}}}
    query = f"{VERSION}&epoch={epoch}"

    done, again = (api.call("PUT", "/enrollments/a", body, query=query, If_Match="*") for _ in range(2))

    assert (done.status_code, again.status_code) == (200, 412)
    assert [one.slot for one in entry.certificates.all()] == ["primary"]


@pytest.mark.parametrize("how", [{"at": True}, {"until": True}], ids=["to be disabled", "disabled until"])
def test_what_drops_a_time_and_stays_out_is_done_on_whatever_epoch(api, service, how):
    entry = enroll_keys(service, "a")
    at = timezone.now() + timedelta(days=10)
    turn(service, Act.DISABLE, entry, actor=ALICE, **dict.fromkeys(how, at))
    epoch = ProvisioningService.epoch_of(service.pk)
    deny_device(service, "somebody", actor=ALICE)
    etag = service.individualenrollments.get(registration_key="a").etag
    body = {**keys("a"), "provisioningStatus": "disabled", "switchesAt": None}

    answer = api.call("PUT", "/enrollments/a", body, query=f"{VERSION}&epoch={epoch}", If_Match=etag)

    assert answer.status_code == 200, answer.content
    entry.refresh_from_db()
    assert (entry.enabled, entry.switches_at) == (False, None)


def test_what_is_added_disabled_is_added_on_whatever_epoch(api, service):
    epoch = ProvisioningService.epoch_of(service.pk)
    deny_device(service, "somebody", actor=ALICE)
    body = keys("b", provisioningStatus="disabled")

    assert api.call("PUT", "/enrollments/b", body, query=f"{VERSION}&epoch={epoch}").status_code == 200


@pytest.mark.parametrize("text", ["", "-1", "x", "9" * 19, "١"])
def test_an_epoch_that_is_no_number_is_refused(api, service, text):
    enroll_keys(service, "a")

    for query in (VERSION, DRY):
        answer = api.call("DELETE", "/enrollments/a", query=f"{query}&epoch={text}")

        assert error_of(answer)[:2] == (400, 400102)
    assert service.individualenrollments.exists()
