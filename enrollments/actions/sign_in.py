"""Signing in: counting failures per name and address, and holding off who fails too often (R15)."""

from datetime import timedelta

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from enrollments.errors import DpsError
from enrollments.models import SignInFailures

# One address may try many names; this many failures over all of them hold the address off.
ADDRESS_FACTOR = 10
# Rows of windows that have passed are dropped this many at a time, so the table stays as small as the attack.
SWEEP = 100


class LockedOut(DpsError):
    code = "locked_out"

    def __init__(self, minutes: int) -> None:
        super().__init__(
            f"Too many failed attempts from your address. Try again in {minutes} minutes, or use the command line."
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
    if _count_failure(username, address) > settings.DPS_SIGN_IN_FAILURES:
        raise LockedOut(settings.DPS_SIGN_IN_LOCKOUT_MINUTES)
    user = authenticate(username=_as_stored(username), password=password[:1024])
    if not isinstance(user, User):
        raise WrongPassword
    SignInFailures.objects.filter(name_key=_key(username), address=address).delete()
    return user


def _as_stored(username: str) -> str:
    """The spelling under which a person was added: case does not count in names, and no two differ in it alone."""
    stored = User.objects.filter(username__iexact=username).values_list("username", flat=True).first()
    return stored or username


def _key(username: str) -> str:
    return username.lower()[:150]


def _window() -> timedelta:
    return timedelta(minutes=settings.DPS_SIGN_IN_LOCKOUT_MINUTES)


def _refuse_if_locked(username: str, address: str) -> None:
    since = timezone.now() - _window()
    recent = SignInFailures.objects.filter(address=address, window_started_at__gt=since)
    counts = dict(recent.values_list("name_key", "count"))
    limit = settings.DPS_SIGN_IN_FAILURES
    if counts.get(_key(username), 0) >= limit or sum(counts.values()) >= limit * ADDRESS_FACTOR:
        raise LockedOut(settings.DPS_SIGN_IN_LOCKOUT_MINUTES)


@transaction.atomic
def _count_failure(username: str, address: str) -> int:
    now = timezone.now()
    stale = SignInFailures.objects.filter(window_started_at__lte=now - _window())
    stale.filter(pk__in=list(stale.values_list("pk", flat=True)[:SWEEP])).delete()
    row, _ = SignInFailures.objects.select_for_update().get_or_create(
        name_key=_key(username), address=address, defaults={"window_started_at": now}
    )
    if row.window_started_at <= now - _window():
        row.window_started_at, row.count = now, 0
    row.count += 1
    row.save(update_fields=["window_started_at", "count"])
    return row.count
