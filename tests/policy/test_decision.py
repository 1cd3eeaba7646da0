"""R3 and R5 to R8 on values: which entry decides, in tables."""

from dataclasses import replace

import pytest

from enrollments.policy.decision import Said, Verdict, decide
from enrollments.policy.facts import (
    BarredKey,
    CredentialFacts,
    EntryKind,
    EntryRef,
    GroupFacts,
    IndividualFacts,
    Mechanism,
    RegistrationFacts,
)
from enrollments.policy.reasons import Reason


def group(name: str, pk: int, *, steps: int = 1, valid: bool = True, enabled: bool = True) -> GroupFacts:
    path = tuple(f"step {n}" for n in range(steps + 1)) if valid else None
    return GroupFacts(
        EntryRef(EntryKind.GROUP, pk, name),
        enabled,
        created=(float(pk), pk),
        steps_to_key=steps,
        path=path,
        path_problem="" if valid else "expired",
    )


def individual(*, enabled: bool = True, proven: bool = True) -> IndividualFacts:
    ref = EntryRef(EntryKind.INDIVIDUAL, 7, "pump-042")
    return IndividualFacts(ref, enabled, Mechanism.X509, own_credential_proven=proven)


PLANT, ROOT, OTHER = group("plant-7", 1, steps=1), group("root", 2, steps=2), group("other", 3, steps=2)
SHOWN = CredentialFacts(Mechanism.X509, "the certificate CN=pump-042")
OF_GROUP = RegistrationFacts("pump-042", SHOWN, groups=(PLANT, ROOT))
OF_INDIVIDUAL = RegistrationFacts("pump-042", SHOWN, individual=individual())
BARRED = BarredKey(EntryRef(EntryKind.INDIVIDUAL, 99, "stolen-1"), 1, "CN=Plant 7")


SIGNS = CredentialFacts(Mechanism.SYMMETRIC_KEY, "the SAS token")
SIGNED = replace(group("line-9", 4, steps=0, valid=False), signed=True, path_problem="")


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(
            RegistrationFacts("pump-042", SIGNS, individual=individual(proven=False)), id="its entry"
        ),
        pytest.param(
            RegistrationFacts(
                "pump-042", CredentialFacts(Mechanism.TPM, "a TPM"), individual=individual(proven=False)
            ),
            id="a TPM",
        ),
        pytest.param(
            RegistrationFacts("pump-042", SIGNS, individual=individual(enabled=False, proven=False)),
            id="its disabled entry",
        ),
        pytest.param(
            RegistrationFacts("pump-042", SIGNS, groups=(replace(SIGNED, signed=False),)), id="a group"
        ),
    ],
)
def test_of_a_device_that_signs_the_reason_speaks_of_keys_and_of_no_path(facts):
    decision = decide(facts)

    assert (decision.verdict, decision.reason) == (Verdict.UNAUTHORIZED, Reason.KEY_UNPROVEN)
    assert "key" in decision.reason.in_words
    assert not {"path", "CA", "chain"} & set(decision.reason.in_words.split())


def test_disabled_group_that_signed_is_said_to_stand_behind_the_token_and_not_on_a_chain():
    others = replace(SIGNED, ref=EntryRef(EntryKind.GROUP, 5, "line-10"))

    decision = decide(RegistrationFacts("pump-042", SIGNS, groups=(replace(SIGNED, enabled=False), others)))

    assert (decision.verdict, decision.reason) == (Verdict.DISABLED, Reason.GROUP_DISABLED)
    assert "key" in decision.reason.in_words
    assert not [step for step in decision.trace if "chain" in step.because]


@pytest.mark.parametrize(
    ("facts", "entry"),
    [
        pytest.param(OF_INDIVIDUAL, "pump-042", id="its own entry and credential"),
        pytest.param(OF_GROUP, "plant-7", id="the group with the fewest steps"),
        pytest.param(replace(OF_GROUP, groups=(ROOT,)), "root", id="the root's group"),
        pytest.param(replace(OF_GROUP, groups=(OTHER, ROOT)), "root", id="a tie goes to the older group"),
        pytest.param(
            replace(OF_GROUP, groups=(replace(PLANT, path=None), ROOT)),
            "root",
            id="the one with a valid path",
        ),
        pytest.param(
            replace(OF_INDIVIDUAL, groups=(replace(PLANT, enabled=False),)),
            "pump-042",
            id="R8: its own entry, even below a disabled group",
        ),
    ],
)
def test_device_is_admitted_by(facts, entry):
    decision = decide(facts)

    assert (decision.verdict, decision.entry.name) == (Verdict.ADMIT, entry)


