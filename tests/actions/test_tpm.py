"""R3 for TPMs: challenge, activation, proof; which challenge counts, for how long, and for whom."""

import base64
from dataclasses import replace
from datetime import timedelta
from urllib.parse import quote

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from enrollments.actions import rates, registration_answers, registrations
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    add_individual_enrollment,
    change_individual_enrollment,
    delete_enrollments,
    disable_enrollment,
    enable_enrollment,
)
from enrollments.actions.registrations import (
    DeviceRequest,
    Outcome,
    look_up_registration,
    poll_operation,
    register_device,
)
from enrollments.attestation.credential import ClaimedTpm, PresentedCredential
from enrollments.attestation.tpm import read_storage_root_key
from enrollments.errors import Invalid
from enrollments.models import (
    AttestationMechanism,
    HistoryEvent,
    HubDevice,
    IndividualEnrollment,
    RegistrationAttempt,
    RegistrationRecord,
    TpmChallenges,
    locks,
)
from enrollments.policy.reasons import Reason
from tests.actions.test_r12_at_once import finish, in_thread
from tests.devices import ALICE, PEER, enroll_keys, new_service, signs
from tests.soft_tpm import SoftTpm

pytestmark = pytest.mark.django_db
# Ahead of the clock, so that what was done by it is over by then, however long the suite has been running.
NOW = timezone.now() + timedelta(days=1)
ID = "press-01"


@pytest.fixture
def tpm():
    return SoftTpm()


def enroll_tpm(service, tpm, **spec):
    values = {"registration_id": ID, "endorsement_key": tpm.keys.endorsement_key, **spec}
    return add_individual_enrollment(
        service, IndividualSpec(mechanism=AttestationMechanism.TPM, **values), actor=ALICE
    )


class TpmDevice:
    """A device with a TPM, which does each step at the second that a test says."""

    def __init__(self, service, tpm, *, srk_of=None, repeats=True):
        self.service, self.tpm, self.repeats = service, tpm, repeats
        srk = read_storage_root_key((srk_of or tpm).keys.storage_root_key)
        self.claimed = ClaimedTpm(tpm.keys.endorsement_key, srk)

    def ask(self, seconds=0.0, *, token="", claims=True, **more):
        at = NOW + timedelta(seconds=seconds)
        credential = PresentedCredential(authorization=token, claimed_tpm=self.claimed if claims else None)
        return DeviceRequest(ID, credential, PEER, at, **more)

    def challenge(self, seconds=0.0):
        answer = register_device(self.service, self.ask(seconds))
        if answer.outcome is Outcome.CHALLENGE:
            self.tpm.activate(answer.tpm_blob)
        return answer

    def token(self, lifetime=3600):
        resource = quote(f"{self.service.id_scope}/registrations/{ID}", safe="")
        expiry = int(NOW.timestamp()) + lifetime
        signature = quote(base64.b64encode(self.tpm.sign(f"{resource}\n{expiry}")), safe="")
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn=registration"

    def prove(self, seconds=0.0, token=""):
        request = self.ask(seconds, token=token or self.token(), claims=self.repeats)
        return register_device(self.service, request)

    def poll(self, answer, seconds=0.0, token=""):
        request = self.ask(seconds, token=token or self.token(), claims=False)
        return poll_operation(self.service, answer.operation_id, request)


@pytest.fixture
def device(service, tpm):
    enroll_tpm(service, tpm)
    return TpmDevice(service, tpm)


# --- The whole way ------------------------------------------------------------------------------------


@pytest.mark.parametrize("repeats", [True, False], ids=["names its TPM again", "as IoT Edge does"])
def test_r3_tpm_that_opens_its_challenge_is_assigned_and_gets_its_hubs_key(service, tpm, repeats):
    enroll_tpm(service, tpm)
    device = TpmDevice(service, tpm, repeats=repeats)

    assert device.challenge().outcome is Outcome.CHALLENGE
    answer = device.prove(1)
    told = device.poll(answer, 2)

    assert (answer.outcome, told.outcome) == (Outcome.ASSIGNED, Outcome.ASSIGNED)
    tpm.activate(told.tpm_blob)
    identity = HubDevice.objects.get()
    assert base64.b64encode(tpm.key).decode() == identity.primary_key
    assert (identity.secondary_key, identity.thumbprint_sha256) == ("", "")


