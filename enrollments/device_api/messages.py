"""Bodies of the device API: reading requests, writing results. Names are the wire's (contract 1.3)."""

import base64
from typing import Any, NamedTuple

from django.http import HttpRequest

from enrollments.actions.registration_answers import Outcome, RegistrationAnswer
from enrollments.attestation.credential import ClaimedTpm
from enrollments.attestation.tpm import read_storage_root_key, unwrapped
from enrollments.errors import AttestationError
from enrollments.policy.names import same_registration_id
from enrollments.wire.errors import ApiError, failure_of
from enrollments.wire.requests import json_object, utc


class DeviceRegistration(NamedTuple):
    """What a body says beside the ID: `payload` is any JSON, `claimed_tpm` the public keys of a TPM."""

    payload: Any = None
    claimed_tpm: ClaimedTpm | None = None


def read_device_registration(request: HttpRequest, registration_id: str) -> DeviceRegistration:
    """Refuse a body that is no DeviceRegistration of this device. An empty body is one without wishes."""
    message = json_object(request)
    return DeviceRegistration() if message is None else device_registration(message, registration_id)


def device_registration(message: dict[str, Any], registration_id: str) -> DeviceRegistration:
    named = message.get("registrationId")
    if named is not None and not isinstance(named, str):
        raise ApiError(400002, "registrationId must be a string.")
    if named is not None and not same_registration_id(named, registration_id):
        raise ApiError(400002, "registrationId in the body differs from the one in the path.")
    if message.get("csr") is not None:
        raise ApiError(400003, "Issuing certificates is not offered by this service; leave csr out.")
    return DeviceRegistration(message.get("payload"), _claimed_tpm(message.get("tpm")))


def _claimed_tpm(tpm: object) -> ClaimedTpm | None:
    """The keys as the contract (1.3) has them: base64 of TPM2B_PUBLIC. Their form is looked at before any entry is."""
    if tpm is None:
        return None
    if not isinstance(tpm, dict):
        raise ApiError(400005, "tpm must be a JSON object with endorsementKey and storageRootKey.")
    endorsement_key, storage_root_key = tpm.get("endorsementKey"), tpm.get("storageRootKey")
    if not isinstance(endorsement_key, str) or not isinstance(storage_root_key, str | None):
        raise ApiError(400005, "endorsementKey and storageRootKey of tpm must be strings in base64.")
    try:
        return ClaimedTpm(
            unwrapped(endorsement_key, "endorsement key"),
            read_storage_root_key(storage_root_key) if storage_root_key else None,
        )
    except AttestationError as problem:
        raise ApiError(400005, problem.message) from None


def assigning(answer: RegistrationAnswer) -> dict[str, Any]:
    return {"operationId": answer.operation_id, "status": "assigning"}


def challenge(answer: RegistrationAnswer) -> dict[str, Any]:
    """What a TPM has to open (contract 3.1). Without a status, by whose absence one client knows it."""
    return {
        "message": "Authorization required: sign the request with the key that the TPM opens.",
        "authenticationKey": base64.b64encode(answer.tpm_blob).decode(),
        "unencryptedAuthenticationKey": None,
        "keyName": "registration",
    }


def operation_status(answer: RegistrationAnswer) -> dict[str, Any]:
    return {
        "operationId": answer.operation_id,
        "status": answer.outcome.value,
        "registrationState": registration_state(answer),
    }


def registration_state(answer: RegistrationAnswer) -> dict[str, Any]:
    """DeviceRegistrationResult. What is not known is left out; registrationId and status never are."""
    record = answer.record
    state: dict[str, Any] = {
        "registrationId": record.registration_id if record else answer.registration_id,
        "status": answer.outcome.value,
    }
    if record is not None:
        state["createdDateTimeUtc"] = utc(record.created_at)
        state["lastUpdatedDateTimeUtc"] = utc(record.updated_at)
        state["etag"] = record.etag
    if answer.outcome is Outcome.ASSIGNED and record is not None and record.hub is not None:
        state["assignedHub"] = record.hub.host_name
        state["deviceId"] = record.device_id
        state["substatus"] = record.substatus
        if record.mechanism == "x509":
            state["x509"] = {}
        if answer.tpm_blob:
            state["tpm"] = {"authenticationKey": base64.b64encode(answer.tpm_blob).decode()}
        if record.returned_payload is not None:
            state["payload"] = record.returned_payload
    if answer.outcome is Outcome.FAILED:
        state["errorCode"], state["errorMessage"] = failure_of(answer.reason)
    return state
