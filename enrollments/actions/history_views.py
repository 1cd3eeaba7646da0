"""What people keep of the history for themselves: filters by a name, and how far they have looked.

None of this leaves a row in the history. R15 asks for one where something changes that others rely on; these change
nothing but what their owner is offered, name no right and open nothing, since a filter that is chosen is judged like
one that was typed. And a row for each look would be what the next look finds.
"""

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Subquery
from django.utils import timezone

from enrollments.actions.people import require_person
from enrollments.audit.chain import head
from enrollments.errors import Conflict, Invalid, NotFound
from enrollments.models import HistorySeal, LastLook, ProvisioningService, SavedHistoryView
from enrollments.models.history_views import MAX_VIEW_NAME, MAX_VIEW_QUERY

# Of one history.
MOST_VIEWS = 50


def views_of(user: User, service: ProvisioningService | None) -> list[SavedHistoryView]:
    return list(SavedHistoryView.objects.filter(user=user, service=service).order_by("name"))


def own_view(user: User, service: ProvisioningService | None, pk: int) -> SavedHistoryView:
    """Raises NotFound, also for views of others."""
    view = SavedHistoryView.objects.filter(user=user, service=service, pk=pk).first()
    if view is None:
        raise NotFound("There is no such saved view: it was deleted, or it is not yours.")
    return view


@transaction.atomic
def save_view(
    user: User, service: ProvisioningService | None, name: str, query: str
) -> tuple[SavedHistoryView, str]:
    """Keep a filter, which the caller has read, under a name; a name that is taken means another filter from now on.

    Also tells which one it meant before, empty if none. Raises Invalid, Conflict.
    """
    name = _clean(name)
    if not query:
        raise Invalid({"name": ["Filter first: a saved view is a filter, and nothing is filtered here."]})
    if len(query) > MAX_VIEW_QUERY:
        raise Invalid(
            {"name": [f"This filter is longer than {MAX_VIEW_QUERY} characters: take a part away."]}
        )
    # One person's requests one after the other: otherwise two of them could both find the last free place.
    _require_still(user)
    view = SavedHistoryView.objects.filter(user=user, service=service, name=name).first()
    if view is None:
        # Here, since those of a service that one does not see any more could not be deleted.
        if SavedHistoryView.objects.filter(user=user, service=service).count() >= MOST_VIEWS:
            raise Conflict(
                f"You have {MOST_VIEWS} saved views here, which is as many as are kept. Delete one first."
            )
        view = SavedHistoryView(user=user, service=service, name=name)
    former, view.query = view.query, query
    view.save()
    return view, former


@transaction.atomic
def rename_view(user: User, service: ProvisioningService | None, pk: int, name: str) -> SavedHistoryView:
    """Raises NotFound, also for views of others; Invalid."""
    _require_still(user)
    view, name = own_view(user, service, pk), _clean(name)
    view.name = name
    try:
        with transaction.atomic():
            view.save(update_fields=["name"])
    except IntegrityError:
        raise Invalid({"name": [f"You have a saved view named {name} already."]}) from None
    return view


@transaction.atomic
def delete_view(user: User, service: ProvisioningService | None, pk: int) -> SavedHistoryView:
    """Raises NotFound, also for views of others."""
    _require_still(user)
    view = own_view(user, service, pk)
    SavedHistoryView.objects.filter(pk=view.pk).delete()
    return view


def last_look(user: User, service: ProvisioningService | None) -> LastLook | None:
    return LastLook.objects.filter(user=user, service=service).first()


def last_look_and_size(user: User, service: ProvisioningService | None) -> tuple[LastLook | None, int]:
    """The same, with how many rows the sequence of the installation has: for every page of the history."""
    newest = Subquery(HistorySeal.objects.in_place().order_by("-index").values("index")[:1])
    look = LastLook.objects.filter(user=user, service=service).annotate(size=newest).first()
    return (look, look.size or 0) if look is not None else (None, head().size)


@transaction.atomic
def mark_seen(user: User, service: ProvisioningService | None, index: int) -> LastLook:
    """A person has seen everything up to this place in the sequence, which never goes back. Raises Invalid."""
    if not 0 <= index <= head().size:
        raise Invalid({"index": ["There is no such place in the history. Load the page again."]})
    _require_still(user)
    look = last_look(user, service) or LastLook(user=user, service=service, index=0)
    look.index, look.at = max(look.index, index), timezone.now()
    look.save()
    return look


def _require_still(user: User) -> None:
    """Of what is one's own alone, no more is asked than whether one is let in (R12). Raises ShutOut."""
    require_person(user.pk, None, None)


def _clean(name: str) -> str:
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    if not name:
        raise Invalid({"name": ["Give the view a name."]})
    if len(name) > MAX_VIEW_NAME:
        raise Invalid({"name": [f"The name may be {MAX_VIEW_NAME} characters long."]})
    return name
