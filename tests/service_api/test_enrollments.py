"""One entry at a time: routes, If-Match, models and the conventions of answers (contract 6.2 to 6.5)."""

import base64
import re
from dataclasses import replace
from datetime import datetime

import pytest
from django.db import DatabaseError

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment
from enrollments.actions.services import add_service, change_settings
from enrollments.errors import Invalid
from enrollments.models import EnrollmentGroup, HistoryEvent, IndividualEnrollment
from enrollments.policy.access import AccessRight
from enrollments.policy.roles import Role
from enrollments.service_api import views
from enrollments.service_api.kinds import INDIVIDUALS
from enrollments.wire import messages
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, enroll_keys, register
from tests.factories import a_user
from tests.service_api.conftest import error_of, keys
from tests.service_api.test_access import a_token, bearer
from tests.soft_tpm import SoftTpm

pytestmark = pytest.mark.django_db

KEY = base64.b64encode(b"k" * 32).decode()
OTHER_KEY = base64.b64encode(b"o" * 32).decode()
# In the order of the contract (6.5).
ORDER = [
    "registrationId",
    "deviceId",
    "registrationState",
    "optionalDeviceInformation",
    "attestation",
    "capabilities",
    "initialTwin",
    "etag",
    "provisioningStatus",
    "reprovisionPolicy",
    "createdDateTimeUtc",
    "lastUpdatedDateTimeUtc",
    "allocationPolicy",
    "iotHubs",
    "customAllocationDefinition",
]


def x509(registration_id="pump-042", *, certificate=None, **members):
    text = self_signed(registration_id).pem if certificate is None else certificate
    return {
        "registrationId": registration_id,
        "attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": text}}}},
        **members,
    }


def signing(group_id="plant-7", *, ca=None, **members):
    pair = {"primary": {"certificate": (ca or root(group_id)).pem}}
    return {
        "enrollmentGroupId": group_id,
        "attestation": {"type": "x509", "x509": {"signingCertificates": pair}},
        **members,
    }


def test_create_answers_with_the_enrollment_in_the_shape_of_the_contract(api):
    answer = api.put("/enrollments/pump-042", keys(deviceId="pump", allocationPolicy="static"))

    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == [name for name in ORDER if name in body]
    assert set(ORDER) - set(body) == {
        "registrationState",
        "optionalDeviceInformation",
        "iotHubs",
        "customAllocationDefinition",
    }
    assert re.fullmatch(r'"[0-9a-fA-F-]{36}"', base64.b64decode(body["etag"]).decode())
    assert datetime.fromisoformat(body["createdDateTimeUtc"])
    assert body["capabilities"] == {"iotEdge": False}
    assert body["reprovisionPolicy"] == {"updateHubAssignment": True, "migrateDeviceData": True}
    assert body["initialTwin"] == {"tags": {}, "properties": {"desired": {}}}
    assert (body["provisioningStatus"], body["allocationPolicy"]) == ("enabled", "static")


def test_the_act_is_in_the_history_under_the_policy(api, owner):
    api.put("/enrollments/pump-042", x509(), user_agent="fleet-sync/2.1")

    row = HistoryEvent.objects.latest("pk")
    assert (row.event, row.actor_kind, row.actor_name, row.way) == (
        "enrollment.added",
        "service",
        owner.name,
        "service API",
    )
    assert row.address == "127.0.0.1"
    assert len(row.request_id) == 36
    assert row.client == "fleet-sync/2.1"


def test_keys_are_told_where_they_are_made_and_where_they_are_asked_for(api):
    made = api.put("/enrollments/pump-042", keys()).json()["attestation"]["symmetricKey"]
    got = api.get("/enrollments/pump-042").json()["attestation"]
    (listed,) = api.post("/enrollments/query", {"query": "SELECT *"}).json()
    shown = api.post("/enrollments/pump-042/attestationmechanism")

    assert len(base64.b64decode(made["primaryKey"])) == 64
    assert made["primaryKey"] != made["secondaryKey"]
    assert got == listed["attestation"] == {"type": "symmetricKey"}
    assert shown.json() == {"type": "symmetricKey", "symmetricKey": made}
    assert HistoryEvent.objects.latest("pk").event == "keys.revealed"


