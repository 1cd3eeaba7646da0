"""R2, R10, R11 and R17 on values: names, hubs, what is kept, whose a name is, who may."""

import json
from collections import Counter

import pytest

from enrollments.policy.allocation import AllocationPolicy, HubFacts, choose_hub
from enrollments.policy.documents import MAX_TWIN_BYTES, DocumentProblem, parse_initial_twin, parse_json
from enrollments.policy.facts import EntryKind, EntryRef
from enrollments.policy.names import is_registration_id, same_registration_id
from enrollments.policy.ownership import may_take_name
from enrollments.policy.reprovisioning import (
    Assignment,
    ReprovisioningPolicy,
    Substatus,
    Twin,
    plan_assignment,
)
from enrollments.policy.roles import Right, Role

# --- R2 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a", "pump-042", "A.b_c:d-E9", "x" * 128, "-"])
def test_r2_registration_id_has_the_form(text):
    assert is_registration_id(text)


@pytest.mark.parametrize(
    "text", ["", "x" * 129, "pump.", "pump_", "pump:", "pump 1", "pümp", "pump\n", "pump/1", "Kelvin\u212a"]
)
def test_r2_registration_id_lacks_the_form(text):
    assert not is_registration_id(text)


def test_r2_case_of_ascii_letters_does_not_count():
    assert same_registration_id("PUMP-042", "pump-042")


@pytest.mark.parametrize(("one", "other"), [("k", "\u212a"), ("ss", "ß"), ("I", "ı"), ("a", "b")])
def test_r2_other_letters_are_not_folded_into_ascii(one, other):
    assert not same_registration_id(one, other)


# --- R10: allocation -------------------------------------------------------------------------

A, B, C = HubFacts(1, "a.example"), HubFacts(2, "b.example", weight=3), HubFacts(3, "c.example")


def test_evenly_weighted_follows_the_weights():
    picked = Counter(
        hub.pk for n in range(4000) if (hub := choose_hub(AllocationPolicy.HASHED, f"device-{n}", [A, B]))
    )

    assert 0.70 < picked[2] / 4000 < 0.80


def test_evenly_weighted_moves_only_devices_of_the_hub_that_leaves():
    before = {n: choose_hub(AllocationPolicy.HASHED, f"device-{n}", [A, B, C]) for n in range(500)}
    after = {n: choose_hub(AllocationPolicy.HASHED, f"device-{n}", [A, B]) for n in range(500)}

    assert all(after[n] == before[n] for n in before if before[n] != C)


@pytest.mark.parametrize(
    ("policy", "hubs", "chosen", "expected"),
    [
        (
            AllocationPolicy.GEO_LATENCY,
            [HubFacts(1, "a", latency_ms=80), HubFacts(2, "b", latency_ms=20)],
            (),
            2,
        ),
        (AllocationPolicy.STATIC, [A, B], (1,), 1),
        (AllocationPolicy.STATIC, [A], (), 1),
        (AllocationPolicy.STATIC, [A, B], (), None),
        (AllocationPolicy.STATIC, [HubFacts(1, "a", applies=False)], (1,), 1),
        (AllocationPolicy.HASHED, [HubFacts(1, "a", applies=False)], (), None),
        (AllocationPolicy.HASHED, [A, B], (2,), 2),
        (AllocationPolicy.HASHED, [], (), None),
    ],
)
def test_allocation_policy_picks(policy, hubs, chosen, expected):
    hub = choose_hub(policy, "pump-042", hubs, frozenset(chosen))

    assert (hub.pk if hub else None) == expected


# --- R11: what a device keeps, and whose a name is ---------------------------------------------

HERE, THERE = Assignment(1, "pump-042"), Assignment(2, "pump-042")


@pytest.mark.parametrize(
    ("policy", "current", "target", "expected"),
    [
        (ReprovisioningPolicy.MIGRATE, None, HERE, (HERE, Twin.INITIAL, Substatus.INITIAL_ASSIGNMENT, None)),
        (ReprovisioningPolicy.MIGRATE, HERE, HERE, (HERE, Twin.KEEP, Substatus.INITIAL_ASSIGNMENT, None)),
        (ReprovisioningPolicy.MIGRATE, HERE, THERE, (THERE, Twin.MIGRATE, Substatus.DATA_MIGRATED, HERE)),
        (ReprovisioningPolicy.RESET, HERE, THERE, (THERE, Twin.INITIAL, Substatus.DATA_RESET, HERE)),
        (ReprovisioningPolicy.NEVER, HERE, THERE, (HERE, Twin.KEEP, Substatus.INITIAL_ASSIGNMENT, None)),
    ],
)
def test_r11_reprovisioning_policy_decides_what_is_kept(policy, current, target, expected):
    plan = plan_assignment(policy, current, target)

    assert (plan.assignment, plan.twin, plan.substatus, plan.leaves) == expected


