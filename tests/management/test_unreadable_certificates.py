"""Where a stored certificate cannot be read any more: commands shut out all the same, and say which key stays open."""

import pytest

from tests.certificates import root
from tests.devices import came_with_unreadable, enroll_ca, key_left_open, make_unreadable, register
from tests.factories import a_service, an_individual
from tests.management.calls import json_of, printed_by, refused_with_words

pytestmark = pytest.mark.django_db
DENIALS = [
    ("disable", "individual", "pump-1", "--deny"),
    ("registrations", "disable", "pump-1"),
    ("registrations", "deprovision", "pump-1"),
]
WHERE = ("--service", "plant")
WHY = (*WHERE, "--reason", "stolen")


@pytest.fixture
def service():
    return a_service("plant")


@pytest.fixture
def ca(service):
    ca = root("Plant")
    enroll_ca(service, ca, "plant-7")
    return ca


@pytest.fixture
def leaf(service, ca):
    """Of a device that came in by the group, and whose certificate cannot be read by now."""
    return came_with_unreadable(service, ca)


@pytest.mark.parametrize("command", DENIALS)
def test_a_device_is_denied_by_its_name(service, leaf, command):
    said = printed_by(*command, *WHY)

    assert said.count(key_left_open(leaf)) == 1
    assert not service.individualenrollments.get().enabled
    assert register(service, leaf).outcome == "disabled"


@pytest.mark.parametrize("command", DENIALS)
def test_as_json_it_says_so_too(leaf, command):
    assert json_of(*command, *WHY)["note"] == key_left_open(leaf)


@pytest.mark.parametrize("command", DENIALS)
def test_nothing_is_said_of_it_where_all_can_be_read(service, ca, command):
    register(service, ca.leaf("pump-1"))

    told = json_of(*command, *WHY)

    assert "note" not in told


@pytest.mark.parametrize("command", DENIALS)
def test_the_entry_of_the_device_is_disabled(service, leaf, command):
    an_individual(service, "pump-1")

    said = printed_by(*command, *WHY)

    assert not service.individualenrollments.get().enabled
    assert "not barred" not in said


def test_a_group_is_disabled(service, ca):
    register(service, ca.leaf("pump-1"))
    make_unreadable(ca)

    printed_by("disable", "group", "plant-7", *WHY)

    assert not service.enrollmentgroups.get().enabled


@pytest.mark.parametrize("spoilt", ["root", "mid"])
def test_groups_are_disabled_below_a_ca_that_cannot_be_read(service, spoilt):
    top = root("Root")
    mid = top.intermediate("Mid")
    enroll_ca(service, top, "root")
    enroll_ca(service, mid, "mid")
    register(service, mid.leaf("pump-1"))
    make_unreadable(top if spoilt == "root" else mid)

    printed_by("groups", "disable", "mid", *WHY)

    assert not service.enrollmentgroups.get(group_id="mid").enabled


def test_enabling_a_group_that_cannot_be_looked_at_is_refused(service, ca):
    register(service, ca.leaf("pump-1"))
    printed_by("disable", "group", "plant-7", *WHY)
    make_unreadable(ca)

    refused_with_words("groups", "enable", "plant-7", *WHY)

    assert not service.enrollmentgroups.get().enabled


def test_the_record_is_shown(leaf):
    assert "pump-1" in printed_by("registrations", "show", "pump-1", *WHERE)


def test_explaining_says_what_cannot_be_read(leaf):
    _, _, said = refused_with_words("explain", "--registration-id", "pump-1", *WHERE)

    assert f"Certificate {leaf.parsed.thumbprint_sha256} cannot be read" in said


def test_explaining_a_group_says_so_in_its_place(ca):
    make_unreadable(ca)

    said = printed_by("explain", "--group", "plant-7", *WHERE)

    assert f"Certificate {ca.parsed.thumbprint_sha256} cannot be read." in said
