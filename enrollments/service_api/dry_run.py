"""`dryRun=true`: what a write would do to devices is told, not done. `epoch=`: it is done only on the state told of."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from enrollments.actions.entries import check_epoch
from enrollments.actions.name_claims import claims_on
from enrollments.actions.name_holders import holder_of
from enrollments.actions.preview import (
    NO_NAMES,
    BelowAnother,
    Entry,
    Limits,
    OpenNames,
    Preview,
    below_others,
    coming_by,
    kept_shut,
    names_left_open,
    preview_of,
    ref_of,
)
from enrollments.actions.preview.lately import Lately
from enrollments.actions.preview.limits import NO_LIMITS, turn_to_examine_all
from enrollments.actions.preview.sent_along import preview_with_what_is_sent_along
from enrollments.actions.preview.words import as_json
from enrollments.actions.service_access import Caller
from enrollments.errors import PreviewOutdated
from enrollments.models import EnrollmentGroup, ProvisioningService, RegistrationRecord
from enrollments.models.locks import change_lock
from enrollments.policy.names import registration_key
from enrollments.service_api.conditions import Condition
from enrollments.service_api.dry_run_devices import (
    NEEDED_RIGHT,
    OF_A_DRY_RUN,
    Asked,
    asked_in,
    last_told,
    page_of_devices,
    refuse_of_a_dry_run,
)
from enrollments.service_api.errors import EXAMINING_FOR_OTHERS, WRONG_QUERY
from enrollments.service_api.kinds import Kind
from enrollments.wire.errors import ApiError, json_response
from enrollments.wire.operations import Operation
from enrollments.wire.requests import utc
from enrollments.wire.schedules import time_told

# The names of these parameters as they read without case and punctuation.
_MEANT = {"dryrun": "dryRun", "epoch": "epoch", **{name: name for name in OF_A_DRY_RUN}}
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
            why = (
                "no device is touched by it"
                if "dryRun" in taken
                else "it writes nothing that a dry run tells of"
            )
            raise ApiError(WRONG_QUERY, f"This call takes no {meant}: {why}.")
        if given != meant:
            raise ApiError(WRONG_QUERY, f"The query parameter {meant} is spelled so, in this case.")
        if len(values) > 1:
            raise ApiError(WRONG_QUERY, f"{meant} is given more than once.")


def is_rehearsal(request: HttpRequest, operation: Operation) -> bool:
    """Whether it could have been no more than that: of a call that was refused before this was checked."""
    is_taken = any(one.name == "dryRun" for one in operation.takes)
    return is_taken and [one.lower() for one in request.GET.getlist("dryRun")] == ["true"]


def is_dry_run(request: HttpRequest) -> bool:
    """Raises ApiError for anything but true and false: who asked for a rehearsal must not get the act."""
    text = request.GET.get("dryRun", "false").lower()
    if text not in ("true", "false"):
        raise ApiError(WRONG_QUERY, "dryRun is true or false.")
    # A rehearsal has no use for it, and must not take what the act would refuse.
    _epoch(request)
    if text == "false":
        refuse_of_a_dry_run(request)
    return text == "true"


@dataclass(frozen=True, slots=True)
class Told:
    """The answer but for its list of devices, and the preview that the list is of: of now, or of the time asked for."""

    body: dict[str, Any]
    preview: Preview


# Worked out lately in this process: for the pages that come next.
_LATELY: Lately[Told] = Lately()


def told(
    request: HttpRequest,
    caller: Caller,
    kind: Kind[Any, Any],
    names: Sequence[str],
    act: Callable[[], Any],
    *,
    message: BaseModel | None = None,
    condition: Condition | None = None,
    deletes: bool = False,
) -> HttpResponse:
    """What `act` would do to entries of these names, which it does in a transaction that is taken back.

    message, condition: all else that the act goes by. Raises whatever it raises. What it returns, if that is a body, is
    told beside the preview.
    """
    asked = asked_in(request, names, message, condition)
    if asked.devices:
        caller.require(NEEDED_RIGHT)
    last = last_told(request, asked, caller.service) if asked.devices else None
    entries = _found(caller, kind, names)

    def work_out() -> Told:
        with _limits(asked) as limits:
            return _worked_out(caller, kind, names, entries, act, asked.at, limits, deletes=deletes)

    if not asked:
        return json_response(work_out().body, 200)
    versions = tuple((ref_of(one), one.etag) for one in entries)
    found = _LATELY.of(caller.service, (asked.act, versions, asked.at, asked.everyone), work_out)
    if not asked.devices:
        return json_response(found.body, 200)
    page = page_of_devices(request, caller, asked, found.preview, found.body["epoch"], last)
    # R12, as for the right of the act.
    caller.require_still(NEEDED_RIGHT)
    response = json_response({**found.body, "devices": page.rows}, 200)
    page.set_headers(response, asked.query(caller.service))
    return response


@contextmanager
def _limits(asked: Asked) -> Iterator[Limits | None]:
    """Of what is worked out inside. Raises ApiError where it is somebody else's turn to have all devices examined."""
    if not asked.everyone:
        yield None
        return
    with turn_to_examine_all() as has_turn:
        if not has_turn:
            raise ApiError(*EXAMINING_FOR_OTHERS)
        yield NO_LIMITS


