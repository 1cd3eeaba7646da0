"""Requests that are refused: for the first time, and from devices that are throttled (R14)."""

from functools import partial
from itertools import islice

from benchmarks.installation import Bench, Preparation
from benchmarks.measure import Figure, Part, Ratio
from benchmarks.preparations import each_on_a_line, throttled, throttled_on_new_lines
from benchmarks.subjects.enrolled import Enrolling, numbered
from benchmarks.subjects.registrations import TOKEN, X509, X509_NEW_CONNECTION
from enrollments.actions.services import change_settings
from tests.devices import ALICE, new_service

# Devices that are throttled stay so through a run: those that come too often, and those that are held back.
RATES = {
    "device_registrations_per_minute": 1,
    "retry_after_seconds": 300,
    "longest_retry_after_seconds": 300,
}
QUARTER = 0.25


def refusals(bench: Bench) -> Part:
    service = new_service("refusing")
    change_settings(service, RATES, actor=ALICE)
    enrolling, size = Enrolling(bench, service), bench.size
    disabled = list(
        islice(
            numbered(partial(enrolling.with_keys, enabled=False), "disabled"),
            size.registrations * size.repetitions,
        )
    )
    kinds = {
        "token.held-back": ("token, held back", enrolling.with_unknown_keys("held-back-token")),
        "token.too-often": ("token, comes too often", enrolling.with_keys("too-often-token")),
        "x509.held-back": ("X.509, held back", enrolling.below_foreign("held-back-x509")),
        "x509.too-often": ("X.509, comes too often", enrolling.below_factory("too-often-x509")),
    }
    held_back = kinds["x509.held-back"][1]
    strangers = numbered(enrolling.with_unknown_keys, "stranger")
    foreigners = numbered(enrolling.below_foreign, "foreigner")
    return Part(
        "Refused request at the listener",
        [
            _figure(bench, "token.unknown", "token, unknown", each_on_a_line(bench, 401, strangers)),
            _figure(bench, "x509.unknown", "X.509, unknown CA", each_on_a_line(bench, 401, foreigners)),
            _figure(
                bench, "token.disabled", "token, disabled (PUT)", each_on_a_line(bench, 202, iter(disabled))
            ),
            *(
                _figure(bench, key, f"{title}: 429", throttled(bench, device), size.requests)
                for key, (title, device) in kinds.items()
            ),
            _figure(
                bench,
                "x509.held-back.new-connection",
                "X.509, held back, new connection: 429",
                throttled_on_new_lines(bench, held_back),
            ),
        ],
        [
            *(
                Ratio(
                    f"{title} / registration",
                    f"refusal.{key}",
                    TOKEN if key.startswith("token") else X509,
                    QUARTER,
                )
                for key, (title, _) in kinds.items()
            ),
            Ratio(
                "X.509, held back / registration, new connection each",
                "refusal.x509.held-back.new-connection",
                X509_NEW_CONNECTION,
            ),
        ],
    )


def _figure(bench: Bench, key: str, title: str, prepare: Preparation, times: int = 0) -> Figure:
    return Figure(f"refusal.{key}", title, times or bench.size.registrations, bench.at_the_listener(prepare))
