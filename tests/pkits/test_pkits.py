"""Path validation against the NIST suite: every test of it is run, and each difference is a reviewed one."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pkits.nist import all_messages, judge

DOCUMENT = Path(__file__).parents[2] / "docs" / "pkits.md"

# Two serial numbers are negative on purpose (4.4.14, 4.4.15); the library announces stricter reading.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")


@dataclass(frozen=True)
class Case:
    number: str
    name: str
    nist: str
    """What NIST expects: `valid`, `invalid`, or `policy` where that depends on the policies asked for."""
    here: str
    cause: str
    why: str
    """The reason for differing from NIST, a heading in docs/pkits.md; empty where there is no difference."""


def cases() -> list[Case]:
    with (Path(__file__).parent / "cases.csv").open(newline="") as table:
        return [Case(**row) for row in csv.DictReader(table)]


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.number} {case.name}")
def test_nist_case(case):
    here, cause = judge(case.name)

    assert here == case.here, cause
    assert case.cause in cause


def test_table_covers_every_test_of_the_suite():
    assert sorted(case.name for case in cases()) == sorted(all_messages())
    assert len({case.number for case in cases()}) == len(cases()) == 224


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.number)
def test_every_difference_has_a_reason(case):
    same = (case.nist, case.here) in {("valid", "admitted"), ("invalid", "refused")}

    assert same or case.why
    assert bool(case.cause) == (case.here == "refused")


def test_nothing_invalid_is_admitted_but_for_revocation_lists_and_policies():
    admitted = {case.why for case in cases() if case.nist != "valid" and case.here == "admitted"}

    assert admitted == {"revocation", "policies"}


def test_document_lists_the_same_tests_under_the_same_reasons():
    listed = {
        section[0]: sorted(re.findall(r"4\.\d+\.\d+", section[1].strip().split("\n\n")[-1]))
        for section in re.findall(r"^## `([\w-]+)`(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.M | re.S)
    }
    reasons = {case.why for case in cases() if case.why}

    assert listed == {
        reason: sorted(case.number for case in cases() if case.why == reason) for reason in reasons
    }
