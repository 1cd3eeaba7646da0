"""A device with a TPM: challenged, proven, assigned, and in possession of the key for its hub."""

import base64
import hmac
import json

import pytest

from enrollments.attestation.symmetric_key import check_token, read_token
from enrollments.simulator.client import Device, Outcome
from enrollments.simulator.credentials import TpmKeys
from enrollments.simulator.profiles import PROFILES
from enrollments.simulator.virtual_tpm import VirtualTpm
from tests.simulator.test_client import ACCEPTED, THROTTLED, UNAUTHORIZED, run
from tests.simulator.tpm_blobs import blob_for

JSON_TYPE = {"Content-Type": "application/json"}
NOT_FOUND = (404, {"errorCode": 404201, "trackingId": "t-2", "message": "Enrollment not found."}, {})


@pytest.fixture(scope="module")
def tpm() -> VirtualTpm:
    return VirtualTpm.new()


def base64_of(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def challenge(blob, status=401, **changes):
    body = {
        "message": "Authorization required, resend request using supplied key",
        "authenticationKey": base64_of(blob.octets()),
        "unencryptedAuthenticationKey": None,
        "keyName": "registration",
        **changes,
    }
    return (status, {name: value for name, value in body.items() if value != "left out"}, JSON_TYPE)


def assigned(**tpm):
    state = {
        "registrationId": "pump-1",
        "status": "assigned",
        "assignedHub": "hub.example",
        "deviceId": "p1",
        "tpm": tpm,
    }
    return (200, {"operationId": "5.op", "status": "assigned", "registrationState": state}, JSON_TYPE)


def register(service, tpm, *answers, profile="plain"):
    device = Device("pump-1", TpmKeys(tpm), PROFILES[profile])
    typed = [(status, body, {**headers, **JSON_TYPE}) for status, body, headers in answers]
    result, _ = run(service, *typed, device=device)
    return result


@pytest.mark.parametrize("profile", PROFILES)
def test_a_tpm_is_challenged_proves_itself_and_takes_the_key_of_its_hub(service, tpm, profile):
    first, hub_key = blob_for(tpm), blob_for(tpm)

    result = register(
        service,
        tpm,
        challenge(first),
        ACCEPTED,
        assigned(authenticationKey=base64_of(hub_key.octets())),
        profile=profile,
    )

    assert (result.outcome, result.hub, result.hub_key_used) == (Outcome.ASSIGNED, "hub.example", True)
    asked, proven, polled = service.requests
    assert [method for method, _, _, _ in service.requests] == ["PUT", "PUT", "GET"]
    assert not {"authorization"} & {name.lower() for name in asked[2]}
    tokens = [
        {name.lower(): value for name, value in one[2].items()}["authorization"] for one in (proven, polled)
    ]
    assert tokens[0] == tokens[1]
    check_token(
        read_token(tokens[0]), id_scope="0ne0000ABCD", registration_id="pump-1", keys=[first.key], now=0
    )
    assert tpm.sign(b"text") == hmac.digest(hub_key.key, b"text", "sha256")


@pytest.mark.parametrize("profile", PROFILES)
def test_only_the_edge_client_leaves_its_keys_out_of_the_second_request(service, tpm, profile):
    register(service, tpm, challenge(blob_for(tpm)), UNAUTHORIZED, profile=profile)

    asked, proven = (json.loads(body) for _, _, _, body in service.requests)
    keys = {
        "endorsementKey": base64_of(tpm.endorsement_key),
        "storageRootKey": base64_of(tpm.storage_root_key),
    }
    assert asked == {"registrationId": "pump-1", "tpm": keys}
    assert proven.get("tpm") == (None if profile == "edge" else keys)


def test_node_spells_the_token_of_a_tpm_in_another_way_than_that_of_a_key(service, tpm):
    register(service, tpm, challenge(blob_for(tpm)), UNAUTHORIZED, profile="node")

    token = service.requests[1][2]["Authorization"]
    assert "sr=0ne0000ABCD%2Fregistrations%2Fpump-1&" in token
    assert [part.split("=")[0] for part in token.split(" ")[1].split("&")] == ["sr", "sig", "se", "skn"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"status": 202, "operationId": "5.op"}, "answered with 202", id="admitted unproven"),
        pytest.param({"status": 200}, "answered with|status code 200", id="answered with 200"),
        pytest.param({"keyName": None}, "no keyName", id="no name of a key"),
        pytest.param({"keyName": "left out"}, "no keyName", id="name of the key left out"),
        pytest.param({"authenticationKey": "left out"}, "no authenticationKey", id="no blob"),
        pytest.param({"authenticationKey": "!"}, "not base64", id="a blob that is no base64"),
        pytest.param({"authenticationKey": "AAAA"}, "blob ends", id="a blob that is none"),
    ],
)
def test_what_is_no_challenge_is_an_error(service, tpm, changes, said):
    result = register(service, tpm, challenge(blob_for(tpm), **changes))

    assert result.outcome is Outcome.ERROR
    assert any(one in result.detail for one in said.split("|"))
    assert len(service.requests) == 1


def test_a_challenge_that_holds_a_status_is_none(service, tpm):
    status, body, headers = challenge(blob_for(tpm))

    result = register(service, tpm, (status, {**body, "status": "unassigned"}, headers))

    assert result.outcome is Outcome.ERROR
    assert "holds a status" in result.detail


def test_a_blob_for_another_tpm_is_told_as_what_the_tpm_says(service, tpm):
    result = register(service, tpm, challenge(blob_for(VirtualTpm.new())))

    assert result.outcome is Outcome.ERROR
    assert result.detail == "The seed of the credential is not readable with the key of this TPM."


def test_an_unknown_tpm_hears_why_and_keeps_the_tracking_id(service, tpm):
    result = register(service, tpm, NOT_FOUND)

    assert (result.outcome, result.tracking_id) == (Outcome.ERROR, "t-2")
    assert result.detail == "404201: Enrollment not found."


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([UNAUTHORIZED], Outcome.UNAUTHORIZED),
        ([THROTTLED], Outcome.THROTTLED),
        ([ACCEPTED, UNAUTHORIZED], Outcome.UNAUTHORIZED),
    ],
    ids=["refused", "throttled", "refused while polling"],
)
def test_what_comes_after_the_challenge_counts_as_for_other_devices(service, tpm, answers, outcome):
    result = register(service, tpm, challenge(blob_for(tpm)), *answers)

    assert result.outcome is outcome


def test_a_tpm_without_a_key_for_its_hub_is_not_done(service, tpm):
    for answer in (assigned(), assigned(authenticationKey="")):
        result = register(service, tpm, challenge(blob_for(tpm)), ACCEPTED, answer)

        assert result.outcome is Outcome.ERROR
        assert result.detail == "There is no authenticationKey."
        assert not result.hub_key_used
