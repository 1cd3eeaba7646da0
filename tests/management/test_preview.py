"""`manage.py preview`: what an act would do, for people, for programs and for spreadsheets."""

import csv

import pytest

from enrollments.actions.enrollment_groups import disable_enrollment_group
from enrollments.actions.revocation import deny_device
from enrollments.actions.schedule import as_text
from enrollments.models import HistoryEvent, ProvisioningService
from tests.certificates import root
from tests.devices import ALICE, enroll_ca, enroll_line
from tests.management.calls import json_of, printed_by, refusal_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def line(service):
    """A group below an enabled root, with seven devices, one of them denied."""
    plant = enroll_line(service, *(f"pump-{number}" for number in range(7)))
    deny_device(service, "pump-6", actor=ALICE)
    return plant


def test_disabling_a_group_is_told_in_lines(line):
    text = printed_by("preview", "disable", "group", "PLANT-7")

    assert text.splitlines() == [
        "If you disable enrollment group plant-7 of plant:",
        "- 6 devices will be refused: pump-0, pump-1, pump-2, pump-3, pump-4 and 1 more.",
        "- 1 device is shut out already, and stays so: pump-6.",
        "Nothing was changed.",
    ]


def test_a_switch_that_turns_elsewhere_is_not_said_to_let_in_who_is_denied_for_good(
    service, line, database_clock
):
    at = database_clock.ahead(days=1).replace(microsecond=0)
    enroll_ca(service, root("Other"), "other")
    disable_enrollment_group(service, "other", until=at, actor=ALICE)

    text = printed_by("preview", "disable", "group", "plant-7")

    out = f"- 1 device is shut out already, not counting what is scheduled from {as_text(at)} on: pump-6.\n"
    assert out in text


def test_deleting_a_group_names_the_one_above_also_for_devices_that_nobody_knows(line):
    text = printed_by("preview", "delete", "group", "plant-7")

    assert "6 devices will still be admitted through enrollment group root: pump-0" in text
    assert "Devices below plant-7 can register through enrollment group root, those included" in text


def test_enabling_below_a_bar_says_so(service, line):
    printed_by("disable", "group", "root", "--reason", "leaked")
    printed_by("disable", "group", "plant-7", "--reason", "leaked")

    text = printed_by("preview", "enable", "group", "plant-7")

    assert "Devices below plant-7 stay barred by enrollment group root." in text
    assert "will come in anew" not in text


def test_a_bar_that_is_scheduled_and_is_deleted_is_told_and_who_stays_in_by_that(
    service, line, database_clock, tmp_path
):
    disable_enrollment_group(service, "plant-7", at=database_clock.ahead(days=1), actor=ALICE)
    at = service.enrollmentgroups.by_group_id("plant-7").switches_at
    when = f"From {as_text(at)} on, when these would be refused without this change"

    text = printed_by("preview", "delete", "group", "plant-7", "--list", "--csv", tmp_path / "devices.csv")
    told = json_of("preview", "delete", "group", "plant-7", "--list")

    assert f"{when}, with whatever else is scheduled until then:\n- 6 devices will stay in through" in text
    assert (
        f"- Enrollment group plant-7 is to be disabled at {as_text(at)}: deleting it drops that bar.\n"
        in text
    )
    assert told["bars_dropped"] == [{"entry": "enrollment group plant-7", "at": at.isoformat()}]
    (coming,) = told["to_come"]
    assert (coming["at"], coming["stays_in"], coming["known"]) == (at.isoformat(), True, 6)
    assert [one["registration_id"] for one in told["devices_later"]] == [
        f"pump-{number}" for number in range(6)
    ]
    assert told["devices_later"][0]["when"].startswith(f"from {as_text(at)} on, when ")
    with (tmp_path / "devices.csv").open() as file:
        assert (
            sum(row["when"].startswith(f"later: from {as_text(at)} on") for row in csv.DictReader(file)) == 6
        )


def test_json_has_numbers_entries_and_what_stands_above(service, line):
    told = json_of("preview", "delete", "group", "plant-7")

    assert (told["act"], told["entries"], told["known"]) == ("delete", ["enrollment group plant-7"], 7)
    assert told["effects"]["still_admitted"] == {
        "devices": 6,
        "through": [{"entry": "enrollment group root", "devices": 6}],
        "name_held_through": [],
        "admitted_otherwise_through": [],
    }
    assert told["below"][0]["through"] == ["enrollment group root"]
    assert told["epoch"] == ProvisioningService.epoch_of(service.pk)


def test_a_name_that_deleting_leaves_to_a_group_is_told_to_people_and_programs(service, line):
    deny_device(service, "never-seen", actor=ALICE)

    text = printed_by("preview", "delete", "individual", "never-seen")
    told = json_of("preview", "delete", "individual", "never-seen")

    through = ["enrollment group root", "enrollment group plant-7"]
    assert f"come in under it through {', '.join(through)}. Only a disabled entry keeps it out." in text
    assert told["left_open"] == {"registration_ids": ["never-seen"], "through": through}


def test_csv_has_every_device(line, tmp_path):
    path = tmp_path / "preview.csv"

    printed_by("preview", "enable", "individual", "pump-6", "--csv", str(path))

    rows = list(csv.reader(path.read_text().splitlines()))
    assert [row[:3] for row in rows[1:]] == [["pump-6", "comes_in", "disabled"]]
    code, sentence = refusal_of(
        "preview", "enable", "individual", "pump-6", "--csv", str(tmp_path / "none" / "preview.csv")
    )
    assert (code, "cannot be written" in sentence) == (2, True)


def test_several_entries_are_told_of_together(service, line):
    told = json_of("preview", "delete", "group", "plant-7", "root", "Plant-7")

    assert len(told["entries"]) == 2
    assert told["effects"]["refused"]["devices"] == 6
    assert told["effects"]["still_admitted"]["devices"] == 0


def test_looking_changes_nothing(service, line):
    before = ProvisioningService.epoch_of(service.pk), HistoryEvent.objects.count()

    for act in ("enable", "disable", "delete"):
        printed_by("preview", act, "group", "root", "plant-7")

    assert (ProvisioningService.epoch_of(service.pk), HistoryEvent.objects.count()) == before


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["disable", "group", "nobody"], 1),
        (["disable", "individual", "nobody"], 1),
        (["disable", "group", "plant-7", "--service", "lab"], 1),
    ],
)
def test_what_is_not_there_has_no_preview(line, command, code):
    assert refusal_of("preview", *command)[0] == code
