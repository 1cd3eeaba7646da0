"""A preview in words: what stands behind the numbers, for one device and for several."""

import pytest

from enrollments.actions.preview import Device, Preview
from enrollments.actions.preview.effects import Outcome
from enrollments.actions.preview.words import as_json, did, in_lines
from enrollments.policy.decision import Verdict
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.portal.previews import lines_of

GROUP = EntryRef(EntryKind.GROUP, 1, "plant-7")


def admitted(name: str, through: EntryRef | None = None) -> Device:
    """Still admitted, by an individual enrollment of its own where no other entry is given."""
    one = Outcome(Verdict.ADMIT, through or EntryRef(EntryKind.INDIVIDUAL, 1, name))
    return Device(name, one, one)


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        pytest.param([admitted("a")], "individual enrollment of its own", id="one"),
        pytest.param([admitted("a"), admitted("b")], "individual enrollments of their own", id="several"),
        pytest.param([admitted("a", GROUP), admitted("b", GROUP)], "enrollment group plant-7", id="a group"),
    ],
)
def test_devices_come_in_through_as_many_entries_as_they_are(devices, words):
    preview = Preview(1, tuple(devices))

    (line,) = in_lines(preview)
    (shown,) = lines_of(preview)

    assert f"will still be admitted through {words}: a" in line
    assert did(preview).endswith(f"still admitted through {words}.")
    assert shown.through_in_words == [(words, len(devices))]


def test_of_what_a_change_did_it_is_said_of_whom_some_are_admitted_all_the_same():
    by, refused = Outcome(Verdict.ADMIT, GROUP), Outcome(Verdict.DISABLED, GROUP)
    other = EntryRef(EntryKind.GROUP, 2, "plant-8")
    out = Device("a", by, refused, unless=other)
    stays = Device("b", by, Outcome(Verdict.ADMIT, other), held_after=GROUP)

    assert did(Preview(1, (out,))).startswith(
        "1 device is refused from now on. 1 of these is admitted all the same, through enrollment group plant-8"
    )
    told = did(Preview(1, (out, stays)))
    assert (
        "1 of those that are refused from now on is admitted all the same, through enrollment group plant-8"
        in told
    )
    assert "1 of those that are still admitted fails all the same: its registration ID is held" in told
    assert "of these" not in told


def test_programs_are_told_the_same_whatever_the_number():
    through = as_json(Preview(1, (admitted("a"), admitted("b"))))["effects"]["still_admitted"]["through"]

    assert through == [{"entry": "individual enrollment of its own", "devices": 2}]
