"""gunicorn's settings for a device listener whose registrations can be paused at each of their steps.

Whoever tests writes the name of a step into the file `pause` of the node's data folder. The first registration that
gets there takes the file away, writes `paused`, and waits for `go-on`. The product knows nothing of it.
"""

import os
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from dpsportal.serving.gunicorn_device import *  # noqa: F403  # gunicorn reads the names of this module

PATIENCE = 60
FOLDER = Path(os.environ["DPS_DATA_DIR"])
PAUSE, PAUSED, GO_ON = (FOLDER / name for name in ("pause", "paused", "go-on"))


def _pause_at(step: str) -> None:
    try:
        if PAUSE.read_text() != step:
            return
        PAUSE.unlink()
    except FileNotFoundError:
        return
    PAUSED.touch()
    deadline = time.monotonic() + PATIENCE
    while not GO_ON.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody says to go on from {step}")
        time.sleep(0.002)
    GO_ON.unlink()


def _before(holder: Any, name: str, step: str) -> None:
    _wrap(holder, name, lambda function: _pausing(function, before=step))


def _after(holder: Any, name: str, step: str) -> None:
    _wrap(holder, name, lambda function: _pausing(function, after=step))


def _wrap(holder: Any, name: str, wrapped: Callable[[Any], Any]) -> None:
    setattr(holder, name, wrapped(getattr(holder, name)))


def _pausing(function: Callable[..., Any], *, before: str = "", after: str = "") -> Callable[..., Any]:
    @wraps(function)
    def pausing(*args: Any, **kwargs: Any) -> Any:
        if before:
            _pause_at(before)
        result = function(*args, **kwargs)
        if after:
            _pause_at(after)
        return result

    return pausing


def post_worker_init(worker: object) -> None:
    from enrollments.actions import registrations
    from enrollments.device_api import views
    from enrollments.models import RegistrationRecord

    _before(registrations, "wait_before_judging", "asked")
    _after(registrations, "_judge", "judged")
    _before(RegistrationRecord, "at_this_moment", "locked")
    _after(registrations, "_as_it_is", "seen to hold")
    _after(registrations, "assign", "assigned")
    _after(registrations, "count_attempt", "counted")
    _before(registrations, "_finished", "committed")
    _before(views, "assigning", "answering")
    _after(registrations, "_told", "result read")
    _before(views, "operation_status_message", "result answering")
