"""`dryRun=true`: what a write would do to devices is told, not done. `epoch=`: it is done only on the state told of."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse

from enrollments.actions.assignment import holder_of
from enrollments.actions.entries import check_epoch
from enrollments.actions.name_claims import claims_on
from enrollments.actions.preview import (
    NO_NAMES,
    BelowAnother,
    Entry,
    OpenNames,
    Preview,
    below_others,
    names_left_open,
    preview_of,
    ref_of,
)
from enrollments.actions.preview.words import as_json
from enrollments.actions.service_access import Caller
from enrollments.models import EnrollmentGroup, ProvisioningService, RegistrationRecord
from enrollments.models.locks import change_lock
from enrollments.policy.names import registration_key
from enrollments.service_api.bulk import Kind
from enrollments.service_api.errors import WRONG_QUERY
from enrollments.wire.errors import ApiError, json_response
from enrollments.wire.operations import Operation
from enrollments.wire.requests import utc
from enrollments.wire.schedules import time_told

# The names of both parameters as they read without case and punctuation.
_MEANT = {"dryrun": "dryRun", "epoch": "epoch"}
# The largest number that a column for an epoch holds.
_MOST_DIGITS = 18


def check_rehearsal(request: HttpRequest, operation: Operation) -> None:
    """Who asked for a rehearsal, or for the act on one state alone, must not get the act for another spelling.

    Raises ApiError where the operation takes no such parameter, where it is spelled otherwise, or comes twice.
    """
    taken = {one.name for one in operation.takes if one.place == "query"}
    for given, values in request.GET.lists():
        meant = _MEANT.get("".join(filter(str.isalnum, given)).lower())
        if meant is None:
            continue
        if meant not in taken:
            raise ApiError(
                WRONG_QUERY, f"This call takes no {meant}: it writes nothing that a dry run tells of."
            )
        if given != meant:
            raise ApiError(WRONG_QUERY, f"The query parameter {meant} is spelled so, in this case.")
        if len(values) > 1:
            raise ApiError(WRONG_QUERY, f"{meant} is given more than once.")


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
    then = [
        {
            "at": time_told(at),
            **_numbers(preview_of(service, change, entries, at=at)),
            "below": [_below(one) for one in below_others(service, groups, gone, at=at)],
        }
        for at in sorted(times)
        if at > now
    ]
    of_bulk = results[0] if isinstance(results[0], dict) else {}
    told_now = _body(preview, below_others(service, groups, gone), left_open)
    return json_response({**told_now, "then": then, **of_bulk}, 200)


def told_of_name(
    caller: Caller, find: Callable[[], RegistrationRecord], act: Callable[[], object]
) -> HttpResponse:
    """The same of an act that frees the name of a registration record: no decision changes, but whose the name is.

    find: the record as it is now. Raises whatever these raise.
    """

    def change() -> list[Entry]:
        act()
        return []

    preview = preview_of(caller.service, change)
    # Read after the epoch: what changes in between makes the answer void.
    record = find()
    held_by = holder_of(record)
    freed = {
        "registrationId": record.registration_id,
        "etag": record.etag,
        "heldBy": str(held_by) if held_by is not None else None,
        "wantedBy": [
            {"entry": str(one.entry), "refused": one.times, "lastDateTimeUtc": utc(one.last_at)}
            for one in claims_on(record)
        ],
    }
    return json_response({**_body(preview, (), NO_NAMES), "then": [], "frees": freed}, 200)


def _body(preview: Preview, below: Sequence[BelowAnother], left_open: OpenNames) -> dict[str, Any]:
    return {
        "dryRun": True,
        "epoch": preview.epoch,
        **_numbers(preview),
        "below": [_below(one) for one in below],
        "leftOpen": {
            "registrationIds": list(left_open.names),
            "through": [str(ref) for ref in left_open.groups],
        },
    }


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