@pytest.mark.parametrize(
    ("facts", "verdict", "reason"),
    [
        pytest.param(
            replace(OF_INDIVIDUAL, individual=individual(enabled=False)),
            Verdict.DISABLED,
            Reason.INDIVIDUAL_DISABLED,
            id="R5: disabled singly",
        ),
        pytest.param(
            replace(OF_GROUP, individual=individual(enabled=False, proven=False)),
            Verdict.DISABLED,
            Reason.INDIVIDUAL_DISABLED,
            id="R5: disabled singly, proven through a group",
        ),
        pytest.param(
            replace(OF_GROUP, individual=individual(proven=False)),
            Verdict.UNAUTHORIZED,
            Reason.OTHER_CREDENTIAL,
            id="R5: another credential never falls through to a group",
        ),
        pytest.param(
            replace(OF_INDIVIDUAL, individual=individual(enabled=False, proven=False)),
            Verdict.UNAUTHORIZED,
            Reason.NO_VALID_PATH,
            id="R3: a stranger does not hear of a disabled entry",
        ),
        pytest.param(
            replace(OF_INDIVIDUAL, barred_keys=(BARRED,)),
            Verdict.DISABLED,
            Reason.KEY_BARRED,
            id="R6: a barred key, before the enabled entry is asked",
        ),
        pytest.param(
            replace(OF_GROUP, groups=(), barred_keys=(BARRED,)),
            Verdict.UNAUTHORIZED,
            Reason.NOT_ENROLLED,
            id="R6: a barred key, unproven",
        ),
        pytest.param(
            replace(OF_GROUP, groups=(PLANT, replace(ROOT, enabled=False))),
            Verdict.DISABLED,
            Reason.GROUP_DISABLED,
            id="R7: a disabled root above an enabled group",
        ),
        pytest.param(
            replace(OF_GROUP, groups=(replace(PLANT, enabled=False), ROOT)),
            Verdict.DISABLED,
            Reason.GROUP_DISABLED,
            id="R7: a disabled intermediate below an enabled root",
        ),
        pytest.param(
            replace(OF_GROUP, groups=(PLANT, replace(ROOT, enabled=False, path=None))),
            Verdict.DISABLED,
            Reason.GROUP_DISABLED,
            id="R7: a disabled group bars without a valid path",
        ),
        pytest.param(
            replace(OF_GROUP, groups=(replace(ROOT, enabled=False, path=None),)),
            Verdict.UNAUTHORIZED,
            Reason.NO_VALID_PATH,
            id="R3: barred, and unproven: 401",
        ),
        pytest.param(
            replace(OF_GROUP, groups=()), Verdict.UNAUTHORIZED, Reason.NOT_ENROLLED, id="nobody enrolled it"
        ),
        pytest.param(
            replace(OF_GROUP, groups=(replace(PLANT, path=None),)),
            Verdict.UNAUTHORIZED,
            Reason.NO_VALID_PATH,
            id="a group without a valid path",
        ),
        pytest.param(
            replace(OF_INDIVIDUAL, credential=replace(SHOWN, problem=Reason.COMMON_NAME_DIFFERS)),
            Verdict.UNAUTHORIZED,
            Reason.COMMON_NAME_DIFFERS,
            id="R3: a problem with the credential outweighs a pin",
        ),
        pytest.param(
            RegistrationFacts("pump-042", CredentialFacts(None, problem=Reason.NO_CREDENTIAL)),
            Verdict.UNAUTHORIZED,
            Reason.NO_CREDENTIAL,
            id="R16: nothing to check",
        ),
    ],
)
def test_device_is_refused(facts, verdict, reason):
    decision = decide(facts)

    assert (decision.verdict, decision.reason) == (verdict, reason)


def test_trace_names_each_candidate_in_order_and_why_others_were_not_asked():
    facts = replace(OF_GROUP, individual=individual(enabled=False, proven=False))

    trace = decide(facts).trace

    assert [(step.rule, step.candidate, step.said) for step in trace] == [
        ("R3", "the certificate CN=pump-042", Said.PROVES),
        ("R5", "individual enrollment pump-042", Said.BARS),
        ("R7", "enrollment group plant-7", Said.NOT_ASKED),
        ("R7", "enrollment group root", Said.NOT_ASKED),
    ]
    assert all(step.because for step in trace)


def test_trace_names_every_group_that_bars():
    facts = replace(OF_GROUP, groups=(replace(PLANT, enabled=False), replace(ROOT, enabled=False), OTHER))

    trace = decide(facts).trace

    assert [step.candidate for step in trace if step.said is Said.BARS] == [
        "enrollment group plant-7",
        "enrollment group root",
    ]
    assert trace[-1].candidate == "enrollment group other"
    assert trace[-1].said is Said.NOT_ASKED


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param(replace(SHOWN, problem=Reason.LEAF_REFUSED), id="a certificate that has expired"),
        pytest.param(replace(SHOWN, problem=Reason.COMMON_NAME_DIFFERS), id="a certificate of another name"),
        pytest.param(replace(SIGNS, problem=Reason.TOKEN_EXPIRED), id="a token that has expired"),
        pytest.param(CredentialFacts(None, problem=Reason.NO_CREDENTIAL), id="nothing"),
    ],
)
def test_without_a_usable_credential_no_group_is_said_to_have_been_asked(credential):
    trace = decide(RegistrationFacts("pump-042", credential)).trace

    assert [(step.candidate, step.said, step.because) for step in trace[1:]] == [
        ("individual enrollment of pump-042", Said.SILENT, "there is none"),
        ("enrollment groups", Said.NOT_ASKED, "without a usable credential no group is asked"),
    ]


@pytest.mark.parametrize(
    ("credential", "because"),
    [
        (SHOWN, "none is met on the chain"),
        (SIGNS, "none has a key from which the device's own is derived"),
    ],
)
def test_of_a_usable_credential_groups_are_asked_also_where_none_has_a_say(credential, because):
    trace = decide(RegistrationFacts("pump-042", credential)).trace

    assert trace[1].because == "there is none, so the groups are asked"
    assert (trace[2].said, trace[2].because) == (Said.SILENT, because)
