"""A decision explained: each step that was taken, which one decided, and the chain; whatever it was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from enrollments.actions.attempts import shown_trace
from enrollments.actions.drawn_chains import DrawnCertificate, DrawnChain
from enrollments.actions.known_credentials import KnownCredential
from enrollments.models import EnrollmentGroup, RegistrationAttempt
from enrollments.policy.decision import Decision, Said, Verdict
from enrollments.policy.facts import EntryRef, RegistrationFacts
from enrollments.policy.reasons import Reason
from enrollments.policy.unknown import Unknown
from enrollments.policy.words import as_part


@dataclass(frozen=True, slots=True)
class ExplainedStep:
    """One candidate. `entry`: where it is an entry that is still there. `decides`: the verdict rests on it."""

    rule: str
    candidate: str
    said: str
    because: str
    decides: bool = False
    entry: EntryRef | None = None

    @property
    def was_asked(self) -> bool:
        return self.said != Said.NOT_ASKED


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is decided about a device, and why.

    basis: in words, what is judged. attempt: where it is told from a trace that was kept, and not judged now.
    disabled_until: when the disabled entry that decides is enabled by itself, if it is.
    namesake_since: where the entry that decided is gone, since when another one has its name.
    note: what else is known to hinder it. chain_note: as of when the chain is told, or why there is none.
    is_latest: whether the tracking ID is that of the latest that is counted there. is_of_another: whether what was kept
    besides the cause is of another device. is_to_come: whether another time is one to come.
    """

    registration_id: str
    basis: str
    at: datetime
    verdict: Verdict | Unknown
    reason: Reason | Unknown
    steps: tuple[ExplainedStep, ...]
    entry_words: str = ""
    entry: EntryRef | None = None
    disabled_until: datetime | None = None
    namesake_since: datetime | None = None
    chain: DrawnChain | None = None
    attempt: RegistrationAttempt | None = None
    tracking_id: str = ""
    is_latest: bool = True
    is_of_another: bool = False
    is_another_time: bool = False
    is_to_come: bool = False
    note: str = ""
    chain_note: str = ""

    @property
    def fails(self) -> bool:
        """Admitted by an entry, and not assigned all the same (R10, R11)."""
        fails = any(step.said == Said.FAILS for step in self.steps)
        return self.verdict is Verdict.ADMIT and fails and not self.is_throttled

    @property
    def is_throttled(self) -> bool:
        """Told to wait, whether or not it was judged: then nothing is said of what it would have been told."""
        return self.reason is Reason.THROTTLED

    @property
    def is_for_want_of_proof(self) -> bool:
        """Whether the verdict rests on that (R3). Then it concerns `entry`, which decided nothing."""
        return any(step.decides and step.said == Said.PROVES_NOTHING for step in self.steps)

    @property
    def cause(self) -> str:
        """In words. Of a certificate that breaks a rule, which one that is."""
        if self.reason is Reason.LEAF_REFUSED and self.is_for_want_of_proof:
            because = next(step.because for step in self.steps if step.decides)
            return f"{because[:1].lower()}{because[1:]}"
        return self.reason.in_words

    @property
    def came_out(self) -> str:
        return self.reason.value if self.is_throttled else self.verdict.value

    @property
    def was_kept(self) -> bool:
        return self.attempt is not None

    @property
    def not_asked(self) -> tuple[ExplainedStep, ...]:
        return tuple(step for step in self.steps if not step.was_asked)

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "registration_id": self.registration_id,
            "basis": self.basis,
            "at": self.at.isoformat(),
            "verdict": self.came_out,
            "reason": self.reason.value,
            "because": self.reason.in_words,
            "fails": self.fails,
            "note": self.note or None,
            "entry": self.entry_words or None,
            "disabled_until": self.disabled_until.isoformat() if self.disabled_until is not None else None,
            "trace": [
                {
                    "rule": step.rule,
                    "candidate": step.candidate,
                    "said": step.said,
                    "because": step.because,
                    "decides": step.decides,
                }
                for step in self.steps
            ],
        }
        if self.chain is not None:
            told["chain"] = [_certificate_as_json(one) for one in self.chain.path]
        if self.chain_note:
            told["chain_note"] = self.chain_note
        if self.attempt is not None and not self.is_of_another:
            told["from"] = {
                "address": self.attempt.peer_address,
                "client": self.attempt.client,
                "leaf_thumbprint_sha256": self.attempt.leaf_thumbprint,
                "key_id": self.attempt.key_id,
            }
        return told


