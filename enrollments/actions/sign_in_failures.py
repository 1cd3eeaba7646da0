"""Failed sign-ins in the history: a row for each window of a name that somebody has, one for all other names (R15)."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import User
from django.db.models.functions import Lower

from enrollments.actions.failure_windows import MOST_ADDRESSES, stranger
from enrollments.audit.actor import Way
from enrollments.audit.events import Event
from enrollments.audit.record import Subject, record
from enrollments.models import SignInFailures


def record_names(rows: Iterable[SignInFailures]) -> None:
    """One row for each window of a person that has none yet; one for all the names together that nobody has."""
    rows = [row for row in rows if row.count and not row.recorded]
    keys = {row.name_key for row in rows}
    people = {
        user.username.lower(): user
        for user in User.objects.annotate(key=Lower("username")).filter(key__in=keys)
    }
    of_people: dict[str, list[SignInFailures]] = defaultdict(list)
    of_nobody: list[SignInFailures] = []
    for row in rows:
        if row.name_key in people:
            of_people[row.name_key].append(row)
        else:
            of_nobody.append(row)
    for key, windows in of_people.items():
        if len(windows) <= MOST_ADDRESSES:
            for row in windows:
                record_window(people[key], row, held_off=False)
        else:
            _record_together(people[key], windows)
    if of_nobody:
        _record_together(
            Subject("User", "names that nobody has"),
            of_nobody,
            names=len({row.name_key for row in of_nobody}),
        )


def record_window(user: User, row: SignInFailures, *, held_off: bool) -> None:
    after = {"failures": row.count, "since": row.window_started_at.isoformat(), "held_off": held_off}
    record(Event.SIGN_IN_FAILED, subject=user, actor=stranger(row.address, Way.PORTAL), after=after)


def _record_together(subject: User | Subject, rows: list[SignInFailures], **more: Any) -> None:
    addresses = sorted({row.address for row in rows})
    after = {
        "failures": sum(row.count for row in rows),
        "since": min(row.window_started_at for row in rows).isoformat(),
        **more,
        "addresses": len(addresses),
        "some_addresses": addresses[:MOST_ADDRESSES],
    }
    record(
        Event.SIGN_IN_FAILED,
        subject=subject,
        actor=stranger(addresses[0] if len(addresses) == 1 else "", Way.PORTAL),
        after=after,
    )
