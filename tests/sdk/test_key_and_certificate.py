"""The published SDK for Node.js over HTTPS, with keys and certificates: every outcome that a device can meet."""

import base64
import hashlib
import hmac

import pytest

from tests.certificates import Minted, root, self_signed

KEY = base64.b64encode(b"k" * 32).decode()
OTHER_KEY = base64.b64encode(b"o" * 32).decode()


def as_certificate(chain: Minted, *, bare: bool = False) -> dict[str, str]:
    """What the SDK is given: a leaf with its intermediates, or the leaf alone."""
    return {"cert": chain.pem if bare else chain.chain_pem(), "key": chain.key_pem}


@pytest.fixture
def with_key(prepare):
    def enroll(registration_id: str, **spec: object) -> dict[str, str]:
        prepare(
            "spec = IndividualSpec(registration_id=name, mechanism=AttestationMechanism.SYMMETRIC_KEY,"
            " primary_key=key, **options)\n"
            "add_individual_enrollment(service, spec, actor=ALICE)",
            name=registration_id,
            key=KEY,
            options=spec,
        )
        return {"symmetricKey": KEY}

    return enroll


@pytest.fixture
def with_own_certificate(prepare):
    def enroll(registration_id: str, **spec: object) -> dict[str, str]:
        device = self_signed(registration_id)
        prepare(
            "add_individual_enrollment(service, IndividualSpec(certificates=held(pem), **options), actor=ALICE)",
            pem=device.pem,
            options=spec,
        )
        return as_certificate(device)

    return enroll


@pytest.fixture
def group_of(prepare):
    def enroll(ca: Minted, **spec: object) -> None:
        prepare(
            "add_enrollment_group(service, GroupSpec(group_id=name, certificates=held(pem), **options), actor=ALICE)",
            name=ca.parsed.common_names[0],
            pem=ca.pem,
            options=spec,
        )

    return enroll


@pytest.fixture
def key_group(prepare):
    """A group whose devices have keys derived from two keys of its own."""

    def enroll(group_id: str, **spec: object) -> None:
        prepare(
            "change_settings(service, {'symmetric_key_groups': True}, actor=ALICE)\n"
            "spec = GroupSpec(group_id=name, mechanism=AttestationMechanism.SYMMETRIC_KEY,"
            " primary_key=key, secondary_key=other, **options)\n"
            "add_enrollment_group(service, spec, actor=ALICE)",
            name=group_id,
            key=base64.b64encode(group_id.encode().ljust(32, b"p")).decode(),
            other=base64.b64encode(group_id.encode().ljust(32, b"s")).decode(),
            options=spec,
        )

    return enroll


def derived(group_id: str, registration_id: str, *, fill: bytes = b"p") -> str:
    """The key of one device, as the factory computes it."""
    key = group_id.encode().ljust(32, fill)
    return base64.b64encode(hmac.digest(key, registration_id.encode(), hashlib.sha256)).decode()


def assert_assigned(told, registration_id: str, *, hub: str = "local.hub.internal") -> None:
    state = told.state
    assert (state["status"], state["assignedHub"], state["deviceId"]) == ("assigned", hub, registration_id)
    assert state["registrationId"] == registration_id
    assert state["createdDateTimeUtc"]
    assert state["lastUpdatedDateTimeUtc"]


def assert_unauthorized(told) -> None:
    assert told.error == "UnauthorizedError"
    assert (told.raw["statusCode"], told.error_code) == (401, 401002)
    assert told.raw["body"]["trackingId"]


def assert_disabled(told) -> None:
    """The SDK knows no such status: it ends with an error that says it."""
    assert (told.error, told.raw["message"]) == ("SyntaxError", "status is disabled")


# --- Admitted -------------------------------------------------------------------------------------


def test_symmetric_key(register, with_key):
    assert_assigned(register("Key-1", **with_key("Key-1")), "Key-1")


def test_symmetric_key_with_a_payload(register, with_key):
    assert_assigned(register("key-p", **with_key("key-p"), payload={"line": 7}), "key-p")


def test_symmetric_key_of_an_id_with_every_character(register, with_key):
    assert_assigned(register("a.b_c:d-7", **with_key("a.b_c:d-7")), "a.b_c:d-7")


@pytest.mark.parametrize("fill", [b"p", b"s"], ids=["primary", "secondary"])
def test_derived_key_of_a_group(register, key_group, fill):
    group_id = f"keys-{fill.decode()}"
    key_group(group_id)
    name = f"Below-Keys-{fill.decode()}"

    assert_assigned(register(name, symmetricKey=derived(group_id, name, fill=fill)), name)


def test_self_signed_certificate(register, with_own_certificate):
    assert_assigned(register("self-1", **with_own_certificate("self-1")), "self-1")


def test_leaf_with_its_intermediate_under_a_group(register, group_of):
    ca = root("ca-above")
    group_of(ca)

    told = register("below-1", **as_certificate(ca.intermediate("line").leaf("below-1")))

    assert_assigned(told, "below-1")
    assert told.state["x509"] == {}


def test_bare_leaf_whose_intermediate_is_enrolled(register, group_of):
    line = root("far").intermediate("ca-line")
    group_of(line)

    assert_assigned(register("bare-1", **as_certificate(line.leaf("bare-1"), bare=True)), "bare-1")


def test_other_device_id(register, with_key):
    told = register("key-named", **with_key("key-named", device_id="pump-of-hall-3"))

    assert told.state["deviceId"] == "pump-of-hall-3"


