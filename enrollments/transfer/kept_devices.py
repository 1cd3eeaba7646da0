"""The devices of a preview that is kept with its import: written in portions, read by pages, and taken along whole."""

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from enrollments.actions.preview import Device, Effect, Preview
from enrollments.actions.preview.table import in_order, values
from enrollments.errors import Conflict
from enrollments.models import ImportPreview, ImportPreviewPortion
from enrollments.policy.names import registration_key

PORTION = 1000
# As a portion keeps it: registration ID, effect, and twice what is decided and by which entry.
Row = Sequence[str]


def portions_of(preview: ImportPreview, told: Preview, *, is_later: bool) -> Iterator[ImportPreviewPortion]:
    devices = in_order(told)
    for number, start in enumerate(range(0, len(devices), PORTION)):
        some = devices[start : start + PORTION]
        yield ImportPreviewPortion(
            preview=preview,
            is_later=is_later,
            number=number,
            first_key=_key(some[0]),
            counts=Counter(one.effect.value for one in some),
            rows=json.dumps(list(map(values, some)), ensure_ascii=False, separators=(",", ":")),
        )


def _key(device: Device) -> str:
    return registration_key(device.registration_id)


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows that follow each other. `start`: how many stand before them."""

    rows: list[Row]
    start: int
    total: int


class KeptDevices:
    """Of one preview, those of one effect, or all. Reads no more portions than are asked for.

    Another preview may take its place meanwhile. Then what is left of it is missing, and Conflict is raised: half of a
    list is none.
    """

    def __init__(self, preview: ImportPreview, effect: Effect | None, *, is_later: bool) -> None:
        self._effect = effect
        self._portions = preview.portions.filter(is_later=is_later).order_by("number")
        found = self._portions.values_list("number", "first_key", "counts")
        self._numbers: list[int] = []
        self._first_keys: list[str] = []
        self._counts: list[int] = []
        for number, first_key, counts in found:
            self._numbers.append(number)
            self._first_keys.append(first_key)
            self._counts.append(sum(counts.values()) if effect is None else counts.get(effect.value, 0))

    @property
    def total(self) -> int:
        return sum(self._counts)

    def after(self, key: str, most: int) -> Slice:
        """The first `most` behind this registration key."""
        return self._from(self._place(key, bisect_right), most)

    def before(self, key: str, most: int) -> Slice:
        """The last `most` before it."""
        return self._from(max(0, self._place(key, bisect_left) - most), most)

    def every(self) -> Iterator[Row]:
        """Raises Conflict."""
        for number, count in zip(self._numbers, self._counts, strict=True):
            if count:
                yield from self._rows([number])

    def _place(self, key: str, bisect: Callable[[list[str], str], int]) -> int:
        """How many stand before what is found there."""
        place = max(0, bisect_right(self._first_keys, key) - 1)
        if not self._numbers or not self._counts[place]:
            return sum(self._counts[:place])
        keys = [registration_key(row[0]) for row in self._rows([self._numbers[place]])]
        return sum(self._counts[:place]) + bisect(keys, key)

    def _from(self, start: int, most: int) -> Slice:
        wanted, passed, before = [], 0, 0
        for number, count in zip(self._numbers, self._counts, strict=True):
            if count and passed < start + most and passed + count > start:
                wanted.append(number)
            elif not wanted:
                before = passed + count
            passed += count
        rows = self._rows(wanted)[start - before :][:most] if wanted else []
        return Slice(rows, start, self.total)

    def _rows(self, numbers: Sequence[int]) -> list[Row]:
        found = dict(self._portions.filter(number__in=numbers).values_list("number", "rows"))
        if len(found) < len(numbers):
            raise Conflict("This preview was worked out anew meanwhile: load its page again.")
        rows = [row for number in numbers for row in json.loads(found[number])]
        return rows if self._effect is None else [row for row in rows if row[1] == self._effect.value]
