"""What a change changed, leaf by leaf."""

import pytest

from enrollments.portal.history_difference import MOST_CHARACTERS, MOST_LEAVES, differences


def told(before, after):
    return [(one.field, one.before, one.after, one.how) for one in differences(before, after).shown]


@pytest.mark.parametrize(
    ("before", "after", "leaves"),
    [
        pytest.param(None, None, [], id="nothing"),
        pytest.param(
            {"a": 1, "b": 2}, {"a": 1, "b": 3}, [("b", "2", "3", "changed")], id="what stayed is not shown"
        ),
        pytest.param({"a": True}, {"a": 1}, [("a", "yes", "1", "changed")], id="true is not one"),
        pytest.param(
            {"initial_twin": {"tags": {"hall": "A", "row": 1}}},
            {"initial_twin": {"tags": {"hall": "B", "row": 1}}},
            [("initial twin.tags.hall", "A", "B", "changed")],
            id="a leaf of a twin",
        ),
        pytest.param(
            {"initial_twin": None},
            {"initial_twin": {"tags": {"hall": "B"}}},
            [("initial twin.tags.hall", "", "B", "added")],
            id="a whole twin came",
        ),
        pytest.param(
            {"certificates": {"primary": "CN=a", "secondary": "CN=b"}},
            {"certificates": {"primary": "CN=c"}},
            [
                ("certificates.primary", "CN=a", "CN=c", "changed"),
                ("certificates.secondary", "CN=b", "", "removed"),
            ],
            id="certificates by their place",
        ),
        pytest.param(
            {"hubs": ["a", "b"]},
            {"hubs": ["b", "c"]},
            [("hubs", "a", "", "removed"), ("hubs", "", "c", "added")],
            id="a list of names, name by name",
        ),
        pytest.param({"hubs": ["a", "b"]}, {"hubs": ["b", "a"]}, [], id="names in another order"),
        pytest.param(
            {"n": [1, 2]},
            {"n": [2, 1]},
            [("n", "[1, 2]", "[2, 1]", "changed")],
            id="numbers in order",
        ),
        pytest.param(
            None,
            {"device_id": "", "mechanism": "x509", "initial_twin": {"tags": {}}},
            [("mechanism", "", "x509", "added")],
            id="what was added, without what is empty",
        ),
        pytest.param(
            {"until": "2026-11-26T17:13:00+00:00"},
            {"until": "2026-11-26 18:00:00 UTC", "since": "24h", "last": "2026-11-26T18:30:07.123456+01:00"},
            [
                ("until", "2026-11-26 17:13:00 UTC", "2026-11-26 18:00:00 UTC", "changed"),
                ("since", "", "24h", "added"),
                ("last", "", "2026-11-26 17:30:07 UTC", "added"),
            ],
            id="times of ours, as all times are written",
        ),
        pytest.param(
            None,
            {
                "initial_twin": {"tags": {"since": "2026-11-26T17:13:00+00:00"}},
                "last": "0001-01-01T00:00+09:00",
            },
            [
                ("initial twin.tags.since", "", "2026-11-26T17:13:00+00:00", "added"),
                ("last", "", "0001-01-01T00:00+09:00", "added"),
            ],
            id="times of others, and what is no time that can be told, as they are",
        ),
        pytest.param({"reason": "x"}, {"reason": ""}, [("reason", "x", "none", "changed")], id="emptied"),
    ],
)
def test_differences(before, after, leaves):
    assert told(before, after) == leaves


def test_long_values_and_many_leaves_are_bounded_and_say_so():
    found = differences(None, {f"leaf {number}": "x" * 5000 for number in range(MOST_LEAVES + 7)})

    assert len(found.shown) == MOST_LEAVES
    assert found.more == 7
    assert found.shown[0].after == "x" * MOST_CHARACTERS + "… (5000 characters; an export has them all)"


def test_depth_is_bounded():
    deep: dict = {"end": 1}
    for _ in range(300):
        deep = {"x": deep}

    (leaf,) = differences({"twin": {}}, {"twin": deep}).shown

    assert len(leaf.after) < 500
