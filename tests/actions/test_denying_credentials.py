"""Which keys denying a device bars, where it is known by several certificates (R6)."""

import pytest

from enrollments.actions.enrollments import delete_enrollments
from enrollments.actions.revocation import deny_device, deny_device_of
from tests.certificates import root
from tests.devices import (
    ALICE,
    derived_key,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    new_service,
    register,
    signs,
)

pytestmark = pytest.mark.django_db


def test_denying_a_device_bars_the_key_that_it_proved_last_and_the_one_before():
    service, ca = new_service(), root("Plant CA")
    enroll_ca(service, ca, "plant")
    first, second = ca.leaf("pump-1"), ca.leaf("pump-1")
    register(service, first)
    entry = enroll_device(service, first, enabled=False)
    register(service, second)
    delete_enrollments(service, [entry.registration_id], actor=ALICE)

    denial = deny_device(service, "pump-1", actor=ALICE)

    pinned = denial.certificates.order_by("slot").values_list("certificate__thumbprint_sha256", flat=True)
    assert list(pinned) == [second.parsed.thumbprint_sha256, first.parsed.thumbprint_sha256]
    for one in (first, second):
        assert register(service, ca.leaf("pump-2", key=one.key)).outcome == "disabled"


class TestFromAnAttempt:
    @pytest.fixture
    def service(self):
        return new_service()

    @pytest.fixture
    def ca(self, service):
        ca = root("Plant CA")
        enroll_ca(service, ca, "plant")
        return ca

    def deny(self, service, **attempt):
        found = service.attempts.filter(registration_key="pump-1", **attempt).order_by("last_at").first()
        return deny_device_of(service, found, actor=ALICE)

    @pytest.mark.parametrize("by", ["first", "second", "key"])
    def test_whichever_attempt_it_is_all_that_is_known_is_shut_out(self, service, ca, by):
        group = enroll_key_group(service)
        first, second = ca.leaf("pump-1"), ca.leaf("pump-1")
        signed = signs(service, "pump-1", derived_key(group.primary_key, "pump-1"))
        register(service, first)
        entry = enroll_device(service, first)
        register(service, second)
        register(service, signed, "pump-1")
        delete_enrollments(service, [entry.registration_id], actor=ALICE)
        thumbprints = {
            one: leaf.parsed.thumbprint_sha256 for one, leaf in (("first", first), ("second", second))
        }

        self.deny(service, leaf_thumbprint=thumbprints.get(by, ""))

        assert register(service, signed, "pump-1").outcome == "disabled"
        for one in (first, second):
            assert register(service, one).outcome == "disabled"
            assert register(service, ca.leaf("pump-2", key=one.key)).outcome == "disabled"
        assert register(service, ca.leaf("pump-3")).outcome == "assigned"

    def test_of_more_than_an_entry_holds_that_of_the_attempt_is_among_those_barred(self, service, ca):
        leaves = [ca.leaf("pump-1") for _ in range(3)]
        register(service, leaves[0])
        entry = enroll_device(service, leaves[0])
        for one in leaves[1:]:
            register(service, one)
        delete_enrollments(service, [entry.registration_id], actor=ALICE)

        denial = self.deny(service, leaf_thumbprint=leaves[0].parsed.thumbprint_sha256)

        pinned = denial.certificates.order_by("slot").values_list("certificate__thumbprint_sha256", flat=True)
        assert list(pinned) == [leaves[0].parsed.thumbprint_sha256, leaves[2].parsed.thumbprint_sha256]
        assert {register(service, one).outcome for one in leaves} == {"disabled"}

    def test_a_stranger_adds_nothing_to_what_is_barred(self, service, ca):
        leaf = ca.leaf("pump-1")
        register(service, leaf)
        stranger = root("Stranger").leaf("pump-1")
        register(service, stranger)

        denial = self.deny(service, outcome="refused")

        (pinned,) = denial.certificates.all()
        assert pinned.spki_sha256 == leaf.parsed.spki_sha256
