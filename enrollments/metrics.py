"""What is counted and timed for Prometheus (docs/metrics.md). A label is never what a stranger says.

Each process counts for itself; the metrics listener adds the processes up.
"""

from typing import Final

from prometheus_client import Counter, Histogram

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})

_registrations = Counter(
    "dps_registrations",
    "Answers to devices: registrations, polls and look-ups, by what became of them.",
    ("service", "operation", "outcome", "mechanism", "transport"),
)
_registration_seconds = Histogram(
    "dps_registration_seconds",
    "From the arrival of a device's request to its answer.",
    ("operation",),
    buckets=_SECONDS,
)
_decision_seconds = Histogram(
    "dps_decision_seconds",
    "Judging a device: its proof, the paths of its certificates, and which entry decides.",
    buckets=_SECONDS,
)
_attempts = Counter("dps_attempts", "Registration attempts that were kept, by cause.", ("service", "reason"))
_history_rows = Counter("dps_history_rows", "Rows of the history, by event.", ("event",))
_not_recorded = Counter(
    "dps_history_failures",
    "Times that the history could not be written, of what goes on all the same.",
    ("what",),
)
ACCESS_FAILURES: Final = "failed authentications at the service API"
ENDED_WINDOWS: Final = "failures that have ended"
HELD_OFF: Final = "sign-ins while held off"
THROTTLED: Final = "attempts of throttled devices"
for _what in (ACCESS_FAILURES, ENDED_WINDOWS, HELD_OFF, THROTTLED):
    # There from the beginning: an increase from nothing is none that a Prometheus server sees.
    _not_recorded.labels(_what)
_requests = Counter("dps_http_requests", "Requests, by listener.", ("listener", "method", "status"))
_request_seconds = Histogram(
    "dps_http_request_seconds", "From a request to its answer.", ("listener",), buckets=_SECONDS
)

# The three metrics of Azure's service (contract 8), for dashboards that were made for it.
_attestation_attempts = Counter(
    "dps_attestation_attempts", "Devices that tried to prove themselves.", ("service", "status", "protocol")
)
_device_assignments = Counter("dps_device_assignments", "Devices assigned, by hub.", ("service", "hub"))
_registration_attempts = Counter(
    "dps_registration_attempts", "Registrations, by hub and outcome.", ("service", "hub", "status")
)


def device_answered(
    *, service: str, operation: str, outcome: str, mechanism: str, transport: str, seconds: float
) -> None:
    _registrations.labels(service, operation, outcome, mechanism, transport).inc()
    _registration_seconds.labels(operation).observe(seconds)


def registration_attempted(*, service: str, hub: str, outcome: str, proven: bool, protocol: str) -> None:
    """One registration. `hub`: where the device is assigned, if it is; `proven`: whether its credential was."""
    _attestation_attempts.labels(service, "success" if proven else "failure", protocol).inc()
    _registration_attempts.labels(service, hub, outcome).inc()
    if hub:
        _device_assignments.labels(service, hub).inc()


def judged(seconds: float) -> None:
    _decision_seconds.observe(seconds)


def attempt_kept(service: str, reason: str) -> None:
    _attempts.labels(service, reason).inc()


def history_rows_written(event: str, number: int) -> None:
    _history_rows.labels(event).inc(number)


def not_recorded(what: str) -> None:
    _not_recorded.labels(what).inc()


def request_answered(*, listener: str, method: str, status: int, seconds: float) -> None:
    _requests.labels(listener, method if method in _METHODS else "other", str(status)).inc()
    _request_seconds.labels(listener).observe(seconds)
