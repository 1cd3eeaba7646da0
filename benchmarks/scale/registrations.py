"""Registrations beside their ceilings, and refusals, at each number of enrollments on each database."""

from itertools import product

from benchmarks.devices import Fleet
from benchmarks.installation import Preparation, with_ceiling
from benchmarks.measure import Amount, Besides, Clock, Figure, Part, Ratio
from benchmarks.preparations import each_on_a_line, on_new_lines, on_one_line, throttled
from benchmarks.scale.comparing import comparisons
from benchmarks.scale.names import FOREIGN, KNOWN
from benchmarks.scale.sites import Site

# Registrations and what bounds them.
PAIRS = {"token": "ceiling.token", "x509": "ceiling.x509"}
REFUSALS = {
    "unknown": "refused: token, unknown",
    "disabled": "refused: token, disabled (PUT)",
    "held-back": "refused: token, held back: 429",
    "x509-unknown": "refused: X.509, unknown CA",
    "x509-held-back": "refused: X.509, held back: 429",
}
TITLES = {
    "token": "token, kept-alive connection",
    "x509": "X.509, new connection each",
    "ceiling.token": "ceiling of a token, kept-alive connection",
    "ceiling.x509": "ceiling of X.509, new connection each",
    **REFUSALS,
}
IN_DIGEST = {
    "token": "symmetric-key registration, kept-alive connection,",
    "x509": "X.509 registration, new connection each,",
}
CLOCKS = {Clock.CPU: "CPU of the worker", Clock.WALL: "time"}
SHARE_OF_CEILING = 0.60
THROTTLED_SHARE = 0.25
SPEED_KEPT = 0.90
MEMORY_GROWTH = 1.1
# Devices that register here are others than in other parts.
REGISTERING = 1


def registrations(sites: list[Site]) -> list[Part]:
    measured = [_at(site) for site in sites]
    return [
        *measured,
        Part(
            "Many enrollments against few: registrations, refusals, memory",
            [],
            [
                *(
                    ratio
                    for what, clock in product(("token", "x509", *REFUSALS), Clock)
                    for ratio in comparisons(
                        sites,
                        what,
                        TITLES[what],
                        clock,
                        at_least=SPEED_KEPT,
                        row=f"speed of registrations and refusals, {CLOCKS[clock]}",
                    )
                ),
                *comparisons(
                    sites,
                    "token",
                    "memory of a worker",
                    Besides.MEMORY,
                    at_most=MEMORY_GROWTH,
                    row="memory of a worker",
                ),
            ],
        ),
    ]


def _at(site: Site) -> Part:
    key, size, bench = site.key, site.bench.size, site.bench
    by_token = site.with_keys(2 * size.registrations, REGISTERING)
    by_certificate = site.with_certificates(KNOWN, site.station.certificates)
    for device in by_token:
        with bench.line(device) as line:
            line.register(device)
    ceiling = with_ceiling(bench)
    disabled = iter(site.disabled(size.refusals * size.repetitions))
    stranger = next(site.strangers("held-back"))
    held_back, *foreigners = site.with_certificates(FOREIGN, 1 + size.refusals * size.repetitions)

    def figure(what: str, prepare: Preparation, times: int, of: bool = False) -> Figure:
        asked = ceiling if of else bench
        return Figure(f"{key}.{what}", TITLES[what], times, asked.at_the_listener(prepare))

    return Part(
        f"{site.title} enrollments",
        [
            figure("token", on_one_line(bench, Fleet(by_token)), size.registrations),
            figure("ceiling.token", on_one_line(ceiling, Fleet(by_token)), size.registrations, of=True),
            figure("x509", on_new_lines(bench, Fleet(by_certificate)), size.registrations),
            figure("ceiling.x509", on_new_lines(ceiling, Fleet(by_certificate)), size.registrations, of=True),
            figure("unknown", each_on_a_line(bench, 401, site.strangers()), size.refusals),
            figure("disabled", each_on_a_line(bench, 202, disabled), size.refusals),
            figure("held-back", throttled(bench, stranger), size.requests),
            figure("x509-unknown", each_on_a_line(bench, 401, iter(foreigners)), size.refusals),
            figure("x509-held-back", throttled(bench, held_back), size.requests),
        ],
        [
            *(
                Ratio(
                    f"{site.title}: {TITLES[what]}: share of its ceiling, {clock.upper()}",
                    f"{key}.{bound}",
                    f"{key}.{what}",
                    clock=clock,
                    at_least=SHARE_OF_CEILING,
                    row=f"{IN_DIGEST[what]} to its ceiling, {CLOCKS[clock]}",
                    column=site.column,
                )
                for (what, bound), clock in product(PAIRS.items(), Clock)
            ),
            *(
                Ratio(
                    f"{site.title}: {REFUSALS[refused]} to an admitted registration",
                    f"{key}.{refused}",
                    f"{key}.{admitted}",
                    at_most=THROTTLED_SHARE,
                    row="throttled refusal to an admitted registration, CPU",
                    column=site.column,
                )
                for refused, admitted in (("held-back", "token"), ("x509-held-back", "x509"))
            ),
        ],
        [Amount("memory of a worker", f"{key}.token", Besides.MEMORY)],
    )
