"""Bulk operations (contract 6.7): up to ten entries, each by itself; what is wrong with one is told of that one."""

from collections.abc import Sequence
from typing import Any

from enrollments.actions.service_access import Caller, LacksRight, NotAuthenticated
from enrollments.errors import DpsError
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id
from enrollments.service_api.conditions import Condition, condition_of_etag
from enrollments.service_api.entries import delete, save
from enrollments.service_api.errors import NAME_DIFFERS, answer_to
from enrollments.service_api.kinds import Kind
from enrollments.wire import messages
from enrollments.wire.errors import ApiError, ErrorAnswer
from enrollments.wire.messages import CANNOT_BE_READ, checked


def run_bulk(
    caller: Caller, mode: messages.BulkMode, items: Sequence[dict[str, Any]], kind: Kind[Any, Any]
) -> dict[str, Any]:
    """Names are read before anything is done: an error that names no entry would be of no use to anybody."""
    names = names_in(items, kind)
    errors = []
    for name, item in zip(names, items, strict=True):
        if (problem := _problem(caller, mode, name, item, kind)) is not None:
            errors.append({kind.name: name, "errorCode": problem.code, "errorStatus": problem.message})
    return {"isSuccessful": not errors, "errors": errors}


def names_in(items: Sequence[dict[str, Any]], kind: Kind[Any, Any]) -> list[str]:
    """Raises ApiError for the first that is none."""
    return [_name(item, position, kind) for position, item in enumerate(items)]


def _name(item: dict[str, Any], position: int, kind: Kind[Any, Any]) -> str:
    name, path = item.get(kind.name), f"{kind.member}[{position}].{kind.name}"
    if not isinstance(name, str):
        raise ApiError(CANNOT_BE_READ, f"{path} must be a string.")
    if not is_registration_id(name):
        raise ApiError(NAME_DIFFERS, f"{path}: give {FORM_IN_WORDS}.")
    return name


def _problem(
    caller: Caller, mode: messages.BulkMode, name: str, item: dict[str, Any], kind: Kind[Any, Any]
) -> ErrorAnswer | None:
    try:
        _do(caller, mode, name, item, kind)
    except ApiError as error:
        return error.answer
    except (NotAuthenticated, LacksRight):
        # Shut out in the middle: the rest is not done, and the whole is told so.
        raise
    except DpsError as problem:
        if (answer := answer_to(problem)) is None:
            raise
        return answer
    return None


def _do(
    caller: Caller, mode: messages.BulkMode, name: str, item: dict[str, Any], kind: Kind[Any, Any]
) -> None:
    if mode == "delete":
        # Its etag is an echo, as everywhere in a body: it decides only where the mode says so.
        delete(caller, kind, name, None)
        return
    message = checked(kind.model, item)
    stated = condition_of_etag(message.etag)
    if mode == "create":
        save(caller, kind, message, None)
    elif stated is None:
        # As recorded: without an etag nothing that exists is changed, whatever the mode.
        raise ApiError(*(kind.missing if kind.find(caller.service, name) is None else kind.exists))
    else:
        save(caller, kind, message, stated if mode == "updateIfMatchETag" else Condition())
