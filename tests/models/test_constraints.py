"""What must always hold, the database itself holds; what is secret, it cannot read."""

import pytest
from cryptography.fernet import Fernet
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrollments.errors import SecretUnreadable
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    IndividualEnrollment,
    LinkedHub,
    ProvisioningService,
    RegistrationRecord,
    TrustAnchor,
)
from enrollments.models.switches import AsOf
from tests.certificates import root, self_signed
from tests.devices import enroll_ca, enroll_device, enroll_keys, register

pytestmark = pytest.mark.django_db


def refused(make) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make()


def test_registration_id_once_per_service(service):
    make = lambda name: IndividualEnrollment.objects.create(  # noqa: E731  # the same twice, with other case
        service=service, registration_id=name, mechanism=AttestationMechanism.X509
    )
    make("pump-1")

    refused(lambda: make("PUMP-1"))


@pytest.mark.parametrize(
    ("model", "name", "key"),
    [
        pytest.param(IndividualEnrollment, "registration_id", "registration_key", id="individual"),
        pytest.param(EnrollmentGroup, "group_id", "group_key", id="group"),
        pytest.param(RegistrationRecord, "registration_id", "registration_key", id="record"),
    ],
)
def test_key_by_which_a_name_is_found_is_its_lower_case(service, model, name, key):
    certificate = self_signed("pump-ii")
    enroll_device(service, certificate)
    enroll_ca(service, root("CA"), "pump-ii")
    register(service, certificate)
    stored = model.objects.filter(pk=model.objects.get().pk)

    assert stored.update(**{name: "PUMP-II"}) == 1
    for wrong in ("PUMP-II", "pump-iI", "pump-\u0131\u0131", "pump-i", ""):
        refused(lambda wrong=wrong: stored.update(**{key: wrong}))


@pytest.mark.parametrize(
    ("mechanism", "values"),
    [
        (AttestationMechanism.SYMMETRIC_KEY, {}),
        (AttestationMechanism.SYMMETRIC_KEY, {"primary_key": "x"}),
        (AttestationMechanism.X509, {"primary_key": "x"}),
        (AttestationMechanism.X509, {"secondary_key": "x"}),
        (AttestationMechanism.TPM, {}),
        (AttestationMechanism.TPM, {"endorsement_key": b"x", "secondary_key": "x"}),
        ("none", {}),
    ],
)
def test_entry_has_the_credential_of_its_mechanism(service, mechanism, values):
    refused(
        lambda: IndividualEnrollment.objects.create(
            service=service, registration_id="a", mechanism=mechanism, **values
        )
    )


def test_group_cannot_be_a_tpm(service):
    refused(
        lambda: EnrollmentGroup.objects.create(
            service=service, group_id="g", mechanism=AttestationMechanism.TPM
        )
    )


def test_one_ca_belongs_to_one_group(service):
    group = enroll_ca(service, root("Root A"))
    anchor = group.trust_anchors.get()
    other = enroll_ca(service, root("Root B"))

    refused(
        lambda: TrustAnchor.objects.create(
            service=service, group=other, subject_sha256=anchor.subject_sha256, spki_sha256=anchor.spki_sha256
        )
    )


@pytest.mark.parametrize(
    "change", [{"role": HeldRole.HELPER}, {"slot": ""}, {"anchor": None}, {"role": HeldRole.DEVICE}]
)
def test_held_certificate_has_its_place(service, change):
    enroll_ca(service, root("Root A"))

    refused(lambda: HeldCertificate.objects.update(**change))


@pytest.mark.parametrize("kind", [IndividualEnrollment, EnrollmentGroup])
@pytest.mark.parametrize(
    "values", [{"switches_at": timezone.now()}, {"scheduled_by": "alice"}, {"schedule_reason": "audit"}]
)
def test_what_is_scheduled_has_a_time_and_somebody_who_wanted_it(service, kind, values):
    enroll_ca(service, root("Root A"))
    enroll_device(service, self_signed("pump-1"))

    refused(lambda: kind.objects.update(**values))


@pytest.mark.parametrize(
    "values", [{"status": "assigned"}, {"status": "assigned", "device_id": "d"}, {"status": "failed"}]
)
def test_record_is_complete(service, values):
    now = timezone.now()

    refused(
        lambda: RegistrationRecord.objects.create(
            service=service, registration_id="a", epoch=0, created_at=now, updated_at=now, **values
        )
    )


def test_hub_weight_and_retry_time_are_in_range(service):
    refused(lambda: LinkedHub.objects.update(allocation_weight=0))
    refused(lambda: ProvisioningService.objects.update(retry_after_seconds=301))


def test_keys_are_encrypted_and_another_key_does_not_read_them(service, settings):
    entry = enroll_keys(service, "key-1")
    with connection.cursor() as cursor:
        cursor.execute("SELECT primary_key FROM enrollments_individualenrollment")
        stored = cursor.fetchone()[0]

    assert entry.primary_key not in stored
    settings.DPS_ENCRYPTION_KEY = Fernet.generate_key().decode()
    with pytest.raises(SecretUnreadable):
        IndividualEnrollment.objects.get()


PLAN = [
    ("registration of an entry", "individualenrollment", "service_id = 1 AND registration_key = 'x'"),
    ("held by subject", "heldcertificate", "service_id = 1 AND subject_sha256 IN ('x', 'y')"),
    ("held by key", "heldcertificate", "service_id = 1 AND spki_sha256 IN ('x', 'y')"),
    ("record", "registrationrecord", "service_id = 1 AND registration_key = 'x'"),
    ("evidence", "registrationevidence", "registration_id = 1"),
    ("service by scope", "provisioningservice", "id_scope = '0neAAAAAAAA'"),
    ("identity", "hubdevice", "hub_id = 1 AND device_key = 'x'"),
]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads how SQLite explains a plan")
@pytest.mark.parametrize(("table", "where"), [one[1:] for one in PLAN], ids=[one[0] for one in PLAN])
def test_look_ups_of_a_registration_use_an_index(table, where):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN SELECT * FROM enrollments_{table} WHERE {where}")
        plan = " ".join(str(row) for row in cursor.fetchall())

    assert "SEARCH" in plan
    assert "SCAN" not in plan


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads how SQLite explains a plan")
def test_what_decisions_read_looks_the_next_switch_up_in_an_index_of_scheduled_ones(service):
    with CaptureQueriesContext(connection) as captured:
        ProvisioningService.what_decisions_read(service.pk)
    (query,) = captured.captured_queries
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
        plan = " ".join(str(row) for row in cursor.fetchall())

    assert "individual_by_switch" in plan
    assert "group_by_switch" in plan
    assert "SCAN" not in plan


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads how SQLite explains a plan")
def test_question_of_a_search_for_paths_uses_three_indexes(service):
    held = HeldCertificate.objects.filter(service=service)

    plan = held.that_may_have_issued(["a", "b"], ["c"], ["d"], AsOf(timezone.now(), any_due=True)).explain()

    assert {"held_by_subject", "held_by_key_id", "held_by_key"} <= set(plan.replace("(", " ").split())
    assert "SCAN" not in plan
    assert "(service_id=?)" not in plan


def test_deleting_an_entry_takes_its_certificates_out_of_their_place(service):
    entry = enroll_device(service, self_signed("pump-1"))

    entry.delete()

    assert not HeldCertificate.objects.exists()
