"""How the history's own names read on pages."""

from enrollments.audit.events import Event, refused_on
from enrollments.models import HistoryEvent
from enrollments.policy.unknown import known

SUBJECT_KINDS = {
    "IndividualEnrollment": "individual enrollment",
    "EnrollmentGroup": "enrollment group",
    "RegistrationRecord": "registration record",
    "HubDevice": "device at its hub",
    "QuietPeriod": "quiet period",
    "LinkedHub": "hub",
    "CaCertificate": "CA certificate",
    "AccessPolicy": "access policy",
    "ApiToken": "API token",
    "ProvisioningService": "service",
    "import": "import",
    "User": "person",
    "encryption key": "encryption key",
    "export": "export",
    "history": "check of the history",
    "action": "refused action",
}
# Acts on one object that were refused, which are in its history.
REFUSED_ON = {
    refused_on(kind): kind
    for kind in ("IndividualEnrollment", "EnrollmentGroup", "RegistrationRecord", "User")
}
SUBJECT_KINDS |= {refused: f"refused act on {SUBJECT_KINDS[kind]}" for refused, kind in REFUSED_ON.items()}
ACTOR_KINDS = {
    "user": "person",
    "service": "access policy or API token",
    "device": "device",
    "cli": "command line",
    "schedule": "what happens by itself",
    "stranger": "nobody who is known",
}
SHUTTING_OUT = frozenset(event.value for event in Event if event.shuts_out)


def words_of(event: HistoryEvent) -> str:
    """A row keeps its meaning even if a later version of the program wrote it."""
    words = known(Event, event.event).in_words
    if event.subject_kind in REFUSED_ON:
        return f"{words} an act on {SUBJECT_KINDS[REFUSED_ON[event.subject_kind]]}"
    if event.event == Event.KEYS_REVEALED.value and event.subject_kind in SUBJECT_KINDS:
        # Objects of several kinds have one name: a device, its entry.
        return f"{words} {SUBJECT_KINDS[event.subject_kind]}"
    return words


def label_of(event: Event) -> str:
    """The words as a choice that stands alone: «API» stays in capitals, and what wants a name says so."""
    words = event.in_words
    return words[:1].upper() + words[1:] + (" …" if words.endswith((" of", " as")) else "")
