"""Devices that never stop, to see what a service does with them, and beside them devices that behave."""

import heapq
import threading
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from enrollments.simulator.client import Interrupted, Pace, provision
from enrollments.simulator.exchanges import (
    Answer,
    ChallengeWrong,
    Conversation,
    Device,
    Endpoint,
    Unreachable,
)
from enrollments.simulator.report import Summary, ranked, table
from enrollments.simulator.tpm_structures import TpmRefusal

LONGEST_SECONDS = 3600
# Where nobody answers there is nothing to storm, and dialling in a tight loop would only heat the machine.
UNREACHABLE_PAUSE = 0.1
# A device that behaves has no reason to come back. These do, to be measured, and well within what a device may.
HEALTHY_PAUSE = 6.0
TELL_SECONDS = 0.5
UNREACHABLE = "unreachable"


@dataclass
class Tally:
    """Every request of a storm, by what came back. Filled by many threads while the storm goes on."""

    seconds: float = 0
    largest_retry_after: int | None = None
    _latencies: "dict[str, array[float]]" = field(default_factory=lambda: defaultdict(lambda: array("d")))
    _statuses: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, status: str, said: str, seconds: float, retry_after: int | None = None) -> None:
        with self._lock:
            self._statuses[status] += 1
            self._latencies[f"{status} {said}".strip()].append(seconds)
            if retry_after is not None:
                self.largest_retry_after = max(retry_after, self.largest_retry_after or 0)

    @property
    def requests(self) -> int:
        return self._statuses.total()

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds if self.seconds else 0

    @property
    def nobody_answered(self) -> bool:
        return self.requests > 0 and set(self._statuses) == {UNREACHABLE}

    def as_json(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 3),
            "requests": self.requests,
            "requests_per_second": round(self.per_second, 1),
            "statuses": dict(sorted(self._statuses.items())),
            "largest_retry_after": self.largest_retry_after,
            "outcomes": {
                said: {"requests": len(latencies), **_p50_and_p95(latencies)}
                for said, latencies in sorted(self._latencies.items())
            },
        }

    def as_text(self) -> str:
        told = self.as_json()
        outcomes = [
            (said, str(one["requests"]), _milliseconds(one["p50"]), _milliseconds(one["p95"]))
            for said, one in told["outcomes"].items()
        ]
        statuses = [(status, str(number)) for status, number in told["statuses"].items()]
        longest = told["largest_retry_after"]
        return "\n\n".join(
            [
                table(("Outcome", "Requests", "p50", "p95"), outcomes),
                table(("Status", "Requests"), statuses),
                f"{self.requests} requests in {self.seconds:.1f} s: {self.per_second:.1f} per second. "
                + (f"The largest Retry-After was {longest} s." if longest else "Nobody sent a Retry-After."),
            ]
        )


class Storm:
    """`devices` send one request after the other, `in_flight` of them at a time, for at most `seconds`.

    They come back at once; if they are polite, after what Retry-After says. `healthy` devices register as they
    should, each in a thread of its own, so that nothing but the service can make them wait.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        endpoint: Endpoint,
        *,
        polite: bool,
        in_flight: int,
        seconds: float,
        healthy: Sequence[Device] = (),
        healthy_pace: Pace | None = None,
    ) -> None:
        self.tally = Tally()
        self.healthy = Summary()
        self._polite = polite
        self._seconds = min(seconds, LONGEST_SECONDS)
        self._endpoint = endpoint
        self._stop = threading.Event()
        self.healthy_devices = healthy
        pace = healthy_pace or Pace()
        self._healthy_pace = Pace(pace.longest_wait, pace.patience, self._stop)
        self._order = count()
        self._queue = [(0.0, next(self._order), _Restless(device, endpoint)) for device in devices]
        self._queue_lock = threading.Lock()
        # No more than there are devices: then who looks for one always finds one.
        self._workers = min(in_flight, len(devices))

    def run(self, tell: Callable[[str], None]) -> None:
        """Until the time is over, or KeyboardInterrupt comes; the figures stay either way."""
        started = time.monotonic()
        with ThreadPoolExecutor(self._workers + len(self.healthy_devices)) as pool:
            try:
                # Interrupted already here, those that have begun would go on for ever.
                running = [pool.submit(self._work) for _ in range(self._workers)]
                for number, device in enumerate(self.healthy_devices):
                    first = HEALTHY_PAUSE * number / len(self.healthy_devices)
                    running.append(pool.submit(self._behave, device, first))
                while (left := started + self._seconds - time.monotonic()) > 0:
                    if wait(running, min(left, TELL_SECONDS), return_when=FIRST_EXCEPTION).done:
                        break
                    tell(f"{left:.0f} s left: {self.tally.requests} requests")
            finally:
                self.tally.seconds = time.monotonic() - started
                self._stop.set()
        for one in running:
            one.result()

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._queue_lock:
                due, _, device = heapq.heappop(self._queue)
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            pause = device.ask(self.tally, self._polite)
            with self._queue_lock:
                heapq.heappush(self._queue, (time.monotonic() + pause, next(self._order), device))

    def _behave(self, device: Device, first: float) -> None:
        pause = first
        while not self._stop.wait(pause):
            try:
                self.healthy.add(provision(device, self._endpoint, self._healthy_pace))
            except Interrupted:
                return
            pause = HEALTHY_PAUSE


class _Restless:
    """A device in a storm: registers, polls until it knows the outcome, and begins anew, whatever the outcome."""

    def __init__(self, device: Device, endpoint: Endpoint) -> None:
        self._conversation = Conversation(device, endpoint)
        self._waiting = device.profile.waiting
        self._operation_id = ""

    def ask(self, tally: Tally, polite: bool) -> float:
        """Send the next request. Returns for how many seconds the device then rests."""
        started = time.monotonic()
        try:
            answer = self._send()
            said = self._go_on(answer)
        except Unreachable:
            self._begin()
            tally.add(UNREACHABLE, "", time.monotonic() - started)
            return UNREACHABLE_PAUSE
        tally.add(str(answer.status), said, answer.seconds, answer.retry_after)
        return self._waiting.seconds(answer.retry_after) if polite and answer.retry_after is not None else 0.0

    def _send(self) -> Answer:
        if self._operation_id:
            return self._conversation.poll(self._operation_id)
        return self._conversation.register()

    def _go_on(self, answer: Answer) -> str:
        """Take from an answer what the next request needs. Returns in a word what it said."""
        if self._conversation.awaits_challenge and "authenticationKey" in answer.body:
            try:
                self._conversation.take_challenge(answer)
            except (ChallengeWrong, TpmRefusal) as problem:
                return problem.code
            return "challenge"
        if answer.body.get("status") == "assigning":
            self._operation_id = str(answer.body.get("operationId") or self._operation_id)
        else:
            self._begin()
        return str(answer.body.get("status") or answer.body.get("errorCode") or "")

    def _begin(self) -> None:
        self._operation_id = ""
        self._conversation.begin()


def _p50_and_p95(latencies: Sequence[float]) -> dict[str, float | None]:
    figures = ranked(latencies)
    return {name: figures[name] for name in ("p50", "p95")}


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms"
