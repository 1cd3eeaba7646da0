"""Which keys denying a device bars, where it is known by several certificates (R6)."""

import pytest

from enrollments.actions.enrollments import delete_enrollments
from enrollments.actions.revocation import deny_device
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_device, new_service, register

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
