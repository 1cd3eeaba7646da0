"""An explanation as pages show it: each step and each certificate with its words, its icon and where it leads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from django.urls import reverse
from django.utils import timezone

from enrollments.actions.drawn_chains import DrawnCertificate, DrawnChain
from enrollments.actions.explanations import ExplainedStep, Explanation
from enrollments.actions.possession import PossessionState, possession_of
from enrollments.attestation.x509 import CertificateFacts
from enrollments.models import ProvisioningService, Slot
from enrollments.models.ca_certificates import is_ca_name
from enrollments.policy.facts import EntryRef
from enrollments.portal.entry_links import entry_url

# What a candidate said: the tone of its badge, and the icon beside the word.
_SAID = {
    "proves": ("good", "shield-check"),
    "admits": ("good", "circle-check"),
    "proves nothing": ("bad", "shield-x"),
    "bars": ("bad", "ban"),
    "refuses": ("bad", "circle-x"),
    "fails": ("bad", "circle-x"),
    "chooses": ("good", "route"),
}
_VALIDITY = {"expired": ("bad", "clock"), "not yet valid": ("warn", "clock"), "valid": ("good", "calendar")}
_VERDICT = {
    "admit": ("admitted", "Admitted", "circle-check", "alert-success"),
    "disabled": ("told that it is disabled", "Disabled", "ban", "alert-danger"),
    "unauthorized": ("refused with 401", "Refused", "circle-x", "alert-danger"),
}
_THROTTLED = ("told to wait", "Throttled", "hourglass", "alert-warning")
_FAILED = ("admitted, and told that it failed", "Failed", "alert-triangle", "alert-warning")


@dataclass(frozen=True, slots=True)
class Mark:
    """One state of something: icon, words and tone; with the entry that it is about, and its address."""

    words: str
    icon: str
    tone: str = ""
    entry: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class ShownStep:
    step: ExplainedStep
    said: Mark
    url: str


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    drawn: DrawnCertificate
    place: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class ShownChain:
    path: tuple[ShownCertificate, ...]
    aside: tuple[ShownCertificate, ...]
    problem: str


@dataclass(frozen=True, slots=True)
class Shown:
    """An explanation with what stands around its sentences."""

    explanation: Explanation
    headline: str
    verdict: str
    icon: str
    css: str
    entry_url: str
    steps: tuple[ShownStep, ...]
    chain: ShownChain | None


def shown(
    service: ProvisioningService, explanation: Explanation, *, gone: Collection[EntryRef] = ()
) -> Shown:
    """`gone`: entries that have no page any more."""
    if explanation.is_throttled:
        words, verdict, icon, css = _THROTTLED
    else:
        told = explanation.verdict
        other = (f"answered as {told.value}", told.value.capitalize(), "help-circle", "alert-warning")
        words, verdict, icon, css = _FAILED if explanation.fails else _VERDICT.get(told, other)
    tense = "was" if explanation.was_kept else "would be"
    return Shown(
        explanation,
        f"{explanation.registration_id} {tense} {words}",
        verdict,
        icon,
        css,
        _url(service, explanation.entry, gone),
        shown_steps(service, explanation.steps, gone=gone),
        shown_chain(service, explanation.chain, gone=gone) if explanation.chain else None,
    )


def shown_steps(
    service: ProvisioningService, steps: Sequence[ExplainedStep], *, gone: Collection[EntryRef] = ()
) -> tuple[ShownStep, ...]:
    return tuple(ShownStep(step, _said(step.said), _url(service, step.entry, gone)) for step in steps)


def _url(service: ProvisioningService, ref: EntryRef | None, gone: Collection[EntryRef]) -> str:
    return entry_url(service, ref) if ref is not None and ref not in gone else ""


def shown_chain(
    service: ProvisioningService,
    chain: DrawnChain,
    *,
    lowest: str = "Device certificate",
    gone: Collection[EntryRef] = (),
) -> ShownChain:
    """`lowest`: what the path begins with."""

    def show(one: DrawnCertificate) -> ShownCertificate:
        return ShownCertificate(one, _place(one, lowest), tuple(_marks(service, one, gone)))

    return ShownChain(tuple(map(show, chain.path)), tuple(map(show, chain.aside)), chain.problem)


def possession_mark(service: ProvisioningService, state: PossessionState) -> Mark:
    """Whether somebody has proven to have the key of a CA. It leads to the CA certificate, where there is one."""
    # One that is gone by now, and stood there at the time that is told of, comes without its name.
    name = state.name if is_ca_name(state.name) else ""
    url = reverse("portal:ca-detail", args=[service.name, name]) if name else ""
    if state.is_verified:
        return Mark("Possession verified", "shield-check", "good", name, url)
    tone = "warn" if service.proof_of_possession else ""
    if state.until is not None:
        until = f"Possession not verified, code waiting until {state.until:%Y-%m-%d}"
        return Mark(until, "hourglass", tone, name, url)
    return Mark("Possession not verified", "shield-x", tone, name, url)


def possession_marks(service: ProvisioningService, held: Mapping[Slot, CertificateFacts]) -> dict[str, Mark]:
    """The same of the CAs of a group, by slot."""
    cas = {slot: (one.subject_sha256, one.spki_sha256) for slot, one in held.items()}
    states = possession_of(service, cas.values(), timezone.now())
    return {slot.value: possession_mark(service, states[ca]) for slot, ca in cas.items()}


def _said(said: str) -> Mark:
    tone, icon = _SAID.get(said, ("", "circle-minus"))
    return Mark(said.capitalize(), icon, tone)


def _place(drawn: DrawnCertificate, lowest: str) -> str:
    if drawn.steps is None:
        return "Signed nothing of this chain"
    if drawn.steps == 0:
        return lowest
    return "1 signature above" if drawn.steps == 1 else f"{drawn.steps} signatures above"


def _marks(service: ProvisioningService, drawn: DrawnCertificate, gone: Collection[EntryRef]) -> list[Mark]:
    def of(words: str, icon: str, entries: Sequence[EntryRef], tone: str = "") -> list[Mark]:
        return [Mark(words, icon, tone, str(entry), _url(service, entry, gone)) for entry in entries]

    tone, icon = _VALIDITY[drawn.validity]
    marks = of("Barred by", "ban", drawn.barred_by, "bad")
    marks += of("Does not bar here: the disabled", "circle-minus", drawn.not_asked)
    marks.append(Mark(drawn.validity.capitalize(), icon, tone))
    if drawn.is_weak:
        marks.append(Mark("Weak", "shield-x", "bad"))
    elif drawn.problems:
        marks.append(Mark("Not fit for a path", "alert-triangle", "warn"))
    marks += [Mark("Sent by the device", "upload")] if drawn.sent else []
    marks += [Mark("On file here", "building-factory-2")] if drawn.held else []
    marks += of("Enrolled in", "certificate", drawn.enrolled_in)
    if drawn.possession is not None:
        marks.append(possession_mark(service, drawn.possession))
    marks += of("Helper of", "link", drawn.helper_of)
    return marks + of("Same key as in", "key", drawn.same_key_as)
