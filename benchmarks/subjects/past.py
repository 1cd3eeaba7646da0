"""Back in time: what it costs to say who could have registered, with many devices and many changes since then."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from benchmarks.installation import Bench
from benchmarks.measure import Cost, Figure, Part
from enrollments.actions.enrollment_groups import disable_enrollment_group, enable_enrollment_group
from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import add_individual_enrollment, delete_enrollments
from enrollments.actions.past import compare, look_back
from enrollments.models import ProvisioningService, RegistrationEvidence, RegistrationRecord, Slot
from tests.certificates import root, self_signed
from tests.devices import ALICE, enroll_ca, new_service, register

COMPARE, TWO_PASTS, DEVICE = "past.compare", "past.compare-two", "past.device"
CHUNK = 2000


def past(bench: Bench) -> Part:
    devices, changes = bench.size.past_devices, bench.size.past_changes
    made = _history(devices, changes)
    between = made.at + (timezone.now() - made.at) / 2
    return Part(
        f"Back in time: {devices:,} devices, {changes:,} changes since",
        [
            Figure(COMPARE, "all devices, then and now", 1, _timed(lambda: compare(made.service, made.at))),
            Figure(
                TWO_PASTS,
                "all devices, at two past times",
                1,
                _timed(lambda: compare(made.service, made.at, between)),
            ),
            Figure(
                DEVICE,
                "one device, each spell",
                1,
                _timed(lambda: look_back(made.service, "pump-0", made.at)),
            ),
        ],
    )


@dataclass(frozen=True, slots=True)
class _Made:
    service: ProvisioningService
    at: datetime


def _history(devices: int, changes: int) -> _Made:
    """Devices below one CA; then entries come and go, and the group is turned off and on again."""
    service = new_service("past")
    ca = root("Root of the past")
    plant = ca.intermediate("Plant")
    enroll_ca(service, ca, "root")
    enroll_ca(service, plant, "plant")
    register(service, plant.leaf("pump-0"))
    _copy_record(service, devices)
    at = timezone.now()
    done = number = 0
    while done < changes:
        number += 1
        name = f"pump-{number}"
        # Every fifth bars a key too.
        slots = {} if number % 5 else {Slot.PRIMARY: self_signed(name).parsed}
        spec = IndividualSpec(registration_id=name, certificates=slots, enabled=False)
        add_individual_enrollment(service, spec, actor=ALICE)
        done += 1
        if number % 2:
            delete_enrollments(service, [name], actor=ALICE)
            done += 1
        if number % 500 == 0:
            disable_enrollment_group(service, "plant", actor=ALICE)
            enable_enrollment_group(service, "plant", actor=ALICE)
            done += 2
    disable_enrollment_group(service, "plant", actor=ALICE)
    return _Made(service, at)


def _copy_record(service: ProvisioningService, devices: int) -> None:
    """As many devices as the one that is there, with keys of their own: registering them all would take too long."""
    first = RegistrationRecord.objects.get(service=service)
    evidence = list(first.evidence.all())
    columns = {
        field.attname: getattr(first, field.attname)
        for field in RegistrationRecord._meta.concrete_fields
        if field.attname != "id"
    }
    for start in range(1, devices, CHUNK):
        rows = RegistrationRecord.objects.bulk_create(
            RegistrationRecord(
                **columns
                | {
                    "registration_id": f"pump-{number}",
                    "registration_key": f"pump-{number}",
                    "leaf_spki": f"{number:064x}",
                    "leaf_thumbprint": f"{number:064x}",
                }
            )
            for number in range(start, min(start + CHUNK, devices))
        )
        RegistrationEvidence.objects.bulk_create(
            RegistrationEvidence(registration=row, position=one.position, certificate_id=one.certificate_id)
            for row in rows
            for one in evidence
        )


def _timed(act: Callable[[], object]) -> Callable[[int], Cost]:
    def repeat(times: int) -> Cost:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            act()
        return Cost((time.process_time() - cpu) / times, (time.perf_counter() - wall) / times)

    return repeat