def test_r3_the_challenge_alone_leaves_no_record_and_no_attempt(device):
    device.challenge()

    assert not RegistrationRecord.objects.exists()
    assert not RegistrationAttempt.objects.exists()


def test_each_poll_gives_the_same_key_in_another_blob(device, tpm):
    device.challenge()
    answer = device.prove(1)
    token = device.token()

    blobs = [device.poll(answer, second, token).tpm_blob for second in (2, 3)]
    keys = []
    for blob in blobs:
        tpm.activate(blob)
        keys.append(tpm.key)

    assert blobs[0] != blobs[1]
    assert keys[0] == keys[1]


def test_looking_up_gives_the_key_too(device, tpm):
    device.challenge()
    device.prove(1)

    told = look_up_registration(device.service, device.ask(2, token=device.token(), claims=False))

    assert (told.outcome, bool(told.tpm_blob)) == (Outcome.ASSIGNED, True)


def test_device_that_comes_again_keeps_its_hubs_key_unless_it_is_deregistered(device):
    device.challenge()
    device.prove(1)
    before = HubDevice.objects.get().primary_key
    device.challenge(60)
    device.prove(61)
    assert HubDevice.objects.get().primary_key == before

    HubDevice.objects.all().delete()
    device.challenge(120)
    device.prove(121)

    assert HubDevice.objects.get().primary_key != before


# --- Who is refused ------------------------------------------------------------------------------------


def refusal(answer):
    return answer.outcome, answer.reason


NOT_ENROLLED = (Outcome.UNAUTHORIZED, Reason.TPM_NOT_ENROLLED)
WRONG_SIGNATURE = (Outcome.UNAUTHORIZED, Reason.TOKEN_SIGNATURE_WRONG)
UNCHALLENGED = (Outcome.UNAUTHORIZED, Reason.KEY_UNPROVEN)


def test_r3_unknown_id_and_wrong_endorsement_key_hear_the_same(service, tpm):
    device = TpmDevice(service, tpm)
    assert refusal(device.challenge()) == NOT_ENROLLED

    enroll_tpm(service, SoftTpm(1))
    assert refusal(device.challenge()) == NOT_ENROLLED


def test_r3_entry_of_another_mechanism_is_no_tpm(service, tpm):
    enroll_keys(service, ID)

    assert refusal(TpmDevice(service, tpm).challenge()) == NOT_ENROLLED


def test_r3_endorsement_key_of_another_service_means_nothing(service, tpm):
    enroll_tpm(new_service("other"), tpm)

    assert refusal(TpmDevice(service, tpm).challenge()) == NOT_ENROLLED


def test_r3_disabled_entry_is_challenged_like_an_enabled_one_and_says_so_after_proof(device):
    disable_enrollment(device.service, ID, actor=ALICE)

    assert device.challenge().outcome is Outcome.CHALLENGE
    answer = device.prove(1)

    assert refusal(answer) == (Outcome.DISABLED, Reason.INDIVIDUAL_DISABLED)
    assert refusal(device.poll(answer, 2)) == (Outcome.DISABLED, Reason.INDIVIDUAL_DISABLED)
    assert not HubDevice.objects.exists()


def test_r3_disabled_entry_says_nothing_without_proof(device):
    disable_enrollment(device.service, ID, actor=ALICE)
    device.challenge()
    stranger = signs(device.service, ID, base64.b64encode(b"k" * 32).decode())

    assert register_device(device.service, device.ask(1, token=stranger.authorization)).outcome is (
        Outcome.UNAUTHORIZED
    )


def test_r12_disabled_after_the_registration_the_poll_hands_out_no_key(device):
    device.challenge()
    answer = device.prove(1)
    disable_enrollment(device.service, ID, actor=ALICE)

    told = device.poll(answer, 2)

    assert (told.outcome, told.tpm_blob) == (Outcome.DISABLED, b"")


def test_r12_disabled_between_challenge_and_proof(device):
    device.challenge()
    disable_enrollment(device.service, ID, actor=ALICE)

    assert device.prove(1).outcome is Outcome.DISABLED

    enable_enrollment(device.service, ID, actor=ALICE)
    device.challenge(60)
    assert device.prove(61).outcome is Outcome.ASSIGNED


