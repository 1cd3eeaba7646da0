"""The tool's short way to the canonical form of a stored value makes what its long way makes."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.audit.tampering import loaded_tool

tool = loaded_tool()

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)), max_leaves=12
)


@given(st.dictionaries(st.text(), VALUES), st.booleans())
@example({"b": 1, "a": [True, None, "x"]}, True)
@example({"\ufb33": 1, "\U0001f600": 2}, False)
@example({"share": 1e21, "small": 5e-324, "whole": 1.0}, True)
@example({"half": "\ud83d"}, True)
@example({"tab": "\t\x7f/\u2028\\"}, False)
def test_both_ways_agree(value, ascii_alone):
    stored = json.dumps(value, ensure_ascii=ascii_alone)

    if stored.isascii():
        assert tool.state(stored) == tool.canonical(json.loads(stored))
    else:
        with pytest.raises(ValueError, match="in another way"):
            tool.state(stored)


@pytest.mark.parametrize(
    "stored",
    ['{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 1}}', "null", '{"a": 1} x', '{"a": NaN}', '{"a": Infinity}'],
)
def test_what_has_no_one_meaning_is_refused(stored):
    with pytest.raises(ValueError):
        tool.state(stored)


@pytest.mark.parametrize("plain", ['{"a": 1, "b": "x"}', '{"b": {"d": [1, null]}, "a": false}'])
def test_what_is_plain_takes_the_short_way(plain, monkeypatch):
    monkeypatch.setattr(tool, "canonical", lambda _: pytest.fail("the long way"))
    tool.state.cache_clear()

    assert json.loads(tool.state(plain)) == json.loads(plain)
