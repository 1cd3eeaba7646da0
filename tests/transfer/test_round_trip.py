"""What one service exports, another takes: the same entries, and the same lines when it exports them in turn."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.enrollments import disable_enrollment, enable_enrollment
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HistoryEvent,
    ImportFormat,
    IndividualEnrollment,
    LinkedHub,
    Slot,
)
from enrollments.transfer import exporting
from enrollments.transfer.exporting import export_entries
from tests.certificates import root, self_signed
from tests.devices import (
    ALICE,
    enroll_ca,
    enroll_device,
    enroll_key_group,
    enroll_keys,
    enroll_tpm,
    new_service,
    upload_ca,
)
from tests.transfer.lists import carried_out, checked, problems

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("alice")]
REFERRED = root("Referred CA")
LATER = timezone.now().replace(microsecond=0) + timedelta(days=30)
WEBHOOK = "https://hooks.example/allocate?code=s3cret"


@pytest.fixture
def source(settings):
    """Every kind of entry, with everything that an entry can hold."""
    settings.DPS_WEBHOOK_HOSTS = ["hooks.example"]
    service = new_service("source")
    hub = service.hubs.get()
    upload_ca(service, REFERRED, "Plant-CA.1")
    references = {Slot.PRIMARY: service.ca_certificates.get()}
    enroll_ca(service, REFERRED, "referring", references=references)
    old, new, helper = root("Old CA"), root("New CA"), root("Cross CA")
    # The successor is older in the table than what it succeeds.
    successor = enroll_ca(service, new, "line-new", helpers=(helper.parsed,))
    predecessor = enroll_ca(service, old, "line-old")
    EnrollmentGroup.objects.filter(pk=successor.pk).update(predecessor=predecessor)
    disable_enrollment_group(service, "line-old", until=LATER, actor=ALICE, reason='=audit, "spring"')
    enroll_key_group(service, "keyed")
    leaf, renewed = self_signed("-Pump"), self_signed("-pump")
    twin = {"tags": {"line": 4, "größe": "ü"}, "properties": {"desired": {"a": [1, None, "=x"]}}}
    enroll_device(
        service,
        leaf,
        certificates={Slot.PRIMARY: leaf.parsed, Slot.SECONDARY: renewed.parsed},
        registration_id="-Pump",
        device_id="-dev",
        hubs=(hub,),
        allocation_policy="static",
        reprovisioning_policy="reset",
        iot_edge=True,
        initial_twin=twin,
        device_information={"note": "'=1+1"},
    )
    enroll_keys(
        service, "keys", allocation_policy="custom", webhook_url=WEBHOOK, reprovisioning_policy="never"
    )
    enroll_tpm(service, "press")
    enable_enrollment(service, "press", until=LATER, actor=ALICE)
    enroll_keys(service, "lent")
    disable_enrollment(service, "lent", at=LATER, actor=ALICE, reason="rent ends")
    enroll_device(service, self_signed("x"), registration_id="denied", certificates={}, enabled=False)
    return service


def exported(service, format, *, with_secrets):
    pieces = export_entries(
        service,
        format,
        groups=service.enrollmentgroups.all(),
        individuals=service.individualenrollments.all(),
        with_secrets=with_secrets,
        filters={},
        actor=ALICE,
    )
    return b"".join(pieces)


def target_for(source):
    target = new_service("target")
    target.symmetric_key_groups = True
    target.save()
    upload_ca(target, REFERRED, "Plant-CA.1")
    # Hubs are found by the names that they have.
    LinkedHub.objects.filter(service=target).update(host_name=source.hubs.get().host_name)
    return target


def contents(service):
    """Every column that decides or is handed out, and the certificates with their places."""
    own = {"id", "service", "etag", "created_at", "updated_at", "predecessor"}
    told = []
    for model in (EnrollmentGroup, IndividualEnrollment):
        for one in model.objects.filter(service=service).order_by("id"):
            columns = {
                field.name: getattr(one, field.name)
                for field in model._meta.concrete_fields
                if field.name not in own
            }
            held = sorted(
                (
                    place.role,
                    place.slot,
                    place.certificate.thumbprint_sha256,
                    str(place.ca_certificate),
                )
                for place in one.certificates.select_related("certificate", "ca_certificate")
            )
            hubs = [hub.host_name for hub in one.hubs.all()]
            predecessor = getattr(one, "predecessor", None)
            told.append((str(one), columns, held, hubs, str(predecessor)))
    return sorted(told, key=lambda one: one[0])


@pytest.mark.parametrize("format", list(ImportFormat))
def test_with_secrets_nothing_is_lost(source, format):
    content = exported(source, format, with_secrets=True)
    target = target_for(source)

    run = checked(target, content, format=format)
    assert problems(run) == {}
    done = carried_out(run)

    assert done.counts == {"added": 7, "added_disabled": 1, "enabled_later": 1}
    assert contents(target) == contents(source)
    again = exported(target, format, with_secrets=True)
    assert sorted(again.splitlines()) == sorted(content.splitlines())
    assert carried_out(checked(target, content, format=format)).counts == {"unchanged": 9}


@pytest.mark.parametrize("format", list(ImportFormat))
def test_without_secrets_an_import_says_what_is_missing(source, format):
    content = exported(source, format, with_secrets=False)
    assert b"s3cret" not in content
    for entry in (*source.individualenrollments.all(), *source.enrollmentgroups.all()):
        assert not entry.primary_key or entry.primary_key.encode() not in content

    run = checked(target_for(source), content, format=format)

    assert sorted(run.problems.values_list("name", flat=True)) == ["keyed", "keys", "lent"]
    assert all("left out when it was exported" in sentence for sentence in problems(run).values())
    # Where they came from they are there still.
    assert carried_out(checked(source, content, format=format)).counts == {"unchanged": 9}


def test_that_it_was_exported_is_history_and_secrets_are_a_disclosure(source):
    exported(source, ImportFormat.CSV, with_secrets=False)
    (row,) = HistoryEvent.objects.filter(event="history.exported")
    assert row.after == {"with secrets": False}
    assert not HistoryEvent.objects.filter(event="keys.revealed").exists()

    exported(source, ImportFormat.CSV, with_secrets=True)

    assert HistoryEvent.objects.get(event="keys.revealed").subject_name == "groups and enrollments of source"


def test_each_predecessor_stands_before_its_group_and_circles_end(source):
    groups = EnrollmentGroup.objects.filter(service=source)
    lines = exported(source, ImportFormat.JSON_LINES, with_secrets=False).splitlines()
    names = [json.loads(line).get("enrollmentGroupId") for line in lines]
    assert names.index("line-old") < names.index("line-new")

    groups.filter(group_id="line-old").update(predecessor=groups.get(group_id="line-new"))

    assert sorted(exporting._in_order_of_succession(groups.all())) == sorted(
        groups.values_list("pk", flat=True)
    )


def test_cells_that_look_like_formulas_are_protected(source):
    text = exported(source, ImportFormat.CSV, with_secrets=True).decode("utf-8-sig")

    assert "'-Pump" in text
    assert ",-----BEGIN" not in text


def test_hubs_that_are_not_linked_are_named(source):
    content = exported(source, ImportFormat.JSON_LINES, with_secrets=True)
    target = new_service("bare")

    run = checked(target, content)

    assert f"'{source.hubs.get().host_name}' is no hub that is linked" in " ".join(problems(run).values())


def test_an_export_is_read_page_by_page(source, monkeypatch):
    monkeypatch.setattr(exporting, "PAGE", 2)
    for number in range(5):
        enroll_keys(source, f"more-{number}")

    lines = exported(source, ImportFormat.JSON_LINES, with_secrets=False).splitlines()

    assert len({json.loads(line).get("registrationId") for line in lines} - {None}) == 10
    assert AttestationMechanism.TPM in {json.loads(line)["attestation"]["type"] for line in lines}