@dataclass(frozen=True, slots=True)
class ExplainedGroup:
    """What every device of a group comes by: the path above each of its CAs. It has none if it holds keys.

    is_another_time, is_to_come: see Explanation. unreadable: in sentences, of what nothing is drawn.
    """

    group: EnrollmentGroup
    at: datetime
    chains: tuple[DrawnChain, ...]
    is_another_time: bool = False
    is_to_come: bool = False
    unreadable: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "group": self.group.group_id,
            "at": self.at.isoformat(),
            "chains": [[_certificate_as_json(one) for one in chain.path] for chain in self.chains],
            **({"unreadable": list(self.unreadable)} if self.unreadable else {}),
        }


def explanation_of(
    known: KnownCredential,
    at: datetime,
    facts: RegistrationFacts,
    decision: Decision,
    *,
    chain: DrawnChain | None = None,
    is_another_time: bool = False,
) -> Explanation:
    """A decision in the words of an explanation."""
    there = [group.ref for group in facts.groups] + [barred.ref for barred in facts.barred_keys]
    there += [facts.individual.ref] if facts.individual else []
    trace = shown_trace(decision)
    return Explanation(
        known.registration_id,
        known.basis,
        at,
        decision.verdict,
        decision.reason,
        explained_steps(trace, {str(ref): ref for ref in there}),
        entry_words=str(decision.entry or ""),
        entry=decision.entry,
        chain=chain,
        is_another_time=is_another_time,
    )


def explained_steps(trace: Sequence[dict[str, str]], there: dict[str, EntryRef]) -> tuple[ExplainedStep, ...]:
    decisive = _decisive([step["said"] for step in trace])
    return tuple(
        ExplainedStep(
            step["rule"],
            step["candidate"],
            step["said"],
            as_part(step["because"]),
            decides=position == decisive,
            entry=there.get(step["candidate"]),
        )
        for position, step in enumerate(trace)
    )


def _decisive(said: Sequence[str]) -> int:
    """The step that the verdict rests on. Without proof that is the lack of it, whatever was said after (R3)."""
    for answers in (
        {Said.PROVES_NOTHING},
        # Admitted, and not assigned all the same.
        {Said.FAILS},
        {Said.BARS, Said.ADMITS, Said.REFUSES},
        # Proven, and nobody admits: the last that was asked.
        {Said.SILENT},
    ):
        found = [position for position, one in enumerate(said) if one in answers]
        if found:
            return found[-1] if Said.SILENT in answers else found[0]
    return -1


def _certificate_as_json(drawn: DrawnCertificate) -> dict[str, Any]:
    return {
        "subject": drawn.certificate.subject,
        "thumbprint_sha256": drawn.certificate.thumbprint_sha256,
        "steps": drawn.steps,
        "sent": drawn.sent,
        "validity": drawn.validity,
        "enrolled_in": list(map(str, drawn.enrolled_in)),
        "helper_of": list(map(str, drawn.helper_of)),
        "same_key_as": list(map(str, drawn.same_key_as)),
        "barred_by": list(map(str, drawn.barred_by)),
        "disabled_but_not_asked": list(map(str, drawn.not_asked)),
        "possession": drawn.possession.possession.value if drawn.possession else None,
        "problems": list(drawn.problems),
    }