def _worked_out(
    caller: Caller,
    kind: Kind[Any, Any],
    names: Sequence[str],
    entries: list[Entry],
    act: Callable[[], Any],
    listed_at: str,
    limits: Limits | None,
    *,
    deletes: bool,
) -> Told:
    results: list[Any] = []
    times: set[datetime] = set()
    service, there = caller.service, {one.pk for one in entries}

    def change() -> list[Entry]:
        results.append(act())
        found = _found(caller, kind, names)
        times.update(_times_changed(entries, found))
        return [one for one in found if one.pk not in there]

    instead = None if deletes else kept_shut(service, entries)

    def look(at: datetime | None = None, *, instead_of: Callable[[], object] | None = None) -> Preview:
        return preview_with_what_is_sent_along(
            service, change, entries, at=at, instead_of=instead_of, limits=limits
        )

    preview = look()
    groups = [one for one in entries if isinstance(one, EnrollmentGroup)]
    gone = [ref_of(one) for one in entries] if deletes else []
    left_open = names_left_open(service, preview, entries) if deletes else NO_NAMES
    _, now = ProvisioningService.epoch_and_time(service.pk)
    then, listed = [], None if listed_at else preview
    coming = coming_by(service, preview, partial(look, instead_of=instead))
    times.update(one.at for one in coming.comings if one.at is not None)
    for at in sorted(one for one in times if one > now):
        preview_then = coming.looks.get(at) if instead is None else None
        preview_then = preview_then or look(at)
        below_then = [_below(one) for one in below_others(service, groups, gone, at=at)]
        then.append({"at": time_told(at), **_numbers(preview_then), "below": below_then})
        if time_told(at) == listed_at:
            listed = preview_then
    if listed is None:
        raise ApiError(WRONG_QUERY, "at is a time that the dry run tells under then, as it stands there.")
    of_bulk = results[0] if isinstance(results[0], dict) else {}
    body = _body(preview, below_others(service, groups, gone), left_open)
    more = sum(one.preview.known for one in coming.comings if one.at is None)
    return Told({**body, "then": then, **({"moreLater": more} if more else {}), **of_bulk}, listed)


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
def on_epoch_asked_for(
    request: HttpRequest, service: ProvisioningService, only_shuts_out: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """What is done within is done only while the service is as a dry run found it; or if it only shuts out, of which
    is asked on the state as it is then.

    Raises PreviewOutdated, ApiError.
    """
    epoch = _epoch(request)
    if epoch is None:
        yield
        return
    with change_lock(service, raises_epoch=False):
        try:
            check_epoch(service, epoch)
        except PreviewOutdated:
            if not only_shuts_out():
                raise
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
        **({"attemptsSince": numbers["attempts_since"]} if "attempts_since" in numbers else {}),
        "effects": {
            to_camel(effect): {to_camel(name): value for name, value in devices.items()}
            for effect, devices in numbers["effects"].items()
        },
    }


def _found(caller: Caller, kind: Kind[Any, Any], names: Sequence[str]) -> list[Entry]:
    by_key = {registration_key(name): name for name in names}
    return [entry for name in by_key.values() if (entry := kind.find(caller.service, name)) is not None]


def _below(one: BelowAnother) -> dict[str, Any]:
    return {
        "group": one.group.name,
        "through": [str(ref) for ref in one.through],
        "barredBy": [str(ref) for ref in one.barred_by],
        "uncertain": one.uncertain,
    }