@pytest.mark.parametrize("policy", list(ReprovisioningPolicy))
def test_r11_device_that_its_hub_forgot_starts_anew(policy):
    plan = plan_assignment(policy, HERE, HERE, identity_exists=False)

    assert (plan.twin, plan.substatus) == (Twin.INITIAL, Substatus.REPROVISIONED)


G1, G2 = EntryRef(EntryKind.GROUP, 1, "a"), EntryRef(EntryKind.GROUP, 2, "b")
ONE = EntryRef(EntryKind.INDIVIDUAL, 1, "pump-042")


@pytest.mark.parametrize(
    ("holder", "taker", "more", "allowed"),
    [
        pytest.param(None, G2, {}, True, id="nobody holds it, its entry was deleted, or it was released"),
        pytest.param(G1, G1, {}, True, id="the holder itself"),
        pytest.param(G1, ONE, {}, True, id="to an individual enrollment"),
        pytest.param(G1, G2, {"predecessor": 1}, True, id="to the group that names it as predecessor"),
        pytest.param(G1, G2, {"groups_proven": {1, 2}}, True, id="the former CA is on the proven path too"),
        pytest.param(G1, G2, {}, False, id="another supplier's CA"),
        pytest.param(G1, G2, {"predecessor": 3, "groups_proven": {2}}, False, id="another predecessor"),
        pytest.param(ONE, G1, {"groups_proven": {1}}, False, id="from an individual enrollment that exists"),
    ],
)
def test_r11_name_passes_only_to(holder, taker, more, allowed):
    assert may_take_name(holder, taker, **more) is allowed


# --- R17 -------------------------------------------------------------------------------------

MATRIX = {
    Right.SEE: (True, True, True, True),
    Right.SEE_HISTORY: (False, True, True, True),
    Right.EXPORT: (False, True, True, True),
    Right.CHANGE_ENTRIES: (False, False, True, True),
    Right.REVEAL_KEYS: (False, False, False, True),
    Right.ADMINISTER: (False, False, False, True),
}


@pytest.mark.parametrize("right", list(Right))
def test_r17_roles_and_rights(right):
    assert tuple(right in role.rights for role in Role) == MATRIX[right]


# --- JSON from outside -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        pytest.param(b"{", "JSON", id="cut off"),
        pytest.param(b'{"a":1,"a":2}', "twice", id="duplicate name"),
        pytest.param(b'{"a":NaN}', "NaN", id="NaN"),
        pytest.param(b"1e999", "too large", id="infinite"),
        pytest.param(b"[" * 10_000 + b"]" * 10_000, "levels", id="ten thousand deep"),
        pytest.param(b"[" * 70 + b"]" * 70, "levels", id="seventy deep"),
        pytest.param(b'"\\u0000"', "NUL", id="NUL"),
        pytest.param(b'"\\ud800"', "surrogate", id="lone surrogate"),
        pytest.param(b'{"\\udfff":1}', "surrogate", id="lone surrogate in a name"),
        pytest.param(b"\xff\xfe", "UTF-8", id="not UTF-8"),
        pytest.param(b"9" * 5000, "JSON", id="a number of 5,000 digits"),
        pytest.param(b'"' + b"x" * 9000 + b'"', "at most", id="too long"),
    ],
)
def test_json_that_is_refused(raw, word):
    with pytest.raises(DocumentProblem, match=word):
        parse_json(raw, max_bytes=20_100 if b"[[" in raw else 8192)


def test_initial_twin_of_the_largest_size_is_accepted():
    empty = len(json.dumps({"tags": {"a": ""}}))

    twin = parse_initial_twin(json.dumps({"tags": {"a": "x" * (MAX_TWIN_BYTES - empty)}}))

    assert twin["properties"] == {"desired": {}}


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        ("[]", "object"),
        ('"x"', "object"),
        ('{"tag": {}}', "'tag'"),
        ('{"tags": []}', "tags"),
        ('{"properties": {"reported": {}}}', "desired"),
        ('{"properties": {"desired": 1}}', "desired"),
        (json.dumps({"tags": {"a": "x" * MAX_TWIN_BYTES}}), "at most 8192"),
    ],
)
def test_initial_twin_that_is_refused(raw, word):
    with pytest.raises(DocumentProblem, match=word):
        parse_initial_twin(raw)