def test_token_without_a_challenge_proves_nothing(device):
    stranger = signs(device.service, ID, base64.b64encode(b"k" * 32).decode())

    answer = register_device(device.service, device.ask(token=stranger.authorization))

    assert refusal(answer) == UNCHALLENGED
    assert "no challenge to its TPM is pending" in str(RegistrationAttempt.objects.get().trace)


def test_token_of_another_tpm_proves_nothing(device):
    device.challenge()
    other = SoftTpm(1)
    enroll_tpm(device.service, other, registration_id="press-02")
    blob = register_device(
        device.service,
        replace(
            device.ask(),
            claimed_registration_id="press-02",
            credential=PresentedCredential(
                claimed_tpm=ClaimedTpm(
                    other.keys.endorsement_key, read_storage_root_key(other.keys.storage_root_key)
                )
            ),
        ),
    ).tpm_blob
    other.activate(blob)
    device.tpm = other

    assert refusal(device.prove(1)) == WRONG_SIGNATURE


def test_symmetric_keys_of_groups_do_not_stand_in_for_a_tpm(device):
    from tests.devices import derived_key, enroll_key_group

    group = enroll_key_group(device.service)
    token = signs(device.service, ID, derived_key(group.primary_key, ID)).authorization

    answer = register_device(device.service, device.ask(token=token, claims=False))

    assert answer.outcome is Outcome.UNAUTHORIZED


# --- Which challenge counts, and for how long -------------------------------------------------------------


def test_challenge_that_is_not_answered_in_time_has_expired(device):
    device.challenge()

    assert refusal(device.prove(5 * 60)) == UNCHALLENGED


def test_challenge_is_good_until_then(device):
    device.challenge()

    assert device.prove(5 * 60 - 1).outcome is Outcome.ASSIGNED


def test_most_recent_challenge_wins_and_the_previous_counts_briefly(device, tpm):
    device.challenge(0)
    first = device.token()
    device.challenge(31)

    assert device.prove(31 + 59, first).outcome is Outcome.ASSIGNED


def test_previous_challenge_does_not_count_for_long(device):
    device.challenge(0)
    first = device.token()
    device.challenge(31)

    assert refusal(device.prove(31 + 61, first)) == WRONG_SIGNATURE
    assert device.prove(31 + 61).outcome is Outcome.ASSIGNED


def test_the_one_before_the_previous_does_not_count(device):
    device.challenge(0)
    first = device.token()
    device.challenge(31)
    device.challenge(62)

    assert refusal(device.prove(63, first)) == WRONG_SIGNATURE


def test_former_challenge_does_not_outlive_its_own_time(device):
    device.challenge(0)
    first = device.token()
    device.challenge(290)

    assert refusal(device.prove(301, first)) == WRONG_SIGNATURE


def test_answered_challenge_is_spent(device):
    """A replay: the token is still valid, and begins nothing any more."""
    device.challenge()
    token = device.token()
    device.prove(1, token)

    assert device.prove(60, token).outcome is Outcome.ASSIGNED  # a lost answer, asked for again
    assert refusal(device.prove(62, token)) == UNCHALLENGED


def test_answered_challenge_proves_the_polls_of_its_operation(device):
    device.challenge()
    token = device.token(lifetime=2 * 3600)
    answer = device.prove(1, token)

    assert device.poll(answer, 3600, token).outcome is Outcome.ASSIGNED
    assert refusal(device.poll(answer, 3602, token)) == UNCHALLENGED


def test_poll_on_a_newer_epoch_is_proven_by_the_answered_challenge(device):
    device.challenge()
    token = device.token()
    answer = device.prove(1, token)
    enroll_keys(device.service, "somebody-else")  # raises the epoch

    told = device.poll(answer, 120, token)

    assert (told.outcome, bool(told.tpm_blob)) == (Outcome.ASSIGNED, True)


def test_another_endorsement_key_makes_every_challenge_void(device, service):
    """R12: answers for a TPM that is not enrolled any more are none, also if they were on their way."""
    device.challenge()
    entry = IndividualEnrollment.objects.get()
    other = SoftTpm(1)
    spec = IndividualSpec(mechanism=AttestationMechanism.TPM, endorsement_key=other.keys.endorsement_key)
    change_individual_enrollment(service, ID, spec, expected_etag=entry.etag, actor=ALICE)

    assert refusal(device.prove(1)) == NOT_ENROLLED
    without = TpmDevice(service, device.tpm, repeats=False)
    assert refusal(without.prove(1)) == UNCHALLENGED

    newcomer = TpmDevice(service, other)
    newcomer.challenge(2)
    assert newcomer.prove(3).outcome is Outcome.ASSIGNED
    assert refusal(without.prove(4)) == WRONG_SIGNATURE


