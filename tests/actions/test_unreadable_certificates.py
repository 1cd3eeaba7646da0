"""Where a stored certificate cannot be read any more: what shuts out works, and nothing is admitted by it (R16)."""

from dataclasses import replace

import pytest

from enrollments.actions.certificates import StoredUnreadable, as_held, as_stored, parsed
from enrollments.actions.denying import StoodBefore, keys_left_open, preview_of_denying
from enrollments.actions.enrollment_groups import change_enrollment_group
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import change_individual_enrollment
from enrollments.actions.explaining import Question, explain, explain_group, is_judged_now
from enrollments.actions.group_specs import GroupSpec
from enrollments.actions.kept_chains import kept_chain
from enrollments.actions.kept_out import kept_out
from enrollments.actions.revocation import deny_device, deny_device_of, deny_devices, deprovision_device
from enrollments.attestation.x509 import UnparsedCertificate
from enrollments.errors import Invalid
from enrollments.models import Certificate, HeldCertificate, Slot
from tests.certificates import root, self_signed
from tests.devices import (
    ALICE,
    came_with_unreadable,
    enroll_ca,
    enroll_device,
    make_unreadable,
    new_service,
    register,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def service():
    return new_service()


@pytest.fixture
def ca(service):
    ca = root("Plant CA")
    enroll_ca(service, ca, "plant")
    return ca


@pytest.fixture
def leaf(service, ca):
    """Of a device that came in below the group, and whose certificate cannot be read by now."""
    return came_with_unreadable(service, ca)


def by_record(service):
    return deny_device(service, "pump-1", actor=ALICE)


def by_attempt(service):
    attempt = service.attempts.filter(registration_key="pump-1").order_by("last_at").first()
    return deny_device_of(service, attempt, actor=ALICE)


def by_deprovisioning(service):
    return deprovision_device(service, "pump-1", actor=ALICE).entry


every_way = pytest.mark.parametrize("deny", [by_record, by_attempt, by_deprovisioning])


@every_way
def test_denying_bars_the_name_alone(service, ca, leaf, deny):
    entry = deny(service)

    assert not entry.enabled
    assert not entry.certificates.exists()
    assert register(service, leaf).outcome == "disabled"
    assert register(service, ca.leaf("pump-2", key=leaf.key)).outcome == "assigned"


@every_way
def test_denying_bars_the_keys_that_can_be_read(service, ca, deny):
    first, second = ca.leaf("pump-1"), ca.leaf("pump-1")
    register(service, first)
    register(service, second)
    make_unreadable(second)

    entry = deny(service)

    (pinned,) = entry.certificates.select_related("certificate")
    assert pinned.certificate.thumbprint_sha256 == first.parsed.thumbprint_sha256
    assert register(service, ca.leaf("pump-2", key=first.key)).outcome == "disabled"


@every_way
def test_denying_disables_the_entry_that_holds_what_cannot_be_read(service, deny):
    leaf = self_signed("pump-1")
    entry = enroll_device(service, leaf)
    register(service, leaf)
    make_unreadable(leaf)

    assert deny(service) == entry

    entry.refresh_from_db()
    assert (entry.enabled, entry.certificates.count()) == (False, 1)
    assert register(service, leaf).outcome != "assigned"


class TestWhatIsSaid:
    def test_which_key_stays_open_is_said_of_an_entry_that_is_added(self, service, leaf):
        before = StoodBefore.of(service, ["pump-1"])

        made = deny_devices(service, ["pump-1"], actor=ALICE)

        assert keys_left_open(service, before, made) == (
            f"Certificate {leaf.parsed.thumbprint_sha256} of the device cannot be read, so its key is not barred under "
            "other names."
        )

    def test_nothing_is_said_where_all_can_be_read(self, service, ca):
        register(service, ca.leaf("pump-1"))
        before = StoodBefore.of(service, ["pump-1"])

        made = deny_devices(service, ["pump-1"], actor=ALICE)

        assert keys_left_open(service, before, made) == ""

    def test_of_an_entry_that_was_there_nothing_is_said(self, service, ca, leaf):
        enroll_device(service, ca.leaf("pump-1"))
        before = StoodBefore.of(service, ["pump-1"])

        made = deny_devices(service, ["pump-1"], actor=ALICE)

        assert keys_left_open(service, before, made) == ""


def test_what_denying_does_cannot_be_worked_out(service, leaf):
    with pytest.raises(StoredUnreadable):
        preview_of_denying(service, ["pump-1"])


class TestExplaining:
    def test_nothing_is_said_of_what_cannot_be_judged(self, service, leaf):
        with pytest.raises(StoredUnreadable) as told:
            explain(service, Question(registration_id="pump-1"))

        assert leaf.parsed.thumbprint_sha256 in told.value.message
        assert is_judged_now(service, "pump-1")

    def test_another_credential_does_not_stand_for_it(self, service, ca, leaf):
        """The device may be admitted by the one and not by the other."""
        register(service, ca.leaf("pump-1"))

        with pytest.raises(StoredUnreadable):
            explain(service, Question(registration_id="pump-1"))

    def test_nor_does_an_issuer_that_is_left_out(self, service, ca):
        line = ca.intermediate("Line")
        register(service, line.leaf("pump-1"))
        make_unreadable(line)

        with pytest.raises(StoredUnreadable):
            explain(service, Question(registration_id="pump-1"))

    def test_a_device_below_a_ca_that_cannot_be_read_is_explained(self, service, ca):
        leaf = ca.leaf("pump-1")
        register(service, leaf)
        make_unreadable(ca)

        told = explain(service, Question(registration_id="pump-1"))

        assert told.verdict == "unauthorized"
        assert "cannot be read" in told.chain.problem
        assert register(service, leaf).outcome == "unauthorized"

    def test_a_group_is_drawn_by_what_can_be_read(self, service, ca):
        other = root("Other CA")
        both = {Slot.PRIMARY: other.parsed, Slot.SECONDARY: root("Third CA").parsed}
        enroll_ca(service, other, "other", certificates=both)
        make_unreadable(other)

        told = explain_group(service, "other")

        assert [one.path[0].certificate.subject for one in told.chains] == ["CN=Third CA"]
        assert told.unreadable == (f"Certificate {other.parsed.thumbprint_sha256} cannot be read.",)

    def test_an_attempt_says_so_in_place_of_the_path(self, service, leaf):
        chain, note = kept_chain(service, service.attempts.get())

        assert chain is None
        assert note == f"Certificate {leaf.parsed.thumbprint_sha256} cannot be read."

    def test_an_attempt_is_drawn_without_an_issuer_that_cannot_be_read(self, service, ca):
        line = ca.intermediate("Line")
        register(service, line.leaf("pump-1"))
        make_unreadable(line)

        chain, note = kept_chain(service, service.attempts.get())

        assert [one.certificate.subject for one in chain.path] == ["CN=pump-1"]
        assert note.endswith(f"Certificate {line.parsed.thumbprint_sha256} cannot be read.")


class TestWhatKeepsOut:
    def test_nobody_can_say_of_a_device_that_nothing_disables(self, service, leaf):
        assert kept_out(service, service.registrations.get()) is None

    def test_a_disabled_entry_is_told(self, service, leaf):
        deny_device(service, "pump-1", actor=ALICE)

        told = kept_out(service, service.registrations.get())

        assert (told.is_disabled, told.is_denied) == (True, True)


class TestDecisions:
    def test_a_pinned_certificate_is_known_by_its_thumbprint(self, service):
        leaf = self_signed("pump-1")
        enroll_device(service, leaf)
        make_unreadable(leaf)

        assert register(service, leaf).outcome == "assigned"

    def test_a_ca_that_cannot_be_read_admits_nobody(self, service, ca):
        make_unreadable(ca)

        assert register(service, ca.leaf("pump-1")).outcome == "unauthorized"

    def test_a_certificate_that_is_barred_bars_on(self, service, ca):
        leaf = ca.leaf("pump-1")
        enroll_device(service, leaf, enabled=False)
        make_unreadable(leaf)

        assert register(service, ca.leaf("pump-2", key=leaf.key)).outcome != "assigned"


class TestChanging:
    """What is held stays so by what its row says of it, and only in what lets nobody in."""

    @pytest.fixture
    def individual(self, service):
        leaf = self_signed("pump-1")
        entry = enroll_device(service, leaf)
        make_unreadable(leaf)
        return entry

    @pytest.fixture
    def group(self, service, ca):
        make_unreadable(ca)
        return service.enrollmentgroups.get()

    def change(self, entry, **values):
        held = {Slot(one.slot): as_held(one) for one in entry.certificates.select_related("certificate")}
        how = {"expected_etag": entry.etag, "actor": ALICE}
        if hasattr(entry, "group_id"):
            spec = GroupSpec(group_id=entry.group_id, certificates=held, **values)
            return change_enrollment_group(entry.service, entry.group_id, spec, **how)
        spec = IndividualSpec(registration_id=entry.registration_id, certificates=held, **values)
        return change_individual_enrollment(entry.service, entry.registration_id, spec, **how)

    @pytest.mark.parametrize("kind", ["individual", "group"])
    def test_disabling_keeps_what_is_held(self, request, kind):
        entry = request.getfixturevalue(kind)
        columns = ("certificate", "role", "slot", "subject_sha256", "spki_sha256", "subject_key_id")
        before = list(HeldCertificate.objects.values_list(*columns))
        stored = list(Certificate.objects.values())

        assert not self.change(entry, enabled=False).enabled

        assert list(HeldCertificate.objects.values_list(*columns)) == before
        assert list(Certificate.objects.values()) == stored

    @pytest.mark.parametrize("kind", ["individual", "group"])
    def test_enabling_is_refused(self, request, kind):
        entry = self.change(request.getfixturevalue(kind), enabled=False)

        with pytest.raises(Invalid) as refused:
            self.change(entry, enabled=True)

        assert "cannot be read" in refused.value.message
        entry.refresh_from_db()
        assert not entry.enabled

    def test_a_group_is_not_enabled_with_a_helper_that_cannot_be_read(self, service, ca):
        line = ca.intermediate("Line")
        group = enroll_ca(service, ca.intermediate("Site"), "site", enabled=False, helpers=(line.parsed,))
        make_unreadable(line)
        helper = as_held(group.certificates.helpers().get())
        spec = GroupSpec(group_id="site", certificates={Slot.PRIMARY: line.parsed}, helpers=(helper,))

        with pytest.raises(Invalid) as refused:
            change_enrollment_group(
                service, "site", replace(spec, enabled=True), expected_etag=group.etag, actor=ALICE
            )

        assert "cannot be read" in refused.value.message


@pytest.mark.parametrize(
    "text", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"]
)
def test_text_that_is_no_pem_cannot_be_read_either(text):
    with pytest.raises(StoredUnreadable):
        parsed(text)


def test_what_was_kept_of_it_is_what_it_said(service, ca):
    row = Certificate.objects.get()
    readable = as_stored(row)
    make_unreadable(ca)

    kept = as_stored(Certificate.objects.get())

    assert isinstance(kept, UnparsedCertificate)
    for name in ("subject", "issuer", "not_before", "not_after", "thumbprint_sha256", "spki_sha256", "is_ca"):
        assert getattr(kept, name) == getattr(readable, name)
