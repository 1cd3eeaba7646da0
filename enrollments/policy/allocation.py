"""Which linked hub a device is assigned to (R10)."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class AllocationPolicy(StrEnum):
    """Wire names (contract 6.4) and the words the pages use."""

    HASHED = "hashed"
    GEO_LATENCY = "geoLatency"
    STATIC = "static"
    CUSTOM = "custom"

    @property
    def label(self) -> str:
        return _LABELS[self.value]


_LABELS = {
    "hashed": "Evenly weighted",
    "geoLatency": "Lowest latency",
    "static": "Static",
    "custom": "Custom (webhook)",
}
# A webhook belongs to an entry, so only an entry can choose it (contract 7.2).
OF_A_SERVICE = (AllocationPolicy.HASHED, AllocationPolicy.GEO_LATENCY, AllocationPolicy.STATIC)
MAX_REGION = 50


@dataclass(frozen=True, slots=True)
class HubFacts:
    """A linked hub as an allocation policy sees it."""

    pk: int
    host_name: str
    weight: int = 1
    latency_ms: int = 0
    applies: bool = True
    region_latencies: Mapping[str, int] = field(default_factory=dict)

    def latency_from(self, region: str) -> int:
        """The figure for a region, or the general one where there is none."""
        return self.region_latencies.get(region, self.latency_ms)


def choose_hub(
    policy: AllocationPolicy,
    registration_key: str,
    linked: Sequence[HubFacts],
    chosen: frozenset[int] = frozenset(),
    *,
    region: str = "",
    named: str = "",
) -> HubFacts | None:
    """The hub, or None if there is none to pick. `chosen`: the hubs that the entry names; empty means all linked.

    region: where the device says that it is. named: the host name that a webhook gave, for the policy custom.
    A hub that is out of allocation policies can still be named, by a static policy or a webhook (contract 7.2).
    """
    candidates = [hub for hub in linked if not chosen or hub.pk in chosen]
    if policy is AllocationPolicy.STATIC:
        # Static without a choice is only clear where a single hub is linked.
        return candidates[0] if len(candidates) == 1 else None
    if policy is AllocationPolicy.CUSTOM:
        return next((hub for hub in candidates if hub.host_name == named.lower()), None)
    candidates = [hub for hub in candidates if hub.applies]
    if not candidates:
        return None
    if policy is AllocationPolicy.GEO_LATENCY:
        return min(candidates, key=lambda hub: (hub.latency_from(region), hub.pk))
    return max(candidates, key=lambda hub: (_score(registration_key, hub), hub.pk))


def region_in(payload: object) -> str:
    """Where a device says that it is: the member `region` of its payload, in lower case. A hint, and no evidence."""
    region = payload.get("region") if isinstance(payload, dict) else None
    return region.strip().lower() if isinstance(region, str) and len(region) <= MAX_REGION else ""


def _score(registration_key: str, hub: HubFacts) -> float:
    """Weighted rendezvous hashing: a device keeps its hub when others come and go, and shares follow the weights."""
    digest = hashlib.sha256(f"{registration_key}\n{hub.host_name}".encode()).digest()
    uniform = (int.from_bytes(digest[:8], "big") + 1) / (2**64 + 2)
    return hub.weight / -math.log(uniform)
