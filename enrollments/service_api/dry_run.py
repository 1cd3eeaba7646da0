"""`dryRun=true`: what a write would do to devices is told, not done. `epoch=`: it is done only on the state told of."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse

from enrollments.actions.entries import check_epoch
from enrollments.actions.preview import (
    NO_NAMES,
    BelowAnother,
    Entry,
    Preview,
    below_others,
    names_left_open,
    preview_of,
    ref_of,
)
from enrollments.actions.preview.words import as_json
from enrollments.actions.service_access import Caller
from enrollments.models import EnrollmentGroup, ProvisioningService
from enrollments.models.locks import change_lock
from enrollments.policy.names import registration_key
from enrollments.service_api.bulk import Kind
from enrollments.service_api.errors import WRONG_QUERY
from enrollments.wire.errors import ApiError, json_response
from enrollments.wire.schedules import time_told

# The largest number that a column for an epoch holds.
_MOST_DIGITS = 18


def is_dry_run(request: HttpRequest) -> bool:
    """Raises ApiError for anything but true and false: who asked for a rehearsal must not get the act."""
    text = request.GET.get("dryRun", "false").lower()
    if text not in ("true", "false"):
        raise ApiError(WRONG_QUERY, "dryRun is true or false.")
    # A rehearsal has no use for it, and must not take what the act would refuse.
    _epoch(request)
    return text == "true"


def told(
    caller: Caller, kind: Kind[Any], names: Sequence[str], act: Callable[[], Any], *, deletes: bool = False
) -> HttpResponse:
    """What `act` would do to entries of these names, which it does in a transaction that is taken back.

    Raises whatever it raises. What it returns, if that is a body, is told beside the preview.
    """
    results: list[Any] = []
    times: set[datetime] = set()
    service, entries = caller.service, _found(caller, kind, names)
    there = {one.pk for one in entries}

    def change() -> list[Entry]:
        results.append(act())
        found = _found(caller, kind, names)
        times.update(_times_changed(entries, found))
        return [one for one in found if one.pk not in there]

    preview = preview_of(service, change, entries)
    groups = [one for one in entries if isinstance(one, EnrollmentGroup)]
    gone = [ref_of(one) for one in entries] if deletes else []
    left_open = names_left_open(service, preview, entries) if deletes else NO_NAMES
    _, now = ProvisioningService.epoch_and_time(service.pk)
    body = {
        "dryRun": True,
        "epoch": preview.epoch,
        **_numbers(preview),
        "below": [_below(one) for one in below_others(service, groups, gone)],
        "leftOpen": {
            "registrationIds": list(left_open.names),
            "through": [str(ref) for ref in left_open.groups],
        },
        "then": [
            {
                "at": time_told(at),
                **_numbers(preview_of(service, change, entries, at=at)),
                "below": [_below(one) for one in below_others(service, groups, gone, at=at)],
            }
            for at in sorted(times)
            if at > now
        ],
        **(results[0] if isinstance(results[0], dict) else {}),
    }
    return json_response(body, 200)


@contextmanager
def on_epoch_asked_for(request: HttpRequest, service: ProvisioningService) -> Iterator[None]:
    """What is done within is done only while the service is as a dry run found it.

    Raises PreviewOutdated, ApiError.
    """
    epoch = _epoch(request)
    if epoch is None:
        yield
        return
    with change_lock(service, raises_epoch=False):
        check_epoch(service, epoch)
        yield


def _epoch(request: HttpRequest) -> int | None:
    text = request.GET.get("epoch")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise ApiError(WRONG_QUERY, "epoch is the number that the answer to dryRun=true has.")
    return int(text)


def _times_changed(before: Sequence[Entry], after: Sequence[Entry]) -> set[datetime]:
    """The times at which switches would turn, and those at which they would have turned, where that differs."""
    was, now = ({(one.pk, one.enabled, one.switches_at) for one in entries} for entries in (before, after))
    return {at for _, _, at in was ^ now if at is not None}


def _numbers(preview: Preview) -> dict[str, Any]:
    numbers = as_json(preview)
    return {
        "known": numbers["known"],
        "notExamined": numbers["not_examined"],
        "effects": {_camel(effect): devices for effect, devices in numbers["effects"].items()},
    }


def _found(caller: Caller, kind: Kind[Any], names: Sequence[str]) -> list[Entry]:
    by_key = {registration_key(name): name for name in names}
    return [entry for name in by_key.values() if (entry := kind.find(caller, name)) is not None]


def _below(one: BelowAnother) -> dict[str, Any]:
    return {
        "group": one.group.name,
        "through": [str(ref) for ref in one.through],
        "barredBy": [str(ref) for ref in one.barred_by],
        "uncertain": one.uncertain,
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
