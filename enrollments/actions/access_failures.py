"""Failed authentications at the service API, counted per policy or token, address and window, as failed sign-ins are.

Whoever floods the service with invented names must not fill the history, which is kept for ever, nor the table of
counts (R14). So what nobody has is counted together whatever it was called, and is not named: credentials end up in
the wrong field. A service counts so many pairs of name and address in a window, and what is more without its address.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F

from enrollments.actions.failure_windows import MOST_ADDRESSES, as_told, stranger, window
from enrollments.audit.actor import Way
from enrollments.audit.events import Event
from enrollments.audit.record import Subject, record
from enrollments.models import ApiToken, ProvisioningService, SignInFailures
from enrollments.models.locks import in_line

# Of one service in one window: pairs of what was claimed and address, apart for each cause.
MOST_COUNTED = 1000
# Where there are more of these pairs, each policy and token has one row of the history.
MOST_APART = 50
# Keys of people's names are in lower case, so none of them begins like this.
_MARK = "API"
# In place of an address, where there are too many.
_MANY = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Whose credential somebody pretends to have, if it is one of the service's: a policy, or a token by its hint."""

    kind: str
    pk: int | None = None
    name: str = ""


NO_POLICY, NO_TOKEN = Claimed("AccessPolicy"), Claimed("ApiToken")
_NOBODYS = {"AccessPolicy": "(unknown names)", "ApiToken": "(unknown tokens)"}
_EVENTS = {"AccessPolicy": Event.POLICY_FAILED, "ApiToken": Event.TOKEN_FAILED}


def count_failure(
    service: ProvisioningService, claimed: Claimed, cause: str, address: str, *, at: datetime, times: int = 1
) -> None:
    """`cause`: the code of NotAuthenticated. times: with those before it of which no more was told than to wait."""
    number = int(at.timestamp() // window().total_seconds())
    key = " ".join(
        [_MARK, str(service.pk), str(number), cause, claimed.kind, str(claimed.pk or "-"), claimed.name]
    )
    with in_line(), transaction.atomic():
        if _add(times, name_key=key, address=address):
            return
        begins = f"{_MARK} {service.pk} {number} "
        if SignInFailures.objects.filter(name_key__startswith=begins).count() >= MOST_COUNTED:
            address = _MANY
        row, _ = SignInFailures.objects.get_or_create(
            name_key=key, address=address, defaults={"window_started_at": at}
        )
        _add(times, pk=row.pk)


def _add(times: int, **which: Any) -> bool:
    """In one statement, so that of several workers none counts what another has counted."""
    return bool(SignInFailures.objects.filter(**which).update(count=F("count") + times))


def is_of_service_api(row: SignInFailures) -> bool:
    return row.name_key.startswith(f"{_MARK} ")


@dataclass(frozen=True, slots=True)
class _Window:
    """A row of the table, as its key reads."""

    row: SignInFailures
    service: int
    number: int
    cause: str
    claimed: Claimed

    @classmethod
    def of(cls, row: SignInFailures) -> "_Window":
        _, service, number, cause, kind, pk, name = row.name_key.split(" ", 6)
        claimed = Claimed(kind, int(pk) if pk != "-" else None, name)
        return cls(row, int(service), int(number), cause, claimed)


def record_windows(rows: Iterable[SignInFailures]) -> None:
    """A row of the history for each window of a policy or token and an address; from many addresses, one for all."""
    windows = list(map(_Window.of, rows))
    services = ProvisioningService.objects.in_bulk({one.service for one in windows})
    tokens = ApiToken.objects.select_related("user").in_bulk(
        {
            one.claimed.pk
            for one in windows
            if one.claimed.kind == NO_TOKEN.kind and one.claimed.pk is not None
        }
    )
    of_claimed: dict[tuple[int, Claimed], dict[tuple[int, str], list[_Window]]] = {}
    for one in windows:
        of_one = of_claimed.setdefault((one.service, one.claimed), defaultdict(list))
        of_one[one.number, one.row.address].append(one)
    for (service, claimed), apart in of_claimed.items():
        together = [one for several in apart.values() for one in several]
        is_crowded = len(apart) > MOST_ADDRESSES or len(windows) > MOST_APART or claimed.pk is None
        for some in [together] if is_crowded else apart.values():
            _record(services[service], claimed, tokens.get(claimed.pk or 0), some)


def _record(
    service: ProvisioningService, claimed: Claimed, token: ApiToken | None, windows: list[_Window]
) -> None:
    subject = Subject(claimed.kind, claimed.name or _NOBODYS[claimed.kind], str(claimed.pk or ""))
    more: dict[str, Any] = {}
    if claimed.kind == NO_TOKEN.kind and claimed.pk is not None:
        more["hint"] = claimed.name
        if token is not None:
            subject = Subject(claimed.kind, token.name, str(token.pk))
            more["of"] = token.user.get_username()
    causes: dict[str, int] = defaultdict(int)
    for one in windows:
        causes[one.cause] += one.row.count
    address, told = as_told([one.row for one in windows], many=_MANY)
    record(
        _EVENTS[claimed.kind],
        subject=subject,
        actor=stranger(address, Way.SERVICE_API),
        service=service,
        after={**told, "causes": dict(sorted(causes.items())), **more},
    )
