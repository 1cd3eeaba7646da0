"""Admitted registrations at the listener: the PUT and the poll that ends it, both counted as one."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice

from benchmarks.devices import HEALTH, Device, Fleet
from benchmarks.installation import Bench, Operation, with_ceiling
from benchmarks.measure import Clock, Figure, Part, Ratio
from benchmarks.preparations import newcomers, on_lines_of_their_own, on_new_lines, on_one_line
from benchmarks.subjects.enrolled import Enrolling, numbered
from enrollments.actions.services import change_settings
from tests.devices import ALICE, new_service

TOKEN, TOKEN_FIRST = "registration.token", "registration.token.first"
X509, X509_NEW_CONNECTION = "registration.x509", "registration.x509.new-connection"
CEILING_TOKEN, CEILING_X509 = "ceiling.token", "ceiling.x509.new-connection"
LISTENER = "listener"
# What a registration may cost more than the two bare views: they take at least this share of its time.
SHARE = 0.60
# As high as they go: what is measured is what the service can do, not what it lets one device do.
RATES = {"device_registrations_per_minute": 60, "registrations_per_minute": 1_000_000}


def registrations(bench: Bench) -> Part:
    service = new_service("admitted")
    change_settings(service, RATES, actor=ALICE)
    enrolling, times = Enrolling(bench, service), bench.size.registrations
    # Twice a round's, so that they need not rest between rounds.
    by_token = list(islice(numbered(enrolling.with_keys, "token"), 2 * times))
    new = list(islice(numbered(enrolling.with_keys, "newcomer"), times * bench.size.repetitions))
    kept, fresh = (
        list(islice(numbered(enrolling.below_factory, name), 2 * times)) for name in ("kept", "fresh")
    )
    # After all entries are there: each change of one has everybody judged anew.
    for device in (*by_token, *kept, *fresh):
        with bench.line(device) as line:
            line.register(device)
    at_the_listener = bench.at_the_listener
    ceiling = with_ceiling(bench)
    return Part(
        "Registration at the listener: PUT and poll",
        [
            Figure(TOKEN, "token, comes again", times, at_the_listener(on_one_line(bench, Fleet(by_token)))),
            Figure(TOKEN_FIRST, "token, first time", times, at_the_listener(newcomers(bench, iter(new)))),
            Figure(
                X509, "X.509, comes again", times, at_the_listener(on_lines_of_their_own(bench, Fleet(kept)))
            ),
            Figure(
                X509_NEW_CONNECTION,
                "X.509, comes again, new connection",
                times,
                at_the_listener(on_new_lines(bench, Fleet(fresh))),
            ),
            Figure(
                LISTENER,
                "for comparison: GET /healthz",
                bench.size.requests,
                at_the_listener(partial(_health, bench, by_token[0])),
            ),
            Figure(
                CEILING_TOKEN,
                "ceiling, kept-alive connection",
                times,
                ceiling.at_the_listener(on_one_line(ceiling, Fleet(by_token))),
            ),
            Figure(
                CEILING_X509,
                "ceiling, certificate, new connection",
                times,
                ceiling.at_the_listener(on_new_lines(ceiling, Fleet(fresh))),
            ),
        ],
        [
            Ratio(f"share of the ceiling, {name}, {clock.upper()}", one, to, clock=clock, at_least=SHARE)
            for name, one, to in (
                ("token", CEILING_TOKEN, TOKEN),
                ("X.509, new connection", CEILING_X509, X509_NEW_CONNECTION),
            )
            for clock in Clock
        ],
    )


def _health(bench: Bench, device: Device, needed: ExitStack, times: int) -> Sequence[Operation]:
    line = needed.enter_context(bench.line(device).warmed())
    return [partial(line.expect, 200, HEALTH)] * times
