"""What devices may have had besides what they are known by, where their individual enrollments were changed since."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Min

from enrollments.actions.past.credentials import FOR_EVER, credentials_in, of_proofs
from enrollments.actions.past.deciding import Stranger, with_certificate
from enrollments.actions.past.entries import PastEntry
from enrollments.actions.past.putting_back import stored_certificates
from enrollments.actions.past.standing import Standing
from enrollments.actions.preview.touched import in_portions
from enrollments.models import ProvisioningService
from enrollments.policy.facts import EntryKind, Mechanism
from enrollments.policy.names import registration_key

# A credential that an entry held: the registration key of its device, the mechanism, and what identifies it.
Held = tuple[str, str, str]


@dataclass(slots=True)
class Lasted:
    """Until when each was held, of entries that were changed: noted on the way back, the newest change first."""

    until: dict[Held, datetime] = field(default_factory=dict)

    def note(self, entry: PastEntry | None, until: datetime) -> None:
        if entry is not None and entry.kind is EntryKind.INDIVIDUAL:
            for one in _held_by(entry):
                self.until.setdefault(one, until)


@dataclass(slots=True)
class _Known:
    """What of a device is proven, by whatever identifies it, and since when something is."""

    shown: set[str] = field(default_factory=set)
    proven: set[str] = field(default_factory=set)
    first: datetime = FOR_EVER


def had_besides(
    service: ProvisioningService,
    times: Iterable[Standing],
    lasted: Lasted,
    strangers: Mapping[str, Stranger],
) -> dict[str, list[Stranger]]:
    """By registration key: what its individual enrollment held at one of the times, counted as `credentials_of` does.

    Only of entries that were changed since: who has the same entry still is known by what it showed last.
    strangers: devices without a record, with what they are taken to show.
    """
    held: dict[str, dict[Held, PastEntry]] = {}
    for time in times:
        for entry in time.entries.values():
            if entry is not None and entry.kind is EntryKind.INDIVIDUAL and not entry.doubt:
                held.setdefault(registration_key(entry.name), {}).update(
                    dict.fromkeys(_held_by(entry), entry)
                )
    known = _known(service, held, strangers)
    wanted: dict[str, dict[Held, PastEntry]] = {}
    for key, credentials in held.items():
        device = known.get(key, _Known())
        for one, entry in credentials.items():
            may_have_had = one[-1] in device.proven or lasted.until.get(one, FOR_EVER) <= device.first
            if one[-1] not in device.shown and may_have_had:
                wanted.setdefault(key, {})[one] = entry
    rows = stored_certificates(
        name for some in wanted.values() for _, mechanism, name in some if mechanism == Mechanism.X509.value
    )
    return {
        key: [
            with_certificate(entry.name, rows[name])
            if mechanism == Mechanism.X509.value
            else Stranger(entry.name, Mechanism(mechanism), frozenset([name]))
            for (_, mechanism, name), entry in some.items()
        ]
        for key, some in wanted.items()
    }


def _held_by(entry: PastEntry) -> list[Held]:
    key = registration_key(entry.name)
    return [(key, *one) for one in credentials_in(entry)]


def _known(
    service: ProvisioningService, keys: Iterable[str], strangers: Mapping[str, Stranger]
) -> dict[str, _Known]:
    found = {key: _Known() for key in keys}
    for key in found.keys() & strangers.keys():
        one = strangers[key]
        found[key].shown |= {one.leaf.thumbprint_sha256} if one.leaf is not None else one.key_ids
    columns = ("registration_key", "leaf_thumbprint", "key_ids", "operation_done_at", "updated_at")
    for some in in_portions(found):
        for key, leaf, key_ids, done, updated in service.registrations.filter(
            registration_key__in=some
        ).values_list(*columns):
            found[key].shown |= {leaf} if leaf else set(key_ids.split())
            found[key].first = min(found[key].first, done or updated)
        proofs = of_proofs(service.attempts.filter(registration_key__in=some)).order_by()
        alike = proofs.values_list("registration_key", "leaf_thumbprint", "key_id")
        for key, leaf, key_id, first in alike.annotate(first=Min("first_at")):
            found[key].proven.add(leaf or key_id)
            found[key].first = min(found[key].first, first)
    return found
