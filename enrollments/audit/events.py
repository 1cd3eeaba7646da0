"""Every event that the history knows, with the sentence that a page makes of it."""

from enum import StrEnum


def refused_on(kind: str) -> str:
    """The kind of subject of a refused act on one object. It is about that, and has not changed it."""
    return f"refused:{kind}"


class Event(StrEnum):
    ENROLLMENT_ADDED = "enrollment.added"
    ENROLLMENT_ADDED_DISABLED = "enrollment.added_disabled"
    ENROLLMENT_CHANGED = "enrollment.changed"
    ENROLLMENT_ENABLED = "enrollment.enabled"
    ENROLLMENT_DISABLED = "enrollment.disabled"
    ENROLLMENT_DISABLING_SCHEDULED = "enrollment.disabling_scheduled"
    ENROLLMENT_SCHEDULE_CANCELLED = "enrollment.schedule_cancelled"
    ENROLLMENT_DELETED = "enrollment.deleted"
    GROUP_ADDED = "group.added"
    GROUP_ADDED_DISABLED = "group.added_disabled"
    GROUP_CHANGED = "group.changed"
    GROUP_ENABLED = "group.enabled"
    GROUP_DISABLED = "group.disabled"
    GROUP_DISABLING_SCHEDULED = "group.disabling_scheduled"
    GROUP_SCHEDULE_CANCELLED = "group.schedule_cancelled"
    GROUP_DELETED = "group.deleted"
    CA_ADDED = "ca_certificate.added"
    CA_CODE_MADE = "ca_certificate.code_made"
    CA_VERIFIED = "ca_certificate.verified"
    CA_DELETED = "ca_certificate.deleted"
    DEVICE_ASSIGNED = "device.assigned"
    DEVICE_ASSIGNED_ANEW = "device.assigned_anew"
    DEVICE_DEPROVISIONED = "device.deprovisioned"
    DEVICE_DEREGISTERED = "device.deregistered"
    REGISTRATION_DELETED = "registration.deleted"
    REGISTRATION_RELEASED = "registration.released"
    TWIN_CHANGED = "device.twin_changed"
    HUB_LINKED = "hub.linked"
    HUB_CHANGED = "hub.changed"
    HUB_UNLINKED = "hub.unlinked"
    SERVICE_ADDED = "service.added"
    SERVICE_CHANGED = "service.changed"
    POLICY_ADDED = "policy.added"
    POLICY_CHANGED = "policy.changed"
    POLICY_ENABLED = "policy.enabled"
    POLICY_DISABLED = "policy.disabled"
    POLICY_DELETED = "policy.deleted"
    POLICY_KEY_REGENERATED = "policy.key_regenerated"
    POLICY_FAILED = "policy.authentication_failed"
    TOKEN_ADDED = "token.added"
    TOKEN_REVOKED = "token.revoked"
    TOKEN_FAILED = "token.authentication_failed"
    ENCRYPTION_KEY_ROTATED = "encryption_key.rotated"
    PERSON_ADDED = "person.added"
    # Of older versions.
    PERSON_CHANGED = "person.changed"
    PERSON_DEACTIVATED = "person.deactivated"
    PERSON_ACTIVATED = "person.activated"
    PERSON_REMOVED = "person.removed"
    ROLE_CHANGED = "person.role_changed"
    PASSWORD_CHANGED = "person.password_changed"
    SIGNED_IN = "person.signed_in"
    SIGNED_OUT = "person.signed_out"
    SIGN_IN_FAILED = "person.sign_in_failed"
    ATTEMPTS_FORGOTTEN = "attempts.forgotten"
    QUIET_STARTED = "quiet.started"
    QUIET_ENDED = "quiet.ended"
    KEYS_REVEALED = "keys.revealed"
    EXPORTED = "history.exported"
    HISTORY_CHECKED = "history.checked"
    IMPORT_STARTED = "import.started"
    IMPORT_ENDED = "import.ended"
    REFUSED = "action.refused"

    @property
    def in_words(self) -> str:
        """What was done, as the predicate of «alice … pump-042»."""
        return _WORDS[self]

    @property
    def shuts_out(self) -> bool:
        """Whether it is one of the acts that «Revocation history» is about."""
        return self in _SHUTS_OUT


