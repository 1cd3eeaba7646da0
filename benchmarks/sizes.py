"""How much a run does: enough to be believed, or just enough to see that it works."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Size:
    """`rounds` that count, how often a round carries out each operation, by its kind, and what there is to look at."""

    rounds: int
    quick_calls: int
    slow_calls: int
    requests: int
    registrations: int
    groups_with_keys: tuple[int, int, int]
    history_rows: int
    long_history_rows: int
    exported_rows: int
    past_devices: int
    past_changes: int
    previewed_devices: int
    imported_lines: int
    queried: int
    enrollments: tuple[int, ...]
    scale_rounds: int
    refusals: int
    pages: int
    storm_seconds: float

    @property
    def repetitions(self) -> int:
        """Rounds, with the one that warms up."""
        return self.rounds + 1

    @property
    def at_scale(self) -> "Size":
        """With the rounds of installations of several sizes."""
        return replace(self, rounds=self.scale_rounds)

    @property
    def certificates(self) -> int:
        """How many devices with certificates such an installation is to have, of each kind."""
        # Each of the known once: what a worker remembers of a certificate is not to be measured.
        return max(self.registrations, self.refusals) * self.repetitions + 10


SIZES = {
    "full": Size(
        rounds=20,
        quick_calls=2000,
        slow_calls=50,
        requests=100,
        registrations=25,
        groups_with_keys=(0, 10, 100),
        history_rows=2000,
        long_history_rows=1_000_000,
        exported_rows=15_000,
        past_devices=20_000,
        past_changes=2000,
        previewed_devices=100_000,
        imported_lines=5000,
        queried=1_000_000,
        enrollments=(1000, 100_000, 1_000_000),
        scale_rounds=10,
        refusals=10,
        pages=2,
        storm_seconds=3,
    ),
    "quick": Size(
        rounds=3,
        quick_calls=200,
        slow_calls=10,
        requests=30,
        registrations=10,
        groups_with_keys=(0, 2, 10),
        history_rows=200,
        long_history_rows=20_000,
        exported_rows=2000,
        past_devices=500,
        past_changes=100,
        previewed_devices=2000,
        imported_lines=100,
        queried=10_000,
        enrollments=(300, 5000),
        scale_rounds=3,
        refusals=5,
        pages=1,
        storm_seconds=1,
    ),
    "tiny": Size(
        rounds=1,
        quick_calls=5,
        slow_calls=2,
        requests=3,
        registrations=2,
        groups_with_keys=(0, 1, 2),
        history_rows=20,
        long_history_rows=2000,
        exported_rows=300,
        past_devices=20,
        past_changes=20,
        previewed_devices=50,
        imported_lines=20,
        queried=300,
        enrollments=(100, 200),
        scale_rounds=1,
        refusals=2,
        pages=1,
        storm_seconds=0.3,
    ),
}
