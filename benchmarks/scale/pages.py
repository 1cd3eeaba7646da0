"""Pages at each number of enrollments on each database: time in the server, queries, bytes before compression."""

from functools import partial

from benchmarks.measure import Amount, Besides, Clock, Figure, Part
from benchmarks.scale.comparing import comparisons
from benchmarks.scale.sites import Site

TITLES = {
    "list": "list of enrollments",
    "search-exact": "search for one enrollment",
    "search-prefix": "search by how they begin",
    "detail": "an enrollment with keys",
    "detail-certificate": "an enrollment with a certificate",
    "groups": "list of groups",
    "registrations": "list of registrations",
    "registration": "a registration",
    "history": "history",
}
MOST_QUERIES, MOST_BYTES, SLOWER = 12, 60_000, 1.5


def pages(sites: list[Site]) -> list[Part]:
    return [
        *map(_at, sites),
        Part(
            "Many enrollments against few: pages",
            [],
            [
                ratio
                for page, title in TITLES.items()
                for ratio in comparisons(
                    sites, f"page.{page}", title, Clock.WALL, at_most=SLOWER, row="time of a page"
                )
            ],
        ),
    ]


def _at(site: Site) -> Part:
    key = f"{site.key}.page"
    return Part(
        f"{site.title}: a page",
        [
            Figure(f"{key}.{page}", TITLES[page], site.bench.size.pages, partial(site.station.page, page))
            for page in site.station.pages
        ],
        amounts=[
            Amount(f"{TITLES[page]}, {what}", f"{key}.{page}", what, most, f"{what} of a page", site.column)
            for page in site.station.pages
            for what, most in ((Besides.QUERIES, MOST_QUERIES), (Besides.BYTES, MOST_BYTES))
        ],
    )
