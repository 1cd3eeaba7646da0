"""Attempts of devices that are told to wait: they cost no write each, and are counted a little later (R14).

Who was refused and does not wait is counted by the limiter, and comes into the row of its latest refusal. Who comes
more often than it may, judged or not, has a row for each hour.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.db import transaction
from django.db.models import Case, F, Value, When

from enrollments import metrics
from enrollments.actions.adding_up import AddedUp, Times
from enrollments.actions.attempts import (
    OVERFLOW_NAME,
    Peer,
    count_attempt,
    count_up,
    digest_of,
    source_of_attempt,
    trace_of,
)
from enrollments.actions.attempts_bounds import ALIKE, MANY, hour_of, source_of_others
from enrollments.actions.judging import Judgement
from enrollments.actions.quiet_periods import REFUSED
from enrollments.actions.tracking import tracking_id_of_row_to_come
from enrollments.audit.actor import clean_client
from enrollments.models import AttemptOutcome, ProvisioningService, RegistrationAttempt
from enrollments.models.locks import in_line
from enrollments.policy.decision import Said, TraceStep
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason
from enrollments.throttling import Caller, limiter

# In the memory of one process. Of those held back it is no count that is lost beyond: the limiter has it.
MOST_HELD_BACK = 10_000
MOST_TOO_OFTEN = 2000
# So many are written in one transaction.
PORTION = 100
_RATES = "rates of device and service"
_JUDGED = TraceStep("R14", _RATES, Said.FAILS, "one of them was used up, so it was told to wait")
_NOT_JUDGED = TraceStep(
    "R14",
    _RATES,
    Said.FAILS,
    "it came more often than a device may, and was told to wait without being judged",
)
_OF_MANY = TraceStep(
    "R14",
    _RATES,
    Said.FAILS,
    "it was told to wait; of those that are counted together it is not kept whether it was judged",
)
_NOBODY = Caller(0, "", "", is_proven=False)


@dataclass(frozen=True, slots=True)
class _TooOften:
    """What one row counts. `judgement`: of the first of them, where they were judged."""

    service_pk: int
    hour: datetime
    name_key: str
    source: str
    credential: str
    service: ProvisioningService = field(compare=False, repr=False)
    name: str = field(compare=False)
    peer: Peer = field(compare=False)
    judgement: Judgement | None = field(compare=False, repr=False, default=None)

    @property
    def of_others(self) -> "_TooOften":
        """In place of it, where there are too many."""
        return replace(
            self,
            name=OVERFLOW_NAME,
            name_key=registration_key(OVERFLOW_NAME),
            source=f"{MANY}-",
            credential="",
            judgement=None,
        )


def note_held_back(caller: Caller, at: datetime) -> None:
    """It came before its time, and the limiter has counted it."""
    _HELD_BACK.add(caller, Times.at(at), crowded=_NOBODY)


def count_too_often(service: ProvisioningService, name: str, judgement: Judgement, peer: Peer) -> str:
    """An admitted device came more often than it may. Returns the tracking ID of its row, which is written later."""
    judgement = judgement.with_steps((_JUDGED,))
    source = source_of_attempt(judgement, AttemptOutcome.THROTTLED, peer, trace_of(judgement))
    key = judgement.registration_key
    return _count(
        _TooOften(service.pk, hour_of(judgement), key, source, "", service, name, peer, judgement),
        judgement.at,
    )


def count_too_often_unjudged(
    service: ProvisioningService, name: str, caller: Caller, peer: Peer, at: datetime
) -> str:
    """The same of who was admitted a moment ago, and is told to wait without being judged."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    source = f"{ALIKE}-:{digest_of(str(service.pk), caller.registration_key, caller.credential)}"
    credential = caller.credential[:64]
    return _count(
        _TooOften(service.pk, hour, caller.registration_key, source, credential, service, name, peer), at
    )


