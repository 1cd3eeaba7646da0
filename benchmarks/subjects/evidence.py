"""What of a registration goes into its evidence: the attempts that are counted, and the row of the history."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from benchmarks.devices import REST_SECONDS
from benchmarks.installation import Bench
from benchmarks.measure import Cost, Figure, Part, Ratio
from benchmarks.subjects.registrations import RATES, TOKEN, X509
from enrollments.actions import assigned_records, registrations
from enrollments.actions.registrations import Outcome, poll_operation, register_device
from enrollments.actions.services import change_settings
from enrollments.models import ProvisioningService
from tests.certificates import Minted, root
from tests.devices import ALICE, asks, enroll_ca, new_service, shows

AGAIN, FIRST = "evidence.again", "evidence.first"
# Of a registration, attempts and history may cost a quarter.
SHARE = 0.25


def evidence(bench: Bench) -> Part:
    service, times = new_service("evidence"), bench.size.registrations
    change_settings(service, RATES, actor=ALICE)
    ca = root("Evidence CA")
    enroll_ca(service, ca, "factory")
    line = ca.intermediate("Evidence line")
    known = [line.leaf(f"known-{number}") for number in range(times)]
    newcomers = (line.leaf(f"new-{number}") for number in range(times * bench.size.repetitions))
    for leaf in known:
        _register(service, leaf)
    return Part(
        "Attempts and history of one registration",
        [
            Figure(AGAIN, "a device that comes again", times, _evidence_of(service, _rested(known))),
            Figure(FIRST, "a device that comes for the first time", times, _evidence_of(service, newcomers)),
        ],
        [
            Ratio("attempts of a device that comes again / registration, X.509", AGAIN, X509, below=SHARE),
            Ratio("attempts and history of a new device / registration, X.509", FIRST, X509, below=SHARE),
            Ratio("attempts and history of a new device / registration, token", FIRST, TOKEN, below=SHARE),
        ],
    )


def _rested(leaves: list[Minted]) -> Iterator[Minted]:
    """Round and round. One that comes back too early would be held back, or join what it began before."""
    came = dict.fromkeys(range(len(leaves)), 0.0)
    while True:
        for number, leaf in enumerate(leaves):
            time.sleep(max(0.0, came[number] + REST_SECONDS - time.monotonic()))
            came[number] = time.monotonic()
            yield leaf


def _register(service: ProvisioningService, leaf: Minted) -> None:
    name = leaf.parsed.common_names[0]
    answer = register_device(service, asks(name, shows(leaf)))
    told = poll_operation(service, answer.operation_id, asks(name, shows(leaf)))
    if told.outcome is not Outcome.ASSIGNED:
        raise RuntimeError(f"{name} is told {told.outcome}")


def _evidence_of(service: ProvisioningService, leaves: Iterator[Minted]) -> Callable[[int], Cost]:
    """How to repeat registrations of which nothing counts but what is written down about them."""

    def repeat(times: int) -> Cost:
        with _timed() as spent:
            for _ in range(times):
                _register(service, next(leaves))
        return Cost(spent["cpu"] / times, spent["wall"] / times)

    return repeat


@contextmanager
def _timed() -> Iterator[dict[str, float]]:
    """Add up what counting attempts and writing the history take, within the transaction of the registration."""
    spent = {"cpu": 0.0, "wall": 0.0}

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **named: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*args, **named)
            finally:
                spent["cpu"] += time.process_time() - cpu
                spent["wall"] += time.perf_counter() - wall

        return measured

    with (
        patch.object(registrations, "count_attempt", timed(registrations.count_attempt)),
        patch.object(assigned_records, "record_history", timed(assigned_records.record_history)),
    ):
        yield spent
