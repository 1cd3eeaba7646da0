"""Exchanges of the clients that are not run, with a TPM: the challenge, its answer, and the hub's key."""

import base64

import pytest

from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import add_individual_enrollment
from enrollments.models import AttestationMechanism, HubDevice, RegistrationRecord
from enrollments.simulator.tpm_structures import TpmRefusal
from tests.device_api.clients import CLIENTS, CSharp, GaveUp, IotEdge, Outcome
from tests.devices import ALICE
from tests.soft_tpm import SoftTpm, TpmKeys

pytestmark = pytest.mark.django_db

EVERY_CLIENT = pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.__name__)
ID = "Pump-042"
# The others tell their application no code where a challenge is not answered with one.
READS_CODES = (IotEdge, CSharp)


@pytest.fixture
def tpm():
    return SoftTpm()


@pytest.fixture
def enroll(service, tpm):
    def run(**spec):
        values = {"registration_id": ID, "endorsement_key": tpm.keys.endorsement_key, **spec}
        return add_individual_enrollment(
            service, IndividualSpec(mechanism=AttestationMechanism.TPM, **values), actor=ALICE
        )

    return run


@pytest.fixture
def provision(service, wire):
    """The whole exchange of a client whose TPM this is, as far as the client takes it."""

    def run(kind, tpm: SoftTpm) -> Outcome:
        client = kind(service.id_scope, ID, tpm=tpm.keys)
        tpm.activate(client.challenge_of(wire(client.ask_for_challenge())))
        client.sign = tpm.sign
        operation_id = client.operation_of(wire(client.answer_challenge()))
        outcome = client.outcome_of(wire(client.poll(operation_id)))
        if outcome.tpm_key is not None:
            tpm.activate(outcome.tpm_key)
        return outcome

    return run


@EVERY_CLIENT
def test_tpm_is_admitted_and_ends_with_the_hubs_key(kind, enroll, tpm, provision):
    enroll()

    outcome = provision(kind, tpm)

    assert (outcome.status, outcome.hub, outcome.device_id) == ("assigned", "plant.hub.internal", ID)
    assert base64.b64encode(tpm.key).decode() == HubDevice.objects.get().primary_key


@EVERY_CLIENT
def test_tpm_that_comes_again_keeps_the_hubs_key(kind, enroll, tpm, provision):
    enroll()
    provision(kind, tpm)
    before = tpm.key

    assert provision(kind, tpm).status == "assigned"
    assert tpm.key == before


def test_second_registration_of_iot_edge_names_no_tpm(service, tpm):
    client = IotEdge(service.id_scope, ID, tpm=tpm.keys, sign=tpm.sign)

    assert b"endorsementKey" in client.ask_for_challenge().body
    assert client.answer_challenge().body == b'{"registrationId":"Pump-042"}'


def test_challenge_has_the_members_of_the_contract(service, enroll, tpm, wire):
    enroll()

    challenge = wire(IotEdge(service.id_scope, ID, tpm=tpm.keys).ask_for_challenge())

    assert challenge.status == 401
    body = challenge.json()
    assert "status" not in body
    assert (body["keyName"], body["unencryptedAuthenticationKey"]) == ("registration", None)
    assert body["message"]
    assert base64.b64decode(body["authenticationKey"], validate=True)


@EVERY_CLIENT
def test_disabled_tpm_learns_that_it_is(kind, enroll, tpm, provision):
    enroll(enabled=False)

    if kind is IotEdge:
        with pytest.raises(GaveUp, match="unknown variant disabled"):  # it knows no such status
            provision(kind, tpm)
    else:
        assert provision(kind, tpm).status == "disabled"


@EVERY_CLIENT
def test_unknown_tpm_ends_with_404201(kind, tpm, provision):
    with pytest.raises(GaveUp) as gave_up:
        provision(kind, tpm)

    assert gave_up.value.code == (404201 if kind in READS_CODES else None)


@EVERY_CLIENT
def test_other_tpm_than_the_enrolled_one_ends_as_an_unknown_one(kind, enroll, provision):
    enroll()

    with pytest.raises(GaveUp) as gave_up:
        provision(kind, SoftTpm(1))
    assert gave_up.value.code == (404201 if kind in READS_CODES else None)
    assert not RegistrationRecord.objects.exists()


@pytest.mark.parametrize("storage_root_key_of", [0, 1])
def test_stranger_who_shows_the_enrolled_public_key_cannot_open_the_challenge(
    service, enroll, tpm, wire, storage_root_key_of
):
    enroll()
    stranger = SoftTpm(1)
    stranger.keys = TpmKeys(tpm.keys.endorsement_key, SoftTpm(storage_root_key_of).keys.storage_root_key)
    client = CSharp(service.id_scope, ID, tpm=stranger.keys)
    challenge = client.challenge_of(wire(client.ask_for_challenge()))

    with pytest.raises(TpmRefusal, match="not readable with the key of this TPM"):
        stranger.activate(challenge)


@EVERY_CLIENT
def test_tpm_that_does_not_answer_its_challenge_is_refused(kind, service, enroll, tpm, wire):
    enroll()
    client = kind(service.id_scope, ID, tpm=tpm.keys)
    client.challenge_of(wire(client.ask_for_challenge()))
    client.sign = lambda text: bytes(32)

    with pytest.raises(GaveUp):
        client.operation_of(wire(client.answer_challenge()))
    assert not RegistrationRecord.objects.exists()