def write_down_throttled() -> None:
    """What this process has counted, now: it does so by itself a little later. Raises where it cannot be written."""
    _HELD_BACK.write_down()
    _TOO_OFTEN.write_down()


def _count(one: _TooOften, at: datetime) -> str:
    counted = _TOO_OFTEN.add(one, Times.at(at), crowded=one.of_others)
    # Whether the hour has room for a row of its own is found out when it is written.
    others = source_of_others(one.source) if counted is one else counted.source
    return tracking_id_of_row_to_come(one.service_pk, one.source, others, one.hour)


def _write_too_often(counts: Mapping[_TooOften, Times]) -> None:
    with in_line(), transaction.atomic():
        for one, times in counts.items():
            if one.judgement is None:
                _count_unjudged(one, times)
            else:
                count_attempt(
                    one.service,
                    one.name,
                    one.judgement,
                    AttemptOutcome.THROTTLED,
                    Reason.THROTTLED,
                    one.peer,
                    times=times.count,
                    last_at=times.last_at,
                )


def _count_unjudged(one: _TooOften, times: Times) -> None:
    step = _OF_MANY if one.name == OVERFLOW_NAME else _NOT_JUDGED
    steps = [
        {"rule": step.rule, "candidate": step.candidate, "said": step.said.value, "because": step.because}
    ]
    count_up(
        {
            "service_id": one.service_pk,
            "hour": one.hour,
            "claimed_registration_id": one.name,
            "registration_key": one.name_key,
            "outcome": AttemptOutcome.THROTTLED.value,
            "reason": Reason.THROTTLED.value,
            "source": one.source,
            "count": times.count,
            "first_at": times.first_at,
            "last_at": times.last_at,
            "entry_kind": "",
            "entry_name": "",
            "trace": json.dumps(steps),
            "leaf_thumbprint": "",
            "key_id": "",
            "key_of_group": None,
            "chain": "",
            "evidence_class": "",
            "credential": one.credential,
            "peer_address": one.peer.address[:45],
            "client": clean_client(one.peer.client),
        }
    )


def _write_held_back(callers: Mapping[Caller, Times]) -> None:
    """What is taken from the limiter is counted, or given back to it."""
    taken: dict[Caller, int] = {}
    try:
        with in_line(), transaction.atomic():
            for caller, times in callers.items():
                taken[caller] = limiter().take_unjudged(caller, times.last_at.timestamp())
                if taken[caller]:
                    _add_to_latest(caller, replace(times, count=taken[caller]))
    except BaseException:
        for caller, number in taken.items():
            if number:
                limiter().give_back_unjudged(caller, callers[caller].last_at.timestamp(), number)
        raise


def _add_to_latest(caller: Caller, times: Times) -> None:
    """To the row of its latest refusal; where that counts many others, to the row of others who are throttled."""
    latest = RegistrationAttempt.objects.filter(
        service=caller.service,
        registration_key=caller.registration_key,
        credential=caller.credential[:64],
        outcome__in=REFUSED,
    ).order_by("-last_at", "-pk")
    later = When(last_at__lt=times.last_at, then=Value(times.last_at))
    rows = RegistrationAttempt.objects.filter(pk__in=latest.values("pk")[:1])
    if not rows.update(count=F("count") + times.count, last_at=Case(later, default=F("last_at"))):
        service = ProvisioningService.objects.get(pk=caller.service)
        hour = times.first_at.replace(minute=0, second=0, microsecond=0)
        _count_unjudged(
            _TooOften(service.pk, hour, "", "", "", service, "", Peer()).of_others,
            times,
        )


_HELD_BACK: AddedUp[Caller] = AddedUp(
    metrics.THROTTLED, _write_held_back, most=MOST_HELD_BACK, portion=PORTION
)
_TOO_OFTEN: AddedUp[_TooOften] = AddedUp(
    metrics.THROTTLED, _write_too_often, most=MOST_TOO_OFTEN, portion=PORTION
)
