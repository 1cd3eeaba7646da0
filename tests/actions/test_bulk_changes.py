"""Many enrollments changed and disabled at once are what they are one by one: state, history, and what is refused."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from enrollments.actions import entries
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import (
    add_individual_enrollment,
    change_individual_enrollment,
    disable_enrollment,
    enable_enrollment,
)
from enrollments.actions.enrollments_together import Asked, change_individual_enrollments
from enrollments.actions.entry_snapshots import _secret_held
from enrollments.actions.hubs import HubSpec, link_hub
from enrollments.errors import DpsError
from enrollments.models import (
    AttestationMechanism,
    Certificate,
    HistoryEvent,
    IndividualEnrollment,
    ProvisioningService,
    Slot,
)
from enrollments.models.enrollments import SECRETS, empty_twin
from tests.certificates import self_signed
from tests.chance import seeds
from tests.devices import ALICE, enroll_device, enroll_keys, new_service
from tests.soft_tpm import SoftTpm
from tests.transfer.lists import KEY

pytestmark = pytest.mark.django_db
NAMES = [f"Pump-{number}" for number in range(8)]
LEAVES = {name: [self_signed(name).parsed for _ in range(3)] for name in NAMES}
TPMS = [SoftTpm().keys.endorsement_key for _ in range(2)]
OTHER_KEY = KEY.replace("a2tr", "b2tr")
TIMES = [timezone.now().replace(microsecond=0) + timedelta(days=days) for days in (3, 4)]
OVER = TIMES[0] - timedelta(days=9)
OLD_KEY = "an encrypted column that nobody can decrypt any more"


@pytest.fixture(autouse=True)
def _keys_that_are_made_are_the_same(monkeypatch, settings):
    monkeypatch.setattr(entries, "new_symmetric_key", lambda: KEY)
    settings.DPS_WEBHOOK_HOSTS = ["hooks.example"]


def a_spec(chance, name, hubs):
    """Mostly one that can be."""
    mechanism = chance.choice([*AttestationMechanism, AttestationMechanism.X509])
    given = {}
    if mechanism == AttestationMechanism.X509:
        leaves = [*LEAVES[name], chance.choice(LEAVES[chance.choice(NAMES)])]
        slots = chance.choice([(), (Slot.PRIMARY,), (Slot.SECONDARY,), tuple(Slot)])
        given["certificates"] = {slot: chance.choice(leaves) for slot in slots}
    elif mechanism == AttestationMechanism.SYMMETRIC_KEY:
        given["primary_key"], given["secondary_key"] = chance.choices(
            ["", KEY, OTHER_KEY, "short"], [9, 9, 9, 1], k=2
        )
    elif chance.random() < 0.7:
        given["endorsement_key"] = chance.choice(TPMS)
    policy = chance.choice(["", "hashed", "custom"])
    if policy == "custom":
        given["webhook_url"] = "https://hooks.example/" + chance.choice(["a", "a?code=1", "b?code=2"])
    return IndividualSpec(
        mechanism=mechanism,
        registration_id=chance.choice(["", "", name, name.upper(), "another"]),
        device_id=chance.choice(["", f"device-{name}"]),
        device_information=chance.choice([None, {"line": 4}]),
        enabled=chance.random() < 0.6,
        for_good=chance.random() < 0.5,
        switches_at=chance.choice([None, None, *TIMES]),
        schedule_reason=chance.choice(["", "rent ends"]),
        initial_twin=chance.choice([empty_twin(), {"tags": {"a": 1}, "properties": {"desired": {}}}]),
        iot_edge=chance.random() < 0.5,
        allocation_policy=policy,
        hubs=tuple(chance.sample(hubs, chance.randrange(3))),
        **given,
    )


def fill(service, chance):
    """Every kind of entry; some of them with a time, and one with a key that cannot be decrypted."""
    hubs = list(service.hubs.order_by("name"))
    for name in NAMES[:-1]:
        while True:
            try:
                spec = a_spec(chance, name, hubs)
                add_individual_enrollment(service, _named(spec, name), actor=ALICE)
                break
            except DpsError:
                continue
    if chance.random() < 0.5:
        enable_enrollment(service, NAMES[0], until=TIMES[0], actor=ALICE, reason="lent")
        if chance.random() < 0.5:
            IndividualEnrollment.objects.filter(service=service, registration_id=NAMES[0]).update(
                switches_at=OVER
            )
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE enrollments_individualenrollment SET secondary_key = %s WHERE service_id = %s "
            "AND registration_id = %s AND secondary_key <> ''",
            [OLD_KEY, service.pk, NAMES[1]],
        )


def _named(spec, name):
    return replace(spec, registration_id=name)


def a_list(service, chance):
    hubs = list(service.hubs.order_by("name"))
    asked = []
    for name in chance.sample(NAMES, chance.randrange(1, len(NAMES) + 1)):
        entry = (
            IndividualEnrollment.objects.without_secrets()
            .filter(service=service, registration_id=name)
            .first()
        )
        etag = entry.etag if entry and chance.random() < 0.9 else "another"
        name = chance.choice([name, name.lower()])
        asked.append(
            Asked(name) if chance.random() < 0.3 else Asked(name, a_spec(chance, name.title(), hubs), etag)
        )
    return asked


def one_by_one(service, asked):
    outcomes = []
    for one in asked:
        try:
            if one.spec is None:
                outcomes.append(
                    disable_enrollment(service, one.registration_id, actor=ALICE, reason="ticket")
                )
            else:
                outcomes.append(
                    change_individual_enrollment(
                        service,
                        one.registration_id,
                        one.spec,
                        expected_etag=one.expected_etag,
                        actor=ALICE,
                        reason="ticket",
                    )
                )
        except DpsError as problem:
            outcomes.append(problem)
    return outcomes


def at_once(service, asked):
    return change_individual_enrollments(service, asked, actor=ALICE, reason="ticket")


def columns(service):
    """As they stand in the database, decrypted where that can be."""
    told = {}
    for one in IndividualEnrollment.objects.without_secrets().filter(service=service):
        own = {"id", "service_id", "etag", "created_at", "updated_at"}
        row = {
            field.attname: getattr(one, field.attname)
            for field in one._meta.concrete_fields
            if field.attname not in own | set(SECRETS)
        }
        row |= {name: _secret_held(one, name) for name in SECRETS}
        row["hubs"] = sorted(one.hubs.values_list("host_name", flat=True))
        row["held"] = sorted(
            one.certificates.values_list(
                "slot", "certificate__thumbprint_sha256", "spki_sha256", "subject_key_id", "role"
            )
        )
        told[one.registration_id] = row
    return told


def rows_since(service, pk):
    rows = HistoryEvent.objects.filter(service_id=service.pk, pk__gt=pk).order_by("pk")
    told = {}
    for row in rows:
        what = (
            row.event,
            row.reason,
            row.actor_kind,
            row.actor_name,
            row.way,
            row.before,
            row.after,
            row.address,
        )
        told.setdefault(row.subject_name, []).append(what)
    return told


def in_words(outcomes, etags):
    return [
        (type(one).__name__, one.message)
        if isinstance(one, DpsError)
        else (one.registration_id, one.enabled, one.switches_at, one.etag != etags[one.registration_id])
        for one in outcomes
    ]


def etags_of(service):
    return dict(IndividualEnrollment.objects.filter(service=service).values_list("registration_id", "etag"))


@pytest.mark.parametrize("seed", seeds(0, 24))
def test_at_once_is_one_by_one(seed):
    told = []
    for way in (one_by_one, at_once):
        service = new_service(way.__name__.replace("_", "-"))
        link_hub(service, HubSpec(name="second", host_name=f"second.{service.name}.example"), actor=ALICE)
        # The same names in both.
        for number, hub in enumerate(service.hubs.order_by("name")):
            type(hub).objects.filter(pk=hub.pk).update(host_name=f"hub-{number}.example")
        chance = random.Random(seed)
        fill(service, chance)
        for _ in range(3):
            asked, etags = a_list(service, chance), etags_of(service)
            start, epoch = HistoryEvent.objects.latest("pk").pk, ProvisioningService.epoch_of(service.pk)
            outcomes = way(service, asked)
            history = rows_since(service, start)
            stored = etags_of(service)
            for one in outcomes:
                if not isinstance(one, DpsError):
                    assert stored[one.registration_id] == one.etag
            is_outdated = ProvisioningService.epoch_of(service.pk) != epoch
            assert is_outdated or not history
            changed = {name for name, etag in stored.items() if etag != etags[name]}
            told.append((in_words(outcomes, etags), changed, columns(service), history))
    assert told[:3] == told[3:]
    assert any(history for *_, history in told)


def test_the_epoch_is_raised_once_and_only_where_something_changed():
    service = new_service()
    entry = enroll_keys(service, "a")
    enroll_keys(service, "b", enabled=False)
    spec = IndividualSpec(mechanism=AttestationMechanism.SYMMETRIC_KEY)
    epoch = ProvisioningService.epoch_of(service.pk)

    at_once(service, [Asked("a", spec, entry.etag), Asked("b"), Asked("nowhere")])
    assert ProvisioningService.epoch_of(service.pk) == epoch

    at_once(service, [Asked("a", _named(spec, "a"), entry.etag), Asked("b")])
    assert ProvisioningService.epoch_of(service.pk) == epoch

    other = IndividualSpec(mechanism=AttestationMechanism.SYMMETRIC_KEY, device_id="x")
    at_once(service, [Asked("a", other, entry.etag), Asked("b", spec, "another")])
    assert ProvisioningService.epoch_of(service.pk) == epoch + 1


def test_it_takes_a_fixed_number_of_statements():
    service = new_service()

    def statements(names):
        for name in names:
            enroll_device(service, self_signed(name))
        etags = etags_of(service)
        asked = [
            Asked(
                name,
                IndividualSpec(
                    certificates={Slot.PRIMARY: self_signed(name).parsed}, hubs=(service.hubs.get(),)
                ),
                etags[name],
            )
            if number % 2
            else Asked(name)
            for number, name in enumerate(names)
        ]
        counted = []

        def count(execute, *statement):
            counted.append(statement[0])
            return execute(*statement)

        with connection.execute_wrapper(count):
            at_once(service, asked)
        return len(counted)

    assert statements([f"a{number}" for number in range(4)]) == statements(
        [f"b{number}" for number in range(40)]
    )


def test_certificates_from_before_stay_known():
    """Whoever asks about a time that has passed finds what was enrolled then."""
    service = new_service()
    before, after = self_signed("pump-1"), self_signed("pump-1")
    entry = enroll_device(service, before)

    at_once(service, [Asked("pump-1", IndividualSpec(certificates={Slot.PRIMARY: after.parsed}), entry.etag)])

    assert Certificate.objects.filter(thumbprint_sha256=before.parsed.thumbprint_sha256).exists()
    (held,) = entry.certificates.select_related("certificate")
    assert held.certificate.thumbprint_sha256 == after.parsed.thumbprint_sha256
