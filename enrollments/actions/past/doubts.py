"""Entries of which it is not known what they were at a time, and about which devices with certificates they may decide.

Told of each device as its own page tells it: one that bears the name of such an entry (R5), and one that can meet a
certificate that the entry may have held, be it as its own key (R6) or as what may have signed it (R7).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from enrollments.actions.certificates import parsed
from enrollments.actions.past.deciding import Several
from enrollments.actions.past.entries import PastEntry
from enrollments.actions.past.reaching import Link, enrolled
from enrollments.actions.past.standing import Doubts
from enrollments.actions.preview.touched import in_portions
from enrollments.models import ProvisioningService, RegistrationEvidence
from enrollments.policy.facts import EntryKind
from enrollments.policy.names import registration_key


def doubts_about(
    service: ProvisioningService,
    entries: Iterable[PastEntry | None],
    named: Iterable[str],
    besides: Mapping[str, Several],
) -> Doubts:
    """Of entries as they stood at a time. named: thumbprints of whatever any entry held since.

    besides: by registration key, what devices are known to have besides what is on record of them.
    """
    doubtful = {one: f"of {one.ref}, {one.doubt}" for one in entries if one is not None and one.doubt}
    for one, why in doubtful.items():
        if one.may_hold is None:
            return Doubts(everybody=why)
    of = {
        registration_key(one.name): why for one, why in doubtful.items() if one.kind is EntryKind.INDIVIDUAL
    }
    below = _Below()
    if any(one.named for one in doubtful):
        below.add(enrolled(service, named), doubtful)
    for key, why in below.registered(service):
        of.setdefault(key, why)
    for key, several in besides.items():
        links = [Link.of(parsed(pem)) for _, one in several.others for pem in one.pems] if below else []
        if why := next(filter(None, map(below.why, links)), ""):
            of.setdefault(key, why)
    return Doubts(of=of)


@dataclass(slots=True)
class _Below:
    """What a certificate says of its issuer, and its key, where that leads to an entry in doubt: with the doubt."""

    issuers: dict[str, str] = field(default_factory=dict)
    issuer_key_ids: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.keys)

    def why(self, one: Link) -> str:
        return (
            self.issuers.get(one.issuer)
            or self.keys.get(one.key)
            or (self.issuer_key_ids.get(one.issuer_key_id, "") if one.issuer_key_id else "")
        )

    def add(self, links: Iterable[Link], doubtful: Mapping[PastEntry, str]) -> None:
        """The way that `Reach` goes up from a device, from these entries downwards."""
        links = list(links)
        by_issuer: dict[str, list[Link]] = {}
        by_issuer_key_id: dict[str, list[Link]] = {}
        by_key: dict[str, list[Link]] = {}
        for one in links:
            by_issuer.setdefault(one.issuer, []).append(one)
            by_key.setdefault(one.key, []).append(one)
            if one.issuer_key_id:
                by_issuer_key_id.setdefault(one.issuer_key_id, []).append(one)
        by_thumbprint = {one.thumbprint: one for one in links}
        waiting = [(by_thumbprint[name], why) for one, why in doubtful.items() for name in sorted(one.named)]
        seen: set[Link] = set()
        while waiting:
            one, why = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            self.issuers.setdefault(one.name, why)
            self.keys.setdefault(one.key, why)
            below = [*by_issuer.get(one.name, ()), *by_key.get(one.key, ())]
            if one.key_id:
                self.issuer_key_ids.setdefault(one.key_id, why)
                below += by_issuer_key_id.get(one.key_id, ())
            waiting += ((other, why) for other in below if other not in seen)

    def registered(self, service: ProvisioningService) -> Iterable[tuple[str, str]]:
        """By what is on record of devices: registration keys, and the doubt."""
        shown = RegistrationEvidence.objects.filter(registration__service=service)
        for column, known in (
            ("certificate__issuer_sha256", self.issuers),
            ("certificate__authority_key_id", self.issuer_key_ids),
            ("certificate__spki_sha256", self.keys),
        ):
            for some in in_portions(sorted(known)):
                rows = shown.filter(**{f"{column}__in": some})
                for key, value in rows.values_list("registration__registration_key", column).iterator():
                    yield key, known[value or ""]
