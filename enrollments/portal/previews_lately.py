"""Previews that a question or a page showed lately: the list of their devices goes on where the question began.

Nobody decides by what is kept here, and nothing of it is shown on another epoch than its own (R12).
"""

from collections.abc import Callable, Hashable, Sequence

from enrollments.actions.preview import Act, Entry, Preview, ref_of
from enrollments.actions.preview.lately import Lately
from enrollments.models import ProvisioningService
from enrollments.portal.preview_times import Later, Then

_LATELY: Lately[Preview] = Lately()


def act_on(
    entries: Sequence[Entry], act: Act, then: Then | Later | None, *, everyone: bool = False
) -> Hashable:
    """What a preview is of. everyone: whether all devices are examined, or as many as can be told at a glance."""
    return act, frozenset((ref_of(one), one.etag) for one in entries), then, everyone


def change_of(
    query: Sequence[tuple[str, str]], *, later: Later | None = None, everyone: bool = False
) -> Hashable:
    """The same of another change, by the query that names it."""
    return tuple(query), later, everyone


def lately(service: ProvisioningService, what: Hashable, work_out: Callable[[], Preview]) -> Preview:
    return _LATELY.of(service, what, work_out)


def hand_over(service: ProvisioningService, what: Hashable, preview: Preview) -> None:
    """From a question, which always works it out anew: so it counts those devices, too, that came since."""
    _LATELY.keep(service, preview.epoch, what, preview)
