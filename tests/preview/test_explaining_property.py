"""Explain by registration ID says what the device would be answered: held against the decision on all it has shown."""

import random

import pytest

from enrollments.actions.explaining import Question, explain
from enrollments.policy.decision import Verdict
from tests.chance import seeds
from tests.preview.worlds import World, by_name, grown

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def forest():
    return grown()


@pytest.mark.parametrize("seed", seeds(500, 512))
def test_what_is_explained_of_a_device_is_what_it_is_answered(forest, seed):
    world = World(forest, random.Random(seed), renewing=seed % 3 == 0, signing=seed % 3 != 1)
    for _ in range(4):
        world.change()()
        for name, answers in world.judged(world.credentials()).items():
            if name in world.vague:
                continue  # which key it has is not known, so any that is enrolled counts
            verdicts = {by_name(verdict, entry) for verdict, entry, _ in answers.values()}
            admitted = {entry for verdict, entry in verdicts if verdict is Verdict.ADMIT}

            told = explain(world.service, Question(registration_id=name))

            assert not told.was_kept, name
            assert told.verdict in {verdict for verdict, _ in verdicts}, (name, told.basis)
            lets_in = told.verdict is Verdict.ADMIT or told.note.startswith("It is admitted by ")
            # A group's new keys count as what is enrolled for its devices. They were never shown.
            if "derives" not in told.note or admitted:
                assert lets_in == bool(admitted), (name, told.basis, told.note)
            if told.verdict is Verdict.ADMIT and told.entry is not None:
                assert (told.entry.kind, told.entry.name) in admitted, (name, told.basis)
