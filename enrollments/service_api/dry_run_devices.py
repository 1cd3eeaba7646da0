"""`devices=` of a dry run: each device with what becomes of it, by pages. `everyone=`: all of them are examined.

A page goes on behind the last device that was told, by its name, so that devices which come and go do not move it; and
only on the epoch of the page before: on another one the devices are others, and that is told.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.http import HttpRequest
from django.utils.crypto import salted_hmac
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from enrollments.actions.preview import Device, Effect, Outcome, Preview
from enrollments.actions.preview.table import in_order, name_key, verdict
from enrollments.actions.service_access import Caller
from enrollments.errors import PreviewOutdated
from enrollments.models import ProvisioningService
from enrollments.policy.access import AccessRight
from enrollments.policy.names import registration_key
from enrollments.service_api.conditions import Condition
from enrollments.service_api.errors import WRONG_QUERY
from enrollments.service_api.paging import Page, Query, continuation, page_size, told_before
from enrollments.wire.errors import ApiError

ALL = "all"
EFFECTS = {to_camel(effect.value): effect for effect in Effect}
# What `x-ms-item-type` says of a list of devices.
DEVICE_ITEM = "DryRunDevice"
# What is of a dry run alone, and means nothing to the act.
OF_A_DRY_RUN = ("devices", "everyone", "at")
# Names of devices are told to whoever may look their records up.
NEEDED_RIGHT = AccessRight.REGISTRATION_STATUS_READ
_SALT = "enrollments.service_api.dry_run_devices"


class Last(NamedTuple):
    """What a page ended with: its last device, and the epoch that it held for."""

    epoch: int
    registration_key: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for beside the numbers.

    devices: those of one effect, or all; empty for none. at: of which time to come, as `then` tells it; empty for now.
    act: a digest of what is rehearsed.
    """

    devices: str
    at: str
    everyone: bool
    act: str

    def __bool__(self) -> bool:
        return bool(self.devices or self.everyone)

    @property
    def effect(self) -> Effect | None:
        return EFFECTS.get(self.devices)

    def query(self, service: ProvisioningService) -> Query:
        """For its continuation, which is good for nothing else."""
        scope = [f"dry run in {service.pk}", self.act, self.devices, self.at, str(self.everyone)]
        return Query(DEVICE_ITEM, " ".join(scope))


def asked_in(
    request: HttpRequest, names: Sequence[str], message: BaseModel | None, condition: Condition | None
) -> Asked:
    """`names`, `message`, `condition`: of the act that is rehearsed. Raises ApiError."""
    devices, at = (request.GET.get(name, "") for name in ("devices", "at"))
    everyone = request.GET.get("everyone", "false").lower()
    if "devices" in request.GET and devices not in (ALL, *EFFECTS):
        raise ApiError(WRONG_QUERY, f"devices is {ALL} or one of {', '.join(EFFECTS)}.")
    if everyone not in ("true", "false"):
        raise ApiError(WRONG_QUERY, "everyone is true or false.")
    if "at" in request.GET and not (devices and at):
        raise ApiError(
            WRONG_QUERY, "at is a time that the dry run tells under then; it needs devices beside it."
        )
    return Asked(devices, at, everyone == "true", _digest(request, names, message, condition))


def refuse_of_a_dry_run(request: HttpRequest) -> None:
    """Whoever asks for what only a rehearsal tells does not get the act. Raises ApiError."""
    if given := [name for name in OF_A_DRY_RUN if name in request.GET]:
        raise ApiError(WRONG_QUERY, f"{given[0]} is of a dry run: it needs dryRun=true beside it.")


def last_told(request: HttpRequest, asked: Asked, service: ProvisioningService) -> Last | None:
    """The end of the page before; None where the first one is asked for. Raises ApiError, PreviewOutdated."""
    told = told_before(request, asked.query(service))
    if told is None:
        return None
    last = Last(*told)
    if last.epoch != ProvisioningService.epoch_of(service.pk):
        raise PreviewOutdated(str(service))
    return last


def page_of_devices(
    request: HttpRequest, caller: Caller, asked: Asked, preview: Preview, epoch: int, last: Last | None
) -> Page:
    """Raises PreviewOutdated, ApiError."""
    if last is not None and last.epoch != epoch:
        raise PreviewOutdated(str(caller.service))
    size = page_size(request)
    devices = in_order(preview, asked.effect)
    start = bisect_right(devices, last.registration_key, key=name_key) if last is not None else 0
    shown, goes_on = devices[start : start + size], start + size < len(devices)
    end = Last(epoch, name_key(shown[-1])) if goes_on else None
    return Page(
        list(map(_told, shown)), continuation(asked.query(caller.service), end) if end is not None else ""
    )


def _told(device: Device) -> dict[str, Any]:
    return {
        "registrationId": device.registration_id,
        "effect": to_camel(device.effect.value),
        "before": _decided(device.before),
        "after": _decided(device.after),
        "nameHeldBefore": str(device.held_before) if device.held_before is not None else None,
        "nameHeldThrough": str(device.held_after) if device.held_after is not None else None,
        "admittedOtherwiseThrough": str(device.unless) if device.unless is not None else None,
    }


def _decided(outcome: Outcome | None) -> dict[str, str | None] | None:
    if outcome is None:
        return None
    return {
        "verdict": verdict(outcome),
        "entry": str(outcome.through) if outcome.through is not None else None,
    }


def _digest(
    request: HttpRequest, names: Sequence[str], message: BaseModel | None, condition: Condition | None
) -> str:
    """Of secrets that the message brings it tells nothing: it is made with a key."""
    what = message.model_dump(exclude_unset=True) if message is not None else None
    said = [request.method, *map(registration_key, names), condition.etags if condition else None, what]
    kind = request.path_info.lower().strip("/").partition("/")[0]
    return salted_hmac(_SALT, json.dumps([kind, *said], sort_keys=True), algorithm="sha256").hexdigest()[:32]
