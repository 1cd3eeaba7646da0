"""The canonical form against another implementation of RFC 8785, and against the numbers of ECMA-262."""

import json
import math

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enrollments.audit.canonical import (
    MEMBERS,
    NotCanonical,
    in_utf8,
    json_form,
    moment,
    moments,
    own_state_form,
    row_form,
    row_hash,
    state_form,
    written,
)
from enrollments.models import HistoryEvent

SAFE = 2**53 - 1
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-SAFE, SAFE)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
MOMENT = "2026-05-01 10:00:00"
ROW = {
    "id": 7,
    "at": MOMENT,
    "event": "enrollment.disabled",
    "service_id": None,
    "before": '{"status": "enabled"}',
    "after": None,
}


def a_row(**changed):
    return row_form(state_form, **(dict.fromkeys(MEMBERS, "x") | ROW | changed))


@settings(max_examples=300, deadline=None)
@given(VALUES)
@example({"\ue000": 1, "\U0001f600": 2, "a": 3, "": 4})
@example({"\u20ac": "\x7f\x00\x1f\u2028", "\r": [-0.0, 1e21, 1e-7, 5e-324, 0.1, 123456789012345680000.0]})
def test_values_are_written_as_another_implementation_writes_them(value):
    assert in_utf8(written(value)) == rfc8785.dumps(value)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(set(MEMBERS) - {"id", "at", "service_id"})), TEXT), VALUES)
def test_rows_are_written_as_another_implementation_writes_them(texts, state):
    texts = {name: text for name, text in texts.items() if name not in ("before", "after")}

    form = a_row(**texts, after=None if state is None else json.dumps(state))

    wanted = dict.fromkeys(MEMBERS, "x") | ROW | texts
    wanted |= {"at": "2026-05-01T10:00:00.000000Z", "before": {"status": "enabled"}, "after": state}
    if not wanted["client"]:
        del wanted["client"]
    assert form == rfc8785.dumps(wanted)


@settings(max_examples=300, deadline=None)
@given(VALUES, st.booleans())
@example({"\ue000": 1, "\U0001f600": 2}, False)
@example({"share": 1e21, "small": 5e-324, "whole": 1.0}, True)
@example({"b": 1, "a": [True, None, "x\x7f"], "n": 10**30}, True)
def test_stored_values_have_one_form_whichever_way_it_is_made(value, ascii_alone):
    stored = json.dumps(value, ensure_ascii=ascii_alone)

    assert json_form(stored) == written(json.loads(stored))


def test_what_is_plain_takes_the_short_way(monkeypatch):
    monkeypatch.setattr("enrollments.audit.canonical.written", lambda _: pytest.fail("the long way"))

    assert json_form('{"b": {"d": [1, null]}, "a": false}') == '{"a":false,"b":{"d":[1,null]}}'


def test_row_may_hold_the_character_at_which_its_texts_are_taken_apart():
    form = a_row(reason='a\x7f"b\x7f', actor_name="\x7f")

    wanted = dict.fromkeys(MEMBERS, "x") | ROW | {"reason": 'a\x7f"b\x7f', "actor_name": "\x7f"}
    assert form == rfc8785.dumps(
        wanted | {"at": "2026-05-01T10:00:00.000000Z", "before": {"status": "enabled"}}
    )


@pytest.mark.parametrize(
    ("number", "form"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (333333333.33333329, "333333333.3333333"),
        (1e30, "1e+30"),
        (4.50, "4.5"),
        (2e-3, "0.002"),
        (0.000000000000000000000000001, "1e-27"),
        (1e-6, "0.000001"),
        (1.5e-7, "1.5e-7"),
        (-1e20, "-100000000000000000000"),
        (9007199254740993, "9007199254740993"),
        (-(10**30), "-1" + "0" * 30),
    ],
)
def test_numbers(number, form):
    assert written(number) == form


@pytest.mark.parametrize("text", ["NaN", "1e400", "[-Infinity]", '{"a":1,"a":1}', "{", "[" * 100_000])
def test_what_no_row_of_ours_can_hold_has_no_form(text):
    with pytest.raises(NotCanonical):
        json_form(text)


@pytest.mark.parametrize(
    "stored", ['{"a":1}', '{"a": "\\/"}', '{"a": "é"}', '{"a": -0}', '{"a": 1.50}', ' {"a": 1}']
)
def test_own_states_are_the_very_text_that_is_written(stored):
    value = json.loads(stored)

    assert own_state_form(json.dumps(value)) == state_form(stored)
    with pytest.raises(NotCanonical, match="written in another way"):
        own_state_form(stored)


@given(VALUES)
@example({"b": "\x7f/\u2028\ud83d", "a": [1e22, -0.0, True, None]})
def test_whatever_is_written_by_the_service_is_taken(value):
    stored = json.dumps([value])

    assert own_state_form(stored) == state_form(stored)


@pytest.mark.parametrize(
    "at",
    [
        None,
        b"2026-05-01 10:00:00",
        "2026-05-01 10:00:00\n2026-05-01 10:00:00",
        "2026-05-01 10:00:00\n",
        "2026-05-01",
        "2026-05-01 10:00:00.5",
        "2026-05-01 10:00:00+01",
        "",
        "x",
        "2026-05-01T10:00:00",
        "2026-05-01 10:00:00Z",
        "2026-05-01 10:00:00.000000",
    ],
)
def test_times_have_one_form(at):
    with pytest.raises(NotCanonical):
        moment(at)
    for texts in ([at], [at, MOMENT], [MOMENT, at]):
        assert moments(texts) is None


def test_many_moments_have_the_forms_that_each_has():
    texts = [MOMENT, "2026-05-01 10:00:00.000001", "2026-05-01 10:00:00.500000", MOMENT]

    assert moments(texts) == [moment(text) for text in texts]
    assert moments([]) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"reason": b"x"},
        {"reason": None},
        {"id": "7"},
        {"id": True},
        {"service_id": 1.5},
        {"after": "null"},
        {"after": b"{}"},
        {"at": b"2026-05-01 10:00:00"},
    ],
)
def test_column_of_another_type_is_no_row(changed):
    with pytest.raises(NotCanonical):
        a_row(**changed)


def test_half_a_surrogate_pair_has_a_form_of_its_own():
    half = a_row(after='"\\ud800"')

    assert half != a_row(after='"\\\\ud800"')
    assert b'"\\ud800"' in half


def test_distinct_numbers_keep_distinct_forms():
    assert json_form("9007199254740993") != json_form("9007199254740992")
    assert math.isclose(float(json_form("0.1")), 0.1)


def test_row_without_a_client_has_the_form_of_rows_from_before_it_was_kept():
    """The hash is the one that a version without the column gave this row: what was sealed goes on to verify."""
    form = a_row(client="")

    assert b'"client"' not in form
    assert row_hash(form) == "de52f8eec9808a90e8a30bc8e7fc1e75274d1934668c59b143aca0e7e51cb3d3"


@pytest.mark.parametrize("client", [None, 0, b"", b"curl"], ids=repr)
def test_client_that_is_no_text_is_no_row(client):
    with pytest.raises(NotCanonical):
        a_row(client=client)


def test_every_column_of_a_row_is_in_its_form():
    """A column that the form leaves out could be changed without anybody noticing: it needs a form 2."""
    assert sorted(field.attname for field in HistoryEvent._meta.concrete_fields) == list(MEMBERS)
