"""Which entry decides, and what it says: R3, then R6, R5, R7. One function for devices, pages and commands."""

from dataclasses import dataclass
from enum import StrEnum

from enrollments.policy.facts import EntryRef, GroupFacts, IndividualFacts, Mechanism, RegistrationFacts
from enrollments.policy.reasons import Reason


class Verdict(StrEnum):
    """What the device is told."""

    ADMIT = "admit"
    DISABLED = "disabled"
    UNAUTHORIZED = "unauthorized"


class Said(StrEnum):
    """What one candidate answered when it was asked."""

    PROVES = "proves"
    PROVES_NOTHING = "proves nothing"
    BARS = "bars"
    ADMITS = "admits"
    REFUSES = "refuses"
    SILENT = "has no say"
    NOT_ASKED = "not asked"
    CHOOSES = "chooses"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One candidate: what it is, what it said, and why that settled the matter or not."""

    rule: str
    candidate: str
    said: Said
    because: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict, the entry that gave it, and how it came about. `proven`: whether the device proved itself (R3)."""

    verdict: Verdict
    reason: Reason
    entry: EntryRef | None
    trace: tuple[TraceStep, ...]
    proven: bool

    @property
    def admitted(self) -> bool:
        return self.verdict is Verdict.ADMIT


def decide(facts: RegistrationFacts) -> Decision:
    """Decide about one registration (R3, R5 to R8). Whatever no entry admits is refused."""
    trace: list[TraceStep] = []
    proven = _proof(facts, trace)
    reason, entry = _bar_or_admit(facts, proven, trace)
    if reason is Reason.ADMITTED:
        return Decision(Verdict.ADMIT, reason, entry, tuple(trace), proven)
    if not proven:
        # R3: who has proven nothing hears the same 401 whatever barred it, and the cause stays with us.
        return Decision(Verdict.UNAUTHORIZED, _why_unproven(facts), entry, tuple(trace), proven)
    verdict = Verdict.UNAUTHORIZED if reason in _PROVEN_BUT_UNAUTHORIZED else Verdict.DISABLED
    return Decision(verdict, reason, entry, tuple(trace), proven)


_PROVEN_BUT_UNAUTHORIZED = frozenset(
    {
        Reason.OTHER_CREDENTIAL,
        Reason.NO_VALID_PATH,
        Reason.KEY_UNPROVEN,
        Reason.KEY_GROUPS_OFF,
        Reason.POSSESSION_UNPROVEN,
    }
)


def _proof(facts: RegistrationFacts, trace: list[TraceStep]) -> bool:
    """R3: pinned by the individual enrollment, or a valid path to an enrolled CA, enabled or disabled."""
    credential = facts.credential
    name = credential.summary or "the device"
    if credential.problem is not None:
        because = credential.problem_detail or credential.problem.in_words
        trace.append(TraceStep("R3", name, Said.PROVES_NOTHING, because))
        return False
    if facts.individual is not None and facts.individual.own_credential_proven:
        trace.append(TraceStep("R3", name, Said.PROVES, f"it is the credential of {facts.individual.ref}"))
        return True
    if leading := [group for group in facts.groups if group.proves]:
        shortest = min(leading, key=_nearest_first)
        because = f"a valid path leads to {shortest.ref}: {' ← '.join(reversed(shortest.path or ()))}"
        if shortest.signed:
            because = f"it is signed with the key that the device has from {shortest.ref}"
        trace.append(TraceStep("R3", name, Said.PROVES, because))
        return True
    trace.append(TraceStep("R3", name, Said.PROVES_NOTHING, _unproven_detail(facts)))
    return False


def _bar_or_admit(
    facts: RegistrationFacts, proven: bool, trace: list[TraceStep]
) -> tuple[Reason, EntryRef | None]:
    if facts.barred_keys:
        # R6: before any enabled entry is asked, under whatever registration ID.
        nearest = min(facts.barred_keys, key=lambda barred: (barred.steps, barred.ref.pk))
        trace.append(
            TraceStep(
                "R6",
                str(nearest.ref),
                Said.BARS,
                f"it is disabled and holds the key of {nearest.certificate}",
            )
        )
        _not_asked(facts, trace, "a barred key settles it", individual=facts.individual, groups=facts.groups)
        return Reason.KEY_BARRED, nearest.ref
    if facts.individual is not None:
        return _ask_individual(facts, facts.individual, proven, trace)
    trace.append(
        TraceStep(
            "R5",
            f"individual enrollment of {facts.claimed_registration_id}",
            Said.SILENT,
            "there is none" if facts.credential.problem else "there is none, so the groups are asked",
        )
    )
    return _ask_groups(facts, proven, trace)


def _ask_individual(
    facts: RegistrationFacts, individual: IndividualFacts, proven: bool, trace: list[TraceStep]
) -> tuple[Reason, EntryRef | None]:
    """R5: where it exists it alone decides; R8: groups are not asked, not even disabled ones."""

    def settle(said: Said, because: str) -> None:
        trace.append(TraceStep("R5", str(individual.ref), said, because))
        _not_asked(facts, trace, "the individual enrollment alone decides", groups=facts.groups)

    if not individual.enabled:
        settle(Said.BARS, "it is disabled, whichever credential the device holds")
        return Reason.INDIVIDUAL_DISABLED, individual.ref
    if proven and individual.own_credential_proven:
        settle(Said.ADMITS, "it is enabled and its own credential was proven")
        return Reason.ADMITTED, individual.ref
    detail = f": {individual.detail}" if individual.detail else ""
    settle(Said.REFUSES, f"its own credential was not proven{detail}")
    return Reason.OTHER_CREDENTIAL, individual.ref


