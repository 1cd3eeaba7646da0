"""Changes that can shut devices out, and that no event tells by its name: what was before and is after says so.

Once as SQL, for the index by which the history is filtered, and once in Python, for a row at hand.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db.models import BooleanField, F, Func
from django.db.models.sql.compiler import SQLCompiler

if TYPE_CHECKING:
    from enrollments.models.history import HistoryEvent

ENTRY_CHANGED = ("enrollment.changed", "group.changed")
SERVICE_CHANGED, CA_DELETED = "service.changed", "ca_certificate.deleted"
SLOTS = ("primary", "secondary")
OTHER = {"primary": "secondary", "secondary": "primary"}
A_HELPER = '"helper '
# What the history writes for a key that was there (actions/entry_snapshots.py).
A_KEY = "(a key)"


class ShutOutByChange(Func):
    """Whether a row of the history is such a change: a condition. Without parameters, so that an index has it too."""

    output_field = BooleanField()
    conditional = True

    def __init__(self, before: Any = None, after: Any = None) -> None:
        super().__init__(F("event"), before or F("before"), after or F("after"))

    def deconstruct(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return f"{__name__}.ShutOutByChange", (), {}

    def as_sql(self, compiler: SQLCompiler, connection: Any, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]  # as Func itself
        event, before, after = (compiler.compile(one)[0] for one in self.get_source_expressions())
        if connection.vendor == "postgresql":
            text, position = _text_on_postgresql, "strpos"
        else:
            text, position = _text_on_sqlite, "instr"
        return _sql(event, partial(text, before), partial(text, after), position), []


def _text_on_postgresql(column: str, *path: str) -> str:
    return f"COALESCE({column} #>> '{{{','.join(path)}}}', '')"


def _text_on_sqlite(column: str, *path: str) -> str:
    # json_extract makes numbers of true and false.
    whole = f"$.{'.'.join(path)}"
    return (
        f"COALESCE(CASE json_type({column}, '{whole}') WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' "
        f"ELSE json_extract({column}, '{whole}') END, '')"
    )


def _sql(event: str, was: Callable[..., str], now: Callable[..., str], position: str) -> str:
    entry = [f"{was(name)} <> ''" for name in ("mechanism", "endorsement_key_sha256")]
    for slot in SLOTS:
        certificate = was("certificates", slot)
        kept = " AND ".join(f"{certificate} <> {now('certificates', one)}" for one in SLOTS)
        entry.append(f"({certificate} <> '' AND {kept})")
        key_id = was(f"{slot}_key_id")
        moved = f"({key_id} = '' OR {key_id} <> {now(f'{OTHER[slot]}_key_id')})"
        entry.append(f"({was(f'{slot}_key')} = '{A_KEY}' AND {moved})")
    entry.append(f"{position}({was('certificates')}, '{A_HELPER}') > 0")
    demands = f"{was('proof_of_possession')} = 'false' AND {now('proof_of_possession')} = 'true'"
    switches_off = f"{was('symmetric_key_groups')} = 'true' AND {now('symmetric_key_groups')} = 'false'"
    names = ", ".join(f"'{name}'" for name in ENTRY_CHANGED)
    return (
        f"(({event} IN ({names}) AND ({' OR '.join(entry)})) "
        f"OR ({event} = '{SERVICE_CHANGED}' AND (({demands}) OR ({switches_off}))) "
        f"OR ({event} = '{CA_DELETED}' AND {was('verified')} = 'true'))"
    )


def is_shut_out_by_change(row: "HistoryEvent") -> bool:
    """The same of a row at hand."""
    was, now = row.before or {}, row.after or {}
    if row.event in ENTRY_CHANGED:
        return _changed_credential(was, now)
    if row.event == SERVICE_CHANGED:
        demands = (was.get("proof_of_possession"), now.get("proof_of_possession")) == (False, True)
        return demands or (was.get("symmetric_key_groups"), now.get("symmetric_key_groups")) == (True, False)
    return row.event == CA_DELETED and was.get("verified") is True


def _certificates(state: dict[str, Any]) -> dict[str, Any]:
    """What somebody put into the column may be anything."""
    found = state.get("certificates")
    return found if isinstance(found, dict) else {}


def _changed_credential(was: dict[str, Any], now: dict[str, Any]) -> bool:
    if was.get("mechanism") or was.get("endorsement_key_sha256"):
        return True
    held, holds = (_certificates(state) for state in (was, now))
    kept = [holds.get(slot) for slot in SLOTS]
    if any(held.get(slot) and held[slot] not in kept for slot in SLOTS):
        return True
    if any(place.startswith(A_HELPER[1:]) for place in held):
        return True
    for slot in SLOTS:
        key_id = was.get(f"{slot}_key_id")
        if was.get(f"{slot}_key") == A_KEY and (not key_id or key_id != now.get(f"{OTHER[slot]}_key_id")):
            return True
    return False
