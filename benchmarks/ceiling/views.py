"""As little as can be done for a device that comes durably, and for one that asks what became of that."""

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.utils import timezone

from benchmarks.ceiling.models import Device, Visit

OPERATION = "4.0123456789abcdef.00000000-0000-0000-0000-000000000000"


def write(request: HttpRequest, id_scope: str, registration_id: str) -> JsonResponse:
    """One indexed read and two writes, in one durable transaction."""
    now = timezone.now()
    with transaction.atomic(durable=True):
        device = Device.objects.get(name=registration_id)
        device.visits += 1
        device.seen_at = now
        device.save(update_fields=["visits", "seen_at"])
        Visit.objects.create(device=device, at=now, address=request.META["REMOTE_ADDR"])
    return JsonResponse({"operationId": OPERATION, "status": "assigning"}, status=202)


def read(request: HttpRequest, id_scope: str, registration_id: str, operation_id: str) -> JsonResponse:
    """One indexed read."""
    device = Device.objects.get(name=registration_id)
    return JsonResponse(
        {
            "operationId": operation_id,
            "status": "assigned",
            "registrationState": {"registrationId": device.name, "lastUpdatedDateTimeUtc": device.seen_at},
        }
    )
