"""Failed sign-ins in the history: a row for each window of a name that somebody has, one for all other names (R15)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Q
from django.db.models.functions import Lower

from enrollments.actions.failure_windows import MANY, MOST_ADDRESSES, stranger
from enrollments.audit.actor import Way
from enrollments.audit.events import Event
from enrollments.audit.record import Subject, record
from enrollments.models import SignInFailures

# In place of names: of those tried from an address that was held off for having tried too many.
NAME_NOT_KEPT = ""
_NAMES_NOT_KEPT = Subject("User", "names tried while their address was held off")
_NAMES_OF_NOBODY = Subject("User", "names that nobody has")


def windows_without_a_row(user: User, number: int) -> list[SignInFailures]:
    """Of failures in the name of a person, since they are there, those of which the history does not tell yet; by
    address."""
    untold = Q(count__gt=0, recorded=False) | Q(held_off__gt=0)
    own = SignInFailures.objects.filter(
        untold, name_key=user.get_username().lower(), window_started_at__gte=user.date_joined
    )
    return list(own.order_by("address")[:number])


def record_names(rows: Iterable[SignInFailures]) -> None:
    """One row for each window of a person that has none yet; one for all the names together that nobody has.

    A window whose hold-off has its row has another one where it was tried all the same: that one tells the total.
    """
    rows = [row for row in rows if (row.count and not row.recorded) or row.held_off]
    keys = {row.name_key for row in rows}
    people = {
        user.username.lower(): user
        for user in User.objects.annotate(key=Lower("username")).filter(key__in=keys)
    }
    of_people: dict[str, list[SignInFailures]] = defaultdict(list)
    of_nobody: list[SignInFailures] = []
    not_kept: list[SignInFailures] = []
    for row in rows:
        if row.name_key == NAME_NOT_KEPT:
            not_kept.append(row)
        elif row.name_key in people:
            of_people[row.name_key].append(row)
        else:
            of_nobody.append(row)
    for key, windows in of_people.items():
        if len(windows) <= MOST_ADDRESSES:
            for row in windows:
                record_window(people[key], row, held_off=row.held_off > 0)
        else:
            _record_together(people[key], windows)
    if of_nobody:
        _record_together(_NAMES_OF_NOBODY, of_nobody, names=len({row.name_key for row in of_nobody}))
    if not_kept:
        _record_together(_NAMES_NOT_KEPT, not_kept)


def record_window(user: User, row: SignInFailures, *, held_off: bool) -> None:
    after = {**_told([row]), "held_off": held_off}
    record(Event.SIGN_IN_FAILED, subject=user, actor=stranger(row.address, Way.PORTAL), after=after)


def _record_together(subject: User | Subject, rows: list[SignInFailures], **more: Any) -> None:
    addresses = sorted({row.address for row in rows} - {MANY})
    has_more = any(row.address == MANY for row in rows)
    after = {**_told(rows), **more, "addresses": len(addresses), "some_addresses": addresses[:MOST_ADDRESSES]}
    if has_more:
        after["further_addresses"] = True
    record(
        Event.SIGN_IN_FAILED,
        subject=subject,
        actor=stranger(addresses[0] if len(addresses) == 1 and not has_more else "", Way.PORTAL),
        after=after,
    )


def _told(rows: Sequence[SignInFailures]) -> dict[str, Any]:
    """`while_held_off`: how many of the failures no password was looked at for. `told_before`: how many have a row.

    That is the one of the hold-off, as it began.
    """
    held_off = sum(row.held_off for row in rows)
    told_before = sum(row.count for row in rows if row.recorded)
    told: dict[str, Any] = {
        "failures": sum(row.count for row in rows) + held_off,
        "since": min(row.window_started_at for row in rows).isoformat(),
    }
    if last := max((row.last_at for row in rows if row.last_at), default=None):
        told["last"] = last.isoformat()
    told |= {"while_held_off": held_off} if held_off else {}
    return told | {"told_before": told_before} if told_before else told
