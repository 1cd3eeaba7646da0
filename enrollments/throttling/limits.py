"""How often a device may come, and how long a refused one is told to wait (R14, contract 8).

Rates and back-off belong to proven credentials. Before proof they belong to the claimed ID together with the leaf's
key or the peer's address, in a table of their own: claims that cost nothing cannot crowd out what is known of others.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from django.conf import settings

from enrollments.policy.back_off import FREE_REFUSALS, retry_after
from enrollments.throttling.buckets import NOTHING, Numbers
from enrollments.throttling.cache_table import CacheTable
from enrollments.throttling.shared_table import SharedTable

# 8 MiB each, of which only what is used takes up memory.
SLOTS = 1 << 17
Table = SharedTable | CacheTable
POLLS, POLL_SECONDS = 5, 10.0
MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose rate it is. `credential`: the leaf's key, the entry whose key a token proved, else the peer's address."""

    service: int
    registration_key: str
    credential: str
    is_proven: bool

    def key(self, what: str) -> bytes:
        return f"{what}\n{self.service}\n{self.registration_key}\n{self.credential}".encode(
            "utf-8", "replace"
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal that was noted: how many there are in a row, the wait to tell, and how many were not judged since."""

    in_a_row: int
    retry_after: int
    unjudged_before: int


@dataclass(frozen=True, slots=True)
class BackOff:
    """What is remembered of a refused caller: refusals in a row, when it may try again, and tries since.

    is_quiet: it was told to wait because an administrator said so.
    """

    in_a_row: int
    next_try: float
    unjudged: int
    epoch: int
    is_quiet: bool


class Limiter:
    """The rates of one node or, with a `cache_url`, of all that share it.

    Times are seconds since 1970 and come from the caller; waits are whole seconds.
    """

    def __init__(self, folder: Path, *, slots: int = SLOTS, cache_url: str = "", secret: bytes = b"") -> None:
        def table(name: str) -> Table:
            of_node = SharedTable(folder / name, slots=slots)
            if not cache_url:
                return of_node
            return CacheTable(cache_url, name, secret, slots=slots, fallback=of_node)

        self._proven, self._unproven = table("proven"), table("unproven")

    def take_poll(self, caller: Caller, now: float) -> int:
        """Count a poll; the wait in seconds where it is one too many. At most 5 in any 10 seconds are taken."""

        def count(times: Numbers) -> tuple[Numbers | None, int]:
            if wait := _poll_wait(times, now):
                return None, wait
            kept = [*_recent(times, now), now]
            return (*kept, *NOTHING[len(kept) :]), 0  # type: ignore[return-value]  # five of them

        return self._of(caller).change(caller.key("polls"), now, count)

    def poll_wait(self, caller: Caller, now: float) -> int:
        """The wait that `take_poll` would give, without counting."""
        return self._of(caller).change(caller.key("polls"), now, lambda times: (None, _poll_wait(times, now)))

    def take_registration(self, caller: Caller, now: float, *, per_minute: int) -> int:
        """Count a registration of one device; the wait in seconds where it is one too many."""
        return _take(self._of(caller), caller.key("registrations"), now, per_minute)

    def registration_wait(self, caller: Caller, now: float, *, per_minute: int) -> int:
        """The wait that `take_registration` would give, without counting."""

        def look(numbers: Numbers) -> tuple[None, int]:
            return None, _wait(numbers[0], now, per_minute)

        return self._of(caller).change(caller.key("registrations"), now, look)

    def next_registration(self, caller: Caller, now: float, *, per_minute: int) -> float:
        """When its rate has room for another registration, to look at. Zero: at once, or nothing can be read."""
        numbers = self._of(caller).look(caller.key("registrations"))
        room_at = _room_at(numbers[0], now, per_minute) if numbers is not None else 0.0
        return room_at if room_at > now else 0.0

    def take_of_service(self, service: int, now: float, *, per_minute: int) -> int:
        """Count a registration of the whole service; the wait in seconds where it is one too many."""
        return _take(self._proven, f"service\n{service}".encode(), now, per_minute)

    def held_back(self, caller: Caller, now: float, *, epoch: int, longest: int) -> int:
        """The seconds that a device which was refused often still has to wait, if it does; that it came is counted.

        What was told on an older epoch holds nobody back: the change may have been made for this very device.
        """

        def look(numbers: Numbers) -> tuple[Numbers | None, int]:
            until, in_a_row, told_at_epoch, unjudged, quiet_until = numbers
            wait = until - now
            is_free = in_a_row < FREE_REFUSALS and quiet_until <= now
            if is_free or told_at_epoch != epoch or not 0 < wait <= longest:
                return None, 0
            counted = (until, in_a_row, told_at_epoch, unjudged + 1, quiet_until)
            return counted, _whole(max(wait, quiet_until - now))

        return self._of(caller).change(caller.key("refusals"), now, look)

    def note_refusal(
        self,
        caller: Caller,
        now: float,
        *,
        epoch: int,
        shortest: int,
        longest: int,
        quiet_until: float = 0.0,
    ) -> Refused:
        """`quiet_until`: it is told to wait until then. It is held back for the longest wait, and then judged again."""

        def count(numbers: Numbers) -> tuple[Numbers, Refused]:
            in_a_row = int(numbers[1]) + 1
            wait = told = retry_after(in_a_row, shortest=shortest, longest=longest)
            if quiet_until > now:
                told = _whole(quiet_until - now)
                wait = min(told, longest)
            noted = (now + wait, in_a_row, epoch, 0.0, quiet_until)
            return noted, Refused(in_a_row, told, int(numbers[3]))

        return self._of(caller).change(caller.key("refusals"), now, count)

    def take_unjudged(self, caller: Caller, now: float) -> int:
        """The tries since its latest refusal that were not judged, for whoever counts them: once each."""

        def take(numbers: Numbers) -> tuple[Numbers | None, int]:
            until, in_a_row, epoch, unjudged, quiet_until = numbers
            return ((until, in_a_row, epoch, 0.0, quiet_until) if unjudged else None), int(unjudged)

        return self._of(caller).change(caller.key("refusals"), now, take)

    def give_back_unjudged(self, caller: Caller, now: float, times: int) -> None:
        """They could not be counted."""

        def give(numbers: Numbers) -> tuple[Numbers, None]:
            until, in_a_row, epoch, unjudged, quiet_until = numbers
            return (until, in_a_row, epoch, unjudged + times, quiet_until), None

        self._of(caller).change(caller.key("refusals"), now, give)

    def back_off_of(self, caller: Caller) -> BackOff | None:
        """What is remembered of its refusals, to look at. None where that is nothing, or nothing that can be read."""
        numbers = self._of(caller).look(caller.key("refusals"))
        if numbers is None or not numbers[1]:
            return None
        until, in_a_row, epoch, unjudged, quiet_until = numbers
        return BackOff(
            int(in_a_row), max(until, quiet_until), int(unjudged), int(epoch), is_quiet=quiet_until > 0
        )

    def current_wait(self, caller: Caller, now: float, *, shortest: int, longest: int) -> int:
        """The wait that the latest refusal was told, for a poll that tells the same outcome again."""

        def look(numbers: Numbers) -> tuple[None, int]:
            return None, retry_after(int(numbers[1]), shortest=shortest, longest=longest)

        return self._of(caller).change(caller.key("refusals"), now, look)

    def note_admission(self, *callers: Caller, now: float) -> list[Caller]:
        """Refusals before an admission do not count any more. Returns of whom tries not judged are yet to be taken."""
        return [one for one in callers if self._of(one).change(one.key("refusals"), now, _forget)]

    def _of(self, caller: Caller) -> Table:
        return self._proven if caller.is_proven else self._unproven


def _recent(times: Numbers, now: float) -> list[float]:
    # A clock that was set back must not lock anybody out: times of the future do not count.
    return sorted(time for time in times if now - POLL_SECONDS < time <= now)


def _poll_wait(times: Numbers, now: float) -> int:
    recent = _recent(times, now)
    return _whole(recent[-POLLS] + POLL_SECONDS - now) if len(recent) >= POLLS else 0


def _forget(numbers: Numbers) -> tuple[Numbers | None, bool]:
    left = (0.0, 0.0, 0.0, numbers[3], 0.0)
    return (None if numbers == left else left), left != NOTHING


def _take(table: Table, key: bytes, now: float, per_minute: int) -> int:
    """A leaky bucket (GCRA): as many at once as a minute allows, then one as each share of the minute has passed."""

    def count(numbers: Numbers) -> tuple[Numbers | None, int]:
        wait = _wait(numbers[0], now, per_minute)
        if wait:
            return None, wait
        full_at = max(_believable(numbers[0], now), now) + MINUTE / per_minute
        return (full_at, 0.0, 0.0, 0.0, 0.0), 0

    return table.change(key, now, count)


def _wait(full_at: float, now: float, per_minute: int) -> int:
    room_at = _room_at(full_at, now, per_minute)
    return _whole(room_at - now) if room_at > now + 1e-6 else 0


def _room_at(full_at: float, now: float, per_minute: int) -> float:
    return _believable(full_at, now) - MINUTE * (per_minute - 1) / per_minute


def _believable(full_at: float, now: float) -> float:
    # Further ahead than a minute is a clock that was set back.
    return full_at if full_at <= now + MINUTE + 1 else now


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


@lru_cache(maxsize=1)
def _limiter(data_folder: str, cache_url: str, secret_key: str) -> Limiter:
    # Of all nodes the same, and of no use to anybody else.
    secret = hashlib.blake2b(secret_key.encode(), digest_size=16, person=b"dps rates").digest()
    return Limiter(Path(data_folder) / "rates", cache_url=cache_url, secret=secret)


def limiter() -> Limiter:
    """The limiter of this installation: on this node, or with DPS_CACHE_URL on all of them."""
    return _limiter(str(settings.DPS_DATA_DIR), settings.DPS_CACHE_URL, settings.SECRET_KEY)