def told_of(event="keys.revealed"):
    return list(HistoryEvent.objects.filter(event=event).values_list("subject_name", "after"))


def test_telling_keys_that_were_made_on_creation_is_recorded_with_it(api, service):
    change_settings(service, {"symmetric_key_groups": True}, actor=ALICE)
    half = {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY}}

    api.put("/enrollments/a", keys("a"))
    api.put("/enrollments/b", keys("b", attestation=half))
    group = {"enrollmentGroupId": "c", "attestation": {"type": "symmetricKey", "symmetricKey": {}}}
    api.put("/enrollmentGroups/c", group)

    assert told_of() == [
        ("a", {"made_and_told": ["primary_key", "secondary_key"]}),
        ("b", {"made_and_told": ["secondary_key"]}),
        ("c", {"made_and_told": ["primary_key", "secondary_key"]}),
    ]


def test_what_is_not_told_or_was_given_is_no_revealing(api, service):
    given = {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": OTHER_KEY}}
    operator = bearer(a_token(service, a_user(Role.OPERATOR, service), AccessRight.ENROLLMENT_WRITE))

    api.put("/enrollments/a", keys("a", attestation=given))
    api.put("/enrollments/b", x509("b"))
    api.post("/enrollments", {"mode": "create", "enrollments": [keys("c")]})
    told = operator.put("/enrollments/d", keys("d")).json()["attestation"]

    assert told == {"type": "symmetricKey"}
    assert IndividualEnrollment.objects.count() == 4
    assert told_of() == []


def test_keys_whose_telling_cannot_be_recorded_are_not_made(api, monkeypatch):
    """R15: the entry is there with its row and the one about its keys, or not at all."""

    def fail(*_, **__):
        raise Invalid({"": ["the row cannot be written"]})

    monkeypatch.setattr("enrollments.actions.enrollments.note_told_keys", fail)

    assert error_of(api.put("/enrollments/a", keys("a")))[0] == 400
    assert not IndividualEnrollment.objects.exists()
    assert told_of("enrollment.added") == []


def test_keys_that_are_given_are_taken(api):
    given = {"primaryKey": KEY, "secondaryKey": OTHER_KEY}
    body = keys(attestation={"type": "symmetricKey", "symmetricKey": given})

    assert api.put("/enrollments/pump-042", body).json()["attestation"]["symmetricKey"] == given


def test_update_without_keys_keeps_them_and_telling_them_is_recorded(api):
    made = api.put("/enrollments/pump-042", keys()).json()

    changed = api.put("/enrollments/pump-042", keys(deviceId="pump"), If_Match="*").json()

    assert changed["attestation"] == made["attestation"]
    assert (changed["deviceId"], changed["createdDateTimeUtc"]) == ("pump", made["createdDateTimeUtc"])
    assert changed["etag"] != made["etag"]
    assert HistoryEvent.objects.latest("pk").event == "keys.revealed"


def test_get_before_the_first_call_says_unassigned_and_nothing_else_does(api):
    put = api.put("/enrollments/pump-042", keys()).json()
    got = api.get("/enrollments/pump-042").json()
    (listed,) = api.post("/enrollments/query", {"query": "*"}).json()

    assert got["registrationState"] == {"registrationId": "pump-042", "status": "unassigned"}
    assert "registrationState" not in put
    assert "registrationState" not in listed


def test_get_after_a_registration_tells_its_state(api, service):
    device = self_signed("pump-042")
    api.put("/enrollments/pump-042", x509(certificate=device.pem))

    register(service, device)

    state = api.get("/enrollments/pump-042").json()["registrationState"]
    assert (state["status"], state["assignedHub"]) == ("assigned", "plant.hub.internal")


def base64_of(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


@pytest.mark.parametrize(
    "spelt",
    [
        pytest.param(lambda device: device.pem, id="PEM"),
        pytest.param(lambda device: device.pem.replace("\n", "\r\n"), id="PEM with CRLF"),
        pytest.param(lambda device: base64_of(device.pem), id="base64 of PEM"),
        pytest.param(lambda device: base64_of(device.der), id="base64 of DER"),
    ],
)
def test_certificates_in_every_wrapping_and_answers_that_describe_them(api, spelt):
    device = self_signed("pump-042")

    answer = api.put("/enrollments/pump-042", x509(certificate=spelt(device)))

    (primary,) = answer.json()["attestation"]["x509"]["clientCertificates"].values()
    assert list(primary) == ["info"]
    info = primary["info"]
    assert info["subjectName"] == "CN=pump-042"
    assert info["sha256Thumbprint"] == device.parsed.thumbprint_sha256.upper()
    assert info["sha1Thumbprint"] == device.parsed.thumbprint_sha1.upper()
    assert re.fullmatch(r"[0-9A-F]+", info["serialNumber"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", info["notBeforeUtc"])
    assert (info["issuerName"], info["version"]) == ("CN=pump-042", 3)


def test_what_get_answered_can_be_put_back(api):
    """A client changes one member of what it was told; certificates, which it was not told, stay."""
    api.put("/enrollments/pump-042", x509(optionalDeviceInformation={"line": 4}))
    got = api.get("/enrollments/pump-042").json()

    changed = api.put("/enrollments/pump-042", {**got, "deviceId": "pump"}, If_Match=got["etag"])

    assert changed.status_code == 200
    assert changed.json()["attestation"] == got["attestation"]
    assert changed.json()["optionalDeviceInformation"] == {"line": 4}
    assert IndividualEnrollment.objects.get().certificates.count() == 1


def test_info_of_another_certificate_is_no_certificate(api):
    api.put("/enrollments/pump-042", x509())
    got = api.get("/enrollments/pump-042").json()
    info = got["attestation"]["x509"]["clientCertificates"]["primary"]["info"]
    info["sha256Thumbprint"] = "0" * 64

    status, _code, message = error_of(api.put("/enrollments/pump-042", got, If_Match="*"))

    assert status == 400
    assert "clientCertificates.primary.certificate" in message


def test_a_tpm_is_told_with_its_endorsement_key(api):
    endorsement_key = base64_of(SoftTpm().keys.endorsement_key)
    tpm = {"type": "tpm", "tpm": {"endorsementKey": endorsement_key}}

    first = api.put("/enrollments/tpm-1", {"registrationId": "tpm-1", "attestation": tpm})
    second = api.put("/enrollments/tpm-2", {"registrationId": "tpm-2", "attestation": tpm})

    # The same one may be in several entries (contract 6.5).
    assert first.json()["attestation"] == second.json()["attestation"] == tpm
    assert api.get("/enrollments/tpm-1").json()["attestation"] == tpm
    assert api.post("/enrollments/tpm-1/attestationmechanism", {}).json() == tpm


def test_created_disabled_is_stored_disabled(api):
    api.put("/enrollments/pump-042", keys(provisioningStatus="disabled"))

    assert IndividualEnrollment.objects.get().enabled is False
    assert api.get("/enrollments/pump-042").json()["provisioningStatus"] == "disabled"


def test_a_status_that_is_sent_as_null_comes_back_as_null_once(api):
    put = api.put("/enrollments/pump-042", keys(provisioningStatus=None)).json()

    assert put["provisioningStatus"] is None
    assert api.get("/enrollments/pump-042").json()["provisioningStatus"] == "enabled"


def test_what_the_command_line_client_sends_when_nothing_is_specified(api):
    body = keys(
        optionalDeviceInformation={},
        capabilities={"iotEdge": False},
        initialTwin={"tags": {}, "properties": {"desired": {}}},
        reprovisionPolicy={"updateHubAssignment": True, "migrateDeviceData": True},
    )

    answer = api.put("/enrollments/pump-042", body)

    assert answer.status_code == 200
    assert answer.json()["optionalDeviceInformation"] == {}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ((True, True), (True, True)),
        ((True, False), (True, False)),
        ((False, False), (False, False)),
        # Where the hub stays, there is nothing to migrate.
        ((False, True), (False, False)),
    ],
)
def test_reprovisioning_policies(api, sent, kept):
    names = ("updateHubAssignment", "migrateDeviceData")

    answer = api.put("/enrollments/pump-042", keys(reprovisionPolicy=dict(zip(names, sent, strict=True))))

    assert answer.json()["reprovisionPolicy"] == dict(zip(names, kept, strict=True))


def test_hubs_by_name_in_any_case(api):
    answer = api.put("/enrollments/pump-042", keys(iotHubs=["PLANT.hub.internal"]))

    assert answer.json()["iotHubs"] == ["plant.hub.internal"]


def test_the_one_hub_of_old_clients_is_a_static_policy(api):
    answer = api.put("/enrollments/pump-042", keys(iotHubHostName="plant.hub.internal")).json()

    assert (answer["allocationPolicy"], answer["iotHubs"]) == ("static", ["plant.hub.internal"])


def test_static_without_a_hub_is_taken(api):
    assert api.put("/enrollments/pump-042", keys(allocationPolicy="static")).status_code == 200


def test_the_query_of_a_webhook_is_kept_and_never_told(api, settings):
    settings.DPS_WEBHOOK_HOSTS = ["hooks.example"]
    webhook = {"webhookUrl": "https://hooks.example/pick?code=secret", "apiVersion": "2021-10-01"}
    custom = {"allocationPolicy": "custom", "customAllocationDefinition": webhook}

    put = api.put("/enrollments/pump-042", keys(**custom)).json()
    api.put("/enrollments/pump-042", {**keys(**custom), **put}, If_Match="*")

    assert put["customAllocationDefinition"] == {
        "webhookUrl": "https://hooks.example/pick",
        "apiVersion": "2021-10-01",
    }
    assert IndividualEnrollment.objects.get().webhook_query == "code=secret"


@pytest.mark.parametrize(
    "spelt",
    [
        pytest.param("{}", id="bare"),
        pytest.param('"{}"', id="quoted"),
        pytest.param('W/"{}"', id="weak"),
        pytest.param("*", id="any"),
        pytest.param('"*"', id="any, quoted"),
        pytest.param('"other", "{}"', id="among others"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_if_match_in_every_spelling(api, spelt, method):
    etag = api.put("/enrollments/pump-042", keys()).json()["etag"]

    answer = api.call(method, "/enrollments/pump-042", keys(), If_Match=spelt.format(etag))

    assert answer.status_code == {"PUT": 200, "DELETE": 204}[method]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("group", [False, True], ids=["individual", "group"])
def test_another_etag_is_a_412_and_changes_nothing(api, method, group):
    path, body = ("/enrollmentGroups/plant-7", signing()) if group else ("/enrollments/pump-042", keys())
    etag = api.put(path, body).json()["etag"]

    assert error_of(api.call(method, path, body, If_Match="abc"))[:2] == (412, 412001)
    assert api.get(path).json()["etag"] == etag


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_an_empty_if_match_is_not_taken_for_any(api, method):
    api.put("/enrollments/pump-042", keys())

    assert error_of(api.call(method, "/enrollments/pump-042", keys(), If_Match=""))[0] == 400
    assert IndividualEnrollment.objects.exists()


def test_put_again_without_if_match_is_a_conflict(api):
    api.put("/enrollments/pump-042", x509())
    api.put("/enrollmentGroups/plant-7", signing())

    assert error_of(api.put("/enrollments/PUMP-042", x509("PUMP-042")))[:2] == (409, 409201)
    assert error_of(api.put("/enrollmentGroups/plant-7", signing()))[:2] == (409, 409202)


def test_what_is_not_there(api):
    assert error_of(api.get("/enrollments/nobody"))[:2] == (404, 404201)
    assert error_of(api.delete("/enrollments/nobody"))[:2] == (404, 404201)
    assert error_of(api.put("/enrollments/nobody", keys("nobody"), If_Match="*"))[:2] == (404, 404201)
    assert error_of(api.post("/enrollments/nobody/attestationmechanism"))[:2] == (404, 404201)
    assert error_of(api.get("/enrollmentGroups/nobody"))[:2] == (404, 404202)
    assert error_of(api.delete("/enrollmentGroups/nobody"))[:2] == (404, 404202)
    assert error_of(api.put("/enrollmentGroups/nobody", signing("nobody"), If_Match="x"))[:2] == (404, 404202)
    assert error_of(api.get("/registrations/nobody"))[:2] == (404, 404203)
    assert error_of(api.delete("/registrations/nobody"))[:2] == (404, 404203)
    assert error_of(api.post("/registrations/nobody/query"))[:2] == (404, 404202)


def test_delete_answers_204_with_nothing(api):
    api.put("/enrollments/pump-042", keys())

    answer = api.delete("/enrollments/pump-042")

    assert (answer.status_code, answer.content) == (204, b"")
    assert not IndividualEnrollment.objects.exists()


def test_groups_from_end_to_end(api):
    put = api.put("/enrollmentGroups/plant-7", signing(allocationPolicy="geoLatency")).json()
    got = api.get("/enrollmentGroups/plant-7").json()
    (listed,) = api.post("/enrollmentGroups/query", {"query": "select *"}).json()
    changed = api.put(
        "/enrollmentGroups/plant-7", {**got, "provisioningStatus": "disabled"}, If_Match=got["etag"]
    )

    assert put == got == listed
    assert next(iter(put)) == "enrollmentGroupId"
    assert "info" in put["attestation"]["x509"]["signingCertificates"]["primary"]
    assert changed.json()["provisioningStatus"] == "disabled"
    assert HistoryEvent.objects.latest("pk").event == "group.disabled"
    assert api.post("/enrollmentgroups/plant-7/attestationmechanism").json() == put["attestation"]
    assert api.delete("/enrollmentGroups/plant-7").status_code == 204


def test_helpers_of_a_group_stay_when_it_is_changed(api, service):
    above = root("Above")
    enroll_ca(service, above.intermediate("Below"), "plant-7", helpers=(above.parsed,))
    got = api.get("/enrollmentGroups/plant-7").json()

    api.put("/enrollmentGroups/plant-7", got, If_Match="*")

    assert EnrollmentGroup.objects.get().certificates.count() == 2


def test_certificates_behind_the_first_one_are_helpers(api):
    above = root("Above")
    below = above.intermediate("Below")
    body = signing("plant-7", ca=below)
    body["attestation"]["x509"]["signingCertificates"]["primary"]["certificate"] = below.pem + above.pem

    api.put("/enrollmentGroups/plant-7", body)

    roles = sorted(EnrollmentGroup.objects.get().certificates.values_list("role", flat=True))
    assert roles == ["anchor", "helper"]


def test_a_ca_of_another_group_is_a_conflict(api):
    ca = root("Plant CA")
    api.put("/enrollmentGroups/plant-7", signing(ca=ca))

    status, code, message = error_of(api.put("/enrollmentGroups/plant-8", signing("plant-8", ca=ca)))

    assert (status, code) == (409, 409203)
    assert "plant-7" in message


def test_groups_with_keys_need_the_switch_of_the_service(api, service):
    body = {"enrollmentGroupId": "keyed", "attestation": {"type": "symmetricKey"}}

    status, code, message = error_of(api.put("/enrollmentGroups/keyed", body))
    assert (status, code) == (400, 400104)
    assert message.startswith("attestation.type: Groups with symmetric keys are switched off")

    change_settings(service, {"symmetric_key_groups": True}, actor=ALICE)
    keys_made = api.put("/enrollmentGroups/keyed", body).json()["attestation"]["symmetricKey"]
    shown = api.post("/enrollmentGroups/keyed/attestationmechanism").json()
    assert shown == {"type": "symmetricKey", "symmetricKey": keys_made}


@pytest.mark.parametrize(
    "path",
    ["/enrollments/pump-042", "/enrollments/pump-042/", "/Enrollments/PUMP-042", "/ENROLLMENTS/pump-042/"],
)
def test_paths_in_any_case_with_or_without_a_slash(api, path):
    api.put("/enrollments/pump-042", keys())

    assert api.get(path).json()["registrationId"] == "pump-042"


def test_an_entry_may_be_called_query(api):
    api.put("/enrollments/query", keys("query"))

    assert api.get("/enrollments/query").json()["registrationId"] == "query"
    assert api.post("/enrollments/query", {"query": "*"}).json()[0]["registrationId"] == "query"
    assert api.delete("/enrollments/query").status_code == 204


def test_registration_records(api, service):
    ca = root("Plant CA")
    enroll_ca(service, ca, "plant-7")
    register(service, ca.leaf("pump-042"))

    record = api.get("/registrations/PUMP-042").json()

    assert {name: record[name] for name in ("status", "assignedHub", "deviceId", "substatus")} == {
        "status": "assigned",
        "assignedHub": "plant.hub.internal",
        "deviceId": "pump-042",
        "substatus": "initialAssignment",
    }
    assert api.post("/registrations/plant-7/query").json() == [record]
    assert api.post("/registrations/plant-7/query")["x-ms-item-type"] == "DeviceRegistration"
    assert error_of(api.delete("/registrations/pump-042", If_Match="abc"))[:2] == (412, 412001)
    assert api.delete("/registrations/pump-042", If_Match="*").status_code == 204
    assert api.post("/registrations/plant-7/query").json() == []
    assert HistoryEvent.objects.latest("pk").event == "registration.deleted"


def test_a_failed_assignment_is_told_with_its_code(api, service):
    service.hubs.update(apply_allocation_policy=False)
    device = self_signed("pump-042")
    api.put("/enrollments/pump-042", x509(certificate=device.pem))

    register(service, device)

    record = api.get("/registrations/pump-042").json()
    assert (record["status"], record["errorCode"]) == ("failed", 400208)
    assert record["errorMessage"]


def test_unknown_methods_and_versions(api):
    refused = api.call("PATCH", "/enrollments/pump-042")

    assert error_of(refused)[:2] == (405, 405001)
    assert refused["Allow"] == "PUT, GET, DELETE"
    assert error_of(api.call("GET", "/enrollments/pump-042", query=""))[:2] == (400, 400004)


def test_entries_of_another_service_are_not_there(api, service):
    other = add_service("lab", actor=ALICE)
    change_settings(service, {"host_name": "dps.example"}, actor=ALICE)
    enroll_keys(other, "pump-042")

    assert error_of(api.get("/enrollments/pump-042"))[:2] == (404, 404201)


def between(monkeypatch, times):
    """Somebody else changes the enrollment between reading and writing it, so many times."""
    real, left = INDIVIDUALS.change, iter(range(times))

    def change(service, name, spec, **given):
        if (turn := next(left, None)) is not None:
            IndividualEnrollment.objects.update(etag=f"changed {turn}")
        return real(service, name, spec, **given)

    monkeypatch.setattr(views, "INDIVIDUALS", replace(INDIVIDUALS, change=change))


def test_whatever_is_there_is_tried_again_when_it_changes_meanwhile(api, monkeypatch):
    api.put("/enrollments/pump-042", keys())
    between(monkeypatch, 2)

    assert api.put("/enrollments/pump-042", keys(deviceId="pump"), If_Match="*").json()["deviceId"] == "pump"


@pytest.mark.parametrize(("condition", "times"), [("*", 1000), ("the etag", 1)])
def test_where_it_never_stops_changing_it_is_told(api, monkeypatch, condition, times):
    etag = api.put("/enrollments/pump-042", keys()).json()["etag"]
    between(monkeypatch, times)

    answer = api.put("/enrollments/pump-042", keys(), If_Match="*" if condition == "*" else etag)

    assert error_of(answer)[:2] == (412, 412001)


@pytest.mark.parametrize("entry", [keys, x509, signing], ids=["keys", "certificate", "group"])
def test_answers_are_messages_of_the_declared_models(api, entry):
    """What is answered is described by what is read: one declaration for both directions."""
    body = entry("line-7")
    of_group = "enrollmentGroupId" in body
    model = messages.EnrollmentGroup if of_group else messages.IndividualEnrollment
    path = f"/{'enrollmentGroups' if of_group else 'enrollments'}/line-7"

    for answer in (api.put(path, body), api.get(path)):
        assert model.model_validate(answer.json()).name == "line-7"
    shown = api.post(f"{path}/attestationmechanism").json()
    assert messages.Attestation.model_validate(shown).type == body["attestation"]["type"]
    assert set(model.model_json_schema()["properties"]) >= set(answer.json())


# --- What is scheduled for a switch ------------------------------------------------------------------


def put_again(api, path, **members):
    """As by a client that knows of no times: its models leave out what they do not know."""
    body = api.get(path).json()
    for unknown in ("switchesAt", "scheduleReason"):
        body.pop(unknown, None)
    return api.put(path, {**body, **members}, If_Match=body["etag"])


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "not recorded"])
@pytest.mark.parametrize("where", ["one", "query"])
def test_the_state_that_holds_now_is_told(api, service, database_clock, monkeypatch, recorded, where):
    """By the database clock, also where the history cannot say it: what is due to be disabled is, nothing else."""
    at = database_clock.ahead(hours=1)
    for name in ("pump-1", "pump-2"):
        enroll_keys(service, name)
    disable_enrollment(service, "pump-1", at=at, actor=ALICE)
    disable_enrollment(service, "pump-2", until=at, actor=ALICE)
    enroll_ca(service, root("plant"), "plant")
    disable_enrollment_group(service, "plant", at=at, actor=ALICE)
    if not recorded:
        monkeypatch.setattr(HistoryEvent.objects, "create", _full)

    def told():
        if where == "query":
            found = api.post("/enrollments/query", {"query": "SELECT * FROM enrollments"}).json()
            groups = api.post("/enrollmentGroups/query", {"query": "SELECT * FROM enrollmentGroups"}).json()
            return [one["provisioningStatus"] for one in (*found, *groups)]
        paths = ("/enrollments/pump-1", "/enrollments/pump-2", "/enrollmentGroups/plant")
        return [api.get(path).json()["provisioningStatus"] for path in paths]

    before = told()
    database_clock.set_to(at)

    assert before == ["enabled", "disabled", "enabled"]
    assert told() == ["disabled", "enabled" if recorded else "disabled", "disabled"]


def _full(*_args, **_kwargs):
    raise DatabaseError("disk full")


@pytest.mark.parametrize(
    ("scheduled", "said", "stands", "is_still_scheduled"),
    [
        ("at", "enabled", True, True),
        ("at", "disabled", False, False),
        ("until", "disabled", False, False),
        ("until", "enabled", True, False),
    ],
)
@pytest.mark.parametrize("kind", ["individual", "group"])
def test_what_is_put_ends_what_is_scheduled_unless_it_shortens_what_is_let_in(
    api, service, database_clock, kind, scheduled, said, stands, is_still_scheduled
):
    at = database_clock.ahead(hours=1)
    if kind == "individual":
        enroll_keys(service, "pump-042")
        disable_enrollment(service, "pump-042", actor=ALICE, **{scheduled: at})
        path, entries = "/enrollments/pump-042", service.individualenrollments
    else:
        enroll_ca(service, root("plant"), "plant")
        disable_enrollment_group(service, "plant", actor=ALICE, **{scheduled: at})
        path, entries = "/enrollmentGroups/plant", service.enrollmentgroups

    answer = put_again(api, path, provisioningStatus=said)

    assert (answer.status_code, answer.json()["provisioningStatus"]) == (200, said)
    assert (entries.get().enabled, entries.get().switches_at is not None) == (stands, is_still_scheduled)
    row = HistoryEvent.objects.exclude(after=None).order_by("-id").first()
    until = f"{at:%Y-%m-%d %H:%M:%S} UTC"
    assert is_still_scheduled or (row.before["until"], row.after["until"]) == (until, None)
    database_clock.set_to(at)
    expected = "disabled" if is_still_scheduled else said
    assert api.get(path).json()["provisioningStatus"] == expected


def test_what_was_read_before_a_deadline_is_not_written_after_it(api, service, database_clock):
    enroll_keys(service, "pump-042")
    disable_enrollment(service, "pump-042", at=database_clock.ahead(hours=1), actor=ALICE)
    body = api.get("/enrollments/pump-042").json()
    database_clock.set_to(database_clock.ahead(hours=1))

    late = api.put("/enrollments/pump-042", body, If_Match=body["etag"])

    assert late.status_code == 412
    assert api.get("/enrollments/pump-042").json()["provisioningStatus"] == "disabled"