# --- Strangers who know the public keys -----------------------------------------------------------------


def test_stranger_who_asks_in_its_name_displaces_nothing(device, service):
    stranger = TpmDevice(service, device.tpm, srk_of=SoftTpm(1))
    device.challenge(0)
    for second in range(1, 20):
        register_device(
            service, replace(stranger.ask(second), peer=replace(PEER, address=f"203.0.113.{second}"))
        )

    assert device.prove(20).outcome is Outcome.ASSIGNED


@pytest.mark.parametrize("repeats", [True, False])
def test_hubs_key_is_wrapped_for_the_storage_root_key_that_was_proven(service, tpm, repeats):
    enroll_tpm(service, tpm)
    device = TpmDevice(service, tpm, repeats=repeats)
    device.challenge(0)
    register_device(service, TpmDevice(service, tpm, srk_of=SoftTpm(1)).ask(1))

    answer = device.prove(2)
    tpm.activate(device.poll(answer, 3).tpm_blob)

    assert base64.b64encode(tpm.key).decode() == HubDevice.objects.get().primary_key


def test_enrolled_storage_root_key_is_tried_however_many_others_were_named(service, tpm):
    enroll_tpm(service, tpm, storage_root_key=tpm.keys.storage_root_key)
    device = TpmDevice(service, tpm, repeats=False)
    device.challenge(0)
    stranger = TpmDevice(service, tpm, srk_of=SoftTpm(1)).ask(1)
    for number in range(40):
        register_device(service, replace(stranger, peer=replace(PEER, address=f"203.0.113.{number}")))

    assert len(TpmChallenges.objects.get().recent_storage_root_keys) == 32
    assert device.prove(2).outcome is Outcome.ASSIGNED


@pytest.mark.parametrize("address", [PEER.address, "203.0.113.9", "2001:db8::1"])
def test_stranger_who_names_many_storage_root_keys_displaces_none(service, tpm, address):
    """R14: also for a device that does not name its own again, as IoT Edge, and has never proven itself."""
    enroll_tpm(service, tpm)
    device = TpmDevice(service, tpm, repeats=False)
    device.challenge(0)
    for number in range(1, 9):
        stranger = TpmDevice(service, tpm, srk_of=SoftTpm(number % 7 + 1)).ask(1)
        register_device(service, replace(stranger, peer=replace(PEER, address=address)))

    assert device.prove(2).outcome is Outcome.ASSIGNED


def test_another_tpm_is_given_another_key_for_the_hub(device, service):
    """A stolen TPM that was replaced goes on signing with a key that the hub no longer knows."""
    device.challenge()
    device.prove(1)
    before = HubDevice.objects.get().primary_key
    entry, other = IndividualEnrollment.objects.get(), SoftTpm(1)
    spec = IndividualSpec(mechanism=AttestationMechanism.TPM, endorsement_key=other.keys.endorsement_key)
    change_individual_enrollment(service, ID, spec, expected_etag=entry.etag, actor=ALICE)

    newcomer = TpmDevice(service, other)
    newcomer.challenge(2)
    newcomer.prove(3)

    assert HubDevice.objects.get().primary_key != before


def test_r12_key_is_wrapped_before_the_last_look_at_the_epoch(device, monkeypatch):
    """A change that is answered while the hub's key is being wrapped still counts."""
    device.challenge()
    answer = device.prove(1)
    wrapped = registration_answers.wrapped_hub_key

    def disabled_meanwhile(*args):
        blob = wrapped(*args)
        if device.service.individualenrollments.get().enabled:
            disable_enrollment(device.service, ID, actor=ALICE)
        return blob

    monkeypatch.setattr(registration_answers, "wrapped_hub_key", disabled_meanwhile)

    told = device.poll(answer, 2)

    assert (told.outcome, told.tpm_blob) == (Outcome.DISABLED, b"")


