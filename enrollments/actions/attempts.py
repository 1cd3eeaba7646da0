"""Attempts: counting what devices try, with the trace of the latest, in a table of bounded size (R3, R14)."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from enrollments import metrics
from enrollments.actions.attempts_bounds import (
    ALIKE,
    MANY,
    MAX_PER_HOUR,
    budget_of,
    hour_of,
    is_of_known_device,
)
from enrollments.actions.callers import credential_of
from enrollments.actions.evidence import evidence_class
from enrollments.actions.judging import Judgement
from enrollments.actions.kept_attempts import NOTHING_ABOVE
from enrollments.actions.tracking import tracking_id
from enrollments.audit.actor import clean_client
from enrollments.models import (
    AttemptOutcome,
    Certificate,
    ProvisioningService,
    RegistrationAttempt,
)
from enrollments.models.locks import in_line
from enrollments.models.prepared import Prepared
from enrollments.policy.decision import Decision
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason

# An hour of a device that is admitted holds so many ways in which it came, and then one row for each credential.
MAX_WAYS_PER_HOUR = 20
MAX_TRACE_TEXT = 300
OVERFLOW_NAME = "(many others)"


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a request came from; never what identifies a device."""

    address: str = ""
    client: str = ""


def count_attempt(
    service: ProvisioningService,
    claimed_registration_id: str,
    judgement: Judgement,
    outcome: AttemptOutcome,
    reason: Reason,
    peer: Peer,
    *,
    times: int = 1,
    fits: bool | None = None,
    last_at: datetime | None = None,
) -> str:
    """Count one attempt and return its tracking ID. `times`: with those before it that were not even judged (R14).

    fits: what has_room said of it, for whoever has asked already. last_at: of several that are counted later, when the
    last of them came.
    """
    trace = trace_of(judgement)
    name, source = claimed_registration_id, source_of_attempt(judgement, outcome, peer, trace)
    credential = credential_of(judgement, peer.address)[:64]
    if fits is None:
        fits = _has_room(service, judgement, name, outcome, reason, source)
    if not fits:
        name, source, credential = OVERFLOW_NAME, budget_of(judgement, outcome).source_of_others, ""
    entry = judgement.decision.entry
    is_assigned = outcome is AttemptOutcome.ASSIGNED
    is_evidence = not is_assigned and judgement.decision.proven
    values = {
        "service_id": service.pk,
        "hour": hour_of(judgement),
        "claimed_registration_id": name,
        "registration_key": registration_key(name),
        "outcome": outcome.value,
        "reason": reason.value,
        "source": source,
        "count": times,
        "first_at": judgement.at,
        "last_at": last_at or judgement.at,
        "entry_kind": entry.kind.value if entry else "",
        "entry_name": entry.name if entry else "",
        "trace": trace,
        "leaf_thumbprint": judgement.leaf_thumbprint,
        "key_id": judgement.key_id if judgement.decision.proven else "",
        "key_of_group": judgement.is_key_of_group if judgement.decision.proven else None,
        "chain": (chain := _chain(judgement)),
        "evidence_class": evidence_class(judgement) if chain else "",
        "credential": credential,
        "peer_address": peer.address[:45],
        "client": clean_client(peer.client),
    }
    crowded = "" if outcome in MAX_PER_HOUR else _source_of_many(judgement)
    with in_line():
        row, count = count_up(values, crowded, latest=_LATEST if is_assigned else _LATEST_OF_REFUSED)
        if is_evidence and name != OVERFLOW_NAME and count == times:
            # Of the assigned it is kept as evidence; of who proved nothing the thumbprint is all that is kept.
            Certificate.objects.store_all(judgement.chain, only_shown=judgement.only_shown)
    if outcome is not AttemptOutcome.THROTTLED:
        transaction.on_commit(partial(metrics.attempt_kept, service.name, reason.value))
    return tracking_id(row, count)


def shown_trace(of: Decision | RegistrationAttempt) -> list[dict[str, str]]:
    """The trace as it is kept. Names in it are what strangers wrote into certificates: printable, and not long."""
    if isinstance(of, RegistrationAttempt):
        kept: list[dict[str, str]] = of.trace
        return kept
    return [
        {
            "rule": step.rule,
            "candidate": _bounded(step.candidate),
            "said": step.said.value,
            "because": _bounded(step.because),
        }
        for step in of.trace
    ]


def _bounded(text: str) -> str:
    if text.isprintable() and len(text) <= MAX_TRACE_TEXT:
        return text
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return shown if len(shown) <= MAX_TRACE_TEXT else f"{shown[:MAX_TRACE_TEXT]}…"


def has_room(
    service: ProvisioningService,
    judgement: Judgement,
    claimed_registration_id: str,
    outcome: AttemptOutcome,
    reason: Reason,
    peer: Peer,
) -> bool:
    """Whether another device may have a row of its own in this hour (R14).

    Claims cost nothing, and whoever holds the key of a barred CA makes as many proven devices as they like. The
    admitted are as many as were enrolled, and came in as many ways as MAX_WAYS_PER_HOUR says.
    """
    source = source_of_attempt(judgement, outcome, peer, trace_of(judgement))
    return _has_room(service, judgement, claimed_registration_id, outcome, reason, source)


