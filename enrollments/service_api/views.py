"""Enrollments, groups and registration records (contract 6.2): each view translates, calls one action, translates."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse

from enrollments.actions.revocation import delete_registration
from enrollments.actions.schedule import switches_now
from enrollments.actions.service_access import Caller
from enrollments.models import (
    AttestationMechanism,
    RegistrationRecord,
)
from enrollments.models.enrollments import secrets_of
from enrollments.policy.access import AccessRight
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id, registration_key, same_registration_id
from enrollments.service_api import declarations
from enrollments.service_api.answers import (
    attestation_body,
    registration_body,
    with_what_is_shown,
)
from enrollments.service_api.authentication import needs
from enrollments.service_api.bulk import names_in, run_bulk
from enrollments.service_api.conditions import condition_of
from enrollments.service_api.dry_run import is_dry_run, on_epoch_asked_for, told, told_of_name
from enrollments.service_api.entries import delete, only_shuts_out, save, saved_body, writer
from enrollments.service_api.errors import NAME_DIFFERS, NO_SUCH_REGISTRATION
from enrollments.service_api.kinds import GROUPS, INDIVIDUALS, Kind
from enrollments.service_api.operations import REGISTRATION_ITEM
from enrollments.service_api.paging import Query, check_query, page_of
from enrollments.wire import messages
from enrollments.wire.errors import ApiError, json_response
from enrollments.wire.messages import checked, read_message
from enrollments.wire.operations import declares
from enrollments.wire.requests import json_object

READ, WRITE = AccessRight.ENROLLMENT_READ, AccessRight.ENROLLMENT_WRITE
STATUS_READ, STATUS_WRITE = AccessRight.REGISTRATION_STATUS_READ, AccessRight.REGISTRATION_STATUS_WRITE


@needs(WRITE)
@declares(declarations.ENROLLMENT_PUT)
def enrollment_put(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    return _put(request, caller, name, INDIVIDUALS)


@needs(READ)
@declares(declarations.ENROLLMENT_GET)
def enrollment_get(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    return _get(request, caller, name, INDIVIDUALS)


@needs(WRITE)
@declares(declarations.ENROLLMENT_DELETE)
def enrollment_delete(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    return _delete(request, caller, name, INDIVIDUALS)


@needs(WRITE)
@declares(declarations.ENROLLMENT_ATTESTATION)
def enrollment_attestation(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    return _attestation(request, caller, name, INDIVIDUALS)


@needs(READ)
@declares(declarations.ENROLLMENT_QUERY)
def enrollment_query(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    return _query(request, caller, INDIVIDUALS)


@needs(WRITE)
@declares(declarations.ENROLLMENT_BULK)
def enrollment_bulk(request: HttpRequest, caller: Caller) -> HttpResponse:
    message = read_message(request, messages.BulkEnrollments)
    return _bulk(request, caller, message, message.enrollments, INDIVIDUALS)


@needs(WRITE)
@declares(declarations.GROUP_PUT)
def group_put(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    return _put(request, caller, name, GROUPS)


@needs(READ)
@declares(declarations.GROUP_GET)
def group_get(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    return _get(request, caller, name, GROUPS)


@needs(WRITE)
@declares(declarations.GROUP_DELETE)
def group_delete(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    return _delete(request, caller, name, GROUPS)


@needs(WRITE)
@declares(declarations.GROUP_ATTESTATION)
def group_attestation(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    return _attestation(request, caller, name, GROUPS)


@needs(READ)
@declares(declarations.GROUP_QUERY)
def group_query(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    return _query(request, caller, GROUPS)


@needs(WRITE)
@declares(declarations.GROUP_BULK)
def group_bulk(request: HttpRequest, caller: Caller) -> HttpResponse:
    message = read_message(request, messages.BulkEnrollmentGroups)
    return _bulk(request, caller, message, message.enrollment_groups, GROUPS)


@needs(STATUS_READ)
@declares(declarations.REGISTRATION_GET)
def registration_get(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    _check_form(name)
    return json_response(registration_body(_record(caller, name)), 200)


@needs(STATUS_WRITE)
@declares(declarations.REGISTRATION_DELETE)
def registration_delete(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    _check_form(name)
    condition = condition_of(request)
    etags = condition.etags if condition else ()

    def delete() -> None:
        delete_registration(caller.service, name, actor=caller.actor(STATUS_WRITE), expected_etags=etags)

    if is_dry_run(request):
        return told_of_name(caller, lambda: _record(caller, name), delete)
    with on_epoch_asked_for(request, caller.service):
        delete()
    return HttpResponse(status=204)


@needs(STATUS_READ)
@declares(declarations.REGISTRATION_QUERY)
def registration_query(request: HttpRequest, caller: Caller, name: str) -> HttpResponse:
    check_query(checked(messages.RecordsQuery, json_object(request) or {}).query)
    group = _entry(caller, name, GROUPS)
    query = Query(REGISTRATION_ITEM, f"records of group {group.pk}")
    page = page_of(group.registrations.select_related("hub"), request, query)
    response = json_response([registration_body(record) for record in page.rows], 200)
    page.set_headers(response, query)
    return response


def _put(request: HttpRequest, caller: Caller, name: str, kind: Kind[Any, Any]) -> HttpResponse:
    condition = condition_of(request)
    message = read_message(request, kind.model)
    _check_form(name)
    if not same_registration_id(name, message.name):
        raise ApiError(NAME_DIFFERS, f"{kind.name} in the body differs from the one in the path.")
    if is_dry_run(request):
        return told(
            request,
            caller,
            kind,
            [name],
            lambda: save(caller, kind, message, condition),
            message=message,
            condition=condition,
        )
    narrows = partial(only_shuts_out, caller, kind, message, condition)
    with on_epoch_asked_for(request, caller.service, narrows):
        entry = save(caller, kind, message, condition, is_told=True)
    return json_response(saved_body(caller, kind, message, entry, is_new=condition is None), 200)


def _get(request: HttpRequest, caller: Caller, name: str, kind: Kind[Any, Any]) -> HttpResponse:
    as_of = switches_now(caller.service)
    return json_response(kind.shown(_entry(caller, name, kind), as_of), 200)


def _delete(request: HttpRequest, caller: Caller, name: str, kind: Kind[Any, Any]) -> HttpResponse:
    _check_form(name)
    condition = condition_of(request)
    if is_dry_run(request):
        return told(
            request,
            caller,
            kind,
            [name],
            lambda: delete(caller, kind, name, condition),
            condition=condition,
            deletes=True,
        )
    with on_epoch_asked_for(request, caller.service):
        delete(caller, kind, name, condition)
    return HttpResponse(status=204)


def _attestation(request: HttpRequest, caller: Caller, name: str, kind: Kind[Any, Any]) -> HttpResponse:
    json_object(request)
    entry = _entry(caller, name, kind)
    if entry.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        caller.require_sight_of_keys()
        entry = kind.reveal(caller.service, name, actor=writer(caller))[0]
    return json_response(attestation_body(entry, with_keys=True), 200)


def _query(request: HttpRequest, caller: Caller, kind: Kind[Any, Any]) -> HttpResponse:
    check_query(read_message(request, messages.QuerySpecification).query)
    query = Query(kind.item, f"{kind.listed} of {caller.service.pk}")
    as_of = switches_now(caller.service)
    page = page_of(with_what_is_shown(kind.entries(caller.service)), request, query)
    response = json_response([kind.body(entry, as_of) for entry in page.rows], 200)
    page.set_headers(response, query)
    return response


def _bulk(
    request: HttpRequest,
    caller: Caller,
    message: messages.BulkEnrollments | messages.BulkEnrollmentGroups,
    items: Sequence[dict[str, Any]],
    kind: Kind[Any, Any],
) -> HttpResponse:
    names = names_in(items, kind)

    def run() -> dict[str, Any]:
        return run_bulk(caller, message.mode, items, kind)

    if is_dry_run(request):
        deletes = message.mode == "delete"
        return told(request, caller, kind, names, run, message=message, deletes=deletes)
    with on_epoch_asked_for(request, caller.service):
        return json_response(run(), 200)


def _check_form(name: str) -> None:
    if not is_registration_id(name):
        raise ApiError(NAME_DIFFERS, f"The ID in the path has {FORM_IN_WORDS}.")


def _entry(caller: Caller, name: str, kind: Kind[Any, Any]) -> Any:
    _check_form(name)
    entries = with_what_is_shown(kind.entries(caller.service))
    entry = entries.filter(**{kind.key: registration_key(name)}).first()
    if entry is None:
        raise kind.not_found(name)
    return entry


def _record(caller: Caller, name: str) -> RegistrationRecord:
    entries = ("owner_individual", "owner_group")
    records = caller.service.registrations.select_related("hub", *entries).defer(*secrets_of(*entries))
    record = records.filter(registration_key=registration_key(name)).first()
    if record is None:
        raise ApiError(*NO_SUCH_REGISTRATION)
    return record