@pytest.mark.parametrize(
    ("policy", "substatus", "hub"),
    [
        ("migrate", "deviceDataMigrated", "second.example"),
        ("reset", "deviceDataReset", "second.example"),
        ("never", "initialAssignment", "local.hub.internal"),
    ],
)
def test_reprovisioned_to_another_hub(register, prepare, with_key, policy, substatus, hub):
    name = f"moving-{policy}"
    credential = with_key(name, reprovisioning_policy=policy)
    before = register(name, **credential)
    prepare(
        "entry = service.individualenrollments.by_registration_id(name)\n"
        "spec = IndividualSpec(mechanism=entry.mechanism, reprovisioning_policy=entry.reprovisioning_policy,"
        " allocation_policy='static', hubs=(service.hubs.get(name='second'),))\n"
        "change_individual_enrollment(service, name, spec, expected_etag=entry.etag, actor=ALICE)",
        name=name,
    )

    after = register(name, **credential)

    assert_assigned(before, name)
    assert_assigned(after, name, hub=hub)
    assert (before.state["substatus"], after.state["substatus"]) == ("initialAssignment", substatus)


# --- Not admitted ---------------------------------------------------------------------------------


def test_disabled_symmetric_key(register, with_key):
    assert_disabled(register("key-off", **with_key("key-off", enabled=False)))


def test_disabled_self_signed_certificate(register, with_own_certificate):
    assert_disabled(register("self-off", **with_own_certificate("self-off", enabled=False)))


def test_leaf_under_a_disabled_group(register, group_of):
    ca = root("ca-off")
    group_of(ca, enabled=False)

    assert_disabled(register("below-off", **as_certificate(ca.leaf("below-off"))))


def test_disabled_between_two_registrations(register, prepare, with_key):
    credential = with_key("key-later-off")
    assert_assigned(register("key-later-off", **credential), "key-later-off")

    prepare("disable_enrollment(service, 'key-later-off', actor=ALICE)")

    assert_disabled(register("key-later-off", **credential))


def test_derived_key_of_a_disabled_group(register, key_group):
    key_group("keys-off", enabled=False)

    assert_disabled(register("below-keys-off", symmetricKey=derived("keys-off", "below-keys-off")))


def test_key_that_a_group_does_not_derive(register, key_group):
    key_group("keys-refused")
    whole = base64.b64encode(b"keys-refused".ljust(32, b"p")).decode()

    assert_unauthorized(register("whole", symmetricKey=whole))
    assert_unauthorized(register("Other-Case", symmetricKey=derived("keys-refused", "other-case")))
    assert_unauthorized(register("another", symmetricKey=derived("keys-refused", "one")))
    assert_unauthorized(register("alien", symmetricKey=derived("keys-nobody", "alien")))


def test_throttled(register, prepare):
    """Not even once more does the SDK ask by itself: it hands the error and the wait to its caller."""
    id_scope = prepare(
        "service = add_service('narrow', actor=ALICE)\n"
        "change_settings(service, {'device_registrations_per_minute': 1}, actor=ALICE)\n"
        "spec = IndividualSpec(registration_id='key-often', primary_key=key,"
        " mechanism=AttestationMechanism.SYMMETRIC_KEY)\n"
        "add_individual_enrollment(service, spec, actor=ALICE)\n"
        "print(service.id_scope)",
        key=KEY,
    ).strip()
    first = register("key-often", symmetricKey=KEY, idScope=id_scope)

    second = register("key-often", symmetricKey=KEY, idScope=id_scope)

    assert_assigned(first, "key-often", hub="narrow.hub.internal")
    assert second.error == "ThrottlingError"
    assert (second.raw["statusCode"], second.error_code) == (429, 429001)
    assert 1 <= int(second.raw["retryAfter"]) <= 60


def test_unknown_symmetric_key(register):
    assert_unauthorized(register("key-nobody", symmetricKey=KEY))


def test_unknown_certificate(register):
    assert_unauthorized(register("self-nobody", **as_certificate(self_signed("self-nobody"))))


def test_bare_leaf_whose_intermediate_nobody_knows(register, group_of):
    ca = root("ca-top-only")
    group_of(ca)

    told = register("bare-2", **as_certificate(ca.intermediate("unknown line").leaf("bare-2"), bare=True))

    assert_unauthorized(told)


def test_wrong_symmetric_key(register, with_key):
    with_key("key-wrong")

    assert_unauthorized(register("key-wrong", symmetricKey=OTHER_KEY))


def test_certificate_of_another_key(register, with_own_certificate):
    with_own_certificate("self-wrong")

    assert_unauthorized(register("self-wrong", **as_certificate(self_signed("self-wrong"))))


def test_certificate_of_another_name(register, group_of):
    ca = root("ca-names")
    group_of(ca)

    assert_unauthorized(register("someone-else", **as_certificate(ca.leaf("somebody"))))


def test_no_hub_to_assign_to(register, with_key):
    """The static policy without a choice, and two hubs to choose from."""
    told = register("key-nowhere", **with_key("key-nowhere", allocation_policy="static"))

    assert told.error == "ProvisioningRegistrationFailedError"
    state = told.raw["body"]["registrationState"]
    assert (state["status"], state["errorCode"]) == ("failed", 400208)
    assert state["errorMessage"]


def test_unknown_id_scope(register):
    told = register("key-1", symmetricKey=KEY, idScope="0ne00000000")

    assert (told.error, told.raw["message"]) == ("Error", "Not found")
    assert told.error_code == 404001


def test_server_whose_ca_is_not_trusted_is_told_nothing(register, with_key, live):
    told = register("key-careful", **with_key("key-careful"), trusting=False)

    assert "certificate" in told.raw["message"]
    assert (
        live.rows("SELECT * FROM enrollments_registrationrecord WHERE registration_id = 'key-careful'") == []
    )
