"""An entry as it was at some time: what of it decides, told by its row of now or by rows of the history."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from enrollments.actions.key_identifiers import endorsement_identifier
from enrollments.errors import Conflict
from enrollments.models import (
    AttestationMechanism,
    EnrollmentGroup,
    HeldCertificate,
    HeldRole,
    HistoryEvent,
    IndividualEnrollment,
    ProvisioningStatus,
)
from enrollments.models.enrollments import KEY_IDS
from enrollments.policy.facts import EntryKind, EntryRef

# An entry by its kind and primary key: names come back, primary keys never do.
Subject = tuple[EntryKind, int]

KINDS = {"IndividualEnrollment": EntryKind.INDIVIDUAL, "EnrollmentGroup": EntryKind.GROUP}
NOT_NOTED = "which keys it has was not noted when they were enrolled"
ENDORSEMENT = "endorsement_key_sha256"
# As `as_text` of schedule.py writes the time at which a switch turns.
DUE = "%Y-%m-%d %H:%M:%S UTC"
_THUMBPRINT = re.compile(r"\(SHA-256 ([0-9a-f]{64})\)\Z")
_KEYS = dict(zip(("primary_key", "secondary_key"), KEY_IDS, strict=True))


class NotTold(Conflict):
    """The history does not tell what would have to be known."""

    code = "past_not_told"


@dataclass(frozen=True, slots=True)
class PastEntry:
    """What of an entry decides.

    enabled, switches_at: the switch as it was stored. Which way it stood is a question of the time.
    certificates: thumbprint by place: primary, secondary, helper and some digits. key_ids: identifiers of the keys,
    or the digest of a TPM's; "" for one that nothing tells, and `key_doubt` says why. doubt: why nothing of this can
    be relied on. may_hold: then, thumbprints of all certificates that it may have held; None: that cannot be told.
    """

    kind: EntryKind
    pk: int
    name: str
    enabled: bool
    mechanism: str
    certificates: tuple[tuple[str, str], ...] = ()
    key_ids: tuple[str, ...] = ()
    switches_at: datetime | None = None
    created: datetime | None = None
    key_doubt: str = ""
    doubt: str = ""
    may_hold: frozenset[str] | None = frozenset()

    @property
    def ref(self) -> EntryRef:
        return EntryRef(self.kind, self.pk, self.name)

    def is_enabled(self, at: datetime) -> bool:
        """A switch that is due has turned, whether or not somebody had written that down by then."""
        is_due = self.switches_at is not None and self.switches_at <= at
        return self.enabled != is_due

    @property
    def thumbprints(self) -> tuple[str, ...]:
        """Of the certificates that are its own: no helpers."""
        return tuple(thumbprint for place, thumbprint in self.certificates if not place.startswith("helper"))

    @property
    def named(self) -> frozenset[str]:
        """Thumbprints of whatever it holds, or may have held."""
        if not self.certificates and not self.may_hold:
            return frozenset()
        return frozenset(thumbprint for _, thumbprint in self.certificates) | (self.may_hold or frozenset())

    def has_keys(self) -> bool:
        return self.mechanism == AttestationMechanism.SYMMETRIC_KEY

    def decides_like(self, other: "PastEntry | None") -> bool:
        """Whether no decision could tell one from the other."""
        return other is not None and replace(self, created=None, name="") == replace(
            other, created=None, name=""
        )


def as_it_stands(row: IndividualEnrollment | EnrollmentGroup, held: Iterable[HeldCertificate]) -> PastEntry:
    """The entry of now. `held`: its certificates, joined with what they are."""
    is_individual = isinstance(row, IndividualEnrollment)
    helpers: list[str] = []
    certificates: dict[str, str] = {}
    for one in held:
        if one.role == HeldRole.HELPER:
            helpers.append(one.certificate.thumbprint_sha256)
        else:
            certificates[one.slot] = one.certificate.thumbprint_sha256
    key_ids: tuple[str, ...] = ()
    if row.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        key_ids = (row.primary_key_id, row.secondary_key_id)
    elif isinstance(row, IndividualEnrollment) and row.mechanism == AttestationMechanism.TPM:
        key_ids = (endorsement_identifier(bytes(row.endorsement_key or b"")),)
    return PastEntry(
        EntryKind.INDIVIDUAL if is_individual else EntryKind.GROUP,
        row.pk,
        str(row),
        row.enabled,
        row.mechanism,
        _in_places(certificates, helpers),
        key_ids,
        row.switches_at,
        row.created_at,
        key_doubt="" if all(key_ids) else NOT_NOTED,
    )


def before_deletion(event: HistoryEvent) -> PastEntry:
    """The entry as the row about its deletion has it, in full."""
    state = event.before or {}
    kind = KINDS[event.subject_kind]
    name = str(
        state.get("registration_id" if kind is EntryKind.INDIVIDUAL else "group_id", event.subject_name)
    )
    blank = PastEntry(
        kind, int(event.subject_id), name, False, "", created=moment_of_creation(state.get("created_at"))
    )
    return _with_members(blank, state, event, is_whole=True)


def before_change(entry: PastEntry, event: HistoryEvent) -> PastEntry:
    """The entry before a change of it: what the row does not speak of was the same."""
    return _with_members(entry, event.before or {}, event, is_whole=False)


def contradiction(entry: PastEntry | None, event: HistoryEvent) -> str:
    """What the row says was made of the entry, and is not so: then something was changed that no row tells of."""
    after = event.after
    if entry is None:
        return "" if after is None else "it was not there any more"
    if after is None:
        return "it was there still"
    found: dict[str, Any] = {
        "status": (ProvisioningStatus.ENABLED if entry.enabled else ProvisioningStatus.DISABLED).value,
        "mechanism": entry.mechanism,
    }
    for name, value in found.items():
        if name in after and after[name] != value:
            return f"its {name} was another one"
    if "certificates" in after and set(_thumbprints(after["certificates"]).values()) != {
        thumbprint for _, thumbprint in entry.certificates
    }:
        return "it held other certificates"
    return ""


def certificates_told_of(rows: Iterable[HistoryEvent]) -> frozenset[str] | None:
    """Thumbprints of what an entry held by all rows about it. None: it began with more than these tell of."""
    found: set[str] = set()
    is_whole = False
    for row in rows:
        is_whole |= row.before is None and "certificates" in (row.after or {})
        for state in (row.before or {}, row.after or {}):
            places = state.get("certificates") or {}
            told = _thumbprints(places)
            if len(told) < len(places):
                return None
            found.update(told.values())
    return frozenset(found) if is_whole else None


def _with_members(
    entry: PastEntry, state: Mapping[str, Any], event: HistoryEvent, *, is_whole: bool
) -> PastEntry:
    if "status" in state:
        entry = replace(entry, enabled=state["status"] == ProvisioningStatus.ENABLED)
    if "status" in state or "until" in state or "until" in (event.after or {}):
        # Where the switch was turned, what was scheduled went with it: both stand in the row, or neither was there.
        entry = replace(entry, switches_at=due(state.get("until")))
    if "mechanism" in state:
        entry = replace(entry, mechanism=str(state["mechanism"]))
    if "certificates" in state:
        places = _thumbprints(state["certificates"])
        entry = replace(entry, certificates=tuple(sorted(places.items())))
        if len(places) < len(state["certificates"] or {}):
            entry = replace(
                entry,
                doubt=f"row ID {event.pk} of the history names a certificate in an unknown way",
                may_hold=None,
            )
    return _with_keys(entry, state, event, is_whole=is_whole)


def _with_keys(
    entry: PastEntry, state: Mapping[str, Any], event: HistoryEvent, *, is_whole: bool
) -> PastEntry:
    when = f"{event.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if entry.mechanism == AttestationMechanism.TPM:
        if ENDORSEMENT in state:
            return replace(entry, key_ids=(str(state[ENDORSEMENT] or ""),), key_doubt="")
        if is_whole or len(entry.key_ids) != 1:
            return replace(entry, key_ids=("",), key_doubt=f"its key is not in the row of {when}")
        return entry
    if not entry.has_keys():
        return replace(entry, key_ids=(), key_doubt="")
    former = entry.key_ids if len(entry.key_ids) == len(KEY_IDS) and not is_whole else ("", "")
    doubt = "" if is_whole else entry.key_doubt
    found = []
    for (key, identifier), known in zip(_KEYS.items(), former, strict=True):
        if identifier in state:
            found.append(str(state[identifier] or ""))
        elif is_whole:
            doubt = f"it was deleted at {when}, before keys had identifiers"
            found.append("")
        elif key in state:
            doubt = f"its key was replaced at {when}, before keys had identifiers"
            found.append("")
        else:
            found.append(known)
    return replace(entry, key_ids=tuple(found), key_doubt="" if all(found) else doubt)


def _thumbprints(certificates: Mapping[str, Any] | None) -> dict[str, str]:
    found = {}
    for place, words in (certificates or {}).items():
        if match := _THUMBPRINT.search(str(words)):
            found[place] = match[1]
    return dict(
        _in_places(
            {p: t for p, t in found.items() if not p.startswith("helper")},
            [t for p, t in found.items() if p.startswith("helper")],
        )
    )


def _in_places(own: Mapping[str, str], helpers: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """In one order and with one name for each place, whoever tells of them."""
    return tuple(sorted({**own, **{f"helper {thumbprint}": thumbprint for thumbprint in helpers}}.items()))


def due(text: object) -> datetime | None:
    return datetime.strptime(str(text), DUE).replace(tzinfo=UTC) if text else None


def moment_of_creation(text: object) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None
