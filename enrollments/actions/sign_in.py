"""Signing in: counting failures per name and address, and holding off who fails too often (R15).

A window of failures leaves one row in the history: when the hold-off begins, or else when the window ends. Who goes on
while held off leaves another one then, with the total. Names that nobody has leave none of their own, and are not
named: people type passwords into the wrong field, and whoever floods the sign-in page with invented names must not fill
the history, which is kept for ever.
"""

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from enrollments.actions.access_failures import is_of_service_api
from enrollments.actions.ended_windows import record_ended_windows
from enrollments.actions.failure_windows import window
from enrollments.actions.held_off_counts import count_held_off
from enrollments.actions.sign_in_failures import record_names, record_window
from enrollments.errors import DpsError
from enrollments.models import SignInFailures
from enrollments.policy.words import counted

# One address may try many names; this many failures over all of them hold the address off.
ADDRESS_FACTOR = 10


class LockedOut(DpsError):
    code = "locked_out"

    def __init__(self, minutes: int) -> None:
        super().__init__(
            f"Too many failed attempts from your address. Try again in {counted(minutes, 'minute')}, or use the "
            "command line."
        )


class WrongPassword(DpsError):
    code = "wrong_password"

    def __init__(self) -> None:
        super().__init__("Name and password do not fit. Both may be mistyped; case counts in the password.")


def sign_in(username: str, password: str, *, address: str) -> User:
    """The person with this name and password. Raises WrongPassword, LockedOut.

    Held off is the pair of name and address, and an address that tries many names: nobody can lock an
    administrator out by failing in their name from somewhere else. While held off, passwords are not looked at.
    """
    username = username[:150]
    _refuse_if_locked(username, address)
    # Counted before the password is looked at, and forgiven if it is right: attempts that run side by side would
    # otherwise all be looked at before the first of them counts.
    record_ended_windows(at_once=False)
    count = _count_failure(username, address)
    if count > settings.DPS_SIGN_IN_FAILURES:
        raise LockedOut(settings.DPS_SIGN_IN_LOCKOUT_MINUTES)
    user = authenticate(username=_as_stored(username), password=password[:1024])
    if not isinstance(user, User):
        if count == settings.DPS_SIGN_IN_FAILURES:
            _record_hold_off(username, address)
        raise WrongPassword
    _forgive(username, address)
    return user


@transaction.atomic
def end_windows_of(username: str) -> None:
    """Forget the failures of a name, which stay in the history."""
    rows = list(SignInFailures.objects.select_for_update().filter(name_key=_key(username)).order_by("pk"))
    record_names(rows)
    SignInFailures.objects.filter(pk__in=[row.pk for row in rows]).delete()


@transaction.atomic
def _record_hold_off(username: str, address: str) -> None:
    row = SignInFailures.objects.select_for_update().filter(name_key=_key(username), address=address).first()
    user = User.objects.filter(username__iexact=username).first()
    if row is None or row.recorded or user is None:
        return
    record_window(user, row, held_off=True)
    row.recorded = True
    row.save(update_fields=["recorded"])


@transaction.atomic
def _forgive(username: str, address: str) -> None:
    """The attempt that succeeded was counted as well, before its password was looked at."""
    row = SignInFailures.objects.select_for_update().filter(name_key=_key(username), address=address).first()
    if row is None:
        return
    row.count -= 1
    record_names([row])
    row.delete()


def _as_stored(username: str) -> str:
    """The spelling under which a person was added: case does not count in names, and no two differ in it alone."""
    stored = User.objects.filter(username__iexact=username).values_list("username", flat=True).first()
    return stored or username


def _key(username: str) -> str:
    return username.lower()[:150]


def _refuse_if_locked(username: str, address: str) -> None:
    since = timezone.now() - window()
    recent = SignInFailures.objects.filter(address=address, window_started_at__gt=since)
    # What a back end at the address gets wrong keeps nobody from signing in.
    counts = {row.name_key: row.count for row in recent if not is_of_service_api(row)}
    limit = settings.DPS_SIGN_IN_FAILURES
    is_own = counts.get(_key(username), 0) >= limit
    if is_own or sum(counts.values()) >= limit * ADDRESS_FACTOR:
        count_held_off(_key(username), address, at=timezone.now(), is_own=is_own)
        raise LockedOut(settings.DPS_SIGN_IN_LOCKOUT_MINUTES)


@transaction.atomic
def _count_failure(username: str, address: str) -> int:
    """How many there are. Of those that come side by side, whoever is one too many is held off already."""
    now = timezone.now()
    row, _ = SignInFailures.objects.select_for_update().get_or_create(
        name_key=_key(username), address=address, defaults={"window_started_at": now}
    )
    if row.window_started_at <= now - window():
        record_names([row])
        row.window_started_at, row.count, row.held_off, row.recorded = now, 0, 0, False
    if row.count >= settings.DPS_SIGN_IN_FAILURES:
        row.held_off += 1
    else:
        row.count += 1
    row.last_at = now
    row.save(update_fields=["window_started_at", "count", "held_off", "last_at", "recorded"])
    return row.count + row.held_off
