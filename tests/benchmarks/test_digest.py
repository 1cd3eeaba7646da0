"""The digest: a row for each target, a column for each database, and the worst of what it holds for."""

from benchmarks.digest import digest
from benchmarks.measure import Amount, Besides, Cost, Figure, Part, Ratio

COSTS = {
    "few": [Cost(0.010, 0.010, {Besides.BYTES: 74_000})],
    "many": [Cost(0.012, 0.012, {Besides.BYTES: 59_000})],
    "ceiling": [Cost(0.006, 0.008)],
}
SHARE = {"at_least": 0.6, "row": "share"}


def part(*ratios: Ratio, amounts: tuple[Amount, ...] = ()) -> Part:
    figures = [Figure(key, key, 1, lambda times: Cost(1, 1)) for key in COSTS]
    return Part("part", figures, ratios, amounts)


def test_the_worst_is_told_and_stands_out_where_it_misses_the_target():
    told = digest(
        [
            part(
                Ratio("", "ceiling", "few", **SHARE, column="SQLite"),
                Ratio("", "ceiling", "many", **SHARE, column="SQLite"),
                Ratio("", "ceiling", "few", **SHARE, column="PostgreSQL"),
            )
        ],
        COSTS,
    )

    assert told.splitlines() == [
        "| what | target | SQLite | PostgreSQL |",
        "|---|---|--:|--:|",
        "| share | at least 0.600 | **0.500** | 0.600 |",
    ]


def test_amounts_are_told_in_their_unit_and_what_belongs_elsewhere_is_left_out():
    told = digest(
        [
            part(
                Ratio("no row in the digest", "ceiling", "few", at_least=0.9),
                amounts=(
                    Amount("", "few", Besides.BYTES, 60_000, "bytes", "SQLite"),
                    Amount("", "many", Besides.BYTES, 60_000, "bytes", "PostgreSQL"),
                ),
            )
        ],
        COSTS,
    )

    assert told.splitlines()[2:] == ["| bytes | at most 60.0 kB | **74.0 kB** | 59.0 kB |"]


def test_without_a_target_there_is_no_digest():
    assert digest([part()], COSTS) == ""
