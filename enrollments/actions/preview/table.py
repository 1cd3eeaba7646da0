"""A preview as a table, for lists and for spreadsheets."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence

from enrollments.actions.preview.effects import Device, Effect, Outcome, Preview
from enrollments.policy.decision import Verdict
from enrollments.policy.names import registration_key

# name held through: the entry that holds the name of a device that another one admits, so that it fails all the same
# (R11). admitted otherwise through: the entry that admits one that is refused by something else that is known of it.
COLUMNS = (
    "registration ID",
    "effect",
    "now",
    "now by",
    "afterwards",
    "afterwards by",
    "name held through",
    "admitted otherwise through",
)
CHUNK = 1000
MAX_EXAMPLES = 5
# Of a device that an entry admits, while another one holds its name (R11).
FAILED = "failed"
_VERDICTS = {
    Verdict.ADMIT: "admitted",
    Verdict.DISABLED: "disabled",
    Verdict.UNAUTHORIZED: "unauthorized",
}


def in_order(preview: Preview, effect: Effect | None = None) -> Sequence[Device]:
    """The devices, all or those of one effect, by name."""
    if effect is not None and preview.counts[effect] == preview.known:
        effect = None
    if effect not in preview.ordered:
        devices = preview.devices if effect is None else preview.of(effect)
        preview.ordered[effect] = sorted(devices, key=name_key)
    return preview.ordered[effect]


def name_key(device: Device) -> str:
    """By which devices are put in order."""
    return registration_key(device.registration_id)


def examples(preview: Preview, effect: Effect) -> list[str]:
    """The first registration IDs of one effect."""
    return [device.registration_id for device in in_order(preview, effect)[:MAX_EXAMPLES]]


def verdict(outcome: Outcome | None) -> str:
    return _VERDICTS[outcome.verdict] if outcome is not None else "not known"


def decided_by(outcome: Outcome | None) -> str:
    """The entry that decides, in words; empty where none does."""
    return str(outcome.through) if outcome is not None and outcome.through is not None else ""


def values(device: Device) -> tuple[str, ...]:
    """One row, in the order of COLUMNS."""
    now = (FAILED if device.held_before is not None else verdict(device.before)), decided_by(device.before)
    afterwards = (
        (FAILED if device.held_after is not None else verdict(device.after)),
        decided_by(device.after),
    )
    besides = [str(one) if one is not None else "" for one in (device.held_after, device.unless)]
    return (device.registration_id, device.effect.value, *now, *afterwards, *besides)


class Echo:
    """A file that hands back what is written, for csv.writer."""

    def write(self, text: str) -> str:
        return text


def csv_text(devices: Iterable[Device]) -> Iterator[str]:
    """The table as CSV, some lines at a time."""
    return csv_of_rows(map(values, devices))


def csv_of_rows(rows: Iterable[Sequence[str]], sides: tuple[str, str] | None = None) -> Iterator[str]:
    """The same. rows: each as `values` makes it of a device. sides: what is compared, if not now with afterwards."""
    first, second = (one.lower() for one in sides or ("now", "afterwards"))
    return _as_csv((*COLUMNS[:2], first, f"{first} by", second, f"{second} by", *COLUMNS[6:]), rows)


def csv_of_parts(parts: Mapping[str, Preview]) -> Iterator[str]:
    """The tables of previews of several times as one, which says of each line of which it is."""
    rows = ((when, *values(device)) for when, preview in parts.items() for device in in_order(preview))
    return _as_csv(("when", *COLUMNS), rows)


def _as_csv(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    writer = csv.writer(Echo())
    lines = [writer.writerow(names)]
    for row in rows:
        lines.append(writer.writerow(map(cell, row)))
        if len(lines) == CHUNK:
            yield "".join(lines)
            lines = []
    yield "".join(lines)


def cell(text: str) -> str:
    """A spreadsheet runs a cell that begins like a formula; an apostrophe makes it text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
