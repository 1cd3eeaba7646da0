"""CA certificates: uploaded, proven by an answer to a code, deleted; and what a service that demands proof admits."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from enrollments.actions.ca_certificates import (
    CODE_VALID,
    CaCertificateInUse,
    CaCertificateNotFound,
    add_ca_certificate,
    delete_ca_certificate,
    make_verification_code,
    preview_of_deleting,
    preview_of_proof,
    preview_of_verifying,
    verify_ca_certificate,
    what_deleting_did,
)
from enrollments.actions.enrollment_groups import (
    add_enrollment_group,
    change_enrollment_group,
    disable_enrollment_group,
)
from enrollments.actions.group_specs import GroupSpec, referred
from enrollments.actions.judging import judge
from enrollments.actions.preview import Effect, below_others
from enrollments.actions.preview.settings import preview_of_switching, what_switching_did
from enrollments.actions.registrations import Outcome
from enrollments.actions.services import change_settings
from enrollments.audit.events import Event
from enrollments.errors import ChangedMeanwhile, Conflict, DpsError, Invalid, PreviewOutdated
from enrollments.models import CaCertificate, HistoryEvent, ProvisioningService, Slot
from enrollments.policy.decision import Said
from enrollments.policy.reasons import Reason
from tests.certificates import new_key, root, self_signed, signed_with_sha1
from tests.devices import (
    ALICE,
    demand_proof,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    new_service,
    prove,
    register,
    shows,
    signs,
    upload_ca,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def ca():
    return root("Plant CA")


@pytest.fixture
def row(service, ca):
    """Uploaded, with a code that waits."""
    return make_verification_code(service, upload_ca(service, ca).name, actor=ALICE)


def events(service):
    rows = HistoryEvent.objects.filter(service_id=service.pk, event__startswith="ca_certificate.")
    return [one.event for one in rows.order_by("id")]


def verify(service, row, proof, **expected):
    return verify_ca_certificate(service, row.name, proof.parsed, actor=ALICE, **expected)


def refused(service, row, proof):
    """Why an answer is refused; it changes nothing."""
    before = CaCertificate.objects.values().get(pk=row.pk)
    with pytest.raises(DpsError) as refusal:
        verify(service, row, proof)
    assert CaCertificate.objects.values().get(pk=row.pk) == before
    assert Event.CA_VERIFIED not in events(service)
    return refusal.value.message


# --- Uploading ------------------------------------------------------------------------------------


def test_upload_is_recorded_and_proves_nothing(service, ca):
    row = upload_ca(service, ca)

    assert not row.is_verified
    (event,) = HistoryEvent.objects.filter(event=Event.CA_ADDED)
    assert (event.subject_name, event.actor_name) == ("plant-ca", "alice")
    assert event.after["verified"] is False and ca.parsed.thumbprint_sha256 in event.after["certificate"]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "-a", "a/b", "a b", "é", "a" * 65, "a\x00"],
    ids=["none", "dot", "dots", "hyphen", "slash", "space", "letter", "long", "NUL"],
)
def test_names_that_cannot_be(service, ca, name):
    with pytest.raises(Invalid) as refusal:
        add_ca_certificate(service, name, ca.parsed, actor=ALICE)

    assert "name" in refusal.value.errors
    assert not CaCertificate.objects.exists()


def test_a_name_keeps_what_it_holds(service, ca):
    """Groups refer to it: what stands under it changes for nobody, whatever the case."""
    upload_ca(service, ca, "plant")

    with pytest.raises(Invalid, match="give this one another name"):
        upload_ca(service, root("Another"), "PLANT")

    upload_ca(new_service("other"), ca, "plant")


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(lambda: self_signed("pump-042"), id="no CA"),
        pytest.param(lambda: root("Weak", key=new_key("RSA 1024")), id="weak key"),
        pytest.param(lambda: signed_with_sha1(root("Old")), id="SHA-1"),
        pytest.param(lambda: root("Curve", key=new_key("Ed25519")), id="a key that validates nothing"),
    ],
)
def test_certificates_that_could_not_stand_on_a_path(service, certificate):
    with pytest.raises(Invalid) as refusal:
        upload_ca(service, certificate(), "plant")

    assert list(refusal.value.errors) == ["certificate"]


# --- Proving --------------------------------------------------------------------------------------


def test_answer_proves_possession_and_uses_the_code_up(service, ca, row):
    answer = ca.leaf(row.code)

    proven = verify(service, row, answer)

    assert proven.is_verified and proven.code == "" and proven.proof.pem == answer.parsed.pem
    assert events(service) == [Event.CA_ADDED, Event.CA_CODE_MADE, Event.CA_VERIFIED]
    last = HistoryEvent.objects.get(event=Event.CA_VERIFIED)
    assert answer.parsed.thumbprint_sha256 in last.after["proof"]
    with pytest.raises(Conflict, match="verified already"):
        verify(service, row, answer)
    with pytest.raises(Conflict, match="verified already"):
        make_verification_code(service, row.name, actor=ALICE)


def test_code_is_long_random_and_of_one_certificate(service, ca, row):
    again = make_verification_code(service, row.name, actor=ALICE)

    assert len(row.code) == 48 and len({row.code, again.code}) == 2
    assert timezone.now() + CODE_VALID >= again.code_expires_at > timezone.now() + CODE_VALID * 0.99
    assert "is not the verification code that stands now" in refused(service, row, ca.leaf(row.code))


def test_code_of_another_certificate_or_service_answers_nothing(service, ca, row):
    elsewhere = new_service("other")
    other = make_verification_code(elsewhere, upload_ca(elsewhere, ca).name, actor=ALICE)
    beside = make_verification_code(service, upload_ca(service, ca, "beside").name, actor=ALICE)

    for code in (other.code, beside.code):
        assert "is not the verification code" in refused(service, row, ca.leaf(code))
    with pytest.raises(CaCertificateNotFound):
        verify(elsewhere, beside, ca.leaf(beside.code))


def test_expired_code_answers_nothing(service, ca, row):
    CaCertificate.objects.filter(pk=row.pk).update(code_expires_at=timezone.now() - timedelta(seconds=1))

    assert "has expired: make a new one" in refused(service, row, ca.leaf(row.code))


def test_without_a_code_there_is_nothing_to_answer(service, ca):
    row = upload_ca(service, ca)

    for answer in (ca.leaf("x"), ca.leaf(" ")):
        assert "has no verification code: make a new one" in refused(service, row, answer)


def test_former_answer_proves_nothing_after_an_upload_anew(service, ca, row):
    """Replayed: the certificate is as good as ever, and its code is not."""
    answer = ca.leaf(row.code)
    verify(service, row, answer)
    delete_ca_certificate(service, row.name, actor=ALICE)
    anew = upload_ca(service, ca)

    with pytest.raises(Invalid, match="has no verification code"):
        verify(service, anew, answer)
    make_verification_code(service, anew.name, actor=ALICE)
    with pytest.raises(Invalid, match="is not the verification code"):
        verify(service, anew, answer)


def test_answer_by_another_key_of_the_same_name_is_refused(service, row):
    assert "is not signed with the key" in refused(service, row, root("Plant CA").leaf(row.code))


def test_who_saw_another_state_is_told(service, ca, row):
    newer = make_verification_code(service, row.name, actor=ALICE)

    for act in (
        lambda: verify(service, row, ca.leaf(newer.code), expected_etag=row.etag),
        lambda: make_verification_code(service, row.name, actor=ALICE, expected_etag=row.etag),
        lambda: delete_ca_certificate(service, row.name, actor=ALICE, expected_etag=row.etag),
    ):
        with pytest.raises(ChangedMeanwhile):
            act()
    with pytest.raises(PreviewOutdated):
        verify(service, row, ca.leaf(newer.code), expected_epoch=-1)


@pytest.mark.django_db(transaction=True)
def test_of_two_answers_at_once_one_counts(service, ca, row):
    answers, outcomes = [ca.leaf(row.code), ca.leaf(row.code)], []

    def answer(proof):
        try:
            outcomes.append(verify(service, row, proof).is_verified)
        except Conflict:
            outcomes.append(False)
        finally:
            connection.close()

    threads = [threading.Thread(target=answer, args=(one,)) for one in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == [False, True]
    assert events(service).count(Event.CA_VERIFIED) == 1


# --- Deleting, and groups that refer --------------------------------------------------------------


def group_of(service, group_id="plant-7", **references):
    named = {Slot(slot): one for slot, one in references.items()}
    spec = GroupSpec(group_id=group_id, references=named, certificates=referred(named))
    return add_enrollment_group(service, spec, actor=ALICE)


def test_group_may_refer_to_certificates_and_then_keeps_them(service, ca, row):
    second = upload_ca(service, root("Second"))
    group = group_of(service, primary=row, secondary=second)

    held = {one.slot: one.ca_certificate.name for one in group.certificates.anchors()}
    assert held == {"primary": "plant-ca", "secondary": "second"}
    added = HistoryEvent.objects.get(event=Event.GROUP_ADDED)
    assert added.after["ca_references"] == held
    with pytest.raises(CaCertificateInUse, match="refer to it: plant-7"):
        delete_ca_certificate(service, row.name, actor=ALICE)
    assert register(service, ca.leaf("pump-042")).outcome is Outcome.ASSIGNED

    spec = GroupSpec(certificates={Slot.PRIMARY: ca.parsed})
    change_enrollment_group(service, "plant-7", spec, expected_etag=group.etag, actor=ALICE)

    assert HistoryEvent.objects.get(event=Event.GROUP_CHANGED).before["ca_references"] == held
    delete_ca_certificate(service, row.name, actor=ALICE)
    assert register(service, ca.leaf("pump-043")).outcome is Outcome.ASSIGNED


def test_group_refers_or_holds_and_never_both(service, row):
    spec = GroupSpec(
        group_id="plant-7",
        references={Slot.PRIMARY: row},
        certificates={**referred({Slot.PRIMARY: row}), Slot.SECONDARY: root("Own").parsed},
    )
    with pytest.raises(Invalid) as refusal:
        add_enrollment_group(service, spec, actor=ALICE)

    assert list(refusal.value.errors) == ["secondary_certificate"]


@pytest.mark.parametrize("gone", ["deleted", "of another service"])
def test_group_cannot_refer_to_what_is_not_there(service, ca, row, gone):
    if gone == "deleted":
        delete_ca_certificate(service, row.name, actor=ALICE)
        where = service
    else:
        where = new_service("other")

    with pytest.raises(Invalid, match="There is no CA certificate plant-ca in this service any more"):
        group_of(where, primary=row)
    assert not where.enrollmentgroups.exists()


# --- A service that demands proof -----------------------------------------------------------------


def outcome(service, device, registration_id="", **shown):
    answer = register(service, device, registration_id, **shown)
    attempt = service.attempts.order_by("-last_at", "-id").first()
    return answer.outcome, Reason(attempt.reason) if attempt else None


def test_group_without_proof_admits_where_none_is_demanded(service, ca):
    enroll_ca(service, ca)

    assert register(service, ca.leaf("pump-042")).outcome is Outcome.ASSIGNED


def test_group_without_proof_admits_nobody_where_it_is_demanded(service, ca):
    enroll_ca(service, ca)
    demand_proof(service)

    assert outcome(service, ca.leaf("pump-042")) == (Outcome.UNAUTHORIZED, Reason.POSSESSION_UNPROVEN)

    prove(service, ca)

    assert register(service, ca.leaf("pump-042")).outcome is Outcome.ASSIGNED


def test_trace_says_what_is_missing(service, ca):
    group = enroll_ca(service, ca)
    demand_proof(service)

    decision = judge(service, "pump-042", shows(ca.leaf("pump-042")), at=timezone.now()).decision

    step = next(one for one in decision.trace if one.candidate == f"enrollment group {group.group_id}")
    assert (step.rule, step.said) == ("R7", Said.SILENT)
    assert "nobody has proven to have the key of CN=Plant CA" in step.because
    assert decision.proven  # R3 is about the device


def test_barring_needs_no_proof(service, ca):
    group = enroll_ca(service, ca)
    demand_proof(service)
    disable_enrollment_group(service, group.group_id, actor=ALICE)

    assert outcome(service, ca.leaf("pump-042")) == (Outcome.DISABLED, Reason.GROUP_DISABLED)


def test_code_that_waits_is_no_proof(service, ca, row):
    enroll_ca(service, ca)
    demand_proof(service)

    assert outcome(service, ca.leaf("pump-042"))[1] is Reason.POSSESSION_UNPROVEN


@pytest.mark.parametrize(
    ("proven", "admits"),
    [
        pytest.param(lambda ca: ca.reissued(), True, id="the same name and key, issued again"),
        pytest.param(lambda ca: ca.cross_signed_by(root("Else")), True, id="cross-signed"),
        pytest.param(lambda ca: ca.reissued("Another Name"), False, id="another name"),
        pytest.param(lambda ca: root("Plant CA"), False, id="another key"),
        pytest.param(lambda ca: ca.issuer, False, id="the CA above"),
    ],
)
def test_proof_is_of_a_name_and_a_key(service, proven, admits):
    ca = root("Above").intermediate("Plant CA")
    enroll_ca(service, ca)
    demand_proof(service)

    prove(service, proven(ca), "proven")

    expected = Outcome.ASSIGNED if admits else Outcome.UNAUTHORIZED
    assert register(service, ca.leaf("pump-042")).outcome is expected


def test_proof_in_another_service_is_none_here(service, ca):
    enroll_ca(service, ca)
    demand_proof(service)
    prove(new_service("other"), ca)

    assert register(service, ca.leaf("pump-042")).outcome is Outcome.UNAUTHORIZED


def test_group_above_admits_where_the_nearer_one_lacks_proof(service):
    top = root("Top")
    line = top.intermediate("Line")
    enroll_ca(service, line, "line")
    enroll_ca(service, top, "top")
    demand_proof(service)
    prove(service, top)

    assert register(service, line.leaf("pump-042")).record.group.group_id == "top"


def test_group_admits_by_the_one_of_its_cas_that_is_proven(service):
    """The way to it may be longer than to the other."""
    top = root("Top")
    line = top.intermediate("Line")
    enroll_ca(service, line, "both", certificates={Slot.PRIMARY: line.parsed, Slot.SECONDARY: top.parsed})
    demand_proof(service)

    assert register(service, line.leaf("pump-042")).outcome is Outcome.UNAUTHORIZED
    prove(service, top)
    assert register(service, line.leaf("pump-042")).outcome is Outcome.ASSIGNED


def test_individuals_and_groups_with_keys_have_no_ca_to_prove(service):
    leaf = self_signed("pump-042")
    enroll_device(service, leaf)
    group = enroll_key_group(service)
    demand_proof(service)

    assert register(service, leaf).outcome is Outcome.ASSIGNED
    key = derived_key(group.primary_key, "pump-043")
    assert register(service, signs(service, "pump-043", key), "pump-043").outcome is Outcome.ASSIGNED


def test_r12_each_change_that_decisions_read_raises_the_epoch(service, ca):
    def epoch():
        return ProvisioningService.epoch_of(service.pk)

    start = epoch()
    row = upload_ca(service, ca)
    row = make_verification_code(service, row.name, actor=ALICE)
    assert epoch() == start  # nobody is judged by these
    verify(service, row, ca.leaf(row.code))
    assert epoch() == start + 1
    demand_proof(service)
    assert epoch() == start + 2
    delete_ca_certificate(service, row.name, actor=ALICE)
    assert epoch() == start + 3


def test_deciding_asks_no_more_of_the_database(service, ca, django_assert_num_queries):
    """Whether proof is demanded is read with the epoch, whether there is one with the CAs themselves."""
    enroll_ca(service, ca)
    prove(service, ca)
    shown, at = shows(ca.leaf("pump-042")), timezone.now()
    with django_assert_num_queries(3) as without:
        assert judge(service, "pump-042", shown, at=at).decision.admitted
    assert not [one for one in without.captured_queries if "cacertificate" in one["sql"]]
    demand_proof(service)

    with django_assert_num_queries(3):
        assert judge(service, "pump-042", shown, at=at).decision.admitted


# --- Previews -------------------------------------------------------------------------------------


@pytest.fixture
def fleet(service, ca):
    """Two devices that have come in through the group of the CA."""
    enroll_ca(service, ca)
    for number in range(2):
        register(service, ca.leaf(f"pump-{number}"))
    return service


def test_preview_of_demanding_proof(fleet, ca):
    assert preview_of_switching(fleet, {"proof_of_possession": True}).counts == {Effect.REFUSED: 2}
    demand_proof(fleet)
    assert what_switching_did(fleet, {"proof_of_possession": False}).counts == {Effect.REFUSED: 2}
    assert preview_of_switching(fleet, {"proof_of_possession": False}).counts == {Effect.COMES_IN: 2}


def test_preview_of_verifying_and_deleting(fleet, ca, row):
    answer = ca.leaf(row.code)
    assert Effect.COMES_IN not in preview_of_verifying(fleet, row, answer.parsed).counts
    demand_proof(fleet)

    assert preview_of_verifying(fleet, row, answer.parsed).counts == {Effect.COMES_IN: 2}
    assert preview_of_proof(fleet, row).counts == {Effect.COMES_IN: 2}
    row.refresh_from_db()
    assert not row.is_verified
    proven = verify(fleet, row, answer)
    assert preview_of_deleting(fleet, proven).counts == {Effect.REFUSED: 2}
    gone = delete_ca_certificate(fleet, proven.name, actor=ALICE)

    assert what_deleting_did(fleet, gone).counts == {Effect.REFUSED: 2}
    assert not CaCertificate.objects.exists()


def test_what_stands_above_without_proof_lets_nobody_in(service):
    """Told of a group that is to be deleted: through which others its devices could come in."""
    top = root("Top")
    line = enroll_ca(service, top.intermediate("Line"))
    enroll_ca(service, top)
    assert below_others(service, [line])[0].is_open
    demand_proof(service)

    assert not below_others(service, [line])[0].is_open
    prove(service, top)
    assert below_others(service, [line])[0].is_open


def test_settings_rest_on_the_preview_that_was_seen(service):
    with pytest.raises(PreviewOutdated):
        change_settings(service, {"proof_of_possession": True}, actor=ALICE, expected_epoch=-1)
