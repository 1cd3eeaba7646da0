"""What actions say of a field, as it is said of a member of a message."""

from enrollments.errors import Invalid

# Where our words for what is wrong stand in a message.
_MEMBERS = {
    "registration_id": "registrationId",
    "group_id": "enrollmentGroupId",
    "device_id": "deviceId",
    "device_information": "optionalDeviceInformation",
    "mechanism": "attestation.type",
    "primary_key": "attestation.symmetricKey.primaryKey",
    "secondary_key": "attestation.symmetricKey.secondaryKey",
    "endorsement_key": "attestation.tpm.endorsementKey",
    "storage_root_key": "attestation.tpm.storageRootKey",
    "primary_certificate": "attestation.x509 primary",
    "secondary_certificate": "attestation.x509 secondary",
    "allocation_policy": "allocationPolicy",
    "hubs": "iotHubs",
    "switches_at": "switchesAt",
    "schedule_reason": "scheduleReason",
    "reprovisioning_policy": "reprovisionPolicy",
    "initial_twin": "initialTwin",
    "webhook_url": "customAllocationDefinition",
}


def in_words(problem: Invalid) -> str:
    return " ".join(
        f"{_MEMBERS[field]}: {sentence}" if field in _MEMBERS else sentence
        for field, sentences in problem.errors.items()
        for sentence in sentences
    )
