"""R1 to R9 with real certificates and real rows: what is admitted, and beside it what is refused."""

from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import (
    add_enrollment_group,
    change_enrollment_group,
    delete_enrollment_groups,
    disable_enrollment_group,
    enable_enrollment_group,
)
from enrollments.actions.enrollments import delete_enrollments, disable_enrollment, enable_enrollment
from enrollments.actions.entries import AlreadyEnrolled
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.registrations import Outcome
from enrollments.actions.services import change_settings
from enrollments.attestation.credential import PresentedCredential
from enrollments.errors import Invalid
from enrollments.models import AttestationMechanism, RegistrationAttempt, RegistrationRecord, Slot
from enrollments.policy.reasons import Reason
from tests.certificates import EXPIRED, SERVER_AUTH, mint, name, root, self_signed
from tests.devices import (
    ALICE,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    new_service,
    register,
    shows,
    signs,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def pki():
    top = root("Root A")
    plant = top.intermediate("Plant 7")
    return top, plant, plant.leaf("pump-042")


def outcome(service, *args, **kwargs):
    answer = register(service, *args, **kwargs)
    return answer.outcome, answer.reason


ASSIGNED = (Outcome.ASSIGNED, Reason.ADMITTED)

# --- R1 --------------------------------------------------------------------------------------


def test_r1_entries_of_one_service_mean_nothing_in_another(service, pki):
    top, plant, leaf = pki
    other = new_service("other")
    enroll_ca(service, top)
    enroll_ca(other, plant, enabled=False)

    assert outcome(service, leaf) == ASSIGNED
    assert outcome(other, leaf) == (Outcome.DISABLED, Reason.GROUP_DISABLED)


def test_r1_token_for_one_service_proves_nothing_in_another(service):
    other = new_service("other")
    key = enroll_keys(service, "pump-042").primary_key
    enroll_keys(other, "pump-042", primary_key=key)

    assert outcome(service, signs(service, "pump-042", key), "pump-042") == ASSIGNED
    assert outcome(other, signs(service, "pump-042", key), "pump-042") == (
        Outcome.UNAUTHORIZED,
        Reason.TOKEN_FOR_OTHER_DEVICE,
    )


def test_r1_id_scopes_are_of_the_form_and_differ(service):
    other = new_service("other")

    assert service.id_scope != other.id_scope
    assert service.id_scope.startswith("0ne")
    assert len(bytes.fromhex(service.id_scope[3:])) == 4


# --- R2 --------------------------------------------------------------------------------------


def test_r2_case_does_not_count_and_the_first_spelling_is_kept(service, pki):
    enroll_ca(service, pki[0])

    register(service, pki[2])
    again = register(service, pki[1].leaf("PUMP-042"))

    assert again.outcome is Outcome.ASSIGNED
    assert RegistrationRecord.objects.get().registration_id == "pump-042"


def test_r2_registration_id_is_unique_whatever_its_case(service):
    enroll_keys(service, "pump-042")

    with pytest.raises(AlreadyEnrolled) as refusal:
        enroll_keys(service, "Pump-042")

    assert refusal.value.entry.name == "pump-042"


# --- R3 --------------------------------------------------------------------------------------


def test_r3_self_signed_stranger_with_the_name_of_an_entry_hears_401(service):
    device = self_signed("pump-042")
    enroll_device(service, device)

    assert outcome(service, device) == ASSIGNED
    assert outcome(service, self_signed("pump-042"))[0] is Outcome.UNAUTHORIZED


def test_r3_self_signed_stranger_with_the_name_of_a_disabled_entry_hears_401_and_changes_nothing(service):
    device = self_signed("pump-042")
    enroll_device(service, device)
    register(service, device)
    disable_enrollment(service, "pump-042", actor=ALICE)

    stranger = register(service, self_signed("pump-042"))

    assert stranger.outcome is Outcome.UNAUTHORIZED
    assert RegistrationRecord.objects.get().status == "assigned"
    assert outcome(service, device) == (Outcome.DISABLED, Reason.KEY_BARRED)


def test_r3_path_to_a_disabled_group_is_proof_enough_to_hear_disabled(service, pki):
    enroll_ca(service, pki[0], enabled=False)

    assert outcome(service, pki[2]) == (Outcome.DISABLED, Reason.GROUP_DISABLED)
    assert outcome(service, root("Stranger").leaf("pump-042"))[0] is Outcome.UNAUTHORIZED


@pytest.mark.parametrize(
    "names", [(), ("pump-042", "pump-043"), ("pump-042", "pump-042")], ids=["none", "two", "twice"]
)
def test_r3_leaf_needs_exactly_one_common_name(service, pki, names):
    top, plant, leaf = pki
    enroll_ca(service, top)
    odd = mint(subject=name(*names), issuer=plant)

    assert outcome(service, leaf) == ASSIGNED
    assert outcome(service, odd, "pump-042") == (Outcome.UNAUTHORIZED, Reason.NO_SINGLE_COMMON_NAME)


@pytest.mark.parametrize("common_name", ["pump-043", "pump-042 ", "pümp-042", "pump-04\u212a"])
def test_r3_common_name_is_the_registration_id(service, pki, common_name):
    enroll_ca(service, pki[0])

    assert outcome(service, pki[1].leaf(common_name), "pump-042") == (
        Outcome.UNAUTHORIZED,
        Reason.COMMON_NAME_DIFFERS,
    )


def test_r3_every_cause_is_kept_under_the_tracking_id_and_none_is_told(service, pki):
    enroll_ca(service, pki[0])

    answers = [
        register(service, pki[1].leaf("pump-043"), "pump-042"),
        register(service, self_signed("pump-042")),
        register(service, PresentedCredential(), "pump-042"),
        register(service, signs(service, "pump-042", "a2tra2tra2tra2tra2tra2tra2s="), "pump-042"),
    ]

    assert {answer.outcome for answer in answers} == {Outcome.UNAUTHORIZED}
    assert len({answer.tracking_id for answer in answers}) == 4
    assert all(answer.record is None for answer in answers)
    assert not RegistrationRecord.objects.exists()
    assert set(RegistrationAttempt.objects.values_list("reason", flat=True)) == {
        "common_name_differs",
        "not_enrolled",
        "no_credential",
    }


def test_r3_tokens_prove_by_either_key(service):
    entry = enroll_keys(service, "pump-042")

    for key in (entry.primary_key, entry.secondary_key):
        assert outcome(service, signs(service, "pump-042", key), "pump-042") == ASSIGNED
    assert outcome(service, signs(service, "pump-042", entry.primary_key, expiry=1), "pump-042") == (
        Outcome.UNAUTHORIZED,
        Reason.TOKEN_EXPIRED,
    )


# --- R4 --------------------------------------------------------------------------------------


def test_r4_groups_with_keys_are_refused_while_the_switch_is_off(service):
    assert service.symmetric_key_groups is False  # for every new service

    with pytest.raises(Invalid, match="switched off in this service"):
        add_enrollment_group(
            service, GroupSpec(group_id="line-9", mechanism=AttestationMechanism.SYMMETRIC_KEY), actor=ALICE
        )


def test_r4_a_group_is_not_given_keys_while_the_switch_is_off(service, pki):
    group = enroll_ca(service, pki[0])
    spec = GroupSpec(mechanism=AttestationMechanism.SYMMETRIC_KEY)

    with pytest.raises(Invalid, match="switched off in this service"):
        change_enrollment_group(service, group.group_id, spec, expected_etag=group.etag, actor=ALICE)


def test_r4_no_group_holds_a_tpm(service):
    with pytest.raises(Invalid, match="CA certificate or symmetric keys"):
        add_enrollment_group(
            service, GroupSpec(group_id="line-9", mechanism=AttestationMechanism.TPM), actor=ALICE
        )


@pytest.mark.parametrize("which", ["primary_key", "secondary_key"])
def test_r4_device_with_a_derived_key_comes_in_through_its_group(service, which):
    group = enroll_key_group(service)
    key = derived_key(getattr(group, which), "pump-042")

    assert outcome(service, signs(service, "pump-042", key), "pump-042") == ASSIGNED


@pytest.mark.parametrize(
    "key_of",
    [
        pytest.param(lambda group: group.primary_key, id="the group's own key"),
        pytest.param(lambda group: derived_key(group.primary_key, "pump-043"), id="a sibling's key"),
        pytest.param(lambda group: derived_key(group.primary_key, "PUMP-042"), id="derived in another case"),
    ],
)
def test_r4_any_other_key_does_not(service, key_of):
    group = enroll_key_group(service)

    assert outcome(service, signs(service, "pump-042", key_of(group)), "pump-042") == (
        Outcome.UNAUTHORIZED,
        Reason.NOT_ENROLLED,
    )


def test_r4_case_of_the_device_decides_its_key(service):
    """Contract 2.1: the ID is derived from as the device spells it."""
    group = enroll_key_group(service)
    key = derived_key(group.primary_key, "Pump-042")

    assert outcome(service, signs(service, "Pump-042", key), "Pump-042") == ASSIGNED


def test_r4_switched_off_again_such_groups_admit_nobody_and_still_bar(service):
    group = enroll_key_group(service)
    key = derived_key(group.primary_key, "pump-042")
    change_settings(service, {"symmetric_key_groups": False}, actor=ALICE)

    assert outcome(service, signs(service, "pump-042", key), "pump-042") == (
        Outcome.UNAUTHORIZED,
        Reason.KEY_GROUPS_OFF,
    )

    disable_enrollment_group(service, group.group_id, actor=ALICE)

    assert outcome(service, signs(service, "pump-042", key), "pump-042") == (
        Outcome.DISABLED,
        Reason.GROUP_DISABLED,
    )


def test_r4_expired_token_of_a_derived_key_is_called_so(service):
    group = enroll_key_group(service)
    key = derived_key(group.primary_key, "pump-042")

    shown = signs(service, "pump-042", key, expiry=1)

    assert outcome(service, shown, "pump-042") == (Outcome.UNAUTHORIZED, Reason.TOKEN_EXPIRED)


def test_r4_token_never_comes_in_through_a_group_of_a_ca(service, pki):
    enroll_ca(service, pki[0])
    key = enroll_keys(service, "known").primary_key

    assert outcome(service, signs(service, "pump-042", key), "pump-042") == (
        Outcome.UNAUTHORIZED,
        Reason.NOT_ENROLLED,
    )


def test_r5_disabled_individual_shuts_one_device_of_a_group_with_keys_out(service):
    group = enroll_key_group(service)
    enroll_keys(service, "pump-042", enabled=False)
    keys = {name: derived_key(group.primary_key, name) for name in ("pump-042", "pump-043")}

    assert outcome(service, signs(service, "pump-042", keys["pump-042"]), "pump-042") == (
        Outcome.DISABLED,
        Reason.INDIVIDUAL_DISABLED,
    )
    assert outcome(service, signs(service, "pump-043", keys["pump-043"]), "pump-043") == ASSIGNED


def test_r5_derived_key_does_not_stand_in_for_the_individual_one(service):
    group = enroll_key_group(service)
    enroll_keys(service, "pump-042")
    key = derived_key(group.primary_key, "pump-042")

    assert outcome(service, signs(service, "pump-042", key), "pump-042") == (
        Outcome.UNAUTHORIZED,
        Reason.OTHER_CREDENTIAL,
    )


def test_r7_of_two_groups_with_the_same_key_the_disabled_one_bars(service):
    older = enroll_key_group(service, "line-9")
    enroll_key_group(service, "line-10", primary_key=older.primary_key)
    key = derived_key(older.primary_key, "pump-042")

    assert register(service, signs(service, "pump-042", key), "pump-042").record.group.group_id == "line-9"

    disable_enrollment_group(service, "line-10", actor=ALICE)

    assert outcome(service, signs(service, "pump-042", key), "pump-042")[0] is Outcome.DISABLED


# --- R5 --------------------------------------------------------------------------------------


def test_r5_disabled_individual_shuts_a_device_of_a_group_out_and_no_sibling(service, pki):
    top, plant, leaf = pki
    enroll_ca(service, top)
    enroll_device(service, leaf, enabled=False)

    assert outcome(service, leaf)[0] is Outcome.DISABLED
    assert outcome(service, plant.leaf("pump-043")) == ASSIGNED


def test_r5_disabled_individual_of_another_mechanism_shuts_out_just_as_well(service, pki):
    enroll_ca(service, pki[0])
    enroll_keys(service, "pump-042", enabled=False)

    assert outcome(service, pki[2]) == (Outcome.DISABLED, Reason.INDIVIDUAL_DISABLED)


def test_r5_individual_without_any_certificate_bars_its_name(service, pki):
    enroll_ca(service, pki[0])
    enroll_device(service, pki[2], certificates={}, registration_id="PUMP-042", enabled=False)

    assert outcome(service, pki[2]) == (Outcome.DISABLED, Reason.INDIVIDUAL_DISABLED)


def test_r5_another_credential_never_falls_through_to_a_group(service, pki):
    enroll_ca(service, pki[0])
    enroll_keys(service, "pump-042")

    assert outcome(service, pki[2]) == (Outcome.UNAUTHORIZED, Reason.OTHER_CREDENTIAL)
    delete_enrollments(service, ["pump-042"], actor=ALICE)
    assert outcome(service, pki[2]) == ASSIGNED


def test_r5_secondary_certificate_admits_too(service):
    old, new = self_signed("pump-042"), self_signed("pump-042")
    enroll_device(service, old, certificates={Slot.PRIMARY: old.parsed, Slot.SECONDARY: new.parsed})

    assert outcome(service, new) == ASSIGNED
    assert outcome(service, old) == ASSIGNED


def test_r5_disabled_and_enabled_again(service):
    device = self_signed("pump-042")
    enroll_device(service, device)

    disable_enrollment(service, "PUMP-042", actor=ALICE, reason="stolen")
    assert outcome(service, device)[0] is Outcome.DISABLED
    enable_enrollment(service, "pump-042", actor=ALICE)
    assert outcome(service, device) == ASSIGNED


# --- R6 --------------------------------------------------------------------------------------


def test_r6_key_of_a_disabled_individual_is_refused_under_any_name(service, pki):
    top, plant, leaf = pki
    enroll_ca(service, top)
    other_name = plant.leaf("pump-099", key=leaf.key)
    assert outcome(service, other_name) == ASSIGNED

    enroll_device(service, leaf, enabled=False)

    assert outcome(service, other_name) == (Outcome.DISABLED, Reason.KEY_BARRED)


def test_r6_comes_before_an_enabled_individual(service):
    stolen = self_signed("pump-042")
    reused = mint("pump-099", key=stolen.key)
    enroll_device(service, reused)
    assert outcome(service, reused) == ASSIGNED

    enroll_device(service, stolen, enabled=False)

    assert outcome(service, reused) == (Outcome.DISABLED, Reason.KEY_BARRED)


def test_r6_device_ca_is_barred_as_an_individual_even_when_the_device_does_not_send_it(service):
    top = root("Root A")
    device_ca = top.intermediate("gateway-1")
    below = device_ca.leaf("sensor-1")
    enroll_ca(service, top, helpers=(device_ca.parsed,))
    assert outcome(service, shows(below), "sensor-1") == ASSIGNED

    enroll_device(service, device_ca, enabled=False)

    assert outcome(service, below) == (Outcome.DISABLED, Reason.KEY_BARRED)
    assert outcome(service, PresentedCredential((below.der,)), "sensor-1") == (
        Outcome.DISABLED,
        Reason.KEY_BARRED,
    )


def test_r6_unproven_bearer_of_a_barred_key_hears_401(service):
    stolen = self_signed("pump-042")
    enroll_device(service, stolen, enabled=False)

    assert outcome(service, mint("pump-099", key=stolen.key))[0] is Outcome.UNAUTHORIZED


def test_r6_a_barred_key_bars_what_it_has_signed_under_whatever_name(service):
    """A CA whose own certificate is not at hand: its key is known by the device that had it too, and was shut out."""
    top, lost = root("Top"), root("Lost")
    plant = lost.intermediate("Plant 7")
    crossed = plant.cross_signed_by(top)
    enroll_ca(service, top)
    leaf = plant.leaf("pump-042")
    assert outcome(service, shows(leaf, crossed, plant), "pump-042") == ASSIGNED

    enroll_device(service, root("Others").leaf("pump-001", key=lost.key), enabled=False)

    assert outcome(service, shows(leaf, crossed, plant), "pump-042")[0] is Outcome.DISABLED


def test_r6_denied_devices_of_one_supplier_cost_devices_of_another_nothing(service):
    """A supplier writes what it likes into its devices' certificates, another CA's key identifier too."""
    victim, evil = root("Victim CA"), root("Evil CA")
    enroll_ca(service, victim)
    enroll_ca(service, evil)
    key_id = bytes.fromhex(victim.parsed.subject_key_id)
    for number in range(70):
        enroll_device(service, evil.leaf(f"evil-{number}", subject_key_id=key_id), enabled=False)

    assert outcome(service, victim.leaf("pump-042")) == ASSIGNED


# --- R7: bar -----------------------------------------------------------------------------------


def test_r7_disabled_intermediate_bars_below_an_enabled_root(service, pki):
    top, plant, leaf = pki
    enroll_ca(service, top)
    enroll_ca(service, plant)
    assert outcome(service, leaf) == ASSIGNED

    disable_enrollment_group(service, "plant-7", actor=ALICE)

    assert outcome(service, leaf) == (Outcome.DISABLED, Reason.GROUP_DISABLED)
    assert outcome(service, top.intermediate("Plant 8").leaf("pump-800")) == ASSIGNED


def test_r7_disabled_root_bars_above_an_enabled_intermediate(service, pki):
    top, plant, leaf = pki
    enroll_ca(service, top, enabled=False)
    enroll_ca(service, plant)

    assert outcome(service, leaf) == (Outcome.DISABLED, Reason.GROUP_DISABLED)
    enable_enrollment_group(service, "root-a", actor=ALICE)
    assert outcome(service, leaf) == ASSIGNED


def test_r7_disabled_root_bars_when_it_has_expired(service):
    top = root("Root A", **EXPIRED)
    plant = top.intermediate("Plant 7")
    leaf = plant.leaf("pump-042")
    enroll_ca(service, plant)
    assert outcome(service, leaf) == ASSIGNED

    enroll_ca(service, top, enabled=False)

    assert outcome(service, leaf) == (Outcome.DISABLED, Reason.GROUP_DISABLED)


def test_r7_expired_disabled_root_alone_proves_nothing(service):
    top = root("Root A", **EXPIRED)
    enroll_ca(service, top, enabled=False)

    assert outcome(service, top.leaf("pump-042"))[0] is Outcome.UNAUTHORIZED


def test_r7_disabled_intermediate_bars_when_re_issued_under_another_name(service, pki):
    top, plant, _leaf = pki
    enroll_ca(service, top)
    enroll_ca(service, plant, enabled=False)
    renamed = plant.reissued("Plant 7 (2027)")
    below = renamed.leaf("pump-700")

    assert outcome(service, below) == (Outcome.DISABLED, Reason.GROUP_DISABLED)


def test_r7_disabled_root_bars_a_chain_that_is_cross_signed(service, pki):
    top, plant, leaf = pki
    other = root("Root B")
    cross = plant.cross_signed_by(other)
    enroll_ca(service, other)
    assert outcome(service, shows(leaf, cross), "pump-042") == ASSIGNED

    enroll_ca(service, top, enabled=False, helpers=(plant.parsed,))

    assert outcome(service, shows(leaf, cross), "pump-042") == (Outcome.DISABLED, Reason.GROUP_DISABLED)


def test_r7_bare_leaf_is_barred_by_what_we_hold(service, pki):
    top, plant, leaf = pki
    enroll_ca(service, plant)
    bare = PresentedCredential((leaf.der,))
    assert outcome(service, bare, "pump-042") == ASSIGNED

    enroll_ca(service, top, enabled=False)

    assert outcome(service, bare, "pump-042") == (Outcome.DISABLED, Reason.GROUP_DISABLED)


def test_r7_ca_that_was_never_enrolled_is_barred_by_a_group_disabled_from_the_start(service, pki):
    top, plant, leaf = pki
    enroll_ca(service, top)
    enroll_ca(service, plant, enabled=False)

    assert outcome(service, leaf)[0] is Outcome.DISABLED
    assert outcome(service, top.intermediate("Plant 8").leaf("pump-800")) == ASSIGNED


def test_r7_expired_group_admits_nobody_and_still_bars(service):
    plant = root("Root A").intermediate("Plant 7", **EXPIRED)
    enroll_ca(service, plant)

    assert outcome(service, plant.leaf("pump-042"))[0] is Outcome.UNAUTHORIZED
    top = plant.issuer
    enroll_ca(service, top)
    disable_enrollment_group(service, "plant-7", actor=ALICE)
    valid = plant.reissued()
    below = valid.leaf("pump-043")
    assert outcome(service, below) == (Outcome.DISABLED, Reason.GROUP_DISABLED)


def test_r7_forged_certificate_with_the_name_of_a_disabled_ca_bars_nobody(service, pki):
    """Nobody is shut out by a certificate that names a disabled CA: only its key's signature taints."""
    top, _plant, leaf = pki
    other = root("Root B")
    enroll_ca(service, top)
    enroll_ca(service, other, enabled=False)
    forged = mint(subject=other.certificate.subject, ca=True)

    assert outcome(service, shows(*leaf.chain, forged), "pump-042") == ASSIGNED


# --- R7: admit -----------------------------------------------------------------------------------


def test_r7_fewest_steps_decide_and_ties_go_to_the_older_group(service, pki):
    top, plant, leaf = pki
    enroll_ca(service, top)
    nearer = enroll_ca(service, plant)

    assert register(service, leaf).record.group == nearer


def test_r7_tie_between_two_roots_goes_to_the_group_created_first(service):
    first, second = root("Root A"), root("Root B")
    plant = first.intermediate("Plant 7")
    cross = plant.cross_signed_by(second)
    older = enroll_ca(service, second)
    enroll_ca(service, first)
    leaf = plant.leaf("pump-042")

    assert register(service, shows(leaf, plant, cross), "pump-042").record.group == older


def test_r7_enrolled_certificate_stands_in_for_the_one_sent(service):
    top = root("Root A")
    reissue = top.reissued(**EXPIRED)
    enroll_ca(service, top)
    leaf = top.leaf("pump-042")

    assert outcome(service, shows(leaf, reissue), "pump-042") == ASSIGNED


def test_r7_self_signed_re_issue_does_not_revive_an_expired_enrolled_ca(service):
    top = root("Root A", **EXPIRED)
    fresh = top.reissued()
    enroll_ca(service, top)
    leaf = fresh.leaf("pump-042")

    assert outcome(service, shows(leaf, fresh), "pump-042")[0] is Outcome.UNAUTHORIZED


def test_r7_enrolled_path_length_counts_not_the_one_sent(service):
    top = root("Root A", path_length=0)
    generous = top.reissued()
    leaf = generous.intermediate("Plant 7").leaf("pump-042")
    enroll_ca(service, top)

    assert outcome(service, shows(*leaf.chain, generous), "pump-042")[0] is Outcome.UNAUTHORIZED
    assert outcome(service, top.leaf("pump-043")) == ASSIGNED


def test_r7_helpers_find_paths_and_are_trusted_for_nothing(service, pki):
    top, plant, leaf = pki
    stranger = root("Stranger")
    enroll_ca(service, top, helpers=(plant.parsed, stranger.parsed))

    assert outcome(service, PresentedCredential((leaf.der,)), "pump-042") == ASSIGNED
    assert outcome(service, stranger.leaf("pump-042"))[0] is Outcome.UNAUTHORIZED


def test_r7_deleted_group_neither_bars_nor_admits_and_a_higher_one_may_admit(service, pki):
    top, plant, leaf = pki
    enroll_ca(service, plant)
    disable_enrollment_group(service, "plant-7", actor=ALICE)
    assert outcome(service, leaf)[0] is Outcome.DISABLED

    delete_enrollment_groups(service, ["plant-7"], actor=ALICE)
    assert outcome(service, leaf)[0] is Outcome.UNAUTHORIZED

    enroll_ca(service, top)
    assert outcome(service, leaf) == ASSIGNED


def test_r7_one_subject_and_key_belongs_to_one_group(service, pki):
    top = pki[0]
    enroll_ca(service, top)

    with pytest.raises(AlreadyEnrolled) as refusal:
        enroll_ca(service, top.reissued(), "again")

    assert (refusal.value.entry.name, refusal.value.field) == ("root-a", "primary_certificate")
    enroll_ca(new_service("other"), top)


# --- R8 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("disabled", [("top",), ("plant",), ("top", "plant")], ids=" and ".join)
def test_r8_enabled_individual_admits_its_own_device_below_a_disabled_group(service, pki, disabled):
    top, plant, leaf = pki
    enroll_ca(service, top, enabled="top" not in disabled)
    enroll_ca(service, plant, enabled="plant" not in disabled)
    enroll_device(service, leaf)

    assert outcome(service, leaf) == ASSIGNED
    assert outcome(service, plant.leaf("pump-043"))[0] is Outcome.DISABLED


def test_r8_pinned_certificate_admits_and_another_of_the_same_name_and_ca_does_not(service, pki):
    top, plant, leaf = pki
    enroll_ca(service, top, enabled=False)
    enroll_device(service, leaf)

    assert outcome(service, leaf) == ASSIGNED
    assert outcome(service, plant.leaf("pump-042")) == (Outcome.UNAUTHORIZED, Reason.OTHER_CREDENTIAL)
    assert outcome(service, plant.leaf("pump-042", key=leaf.key)) == (
        Outcome.UNAUTHORIZED,
        Reason.OTHER_CREDENTIAL,
    )


def test_r8_key_of_the_individual_admits_and_its_certificate_below_the_disabled_group_does_not(service, pki):
    top, _, leaf = pki
    enroll_ca(service, top, enabled=False)
    entry = enroll_keys(service, "pump-042")

    assert outcome(service, signs(service, "pump-042", entry.primary_key), "pump-042") == ASSIGNED
    assert outcome(service, leaf)[0] is Outcome.UNAUTHORIZED


def test_r8_admits_as_long_as_the_individual_is_there_and_enabled(service, pki):
    top, _, leaf = pki
    enroll_ca(service, top, enabled=False)
    enroll_device(service, leaf)
    assert outcome(service, leaf) == ASSIGNED

    disable_enrollment(service, "pump-042", actor=ALICE)
    assert outcome(service, leaf) == (Outcome.DISABLED, Reason.KEY_BARRED)

    enable_enrollment(service, "pump-042", actor=ALICE)
    assert outcome(service, leaf) == ASSIGNED

    delete_enrollments(service, ["pump-042"], actor=ALICE)
    assert outcome(service, leaf) == (Outcome.DISABLED, Reason.GROUP_DISABLED)


# --- R9 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param(EXPIRED, Reason.LEAF_REFUSED, id="expired"),
        pytest.param({"key": "RSA 1024"}, Reason.LEAF_REFUSED, id="short key"),
        pytest.param({"key": "secp256k1"}, Reason.LEAF_REFUSED, id="curve"),
        pytest.param({"usages": [SERVER_AUTH]}, Reason.LEAF_REFUSED, id="usage"),
    ],
)
def test_r9_leaf_below_a_group_obeys_the_rules(service, pki, options, reason):
    enroll_ca(service, pki[0])

    assert outcome(service, pki[1].leaf("pump-043", **options)) == (Outcome.UNAUTHORIZED, reason)


