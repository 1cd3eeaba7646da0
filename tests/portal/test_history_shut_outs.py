"""«What shuts out» also finds the changes of which only what was before and is after tells it (R4, R5, R7)."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from enrollments.actions.ca_certificates import delete_ca_certificate
from enrollments.actions.enrollment_groups import GroupSpec, change_enrollment_group
from enrollments.actions.enrollments import IndividualSpec, change_individual_enrollment
from enrollments.actions.services import change_settings
from enrollments.audit.events import Event
from enrollments.models import AttestationMechanism, HistoryEvent, Slot
from enrollments.models.history_shut_outs import ShutOutByChange, is_shut_out_by_change
from enrollments.models.merging import first_ids
from enrollments.portal.forms_history import HistoryFilter
from enrollments.portal.history_filtering import search
from tests.certificates import root, self_signed
from tests.devices import ALICE, demand_proof, enroll_ca, enroll_device, enroll_keys, prove, upload_ca
from tests.portal.test_history import URL, a_row, auditor, plant, shown  # noqa: F401  # fixtures

pytestmark = pytest.mark.django_db
CERTIFICATES = {"primary": "A (SHA-256 a1)", "secondary": "B (SHA-256 b2)"}


def found(auditor) -> list[tuple[str, str]]:  # noqa: F811
    return [(row.event, row.subject_name) for row in shown(auditor, event="shuts-out")]


def test_demanding_proof_of_possession_is_found_and_giving_it_up_is_not(auditor, plant):  # noqa: F811
    demand_proof(plant)
    demand_proof(plant, False)

    assert found(auditor) == [("service.changed", "plant")]


def test_switching_groups_with_symmetric_keys_off_is_found(auditor, plant):  # noqa: F811
    for switch in (True, False):
        change_settings(plant, {"symmetric_key_groups": switch}, actor=ALICE)

    assert [row.after for row in shown(auditor, event="shuts-out")] == [{"symmetric_key_groups": False}]


def test_deleting_a_ca_with_its_proof_is_found(auditor, plant):  # noqa: F811
    prove(plant, root("Proven CA"))
    upload_ca(plant, root("Other CA"))
    for name in ("proven-ca", "other-ca"):
        delete_ca_certificate(plant, name, actor=ALICE)

    assert found(auditor) == [("ca_certificate.deleted", "proven-ca")]


def test_replacing_the_certificate_of_a_group_is_found_and_adding_one_is_not(auditor, plant):  # noqa: F811
    old, new = root("Old CA"), root("New CA")
    group = enroll_ca(plant, old, "plant-7")
    for certificates in (
        {Slot.PRIMARY: old.parsed, Slot.SECONDARY: new.parsed},
        {Slot.PRIMARY: new.parsed, Slot.SECONDARY: old.parsed},
        {Slot.PRIMARY: new.parsed},
    ):
        spec = GroupSpec(group_id="plant-7", certificates=certificates)
        group = change_enrollment_group(plant, "plant-7", spec, actor=ALICE, expected_etag=group.etag)

    (row,) = shown(auditor, event="shuts-out")
    assert (row.event, sorted(row.before["certificates"]), sorted(row.after["certificates"])) == (
        "group.changed",
        ["primary", "secondary"],
        ["primary"],
    )
    assert 'aria-label="Shuts out"' in auditor.get(URL, {"event": "shuts-out"}).content.decode()


def test_replacing_certificate_key_or_mechanism_of_an_individual_is_found(auditor, plant):  # noqa: F811
    pinned = enroll_device(plant, self_signed("pump-1"), registration_id="pump-1")
    keyed = enroll_keys(plant, "press-1")
    changes = (
        (pinned, {"certificates": {Slot.PRIMARY: self_signed("pump-1").parsed}}),
        (keyed, {"mechanism": AttestationMechanism.SYMMETRIC_KEY, "device_id": "renamed"}),
        (keyed, {"mechanism": AttestationMechanism.SYMMETRIC_KEY, "primary_key": "QUJD" * 11}),
        (pinned, {"mechanism": AttestationMechanism.SYMMETRIC_KEY}),
    )
    for entry, values in changes:
        entry.refresh_from_db()
        name = entry.registration_id
        spec = IndividualSpec(registration_id=name, **values)
        change_individual_enrollment(plant, name, spec, actor=ALICE, expected_etag=entry.etag)

    assert found(auditor) == [
        ("enrollment.changed", "pump-1"),
        ("enrollment.changed", "press-1"),
        ("enrollment.changed", "pump-1"),
    ]


ROWS: list[tuple[str, dict[str, Any] | None, dict[str, Any] | None, bool]] = [
    ("enrollment.changed", None, None, False),
    ("enrollment.changed", {"iot_edge": False}, {"iot_edge": True}, False),
    ("enrollment.changed", {"mechanism": "x509"}, {"mechanism": "tpm"}, True),
    ("enrollment.changed", {"endorsement_key_sha256": "a"}, {"endorsement_key_sha256": "b"}, True),
    ("enrollment.changed", {"primary_key": None}, {"primary_key": "(another key)"}, False),
    ("enrollment.changed", {"primary_key": "(a key)"}, {"primary_key": "(another key)"}, True),
    (
        "group.changed",
        {
            "primary_key": "(a key)",
            "primary_key_id": "k1",
            "secondary_key": "(a key)",
            "secondary_key_id": "k2",
        },
        {"primary_key": "(another key)", "primary_key_id": "k2", "secondary_key": "(another key)"}
        | {"secondary_key_id": "k1"},
        False,
    ),
    ("group.changed", {"certificates": {}}, {"certificates": CERTIFICATES}, False),
    ("group.changed", {"certificates": CERTIFICATES}, {"certificates": {}}, True),
    ("group.changed", {"certificates": CERTIFICATES}, {"certificates": {"primary": "C"}}, True),
    ("group.changed", {"certificates": {"helper ab": "H"}}, {"certificates": {}}, True),
    ("group.disabled", {"certificates": CERTIFICATES}, {"certificates": {}}, False),  # its event says it
    ("service.changed", {"proof_of_possession": False}, {"proof_of_possession": True}, True),
    ("service.changed", {"proof_of_possession": True}, {"proof_of_possession": False}, False),
    ("service.changed", {"symmetric_key_groups": True}, {"symmetric_key_groups": False}, True),
    ("service.changed", {"attempts_kept_days": 1}, {"attempts_kept_days": 0}, False),
    ("ca_certificate.deleted", {"verified": True}, None, True),
    ("ca_certificate.deleted", {"verified": False}, None, False),
    ("ca_certificate.verified", {"verified": True}, None, False),
]


@pytest.mark.parametrize(("event", "before", "after", "wanted"), ROWS)
def test_database_and_page_say_the_same_of_a_row(plant, event, before, after, wanted):  # noqa: F811
    a_row(plant, "one", timezone.now(), event=event, before=before, after=after)
    row = HistoryEvent.objects.get(subject_name="one")

    assert HistoryEvent.objects.filter(ShutOutByChange(), pk=row.pk).exists() is wanted
    assert is_shut_out_by_change(row) is wanted


def test_rows_of_a_device_are_filtered_by_it_too(auditor, plant):  # noqa: F811
    now = timezone.now()
    for number, (event, before, after, _) in enumerate(ROWS):
        a_row(plant, "pump-1", now + timedelta(seconds=number), event=event, before=before, after=after)

    rows = shown(auditor, event="shuts-out", device="pump-1")

    individuals = [row for row in ROWS if row[3] or Event(row[0]).shuts_out]
    assert len(rows) == len(individuals)


def test_changes_that_shut_out_are_found_by_their_own_index(plant):  # noqa: F811
    """Of a million changes few do, and reading them all takes seconds."""
    form = HistoryFilter({"event": "shuts-out"})
    assert form.is_valid()
    asked = search(HistoryEvent.objects.of_service(plant.pk), form, plant)
    of_changes = asked.rows.filter(asked.ranges[-1]).order_by("-at", "-id")[:51]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")

    assert "history_shut_out_by_change" in of_changes.explain()
    assert first_ids(asked.rows, asked.ranges, "at", descending=True, limit=51) == []
