"""The preview of a list says what then happens: compared, for random worlds and lists, with carrying the list out."""

import random

import pytest

from enrollments.actions.preview import above, deciding, limits
from enrollments.actions.preview.limits import NO_LIMITS
from tests.chance import seeds
from tests.preview.worlds import World, grown
from tests.transfer.comparing import compare
from tests.transfer.lists import checked, json_lines
from tests.transfer.random_lines import lines, that_bar

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def forest():
    return grown()


@pytest.fixture(scope="module")
def barring(forest):
    return that_bar(forest)


@pytest.mark.parametrize("seed", seeds(0, 60))
def test_preview_of_a_list_equals_carrying_it_out(forest, barring, seed, monkeypatch):
    monkeypatch.setattr(above, "MOST_LOOKS", 1 + seed % 4)  # several rehearsals
    monkeypatch.setattr(deciding, "PORTION", 5)
    monkeypatch.setattr(limits, "SECONDS_SINGLY", None)  # however busy this machine is
    chance = random.Random(seed)
    world = World(forest, chance, renewing=seed % 3 == 0, signing=seed % 2 == 0)
    if seed % 4:
        world.enroll_unshown(barring)
    listed = lines(world, barring, chance)
    run = checked(world.service, json_lines(*listed))
    if not run.chunks:
        pytest.skip("no line of this list can be imported")
    compare(world, run, listed, is_whole=True, within=NO_LIMITS if seed % 2 else None)


@pytest.mark.parametrize("seed", seeds(100, 140))
def test_what_is_told_of_some_is_right_where_others_are_too_many(forest, barring, seed, monkeypatch):
    """Whose entry alone decides is told without a look at what lies above it."""
    monkeypatch.setattr(limits, "MAX_CLASSES", seed % 3)
    monkeypatch.setattr(limits, "MAX_SINGLY", seed % 2)
    chance = random.Random(seed)
    world = World(forest, chance, renewing=seed % 2 == 0)
    world.enroll_unshown(barring)
    listed = lines(world, barring, chance)
    run = checked(world.service, json_lines(*listed))
    if not run.chunks:
        pytest.skip("no line of this list can be imported")
    compare(world, run, listed, is_whole=False)
