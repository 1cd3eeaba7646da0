"""How the history's own names read on pages."""

from enrollments.audit.events import Event
from enrollments.models import HistoryEvent

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
    "User": "person",
    "encryption key": "encryption key",
    "export": "export",
    "action": "refused action",
}
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
    return Event(event.event).in_words if event.event in set(Event) else event.event


def label_of(event: Event) -> str:
    """The words as a choice that stands alone: «API» stays in capitals, and what wants a name says so."""
    words = event.in_words
    return words[:1].upper() + words[1:] + (" …" if words.endswith((" of", " as")) else "")
