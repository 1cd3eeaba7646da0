"""Operation IDs: unforgeable names of a registration under way, which need no row of their own."""

import hashlib
import hmac
import uuid

from enrollments.models import ProvisioningService
from enrollments.models.fields import encryption_keys
from enrollments.policy.names import registration_key


def new_operation_id(service: ProvisioningService, registration_id: str) -> str:
    """The contract's shape (1.3): `5.`, 16 hex digits, a dot, a GUID. The digits bind it to service and device."""
    guid = str(uuid.uuid4())
    return f"5.{_binding(encryption_keys()[0], service, registration_id, guid)}.{guid}"


def is_operation_of(operation_id: str, service: ProvisioningService, registration_id: str) -> bool:
    version, _, rest = operation_id.partition(".")
    binding, _, guid = rest.partition(".")
    fitting = [
        hmac.compare_digest(
            binding.encode("utf-8", "replace"), _binding(key, service, registration_id, guid).encode()
        )
        for key in encryption_keys()
    ]
    return version == "5" and any(fitting)


def _binding(key: str, service: ProvisioningService, registration_id: str, guid: str) -> str:
    message = f"dpsportal operation\n{service.pk}\n{registration_key(registration_id)}\n{guid}"
    return hmac.digest(key.encode(), message.encode("utf-8", "replace"), hashlib.sha256).hex()[:16]