def _has_room(
    service: ProvisioningService,
    judgement: Judgement,
    claimed_registration_id: str,
    outcome: AttemptOutcome,
    reason: Reason,
    source: str,
) -> bool:
    if outcome not in MAX_PER_HOUR:
        return True
    budget, hour = budget_of(judgement, outcome), hour_of(judgement)
    own = registration_key(claimed_registration_id), source
    of_others = registration_key(OVERFLOW_NAME), budget.source_of_others
    names, sources = ([*pair] for pair in zip(own, of_others, strict=True))
    there = _there(service.pk, hour, names, outcome.value, reason.value, sources)
    if own in there:
        return True
    # Where others had no room there is none: a flood has its rows counted once.
    if of_others not in there and budget.has_room(service, hour, outcome):
        return True
    return is_of_known_device(service, judgement, outcome)


def _chain(judgement: Judgement) -> str:
    """What is kept above the leaf, of whoever proved itself by a certificate; empty of others."""
    if not judgement.decision.proven or not judgement.chain:
        return ""
    return " ".join(one.thumbprint_sha256 for one in judgement.chain[1:]) or NOTHING_ABOVE


def trace_of(judgement: Judgement) -> str:
    return json.dumps(shown_trace(judgement.decision))


def source_of_attempt(judgement: Judgement, outcome: AttemptOutcome, peer: Peer, trace: str) -> str:
    """What tells attempts of one name with one cause apart: entry and trace, and after proof the evidence.

    So the steps that are shown of one row are those of each of them. Before proof a device is the key or the address
    that it comes with, and makes certificates as it likes.
    """
    whose = _proven(judgement) if judgement.decision.proven else (judgement.leaf_key or peer.address[:45],)
    same = *whose, *_entry(judgement), trace
    if outcome is AttemptOutcome.THROTTLED:
        same = judgement.registration_key, *same  # its tracking ID leads to the row by its source alone
    if outcome in MAX_PER_HOUR:
        return budget_of(judgement, outcome).source + digest_of(*same)
    return ALIKE + digest_of(*same, peer.address[:45], clean_client(peer.client))


def _source_of_many(judgement: Judgement) -> str:
    """The same for a device that came in more ways than are kept one by one: by what it proved, and who admitted it."""
    return f"{MANY}{digest_of(*_proven(judgement), *_entry(judgement))}"


def _proven(judgement: Judgement) -> tuple[str, ...]:
    return judgement.leaf_thumbprint, judgement.key_id, judgement.token_of


def _entry(judgement: Judgement) -> tuple[str, ...]:
    entry = judgement.decision.entry
    return (entry.kind.value, str(entry.pk)) if entry else ()


def digest_of(*parts: str) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=20).hexdigest()


@Prepared
def _there(
    service: int, hour: datetime, names: list[str], outcome: str, reason: str, sources: list[str]
) -> "QuerySet[RegistrationAttempt, tuple[str, str]]":
    rows = RegistrationAttempt.objects.filter(
        service=service,
        hour=hour,
        registration_key__in=names,
        outcome=outcome,
        reason=reason,
        source__in=sources,
    )
    return rows.values_list("registration_key", "source")


_KEY = ("service_id", "hour", "registration_key", "outcome", "reason", "source")
_LATEST = (
    "last_at",
    "entry_kind",
    "entry_name",
    "trace",
    "leaf_thumbprint",
    "key_id",
    "key_of_group",
    "chain",
    "evidence_class",
    "credential",
    "peer_address",
    "client",
)
# A refused device that makes up certificates fills no table with them: of each row those of the first attempt are kept.
_LATEST_OF_REFUSED = tuple(one for one in _LATEST if one not in ("chain", "evidence_class"))
_OF_THIS_HOUR = " AND ".join(f"{column} = %s" for column in _KEY[:-1])


def count_up(
    values: dict[str, Any], crowded: str = "", *, latest: tuple[str, ...] = _LATEST
) -> tuple[int, int]:
    """Insert the row or count it up, in one statement that both databases know. Returns its id and count.

    crowded: the source where this hour has as many rows of the name as are kept one by one. latest: what a row has of
    the latest attempt that it counts.
    """
    adapt = connection.ops.adapt_datetimefield_value
    given = {name: adapt(one) if isinstance(one, datetime) else one for name, one in values.items()}
    table = RegistrationAttempt._meta.db_table
    places = dict.fromkeys(given, "%s")
    parameters = {name: [one] for name, one in given.items()}
    if crowded:
        of_others = f"{_OF_THIS_HOUR} AND source LIKE '{ALIKE}%%' AND source <> %s"
        places["source"] = (
            f"CASE WHEN (SELECT COUNT(*) FROM {table} WHERE {of_others}) < %s THEN %s ELSE %s END"  # noqa: S608  # as below
        )
        parameters["source"] = [*(given[name] for name in _KEY), MAX_WAYS_PER_HOUR, given["source"], crowded]
    sql = (
        f"INSERT INTO {table} ({', '.join(values)}) "  # noqa: S608  # names of our own columns
        f"VALUES ({', '.join(places.values())}) "
        f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET count = {table}.count + excluded.count, "
        f"{', '.join(f'{name} = excluded.{name}' for name in latest)} "
        "RETURNING id, count"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [one for several in parameters.values() for one in several])
        row = cursor.fetchone()
    return row[0], row[1]