def test_r12_challenge_is_not_given_on_a_state_that_is_gone(device, monkeypatch):
    judge = registrations._judge

    def deleted_meanwhile(service, request, standing=None):
        judgement = judge(service, request, standing)
        delete_enrollments(service, [ID], actor=ALICE)
        return judgement

    monkeypatch.setattr(registrations, "_judge", deleted_meanwhile)

    assert register_device(device.service, device.ask()).outcome is Outcome.THROTTLED
    assert not TpmChallenges.objects.exists()


def test_challenges_for_one_name_from_one_address_have_a_rate(device):
    outcomes = [device.challenge().outcome for _ in range(rates.CHALLENGES_PER_MINUTE + 1)]

    assert outcomes == [Outcome.CHALLENGE] * rates.CHALLENGES_PER_MINUTE + [Outcome.THROTTLED]
    assert device.prove(1).outcome is Outcome.ASSIGNED


def test_any_number_of_challenges_is_one_row(device):
    for seconds in range(0, 600, 20):
        device.challenge(seconds)

    assert TpmChallenges.objects.count() == 1


# --- Enrolling ---------------------------------------------------------------------------------------


def test_device_without_a_name_is_named_by_its_endorsement_key(service, tpm):
    entry = enroll_tpm(service, tpm, registration_id="")

    assert len(entry.registration_id) == 52
    assert entry.registration_id == entry.registration_id.lower()


def test_history_has_the_digests_of_the_keys(service, tpm):
    enroll_tpm(service, tpm, storage_root_key=tpm.keys.storage_root_key)

    after = HistoryEvent.objects.get(event="enrollment.added").after
    assert len(after["endorsement_key_sha256"]) == len(after["storage_root_key_sha256"]) == 64


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"endorsement_key": b""}, "Give the endorsement key"),
        ({"endorsement_key": b"\x01\x3a"}, "is no TPM2B_PUBLIC"),
        ({"storage_root_key": b"\x01\x3a"}, "The storage root key is no TPM2B_PUBLIC"),
        ({"storage_root_key": SoftTpm().keys.endorsement_key}, "the endorsement key once more"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_and_nothing_is_enrolled(service, tpm, spec, sentence):
    with pytest.raises(Invalid, match=sentence):
        enroll_tpm(service, tpm, **spec)

    assert not IndividualEnrollment.objects.exists()


def test_one_endorsement_key_may_be_in_several_entries(service, tpm):
    enroll_tpm(service, tpm)
    enroll_tpm(service, tpm, registration_id="press-02")

    assert IndividualEnrollment.objects.count() == 2


def test_saving_without_keys_keeps_them(service, tpm):
    entry = enroll_tpm(service, tpm, storage_root_key=tpm.keys.storage_root_key)
    spec = IndividualSpec(mechanism=AttestationMechanism.TPM, device_id="other")

    change_individual_enrollment(service, ID, spec, expected_etag=entry.etag, actor=ALICE)

    kept = IndividualEnrollment.objects.get()
    assert bytes(kept.endorsement_key) == tpm.keys.endorsement_key
    assert bytes(kept.storage_root_key) == tpm.keys.storage_root_key


def test_challenge_needs_a_storage_root_key_from_somewhere(service, tpm):
    entry = enroll_tpm(service, tpm)
    bare = replace(
        TpmDevice(service, tpm).ask(),
        credential=PresentedCredential(claimed_tpm=ClaimedTpm(tpm.keys.endorsement_key)),
    )
    with pytest.raises(Invalid, match="storage root key"):
        register_device(service, bare)

    spec = IndividualSpec(mechanism=AttestationMechanism.TPM, storage_root_key=tpm.keys.storage_root_key)
    change_individual_enrollment(service, ID, spec, expected_etag=entry.etag, actor=ALICE)

    assert register_device(service, bare).outcome is Outcome.CHALLENGE


@pytest.mark.skipif(
    connection.vendor != "postgresql", reason="on SQLite who writes has the one turn that there is"
)
@pytest.mark.django_db(transaction=True)
def test_r14_who_has_proven_nothing_takes_no_turn_at_the_id(service, tpm):
    enroll_tpm(service, tpm)
    with psycopg.connect(connection.connection.info.dsn) as proven:
        proven.execute("SELECT pg_advisory_xact_lock(%s)", [locks._turn_at(service, ID)])

        thread, answers = in_thread(TpmDevice(service, tpm).challenge)
        finish(thread)

    assert answers[0].outcome is Outcome.CHALLENGE
