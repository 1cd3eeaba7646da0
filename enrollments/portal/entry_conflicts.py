"""A form of an entry that somebody else has changed meanwhile: what is said, and what is done all the same."""

from django.http import HttpRequest

from enrollments.actions.preview import Act, Entry, turn, what_disabling_did
from enrollments.errors import ChangedMeanwhile
from enrollments.models import ProvisioningService
from enrollments.portal.access import actor_of
from enrollments.portal.entry_pages import EntryPages, and_what_it_did
from enrollments.portal.entry_saving import AnyForm


def settled_conflict(
    request: HttpRequest, form: AnyForm, current: Entry, pages: EntryPages, problem: ChangedMeanwhile
) -> str:
    """What stands above the form as it comes back. Whoever turned the switch off in it has turned it off (R16).

    By that nobody comes in, so it waits for nobody. Whatever else the form said rests on a state that has passed.
    """
    service: ProvisioningService = form.service
    if not form.turns_off or not current.enabled:
        return f"{problem.message} Your changes were not saved."
    reason = form.cleaned_data["reason"]
    entry = turn(service, Act.DISABLE, current, actor=actor_of(request), reason=reason)
    disabled = and_what_it_did(f"Disabled {pages.named([entry])}", what_disabling_did(service, [entry]))
    return f"{disabled} Somebody else had changed it after you opened it, so nothing else of your changes was saved."