def test_r9_pinned_leaf_obeys_the_rules_at_the_time_of_the_request(service):
    device = self_signed("pump-042", not_after=timezone.now() + timedelta(days=2))
    enroll_device(service, device)

    assert outcome(service, device) == ASSIGNED
    assert outcome(service, device, at=timezone.now() + timedelta(days=3)) == (
        Outcome.UNAUTHORIZED,
        Reason.LEAF_REFUSED,
    )


def test_r9_intermediate_that_is_no_ca_leads_nowhere(service, pki):
    top, _plant, _leaf = pki
    device = top.leaf("gateway-1")
    enroll_ca(service, top)

    assert outcome(service, device.leaf("pump-042"))[0] is Outcome.UNAUTHORIZED


def test_r9_eleven_certificates_are_too_many_and_ten_are_not(service, pki):
    top, _plant, leaf = pki
    enroll_ca(service, top)
    others = [root(f"Other {n}") for n in range(9)]

    assert outcome(service, shows(*leaf.chain, *others[:8]), "pump-042") == ASSIGNED
    assert outcome(service, shows(*leaf.chain, *others), "pump-042") == (
        Outcome.UNAUTHORIZED,
        Reason.TOO_MANY_CERTIFICATES,
    )


def test_r16_unreadable_certificate_proves_nothing(service, pki):
    enroll_ca(service, pki[0])

    assert outcome(service, PresentedCredential((b"\x30\x03\x02\x01\x01",)), "pump-042") == (
        Outcome.UNAUTHORIZED,
        Reason.CERTIFICATE_UNREADABLE,
    )