def _ask_groups(
    facts: RegistrationFacts, proven: bool, trace: list[TraceStep]
) -> tuple[Reason, EntryRef | None]:
    # R7, bar: a compromised CA taints every chain through its key, so a disabled group counts wherever it stands.
    barring = sorted((g for g in facts.groups if not g.enabled), key=lambda g: (g.steps_to_key, g.created))
    for group in barring:
        trace.append(
            TraceStep(
                "R7",
                str(group.ref),
                Said.BARS,
                f"it is disabled and {_where(group, group.steps_to_key)}",
            )
        )
    if barring:
        enabled = tuple(group for group in facts.groups if group.enabled)
        which = "behind the token" if barring[0].signed else "on the chain"
        _not_asked(facts, trace, f"a disabled group {which} settles it", groups=enabled)
        return Reason.GROUP_DISABLED, barring[0].ref

    # R7, admit: the fewest steps from the leaf, then the group created first.
    admitting = sorted((g for g in facts.groups if g.may_admit), key=_nearest_first)
    for group in facts.groups:
        if group not in admitting:
            trace.append(TraceStep("R7", str(group.ref), Said.SILENT, _why_silent(group)))
    if not admitting or not proven:
        if not facts.groups:
            trace.append(_no_group(facts))
        return _why_none_admits(facts), None
    first, *others = admitting
    trace.append(
        TraceStep("R7", str(first.ref), Said.ADMITS, f"it is enabled and {_where(first, first.path_steps)}")
    )
    _not_asked(facts, trace, "a nearer or older group admits", groups=tuple(others))
    return Reason.ADMITTED, first.ref


def _not_asked(
    facts: RegistrationFacts,
    trace: list[TraceStep],
    because: str,
    *,
    individual: IndividualFacts | None = None,
    groups: tuple[GroupFacts, ...] = (),
) -> None:
    if individual is not None:
        trace.append(TraceStep("R5", str(individual.ref), Said.NOT_ASKED, because))
    trace.extend(TraceStep("R7", str(group.ref), Said.NOT_ASKED, because) for group in groups)


def _why_unproven(facts: RegistrationFacts) -> Reason:
    if facts.credential.problem is not None:
        return facts.credential.problem
    if facts.individual is not None and facts.individual.problem is not None:
        return facts.individual.problem
    if facts.individual is None and not facts.groups:
        return Reason.NOT_ENROLLED
    return _nothing_fits(facts)


def _nothing_fits(facts: RegistrationFacts) -> Reason:
    """What there is to prove oneself by was not proven: of a device that signs there is no path to speak of."""
    signs = facts.credential.mechanism in (Mechanism.SYMMETRIC_KEY, Mechanism.TPM)
    return Reason.KEY_UNPROVEN if signs else Reason.NO_VALID_PATH


def _unproven_detail(facts: RegistrationFacts) -> str:
    causes = [facts.individual.detail] if facts.individual is not None and facts.individual.detail else []
    causes += [f"{group.ref}: {group.path_problem}" for group in facts.groups if group.path_problem]
    return "; ".join(causes) or "neither an individual enrollment nor an enrollment group vouches for it"


def _nearest_first(group: GroupFacts) -> tuple[int, tuple[float, int]]:
    return group.path_steps, group.created


def _why_none_admits(facts: RegistrationFacts) -> Reason:
    if any(group.switched_off for group in facts.groups):
        return Reason.KEY_GROUPS_OFF
    if any(group.lacks_proof for group in facts.groups):
        return Reason.POSSESSION_UNPROVEN
    return _nothing_fits(facts)


def _why_silent(group: GroupFacts) -> str:
    if group.switched_off:
        return "groups with symmetric keys are switched off in this service (R4)"
    if group.lacks_proof:
        ca = (group.path or ("its CA",))[-1]
        return f"this service demands proof of possession, and nobody has proven to have the key of {ca}"
    return group.path_problem or "its key is met, but no valid path ends in the enrolled CA"


def _no_group(facts: RegistrationFacts) -> TraceStep:
    said, because = Said.SILENT, "none has a key from which the device's own is derived"
    if facts.credential.problem is not None:
        # Nothing was followed upwards from it, so which groups would be met is not known.
        said, because = Said.NOT_ASKED, "without a usable credential no group is asked"
    elif facts.credential.mechanism is Mechanism.X509:
        because = "none is met on the chain"
    return TraceStep("R7", "enrollment groups", said, because)


def _where(group: GroupFacts, steps: int) -> str:
    return (
        "the token is signed with a key derived from its own"
        if group.signed
        else f"its key stands {_steps(steps)}"
    )


def _steps(number: int) -> str:
    if number == 0:
        return "on the device certificate itself"
    return (
        "one step above the device certificate"
        if number == 1
        else f"{number} steps above the device certificate"
    )
