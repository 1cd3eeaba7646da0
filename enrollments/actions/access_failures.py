"""Failed authentications at the service API, counted per policy or token, address and window, as failed sign-ins are.

Whoever floods the service with invented names must not fill the history, which is kept for ever, nor the table of
counts (R14). So what nobody has is counted together whatever it was called, and is not named: credentials end up in
the wrong field.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import transaction

from enrollments.actions.adding_up import Times
from enrollments.actions.failure_windows import MANY, MOST_ADDRESSES, as_told, stranger, window
from enrollments.audit.actor import Way
from enrollments.audit.events import Event
from enrollments.audit.record import Subject, record
from enrollments.models import ApiToken, ProvisioningService, SignInFailures

# Where there are more of these pairs, each policy and token has one row of the history.
MOST_APART = 50
# Keys of people's names are in lower case, so none of them begins like this.
_MARK = "API"
# In place of a cause: of a row that counts nothing, and says that the first failure has its row in the history.
_TOLD_ALREADY = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Whose credential somebody pretends to have, if it is one of the service's: a policy, or a token by its hint."""

    kind: str
    pk: int | None = None
    name: str = ""


NO_POLICY, NO_TOKEN = Claimed("AccessPolicy"), Claimed("ApiToken")
_NOBODYS = {"AccessPolicy": "(unknown names)", "ApiToken": "(unknown tokens)"}
_EVENTS = {"AccessPolicy": Event.POLICY_FAILED, "ApiToken": Event.TOKEN_FAILED}


@dataclass(frozen=True, slots=True)
class Window:
    """What is counted apart, wherever it comes from: by cause, of one claim, in one window of a service."""

    service: int
    number: int
    cause: str
    claimed: Claimed

    @classmethod
    def at(cls, service: ProvisioningService, claimed: Claimed, cause: str, at: datetime) -> "Window":
        return cls(service.pk, int(at.timestamp() // window().total_seconds()), cause, claimed)

    @classmethod
    def of(cls, row: SignInFailures) -> "Window":
        _, service, number, cause, kind, pk, name = row.name_key.split(" ", 6)
        return cls(int(service), int(number), cause, Claimed(kind, int(pk) if pk != "-" else None, name))

    @property
    def key(self) -> str:
        kind, pk, name = self.claimed.kind, self.claimed.pk, self.claimed.name
        return f"{self.all_keys_begin}{' '.join([self.cause, kind, str(pk or '-'), name])}"

    @property
    def all_keys_begin(self) -> str:
        """Those of the service in this window."""
        return f"{_MARK} {self.service} {self.number} "


def is_of_service_api(row: SignInFailures) -> bool:
    return row.name_key.startswith(f"{_MARK} ")


@dataclass(frozen=True, slots=True)
class _Counted:
    """A row of the table, as its key reads."""

    row: SignInFailures
    of: Window


def record_windows(rows: Iterable[SignInFailures]) -> None:
    """A row of the history for each window of a policy or token and an address; from many addresses, one for all.

    What was told when it happened (`record_first`) is not among them: that row of the table counts nothing.
    """
    windows = [_Counted(row, Window.of(row)) for row in rows if row.count]
    services = ProvisioningService.objects.in_bulk({one.of.service for one in windows})
    tokens = ApiToken.objects.select_related("user").in_bulk(
        {
            one.of.claimed.pk
            for one in windows
            if one.of.claimed.kind == NO_TOKEN.kind and one.of.claimed.pk is not None
        }
    )
    of_claimed: dict[tuple[int, Claimed], dict[tuple[int, str], list[_Counted]]] = {}
    for one in windows:
        of_one = of_claimed.setdefault((one.of.service, one.of.claimed), defaultdict(list))
        of_one[one.of.number, one.row.address].append(one)
    for (service, claimed), apart in of_claimed.items():
        together = [one for several in apart.values() for one in several]
        is_crowded = len(apart) > MOST_ADDRESSES or len(windows) > MOST_APART or claimed.pk is None
        for some in [together] if is_crowded else apart.values():
            _record(services[service], claimed, tokens.get(claimed.pk or 0), some)


def record_first(failed: Window, address: str, times: Times) -> bool:
    """Whether this is the first failure of a policy or token from an address in its window, which is told at once.

    Of one policy or token from so many addresses, of whatever names none from one: what follows is counted.
    """
    claimed, window = failed.claimed, replace(failed, cause=_TOLD_ALREADY)
    place = address if claimed.pk is not None else MANY
    if not _is_first(window, place):
        return False
    with transaction.atomic():
        _, is_ours = SignInFailures.objects.get_or_create(
            name_key=window.key,
            address=place,
            defaults={"window_started_at": times.first_at, "recorded": True},
        )
        if is_ours:
            row = SignInFailures(address=address, window_started_at=times.first_at, count=times.count)
            tokens = ApiToken.objects.select_related("user")
            is_token = claimed.kind == NO_TOKEN.kind and claimed.pk is not None
            token = tokens.filter(pk=claimed.pk or 0).first() if is_token else None
            service = ProvisioningService.objects.get(pk=failed.service)
            _record(service, claimed, token, [_Counted(row, failed)])
    return is_ours


def _is_first(window: Window, place: str) -> bool:
    told = SignInFailures.objects.filter(name_key=window.key).values_list("address", flat=True)
    places = set(told[:MOST_ADDRESSES])
    return place not in places and len(places) < MOST_ADDRESSES


def _record(
    service: ProvisioningService, claimed: Claimed, token: ApiToken | None, windows: list[_Counted]
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
        causes[one.of.cause] += one.row.count
    address, told = as_told([one.row for one in windows], many=MANY)
    record(
        _EVENTS[claimed.kind],
        subject=subject,
        actor=stranger(address, Way.SERVICE_API),
        service=service,
        after={**told, "causes": dict(sorted(causes.items())), **more},
    )
