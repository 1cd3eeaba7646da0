"""Previews that were worked out within the last minutes in this process: looked at page by page, and then exported."""

import math
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from enrollments.models import ProvisioningService

T = TypeVar("T")
# A preview of a hundred thousand devices that are alike holds some 12 MB, where none are alike some 30 MB.
MOST_KEPT = 2
KEPT_SECONDS = 300.0


class Lately(Generic[T]):
    """To be looked at. Nobody acts on it: whoever does, does so on an epoch (R12), and is judged once more then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Hashable, tuple[float, T]] = {}

    def of(self, service: ProvisioningService, what: Hashable, work_out: Callable[[], T]) -> T:
        """What `work_out` says of `what`, or said lately, if nothing has changed in the service since."""
        standing = ProvisioningService.what_decisions_read(service.pk)
        about = service.id_scope, standing.epoch, what
        with self._lock:
            at, seen = self._kept.get(about, (-math.inf, None))
        if seen is not None and not standing.is_switch_due and time.monotonic() - at <= KEPT_SECONDS:
            return seen
        seen = work_out()
        # On another epoch by then, it is not found again: the epoch was read before anything else.
        self._keep(about, seen)
        return seen

    def keep(self, service: ProvisioningService, epoch: int, what: Hashable, seen: T) -> None:
        """What somebody was shown who may go on to look at all of it. epoch: read before anything that it tells."""
        self._keep((service.id_scope, epoch, what), seen)

    def _keep(self, about: Hashable, seen: T) -> None:
        with self._lock:
            # The oldest go first: what is kept anew is put behind them.
            self._kept.pop(about, None)
            for old in list(self._kept)[: max(0, len(self._kept) - MOST_KEPT + 1)]:
                del self._kept[old]
            self._kept[about] = time.monotonic(), seen
