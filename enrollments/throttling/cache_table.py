"""The same table for several nodes, in a Valkey or Redis server (DPS_CACHE_URL).

While the server does not answer, each node counts for itself: devices may then come more often, by as many times as
there are nodes, and nobody is kept out. Nothing that decides who may come in rests on it.
"""

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from enrollments.throttling.buckets import (
    BUCKET_BYTES,
    WAYS,
    Numbers,
    bucket_of,
    digest_of,
    find,
    look_up,
    put,
)
from enrollments.throttling.shared_table import SharedTable

logger = logging.getLogger(__name__)
T = TypeVar("T")

# A device waits for these answers: a server that is not there may cost it little, and only now and then.
TIMEOUT_SECONDS = 0.25
PAUSE_SECONDS = 5.0
# Somebody else changed the bucket meanwhile so many times: then this one is counted here alone.
TRIES = 20
KEPT_SECONDS = 2 * 24 * 3600
_EMPTY = bytes(BUCKET_BYTES)
# Writes a bucket if it is still what was read.
_EXCHANGE = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class Busy(redis.RedisError):
    """Too many others changed one bucket at the same time."""


@lru_cache(maxsize=4)
def client_of(url: str) -> redis.Redis:
    """One pool per process. One try each: whoever is told that the server is away goes on without it."""
    url = url.replace("valkey", "redis", 1) if url.startswith("valkey") else url
    return redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1),
    )


class CacheTable:
    """Maps keys to five numbers each, as SharedTable does, and falls back on one.

    secret: the same on all nodes. The server holds digests and numbers, no names.
    """

    def __init__(self, url: str, name: str, secret: bytes, *, slots: int, fallback: SharedTable) -> None:
        self._url, self._name, self._secret = url, name, secret
        self._buckets = slots // WAYS
        self._fallback = fallback
        self._away_until = 0.0

    def change(self, key: bytes, now: float, change: Callable[[Numbers], tuple[Numbers | None, T]]) -> T:
        """As SharedTable.change; `change` may be called several times, and the last one counts."""
        if time.monotonic() >= self._away_until:
            try:
                return self._change(key, now, change)
            except redis.RedisError as problem:
                self._note(problem)
        return self._fallback.change(key, now, change)

    def look(self, key: bytes) -> Numbers | None:
        if time.monotonic() >= self._away_until:
            digest = digest_of(key, self._secret)
            try:
                return look_up(_as_bucket(self._read(self._place(digest))), digest)
            except redis.RedisError as problem:
                self._note(problem)
        return self._fallback.look(key)

    def _change(self, key: bytes, now: float, change: Callable[[Numbers], tuple[Numbers | None, T]]) -> T:
        client, digest = client_of(self._url), digest_of(key, self._secret)
        place = self._place(digest)
        for _ in range(TRIES):
            was = self._read(place)
            bucket = bytearray(_as_bucket(was))
            position, numbers = find(bucket, 0, digest)
            changed, result = change(numbers)
            if changed is None:
                return result
            put(bucket, position, digest, now, changed)
            if client.eval(_EXCHANGE, 1, place, was, bytes(bucket), KEPT_SECONDS):
                return result
        raise Busy("one bucket was changed by too many at once")

    def _read(self, place: str) -> bytes:
        value = client_of(self._url).get(place)
        return value if isinstance(value, bytes) else b""

    def _place(self, digest: bytes) -> str:
        return f"dps:{self._name}:{bucket_of(digest, self._buckets)}"

    def _note(self, problem: redis.RedisError) -> None:
        if isinstance(problem, Busy):
            return
        self._away_until = time.monotonic() + PAUSE_SECONDS
        # Its address may hold a password; what went wrong does not.
        logger.error(
            "rates are not shared between nodes",
            extra={"fields": {"cause": type(problem).__name__, "again_in_seconds": PAUSE_SECONDS}},
        )


def _as_bucket(value: bytes) -> bytes:
    """What is there; nothing, where it is none of ours."""
    return value if len(value) == BUCKET_BYTES else _EMPTY
