"""Everything that can be wrong with a message ends in a 4xx that names the member, never in a 500."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from enrollments.models import IndividualEnrollment
from enrollments.wire import messages
from enrollments.wire.errors import ApiError
from tests.certificates import root, self_signed
from tests.service_api.conftest import error_of, keys
from tests.service_api.test_enrollments import signing, x509
from tests.soft_tpm import SoftTpm

pytestmark = pytest.mark.django_db

KEY = base64.b64encode(b"k" * 32).decode()


def full() -> dict[str, Any]:
    """An enrollment in which every member that can be given is given."""
    return {
        "registrationId": "pump-042",
        "deviceId": "pump",
        "registrationState": {"registrationId": "pump-042"},
        "optionalDeviceInformation": {"line": 4},
        "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}},
        "capabilities": {"iotEdge": True},
        "iotHubHostName": "plant.hub.internal",
        "initialTwin": {"tags": {"a": 1}, "properties": {"desired": {"b": None}}},
        "etag": "x",
        "provisioningStatus": "enabled",
        "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": False},
        "createdDateTimeUtc": "2026-01-01T00:00:00Z",
        "lastUpdatedDateTimeUtc": "2026-01-01T00:00:00Z",
        "allocationPolicy": "static",
        "iotHubs": ["plant.hub.internal"],
        "customAllocationDefinition": {"webhookUrl": "https://hooks.example/", "apiVersion": "2021-10-01"},
        "credentialPolicyName": None,
        "switchesAt": f"{timezone.now() + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}",
        "scheduleReason": "trial",
    }


def members(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if path in {("registrationState",), ("optionalDeviceInformation",), ("initialTwin", "tags")}:
        return [path]
    if path == ("initialTwin", "properties", "desired"):
        return [path]
    if not isinstance(value, dict):
        return [path]
    inner = [one for name, member in value.items() for one in members(member, (*path, name))]
    return [path, *inner] if path else inner


def changed(path: tuple[str, ...], change: Any) -> dict[str, Any]:
    """The full enrollment with one member changed by a function of its object and name."""
    message = json.loads(json.dumps(full()))
    holder = message
    for name in path[:-1]:
        holder = holder[name]
    change(holder, path[-1])
    return message


each_member = pytest.mark.parametrize(
    "path", [pytest.param(one, id=".".join(one)) for one in members(full())]
)


def test_the_full_enrollment_is_taken(api):
    assert api.put("/enrollments/pump-042", full()).status_code == 200


def test_the_full_enrollment_has_every_member_of_the_model():
    assert set(full()) == {field.alias for field in messages.IndividualEnrollment.model_fields.values()}


def right(path: tuple[str, ...]) -> Any:
    value: Any = full()
    for name in path:
        value = value[name]
    return value


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        pytest.param(path, wrong, id=f"{'.'.join(path)} {type(wrong).__name__}")
        for path in members(full())
        for wrong in (7, True, "text", [1], {"x": 1}, 1.5)
        if type(wrong) is not type(right(path))
    ],
)
def test_members_of_a_wrong_type(api, path, wrong):
    message = changed(path, lambda holder, name: holder.__setitem__(name, wrong))
    status, _code, told = error_of(api.put("/enrollments/pump-042", message))

    assert status == 400
    assert ".".join(path) in told or path[-1] in told


@each_member
def test_members_in_another_case(api, path):
    def recase(holder, name):
        holder[name.upper()] = holder.pop(name)

    message = changed(path, recase)
    status, _code, told = error_of(api.put("/enrollments/pump-042", message))

    assert status == 400
    assert path[-1].upper() in told


@each_member
def test_members_that_are_left_out_or_null_are_missed_only_where_they_are_needed(api, path):
    needed = {
        ("registrationId",),
        ("attestation",),
        ("attestation", "type"),
        ("customAllocationDefinition", "webhookUrl"),
    }
    for change in (
        lambda holder, name: holder.pop(name),
        lambda holder, name: holder.__setitem__(name, None),
    ):
        answer = api.put("/enrollments/pump-042", changed(path, change), If_Match="*")

        if path in needed:
            assert answer.status_code == 400
            assert ".".join(path) in answer.json()["message"]
        else:
            # A status of null is "enabled"; only flags have no null.
            assert answer.status_code in (
                (404, 400) if path[0] in ("capabilities", "reprovisionPolicy") else (404,)
            )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"registrationId": "x" * 129}, "registrationId", id="registration ID too long"),
        pytest.param({"registrationId": "other"}, "registrationId", id="another registration ID"),
        pytest.param({"deviceId": "x" * 129}, "deviceId", id="device ID too long"),
        pytest.param({"deviceId": "a b"}, "deviceId", id="device ID of another form"),
        pytest.param({"allocationPolicy": "Hashed"}, "allocationPolicy", id="case of a policy"),
        pytest.param({"provisioningStatus": "Disabled"}, "provisioningStatus", id="case of a status"),
        pytest.param({"iotHubs": ["nowhere.example"]}, "iotHubs", id="unknown hub"),
        pytest.param({"iotHubs": ["x" * 5000]}, "iotHubs", id="long hub"),
        pytest.param({"iotHubs": ["x"] * 51}, "iotHubs", id="too many hubs"),
        pytest.param({"iotHubs": [None]}, "iotHubs", id="no hub"),
        pytest.param({"iotHubHostName": "nowhere.example"}, "iotHubs", id="unknown single hub"),
        pytest.param(
            {"iotHubHostName": "plant.hub.internal", "allocationPolicy": "hashed"},
            "iotHubHostName",
            id="two wishes",
        ),
        pytest.param(
            {"iotHubHostName": "plant.hub.internal", "iotHubs": ["x"]}, "iotHubHostName", id="two hubs"
        ),
        pytest.param({"allocationPolicy": "custom"}, "customAllocationDefinition", id="no webhook"),
        pytest.param(
            {
                "allocationPolicy": "custom",
                "customAllocationDefinition": {"webhookUrl": "http://hooks.example/"},
            },
            "customAllocationDefinition",
            id="webhook without TLS",
        ),
        pytest.param({"initialTwin": {"tags": {"a": "x" * 9000}}}, "initialTwin", id="twin too long"),
        pytest.param(
            {"optionalDeviceInformation": {"a": "x" * 9000}},
            "optionalDeviceInformation",
            id="information too long",
        ),
        pytest.param({"credentialPolicyName": "x"}, "credentialPolicyName", id="a preview"),
        pytest.param({"attestation": {"type": "none"}}, "attestation.type", id="type none"),
        pytest.param({"attestation": {"type": "X509"}}, "attestation.type", id="case of a type"),
        pytest.param({"attestation": {"type": "x509"}}, "attestation.x509", id="no object for the type"),
        pytest.param({"attestation": {"type": "tpm"}}, "attestation.tpm", id="no TPM for the type"),
        pytest.param(
            {"attestation": {"type": "tpm", "tpm": {}}}, "attestation.tpm.endorsementKey", id="no EK"
        ),
        pytest.param(
            {"attestation": {"type": "tpm", "tpm": {"endorsementKey": "AAAA"}}},
            "attestation.tpm.endorsementKey",
            id="no EK either",
        ),
        pytest.param(
            {"attestation": {"type": "symmetricKey", "symmetricKey": {}, "x509": {}}},
            "attestation.x509",
            id="two mechanisms",
        ),
        pytest.param(
            {"attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "short"}}},
            "attestation.symmetricKey.primaryKey",
            id="a key that is none",
        ),
        pytest.param({"attestation": {"type": "x509", "x509": {}}}, "attestation.x509", id="no certificates"),
        pytest.param(
            {"attestation": {"type": "x509", "x509": {"clientCertificates": {}}}},
            "attestation.x509",
            id="no certificate",
        ),
        pytest.param(
            {"attestation": {"type": "x509", "x509": {"clientCertificates": {}, "caReferences": {}}}},
            "attestation.x509",
            id="certificates of two kinds",
        ),
        pytest.param(
            {
                "attestation": {
                    "type": "x509",
                    "x509": {"signingCertificates": {"primary": {"certificate": "x"}}},
                }
            },
            "clientCertificates",
            id="of a group",
        ),
        pytest.param(
            {"attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {}}}}},
            "clientCertificates.primary.certificate",
            id="a certificate without one",
        ),
        pytest.param(
            {
                "attestation": {
                    "type": "x509",
                    "x509": {"clientCertificates": {"primary": {"certificate": "x"}}},
                }
            },
            "clientCertificates.primary.certificate",
            id="no certificate at all",
        ),
    ],
)
def test_values_that_cannot_be(api, change, named):
    status, _code, message = error_of(api.put("/enrollments/pump-042", {**keys(), **change}))

    assert status == 400
    assert named in message
    assert not IndividualEnrollment.objects.exists()


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(lambda: self_signed("pump-042").key_pem, id="private key"),
        pytest.param(lambda: self_signed("somebody-else").pem, id="another name"),
        pytest.param(lambda: self_signed("pump-042").pem + root("CA").pem, id="two"),
        pytest.param(lambda: self_signed("pump-042").pem[:200], id="cut off"),
        pytest.param(lambda: base64.b64encode(b"0" * 500).decode(), id="noise"),
        pytest.param(lambda: "x" * 80_000, id="long"),
    ],
)
def test_certificates_that_cannot_be(api, certificate):
    status, _code, message = error_of(api.put("/enrollments/pump-042", x509(certificate=certificate())))

    assert status == 400
    assert "attestation.x509" in message
    assert "PRIVATE" not in message


@pytest.mark.parametrize(
    ("x509_object", "named"),
    [
        ({"clientCertificates": {"primary": {"certificate": "x"}}}, "signingCertificates"),
        ({"caReferences": {"primary": "plant-ca"}}, "caReferences"),
        (
            {"signingCertificates": {"primary": {"certificate": "x"}}},
            "signingCertificates.primary.certificate",
        ),
    ],
)
def test_certificates_that_a_group_cannot_have(api, x509_object, named):
    body = {"enrollmentGroupId": "plant-7", "attestation": {"type": "x509", "x509": x509_object}}

    status, _code, message = error_of(api.put("/enrollmentGroups/plant-7", body))

    assert status == 400
    assert named in message


def test_a_group_has_no_tpm(api):
    endorsement_key = base64.b64encode(SoftTpm().keys.endorsement_key).decode()
    tpm = {"type": "tpm", "tpm": {"endorsementKey": endorsement_key}}

    status, _code, message = error_of(
        api.put("/enrollmentGroups/plant-7", {"enrollmentGroupId": "plant-7", "attestation": tpm})
    )

    assert (status, "attestation.type" in message) == (400, True)


def test_members_of_individuals_are_none_of_groups(api):
    status, _code, message = error_of(api.put("/enrollmentGroups/plant-7", signing(deviceId="pump")))

    assert (status, "deviceId" in message) == (400, True)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"text"', id="a text"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b"[" * 10_000, id="deep"),
        pytest.param(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, id="deep objects"),
        pytest.param(b'{"a": 1, "a": 2}', id="twice"),
        pytest.param(b'{"registrationId": "pump\\u0000"}', id="NUL"),
        pytest.param(b'{"registrationId": "\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"registrationId": NaN}', id="NaN"),
        pytest.param(b'{"a":' + b"9" * 50_000 + b"}", id="a long number"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/enrollments/pump-042"),
        ("PUT", "/enrollmentGroups/pump-042"),
        ("POST", "/enrollments"),
        ("POST", "/enrollmentGroups"),
        ("POST", "/enrollments/query"),
        ("POST", "/enrollmentGroups/query"),
    ],
)
def test_bodies_that_are_no_message(api, method, path, body):
    status, code, _message = error_of(api.call(method, path, body))

    assert (status, code) in ((400, 400001), (400, 400100))


def test_a_body_that_is_too_long_is_not_read(api):
    body = {**keys(), "optionalDeviceInformation": {"a": "x" * 98_304}}

    assert error_of(api.put("/enrollments/pump-042", body))[:2] == (413, 413001)


@pytest.mark.parametrize("name", ["a b", "x" * 129, "é", "a%00", "-_", "%2e%2e"])
def test_names_in_paths_that_cannot_be(api, name):
    for method in ("GET", "DELETE", "PUT"):
        for folder in ("enrollments", "enrollmentGroups"):
            status = error_of(api.call(method, f"/{folder}/{name}", keys() if method == "PUT" else None))[0]

            assert status == 400


def test_a_body_of_an_operation_that_needs_none_is_looked_at_all_the_same(api):
    api.put("/enrollments/pump-042", keys())

    assert error_of(api.post("/enrollments/pump-042/attestationmechanism", b"{"))[:2] == (400, 400001)


def test_an_error_repeats_little_of_what_was_sent(api):
    name = "x" * 50_000

    told = api.put("/enrollments/pump-042", {**keys(), name: 1, **{f"m{n}": 1 for n in range(500)}}).json()[
        "message"
    ]

    assert len(told) < 1000


def told(model: type[messages.Message], name: str, wrong: Any) -> str:
    try:
        messages.checked(model, {name: wrong})
    except ApiError as error:
        return error.answer.message
    return ""


def of(model: type[messages.Message]) -> set[type[messages.Message]]:
    return {model}.union(*(of(one) for one in model.__subclasses__()))


@pytest.mark.parametrize("wrong", [None, 1, 1.5, "text", b"x", [], {}, True, [1], {"x": 1}, [[]]], ids=repr)
def test_every_kind_of_error_that_the_models_can_make_has_its_words(wrong):
    """Whatever pydantic can say of these models is translated."""
    sentences = [
        told(model, str(field.alias), wrong)
        for model in of(messages.Message)
        for field in model.model_fields.values()
    ]

    assert any(sentences)
    assert not [one for one in sentences if "cannot be read" in one]
