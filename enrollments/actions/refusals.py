"""What somebody was refused leaves a row in the history (R15)."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Value
from django.db.models.functions import Lower
from django.utils import timezone

from enrollments.audit.actor import Actor
from enrollments.audit.events import Event, refused_on
from enrollments.audit.record import Subject, record
from enrollments.models import HistoryEvent, ProvisioningService
from enrollments.models.locks import take_turn_with_refused_looks
from enrollments.policy.names import is_registration_id

# So many objects of a refused act are named in its row.
MAX_NAMED = 50
# Of looks at one address by one caller, the next is noted so much later.
LOOKS_APART = timedelta(hours=1)
# The kind of subject where no object, or several, are meant.
ADDRESS = "action"
# Named are only those that there are: what is refused was found out from them.
PERSON = "User"


@dataclass(frozen=True, slots=True)
class Tried:
    """What was refused: `what`, on objects of this kind with these names, where that is known."""

    what: str
    kind: str = ""
    names: tuple[str, ...] = ()


@transaction.atomic
def note_refusal(tried: Tried, *, actor: Actor, service: ProvisioningService | None) -> None:
    """Somebody tried what their role does not allow (R15). On one object, it is in the history of that as well.

    Names that nothing of ours can have are left out: whoever is refused writes them. Nobody has to be let in for it.
    """
    subject, after = _row_of(tried)
    record(Event.REFUSED, subject=subject, actor=replace(actor, still_may=None), service=service, after=after)


def note_refused_look(tried: Tried, *, actor: Actor, service: ProvisioningService | None) -> None:
    """The same of somebody who only looked: a row, unless the same was tried within the hour before.

    Pages are loaded again and again, by people and by themselves, and the history is kept for ever.
    """
    if _was_noted(tried, actor, service):
        return
    with transaction.atomic():
        take_turn_with_refused_looks()
        if not _was_noted(tried, actor, service):
            note_refusal(tried, actor=actor, service=service)


def _was_noted(tried: Tried, actor: Actor, service: ProvisioningService | None) -> bool:
    """Asked by the name alone, of which an index has the latest rows; the actor of them may have thousands.

    Another spelling of an address is the same look: names are the same in any case.
    """
    subject, _ = _row_of(tried)
    rows = HistoryEvent.objects.alias(subject_key=Lower("subject_name")).filter(
        service_id=service.pk if service else None,
        subject_key=Lower(Value(subject.name)),
        at__gt=timezone.now() - LOOKS_APART,
    )
    of_actor = rows.filter(actor_kind=actor.kind, actor_name=actor.name[:150])
    if subject.kind == ADDRESS:
        return of_actor.exists()
    what = tried.what.lower()
    return any(
        str((after or {}).get("tried", "")).lower() == what
        for after in of_actor.values_list("after", flat=True)
    )


def _row_of(tried: Tried) -> tuple[Subject, dict[str, Any] | None]:
    names = [name for name in tried.names if tried.kind == PERSON or is_registration_id(name)]
    if len(names) == 1:
        return Subject(refused_on(tried.kind), names[0]), {"tried": tried.what}
    after: dict[str, Any] | None = None
    if names:
        after = {"kind": tried.kind, "names": names[:MAX_NAMED]}
        if len(names) > MAX_NAMED:
            after["further"] = len(names) - MAX_NAMED
    return Subject(ADDRESS, tried.what), after
