"""Querysets of registration records."""

import pytest

from enrollments.actions.name_holders import holder_of
from enrollments.policy.facts import EntryKind, EntryRef
from tests.certificates import root
from tests.devices import enroll_ca, enroll_keys, new_service, register, signs

pytestmark = pytest.mark.django_db


def test_whose_name_it_is_takes_one_query_and_no_key(django_assert_num_queries):
    service, top = new_service(), root("Root A")
    group, individual = enroll_ca(service, top, "factory"), enroll_keys(service, "pump-001")
    register(service, top.leaf("pump-002"))
    register(service, signs(service, "pump-001", individual.primary_key), "pump-001")

    with django_assert_num_queries(1) as asked:
        records = list(service.registrations.with_holder().order_by("registration_key"))
        holders = [holder_of(record) for record in records]

    assert holders == [
        EntryRef(EntryKind.INDIVIDUAL, individual.pk, "pump-001"),
        EntryRef(EntryKind.GROUP, group.pk, "factory"),
    ]
    assert [record.hub.name for record in records] == ["built-in", "built-in"]
    assert "primary_key" not in asked.captured_queries[0]["sql"]
