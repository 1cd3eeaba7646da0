"""Whether a device would be refused if it came now, whatever its record still says of its last call."""

from dataclasses import dataclass
from datetime import datetime

from enrollments.actions.certificates import StoredUnreadable
from enrollments.actions.explaining import Question, explain
from enrollments.actions.judging import group_ref, individual_ref
from enrollments.actions.name_holders import holder_of
from enrollments.actions.schedule import switches_now
from enrollments.errors import NotFound, SecretUnreadable
from enrollments.models import ProvisioningService, RegistrationRecord
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason
from enrollments.policy.unknown import Unknown


@dataclass(frozen=True, slots=True)
class KeptOut:
    """Why. by: the entry that the decision rests on. is_disabled: it does because that entry is disabled (R5 to R7).

    until: when that ends by itself, where the entry is disabled until a time. is_denied: it does not, and the entry is
    the device's own, so that denying it would change nothing. note: what would be admitted all the same of what is
    enrolled for it, if anything.
    """

    reason: Reason | Unknown
    by: EntryRef | None
    is_disabled: bool
    until: datetime | None = None
    is_denied: bool = False
    note: str = ""

    @property
    def is_name_held(self) -> bool:
        """It fails because that entry holds its name, and another one would admit it (R11)."""
        return self.reason is Reason.NAME_HELD_BY_OTHER_ENTRY


def kept_out(service: ProvisioningService, record: RegistrationRecord) -> KeptOut | None:
    """By the decision of now on what it proved itself with last. None: it would be admitted, or nobody can say.

    Without the encryption key no token can be judged, nor a certificate that cannot be read; and disabled entries are
    told all the same (R16).
    """
    try:
        told = explain(service, Question(registration_id=record.registration_id))
    except NotFound:
        return None
    except (SecretUnreadable, StoredUnreadable):
        return _by_disabled_entry(service, record)
    if told.fails and not told.note:
        return KeptOut(told.reason, holder_of(record), is_disabled=False)
    if told.was_kept or told.verdict is Verdict.ADMIT:
        return None
    is_disabled = told.verdict is Verdict.DISABLED and told.entry is not None
    is_denied = is_disabled and told.disabled_until is None and _is_own(told.entry, record)
    return KeptOut(told.reason, told.entry, is_disabled, told.disabled_until, is_denied, told.note)


def _by_disabled_entry(service: ProvisioningService, record: RegistrationRecord) -> KeptOut | None:
    as_of = switches_now(service)
    entries = service.individualenrollments.without_secrets()
    individual = entries.filter(registration_key=record.registration_key).first()
    if individual is not None:
        if as_of.enabled(individual):
            return None
        until = individual.disabled_until
        return KeptOut(
            Reason.INDIVIDUAL_DISABLED,
            individual_ref(individual),
            is_disabled=True,
            until=until,
            is_denied=until is None,
        )
    if record.group is None or as_of.enabled(record.group):
        return None
    return KeptOut(
        Reason.GROUP_DISABLED, group_ref(record.group), is_disabled=True, until=record.group.disabled_until
    )


def _is_own(entry: EntryRef | None, record: RegistrationRecord) -> bool:
    """R6: what bars may be another device's that has the same key."""
    return (
        entry is not None
        and entry.kind is EntryKind.INDIVIDUAL
        and registration_key(entry.name) == record.registration_key
    )
