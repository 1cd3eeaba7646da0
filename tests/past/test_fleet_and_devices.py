"""Of all of a service the same is told as of each of its devices, and both tell what was decided then."""

import random
from itertools import combinations

import pytest

from enrollments.actions.past import ALL_OF_FLEET, Limits, compare, look_back
from enrollments.actions.past.by_key import ONLY_OF_GROUP
from enrollments.errors import NotFound
from enrollments.policy.decision import Verdict
from enrollments.policy.names import registration_key
from tests.chance import seeds
from tests.past.lives import Lives

pytestmark = pytest.mark.django_db

OPERATIONS, SNAPSHOTS, PAIRS = 100, 4, 3
EVERYTHING = Limits(None, None, None)


def told(outcome):
    return None if outcome is None else (outcome.verdict, str(outcome.through or ""))


def spell_at(spell):
    return None if spell.verdict is None else (spell.verdict, str(spell.entry or ""))


def of_devices(service, names, at, until):
    """By name, what the page of each device tells of both times."""
    found = {}
    for name in names:
        try:
            look = look_back(service, name, at, until, limits=EVERYTHING)
        except NotFound:
            continue
        found[name] = (spell_at(look.first), spell_at(look.spells[-1]))
    return found


def of_fleet(said):
    return {
        registration_key(one.registration_id): (told(one.before), told(one.after))
        for one in said.preview.devices
    }


@pytest.mark.parametrize("seed", seeds(0, 3, least=1))
def test_each_row_is_what_its_device_is_told_and_what_was_decided_then(forest, api, seed):
    lives = Lives(forest, seed, api)
    chance = random.Random(seed)
    lives.run(OPERATIONS, set(chance.sample(range(OPERATIONS), k=SNAPSHOTS)))
    names = sorted(lives.has)
    admitted = refused = 0

    for (at, before), (until, after) in chance.sample(list(combinations(lives.lives, 2)), k=PAIRS):
        said = compare(lives.service, at, until, limits=ALL_OF_FLEET)
        rows = of_fleet(said)

        assert said.preview.not_examined == 0
        assert rows == of_devices(lives.service, names, at, until)
        for name, sides in rows.items():
            for side, snapshot in zip(sides, (before[name], after[name]), strict=True):
                if side is None:
                    assert said.unclear[name] == ONLY_OF_GROUP, name
                    continue
                kept = [snapshot[label] for label, one in lives.has[name].items() if one.is_kept]
                if side[0] is Verdict.ADMIT:
                    assert side in snapshot.values(), name
                    admitted += 1
                else:
                    assert Verdict.ADMIT not in [verdict for verdict, _ in kept], name
                    refused += 1

    assert admitted > 30
    assert refused > 30
