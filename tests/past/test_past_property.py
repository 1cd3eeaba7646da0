"""Back in time at step n is what was decided at step n: random histories of 500 operations, and a snapshot of each.

The snapshot is by brute force over the decision of that moment: every device shows what it has, and is judged.
"""

import random

import pytest

from enrollments.actions.past import ALL_OF_FLEET, compare, look_back
from enrollments.models import HistoryEvent, RegistrationRecord
from enrollments.policy.decision import Verdict
from enrollments.policy.names import registration_key
from tests.chance import seeds
from tests.past.histories import History

pytestmark = pytest.mark.django_db

OPERATIONS = 500
# At so many of the steps everything is looked at, and at so many a single device.
FLEETS, SINGLES, SPANS = 12, 10, 2


def known_by_certificate(history: History, number: int) -> set[str]:
    """Who had a certificate enrolled at one of these two snapshots, and nothing else at the other."""
    pinned, enrolled = (one[number : number + 2] for one in (history.pinned, history.enrolled))
    otherwise = {name for own, held in zip(enrolled, pinned, strict=True) for name in own - held}
    return (pinned[0] | pinned[1]) - otherwise


def told(outcome) -> tuple[Verdict, str]:
    return outcome.verdict, str(outcome.through or "")


@pytest.mark.parametrize("seed", seeds(0, 2))
def test_back_in_time_at_step_n_is_the_snapshot_of_step_n(forest, api, seed):
    history = History(forest, seed, api)
    chance = random.Random(seed)
    wanted = set(chance.sample(range(OPERATIONS), k=FLEETS))
    history.run(OPERATIONS, wanted)
    before = HistoryEvent.objects.count()
    strangers = {leaf.parsed.common_names[0] for leaf in forest.strangers}
    names = sorted({*history.shown, *history.tpms} - strangers)
    assert RegistrationRecord.objects.count() == len(names)
    told_of_strangers = 0

    for number in range(FLEETS - 1):
        (at, snapshot), (later, at_later) = history.snapshots[number : number + 2]
        said = compare(history.service, at, later, limits=ALL_OF_FLEET)

        assert said.preview.not_examined == 0
        by_name = {registration_key(one.registration_id): one for one in said.preview.devices}
        for name in names:
            one = by_name[name]
            if one.before is None or one.after is None:
                raise AssertionError(f"{name} is not known: {said.unclear}")
            assert (told(one.before), told(one.after)) == (snapshot[name], at_later[name]), name
        for name in strangers & known_by_certificate(history, number):
            one = by_name[name]
            assert (told(one.before), told(one.after)) == (snapshot[name], at_later[name]), name
            told_of_strangers += 1

    assert told_of_strangers > 5
    undone = [act for act, done in history.acts.items() if not done]
    assert len(undone) <= 1, f"acts that were never done: {undone}"
    for _ in range(SINGLES):
        at, snapshot = chance.choice(history.snapshots)
        name = chance.choice(names)
        look = look_back(history.service, name, at, at)
        assert (look.first.verdict, str(look.first.entry or "")) == snapshot[name], name
        assert look.explanation is not None
        assert (look.explanation.verdict, look.explanation.entry_words) == snapshot[name]

    (begins, _), (ends, _) = history.snapshots[0], history.snapshots[-1]
    for name in chance.sample(names, k=SPANS):
        look = look_back(history.service, name, begins, ends)
        assert [one.begins for one in look.spells[1:]] == [one.ends for one in look.spells[:-1]]
        for at, snapshot in history.snapshots:
            spell = next(one for one in reversed(look.spells) if one.begins <= at)
            assert (spell.verdict, str(spell.entry or "")) == snapshot[name], name

    assert HistoryEvent.objects.count() == before, "looking back leaves nothing behind"
    assert history.decided() == history.decided()