_WORDS: dict[Event, str] = {
    Event.ENROLLMENT_ADDED: "added individual enrollment",
    Event.ENROLLMENT_ADDED_DISABLED: "added, disabled from the start, individual enrollment",
    Event.ENROLLMENT_CHANGED: "changed individual enrollment",
    Event.ENROLLMENT_ENABLED: "enabled individual enrollment",
    Event.ENROLLMENT_DISABLED: "disabled individual enrollment",
    Event.ENROLLMENT_DISABLING_SCHEDULED: "scheduled the disabling of individual enrollment",
    Event.ENROLLMENT_SCHEDULE_CANCELLED: "cancelled what was scheduled for individual enrollment",
    Event.ENROLLMENT_DELETED: "deleted individual enrollment",
    Event.GROUP_ADDED: "added enrollment group",
    Event.GROUP_ADDED_DISABLED: "added, disabled from the start, enrollment group",
    Event.GROUP_CHANGED: "changed enrollment group",
    Event.GROUP_ENABLED: "enabled enrollment group",
    Event.GROUP_DISABLED: "disabled enrollment group",
    Event.GROUP_DISABLING_SCHEDULED: "scheduled the disabling of enrollment group",
    Event.GROUP_SCHEDULE_CANCELLED: "cancelled what was scheduled for enrollment group",
    Event.GROUP_DELETED: "deleted enrollment group",
    Event.CA_ADDED: "uploaded CA certificate",
    Event.CA_CODE_MADE: "made a verification code for CA certificate",
    Event.CA_VERIFIED: "verified possession of the key of CA certificate",
    Event.CA_DELETED: "deleted CA certificate",
    Event.DEVICE_ASSIGNED: "was assigned",
    Event.DEVICE_ASSIGNED_ANEW: "was assigned anew, with a new identity, since its hub did not know it",
    Event.DEVICE_DEPROVISIONED: "deprovisioned device",
    Event.DEVICE_DEREGISTERED: "deregistered device at its hub",
    Event.REGISTRATION_DELETED: "deleted registration record",
    Event.REGISTRATION_RELEASED: "released registration ID",
    Event.TWIN_CHANGED: "changed the twin of device",
    Event.HUB_LINKED: "linked hub",
    Event.HUB_CHANGED: "changed hub",
    Event.HUB_UNLINKED: "unlinked hub",
    Event.SERVICE_ADDED: "added provisioning service",
    Event.SERVICE_CHANGED: "changed the settings of provisioning service",
    Event.POLICY_ADDED: "added access policy",
    Event.POLICY_CHANGED: "changed access policy",
    Event.POLICY_ENABLED: "enabled access policy",
    Event.POLICY_DISABLED: "disabled access policy",
    Event.POLICY_DELETED: "deleted access policy",
    Event.POLICY_KEY_REGENERATED: "made a new key for access policy",
    Event.POLICY_FAILED: "failed to prove to be access policy",
    Event.TOKEN_ADDED: "made API token",
    Event.TOKEN_REVOKED: "revoked API token",
    Event.TOKEN_FAILED: "failed to prove themselves with API token",
    Event.ENCRYPTION_KEY_ROTATED: "began to encrypt anew",
    Event.PERSON_ADDED: "added person",
    Event.PERSON_CHANGED: "changed person",
    Event.PERSON_DEACTIVATED: "deactivated person",
    Event.PERSON_ACTIVATED: "activated person",
    Event.PERSON_REMOVED: "removed person",
    Event.ROLE_CHANGED: "changed the role of",
    Event.PASSWORD_CHANGED: "changed the password of",
    Event.SIGNED_IN: "signed in",
    Event.SIGNED_OUT: "signed out",
    Event.SIGN_IN_FAILED: "failed to sign in as",
    Event.ATTEMPTS_FORGOTTEN: "deleted old attempts, and records of devices never assigned, in provisioning service",
    Event.QUIET_STARTED: "started a quiet period for refused device",
    Event.QUIET_ENDED: "ended the quiet period of device",
    Event.KEYS_REVEALED: "looked at the keys of",
    Event.EXPORTED: "exported",
    Event.HISTORY_CHECKED: "verified",
    Event.IMPORT_STARTED: "started import",
    Event.IMPORT_ENDED: "ended import",
    Event.REFUSED: "was refused",
}
_SHUTS_OUT = frozenset(
    {
        Event.ENROLLMENT_DISABLED,
        Event.ENROLLMENT_DELETED,
        Event.GROUP_DISABLED,
        Event.GROUP_DELETED,
        Event.ENROLLMENT_ADDED_DISABLED,
        Event.GROUP_ADDED_DISABLED,
        # With the reason and the time of what then happens by itself.
        Event.ENROLLMENT_DISABLING_SCHEDULED,
        Event.GROUP_DISABLING_SCHEDULED,
        Event.DEVICE_DEPROVISIONED,
        Event.DEVICE_DEREGISTERED,
    }
)
