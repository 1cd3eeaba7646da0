"""What a refused call was about: for the row of the history that it leaves (R15)."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest

from enrollments.actions.refusals import Tried
from enrollments.service_api.kinds import GROUPS, INDIVIDUALS
from enrollments.wire.errors import ApiError
from enrollments.wire.requests import json_object

_KINDS = {"registrations": "RegistrationRecord", "enrollmentgroups": "EnrollmentGroup"}


def tried(request: HttpRequest, named: Mapping[str, Any], *, reads: bool, rehearses: bool) -> Tried:
    """`named`: what stands in the path. A bulk operation names its entries in the body.

    Of looks it is told what kind of thing was meant, and not which: a back end goes through all of its devices.

    rehearses: it was to be told what an act would do. reads: of that, which devices; otherwise it was to read.
    """
    first = request.path_info.lower().strip("/").partition("/")[0]
    if rehearses:
        return Tried(f"{'devices of a dry run' if reads else 'dry run'} of {request.method} below /{first}/")
    if reads:
        return Tried(f"read below /{first}/")
    what = f"{request.method} {request.path}"[:200]
    kind = _KINDS.get(first, "IndividualEnrollment")
    return Tried(what, kind, (named["name"],) if "name" in named else _in_body(request))


def _in_body(request: HttpRequest) -> tuple[str, ...]:
    try:
        message = json_object(request) or {}
    except ApiError:
        return ()  # a body that cannot be read names nobody, and is refused as any other here
    return tuple(
        name
        for kind in (INDIVIDUALS, GROUPS)
        for entry in _dicts(message.get(kind.member))
        if isinstance(name := entry.get(kind.name), str)
    )


def _dicts(several: Any) -> list[dict[str, Any]]:
    return [one for one in several if isinstance(one, dict)] if isinstance(several, list) else []
