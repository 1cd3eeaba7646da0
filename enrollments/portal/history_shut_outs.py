"""What the history of one device says of what shut it out, where that is asked for: worked out as Back in time does."""

from dataclasses import dataclass

from django.http import HttpRequest

from enrollments.actions.certificates import StoredUnreadable
from enrollments.actions.past import ALL_OF_DEVICE, Limits, ShutOut, ShutOuts, TooMuch, what_shut_out
from enrollments.actions.past.words import at_the_end, shut_out_otherwise
from enrollments.errors import Conflict, Invalid, NotFound
from enrollments.models import ProvisioningService
from enrollments.policy.names import is_registration_id
from enrollments.policy.roles import Right
from enrollments.portal.access import rights_of
from enrollments.portal.forms_history import SHUTS_OUT, HistoryFilter
from enrollments.portal.forms_past import in_address
from enrollments.portal.past import past_url
from enrollments.portal.previews import asks_for_everyone, of_everyone, turn_to_examine

# Of times at which nobody did anything, the latest so many are shown.
MOST_TIMES = 10


@dataclass(frozen=True, slots=True)
class ShutOutsTold:
    """rows: of the history, by primary key, whatever they are about. turns: how often it was shut out.

    times: the latest at which it was shut out and nobody did anything. past_url: where each spell is told.
    otherwise: sentences about the latest times at which it could still have come in by another credential.
    problem: why it was not worked out, and `further_url`: where it is. nothing_known: nothing that could be judged.
    registration_id: where nothing is known, whose attempts may tell more.
    """

    rows: frozenset[int] = frozenset()
    turns: int = 0
    times: tuple[ShutOut, ...] = ()
    more_times: int = 0
    otherwise: tuple[str, ...] = ()
    now: str = ""
    past_url: str = ""
    problem: str = ""
    further_url: str = ""
    nothing_known: bool = False
    registration_id: str = ""

    @property
    def can_be_explained(self) -> bool:
        """By its name: Explain refuses what is no registration ID, under which a device may have tried."""
        return is_registration_id(self.registration_id)


def what_shut_out_the_device(
    request: HttpRequest, service: ProvisioningService | None, form: HistoryFilter
) -> ShutOutsTold | None:
    """None where it is not asked for, or is not the person's to see (R17). Ask a valid form only."""
    chosen = form.chosen
    if service is None or chosen.get("event") != SHUTS_OUT or "device" not in chosen:
        return None
    if Right.SEE_HISTORY not in rights_of(request, service):
        return None
    everyone = asks_for_everyone(request.GET)
    try:
        with turn_to_examine(everyone=everyone):
            found = what_shut_out(service, chosen["device"], limits=ALL_OF_DEVICE if everyone else Limits())
    except (NotFound, Invalid):
        found = None
    except StoredUnreadable as problem:
        return ShutOutsTold(problem=problem.message)
    except Conflict as problem:
        further = isinstance(problem, TooMuch) and not everyone
        return ShutOutsTold(
            problem=problem.message, further_url=of_everyone(request.get_full_path()) if further else ""
        )
    if found is None:
        return ShutOutsTold(nothing_known=True, registration_id=chosen["device"])
    return _told(service, found)


def _told(service: ProvisioningService, found: ShutOuts) -> ShutOutsTold:
    times = found.by_time
    look = found.look
    return ShutOutsTold(
        found.rows,
        len(found.turns),
        times[-MOST_TIMES:],
        len(times[:-MOST_TIMES]),
        tuple(shut_out_otherwise(look)[-MOST_TIMES:]),
        at_the_end(look),
        past_url(service, at=in_address(look.at), registration_id=look.registration_id),
    )
