"""The most enrollments against the fewest, on each database."""

from collections.abc import Iterator
from itertools import groupby

from benchmarks.measure import Besides, Clock, Ratio
from benchmarks.scale.servers import TITLES
from benchmarks.scale.sites import Site


def comparisons(
    sites: list[Site],
    what: str,
    title: str,
    measure: Clock | Besides,
    *,
    row: str,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Iterator[Ratio]:
    """With `at_least`, of the speed: few to many. With `at_most`, of what it takes: many to few."""
    for database, there in groupby(sites, key=lambda site: site.database):
        by_size = list(there)
        few, many = by_size[0], by_size[-1]
        if few is many:
            continue
        of, to = (few, many) if at_least is not None else (many, few)
        yield Ratio(
            f"{TITLES[database]}, {many.enrollments:,} to {few.enrollments:,}: {title}, {measure.upper()}",
            f"{of.key}.{what}",
            f"{to.key}.{what}",
            clock=measure,
            at_least=at_least,
            at_most=at_most,
            row=f"{row}, {many.enrollments:,} enrollments to {few.enrollments:,}",
            column=TITLES[database],
        )
