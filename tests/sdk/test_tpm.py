"""The published SDK for Node.js and its TPM client, against a TPM in software: from the challenge to the hub's key."""

import base64
import hashlib
import hmac

import pytest

from tests.sdk.conftest import TpmIdentity, read_tpm

TEXT = "local.hub.internal%2Fdevices%2Fpump\n1795439006"


@pytest.fixture
def enroll(prepare):
    def run(tpm: TpmIdentity, **spec: object) -> None:
        values = {"registration_id": tpm.registration_id, "endorsement_key": tpm.endorsement_key, **spec}
        prepare(
            "add_individual_enrollment("
            "service, IndividualSpec(mechanism=AttestationMechanism.TPM, **values), actor=ALICE)",
            values=values,
        )

    return run


@pytest.fixture
def hub_keys(prepare):
    """The keys that the hub holds for a device."""

    def of(device_id: str) -> list[bytes]:
        code = "held = HubDevice.objects.get(device_id=name)\nprint(held.primary_key, held.secondary_key)"
        return [base64.b64decode(key) for key in prepare(code, name=device_id).split()]

    return of


def signatures(keys: list[bytes], text: str) -> list[str]:
    return [base64.b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode() for key in keys]


def test_key_that_the_tpm_holds_in_the_end_is_the_hubs(register, enroll, tpm, hub_keys):
    enroll(tpm)

    told = register(tpm.registration_id, sign=TEXT)

    state = told.state
    assert (state["status"], state["substatus"]) == ("assigned", "initialAssignment")
    assert (state["assignedHub"], state["deviceId"]) == ("local.hub.internal", tpm.registration_id)
    assert told.raw["signature"] == signatures(hub_keys(tpm.registration_id), TEXT)[0]


def test_registering_again_gives_the_tpm_the_same_key(register, enroll, tpm):
    enroll(tpm)

    first, second = (register(tpm.registration_id, sign=TEXT) for _ in range(2))

    assert first.raw["signature"] == second.raw["signature"]


def test_reprovisioned_to_another_hub(register, enroll, tpm, hub_keys, prepare):
    enroll(tpm)
    before = register(tpm.registration_id)
    prepare(
        "entry = service.individualenrollments.by_registration_id(name)\n"
        "spec = IndividualSpec(mechanism=entry.mechanism, endorsement_key=key,"
        " allocation_policy='static', hubs=(service.hubs.get(name='second'),))\n"
        "change_individual_enrollment(service, name, spec, expected_etag=entry.etag, actor=ALICE)",
        name=tpm.registration_id,
        key=tpm.endorsement_key,
    )

    after = register(tpm.registration_id, sign=TEXT)

    assert [told.state["assignedHub"] for told in (before, after)] == ["local.hub.internal", "second.example"]
    assert after.state["substatus"] == "deviceDataMigrated"
    assert after.raw["signature"] == signatures(hub_keys(tpm.registration_id), TEXT)[0]


def test_chosen_registration_id_and_an_enrolled_storage_root_key(register, enroll, tpm):
    enroll(tpm, registration_id="tpm-chosen", storage_root_key=tpm.storage_root_key)

    assert register("tpm-chosen").state["deviceId"] == "tpm-chosen"


def test_disabled_tpm(register, enroll, tpm):
    enroll(tpm, enabled=False)

    told = register(tpm.registration_id)

    assert (told.error, told.raw["message"]) == ("SyntaxError", "status is disabled")


def test_unknown_tpm(register, tpm, live):
    told = register(tpm.registration_id)

    # The SDK drops what it was told where it expected a challenge; the listener's log has the status.
    assert told.error == "InvalidOperationError"
    assert '"status": 404' in live.log("device").strip().splitlines()[-1]


def test_other_tpm_than_the_enrolled_one(register, enroll, tpm, switched_on, run_sdk, live):
    enroll(tpm, registration_id="tpm-swapped")
    switched_on("second")
    assert read_tpm(run_sdk).endorsement_key != tpm.endorsement_key

    told = register("tpm-swapped")

    assert "error" in told.raw
    assert (
        live.rows("SELECT * FROM enrollments_registrationrecord WHERE registration_id = 'tpm-swapped'") == []
    )
