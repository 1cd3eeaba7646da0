"""Back in time where proof of possession of CAs is demanded: the demand, the proofs, and those that are gone."""

import pytest
from django.utils import timezone

from enrollments.actions.ca_certificates import delete_ca_certificate
from enrollments.actions.past import compare, look_back
from enrollments.actions.preview import Effect
from enrollments.actions.services import change_settings
from enrollments.models import CaCertificate, ProvisioningService
from enrollments.policy.decision import Verdict
from tests.certificates import root
from tests.devices import ALICE, demand_proof, enroll_ca, prove, register

pytestmark = pytest.mark.django_db
ADMIT, UNAUTHORIZED = Verdict.ADMIT, Verdict.UNAUTHORIZED


@pytest.fixture
def ca(service):
    minted = root("Plant CA")
    enroll_ca(service, minted, "plant-7")
    register(service, minted.leaf("pump-1"))
    return minted


def spells(service, at):
    look = look_back(service, "pump-1", at)
    return [(one.verdict, one.began_by.event.event if one.began_by.event else "") for one in look.spells]


def test_demand_proof_and_deletion_begin_spells(service, ca):
    at = timezone.now()
    demand_proof(service)
    row = prove(service, ca)
    delete_ca_certificate(service, row.name, actor=ALICE)
    change_settings(service, {"proof_of_possession": False}, actor=ALICE)

    assert spells(service, at) == [
        (ADMIT, ""),
        (UNAUTHORIZED, "service.changed"),
        (ADMIT, "ca_certificate.verified"),
        (UNAUTHORIZED, "ca_certificate.deleted"),
        (ADMIT, "service.changed"),
    ]


def test_proofs_that_nobody_demanded_begin_none(service, ca):
    at = timezone.now()
    delete_ca_certificate(service, prove(service, ca).name, actor=ALICE)

    assert spells(service, at) == [(ADMIT, "")]


def test_of_a_whole_service_it_is_told_who_could_not_have_come_then(service, ca):
    demand_proof(service)
    without = timezone.now()
    row = prove(service, ca)
    with_proof = timezone.now()
    delete_ca_certificate(service, row.name, actor=ALICE)

    assert compare(service, without).preview.counts == {Effect.STILL_OUT: 1}
    assert compare(service, with_proof).preview.counts == {Effect.REFUSED: 1}
    assert compare(service, without, with_proof).preview.counts == {Effect.COMES_IN: 1}


def test_looking_leaves_demand_and_proofs_as_they_are(service, ca):
    at = timezone.now()
    demand_proof(service)
    prove(service, ca)
    before = list(CaCertificate.objects.values()), ProvisioningService.epoch_of(service.pk)

    look_back(service, "pump-1", at)
    compare(service, at)

    assert (list(CaCertificate.objects.values()), ProvisioningService.epoch_of(service.pk)) == before
    assert ProvisioningService.what_decisions_read(service.pk).proof_of_possession
