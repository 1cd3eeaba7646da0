"""What somebody was refused leaves a row in the history (R15)."""

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from enrollments.audit.actor import Actor
from enrollments.audit.events import Event, refused_on
from enrollments.audit.record import Subject, record
from enrollments.models import ProvisioningService
from enrollments.policy.names import is_registration_id

# So many objects of a refused act are named in its row.
MAX_NAMED = 50


@dataclass(frozen=True, slots=True)
class Tried:
    """An act that was refused: `what`, on objects of this kind with these names, where that is known."""

    what: str
    kind: str = ""
    names: tuple[str, ...] = ()


@transaction.atomic
def note_refusal(tried: Tried, *, actor: Actor, service: ProvisioningService | None) -> None:
    """Somebody tried what their role does not allow (R15). On one object, it is in the history of that as well.

    Names that nothing of ours can have are left out: whoever is refused writes them.
    """
    names = [name for name in tried.names if is_registration_id(name)]
    subject = Subject("action", tried.what)
    after: dict[str, Any] | None = None
    if len(names) == 1:
        subject, after = Subject(refused_on(tried.kind), names[0]), {"tried": tried.what}
    elif names:
        after = {"kind": tried.kind, "names": names[:MAX_NAMED]}
        if len(names) > MAX_NAMED:
            after["further"] = len(names) - MAX_NAMED
    record(Event.REFUSED, subject=subject, actor=actor, service=service, after=after)
