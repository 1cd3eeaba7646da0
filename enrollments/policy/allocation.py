"""Which linked hub a device is assigned to (R10)."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class AllocationPolicy(StrEnum):
    """Wire names (contract 6.4) and the words the pages use."""

    HASHED = "hashed"
    GEO_LATENCY = "geoLatency"
    STATIC = "static"

    @property
    def label(self) -> str:
        return {"hashed": "Evenly weighted", "geoLatency": "Lowest latency", "static": "Static"}[self.value]


@dataclass(frozen=True, slots=True)
class HubFacts:
    """A linked hub as an allocation policy sees it."""

    pk: int
    host_name: str
    weight: int = 1
    latency_ms: int = 0
    applies: bool = True


def choose_hub(
    policy: AllocationPolicy,
    registration_key: str,
    linked: Sequence[HubFacts],
    chosen: frozenset[int] = frozenset(),
) -> HubFacts | None:
    """The hub, or None if there is none to pick. `chosen`: the hubs that the entry names; empty means all linked.

    A hub that is out of allocation policies can still be named by a static one (contract 7.2).
    """
    candidates = [hub for hub in linked if not chosen or hub.pk in chosen]
    if policy is AllocationPolicy.STATIC:
        # Static without a choice is only clear where a single hub is linked.
        return candidates[0] if len(candidates) == 1 else None
    candidates = [hub for hub in candidates if hub.applies]
    if not candidates:
        return None
    if policy is AllocationPolicy.GEO_LATENCY:
        return min(candidates, key=lambda hub: (hub.latency_ms, hub.pk))
    return max(candidates, key=lambda hub: (_score(registration_key, hub), hub.pk))


def _score(registration_key: str, hub: HubFacts) -> float:
    """Weighted rendezvous hashing: a device keeps its hub when others come and go, and shares follow the weights."""
    digest = hashlib.sha256(f"{registration_key}\n{hub.host_name}".encode()).digest()
    uniform = (int.from_bytes(digest[:8], "big") + 1) / (2**64 + 2)
    return hub.weight / -math.log(uniform)
