"""`manage.py explain`: which entry decides about a device, step by step. Changes nothing."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from enrollments.actions.drawn_chains import DrawnCertificate
from enrollments.actions.explaining import Question, explain, explain_group
from enrollments.actions.explanations import ExplainedGroup, Explanation
from enrollments.actions.schedule import as_text
from enrollments.attestation.x509 import ParsedCertificate, read_upload
from enrollments.errors import Invalid
from enrollments.management.command import DpsCommand, add_service_option, called_wrongly, service_named


class Command(DpsCommand):
    help = (
        "Explain which entry decides about a device, and why. With --certificate: what the service would "
        "answer to a device that has the key of that certificate. With --tracking-id: why the answer "
        "with that tracking ID was given. With --registration-id alone: what it would answer to what "
        "the device showed last, or to the credential that is enrolled for it; failing both, why its last "
        "attempt was refused. With --group besides: to a device of that group with symmetric keys; with "
        "--group alone: what stands above that group."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        add_service_option(parser)
        parser.add_argument(
            "--certificate", type=Path, metavar="FILE", help="The chain as the device sends it, leaf first."
        )
        parser.add_argument(
            "--tracking-id", default="", metavar="ID", help="From an answer that a device was given."
        )
        parser.add_argument(
            "--registration-id",
            default="",
            metavar="ID",
            help="With --certificate: the ID to register under, if not its common name.",
        )
        parser.add_argument(
            "--group",
            default="",
            metavar="ID",
            help="With --registration-id: a group with symmetric keys. Alone: any group.",
        )
        parser.add_argument(
            "--at",
            default="",
            metavar="TIME",
            help="Another time than now, in UTC: 2030-03-01 or 2030-03-01T12:00. What is enrolled is that of now; of a "
            "time to come, with what is scheduled until then.",
        )

    def act(
        self,
        *,
        service: str,
        certificate: Path | None,
        tracking_id: str,
        registration_id: str,
        group: str,
        at: str,
        json: bool,
        **_: Any,
    ) -> None:
        if not (certificate or tracking_id or registration_id or group):
            called_wrongly("Give --certificate, --tracking-id, --registration-id or --group.")
        found = service_named(service)
        explanation: Explanation | ExplainedGroup
        chain = _chain_in(certificate) if certificate else ()
        moment = _moment(at) if at else None
        try:
            if group and not (certificate or tracking_id or registration_id):
                explanation = explain_group(found, group, at=moment)
            else:
                explanation = explain(found, Question(tracking_id, chain, registration_id, group, moment))
        except Invalid as problem:
            called_wrongly(problem.message)
        if json:
            self.print_json({"service": found.name, **explanation.as_json()})
        elif isinstance(explanation, ExplainedGroup):
            self.stdout.write(_group_as_text(found.name, explanation))
        else:
            self.stdout.write(_as_text(found.name, explanation))


def _moment(text: str) -> datetime:
    """A time in UTC, unless it says another zone itself."""
    try:
        value = datetime.fromisoformat(text)
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        called_wrongly(f"{text!r} is no time: give one such as 2030-03-01 or 2030-03-01T12:00.")


def _chain_in(path: Path) -> tuple[ParsedCertificate, ...]:
    try:
        return read_upload(path.read_bytes())
    except OSError as problem:
        called_wrongly(f"{path} cannot be read: {problem.strerror or problem}")


def _as_text(service: str, explanation: Explanation) -> str:
    lines = [
        f"Registration ID {explanation.registration_id} in service {service}",
        f"Judged by       {explanation.basis}",
        f"At              {explanation.at.isoformat()}",
    ]
    if (attempt := explanation.attempt) is not None and not explanation.is_of_another:
        thumbprint = f"certificate SHA-256 {attempt.leaf_thumbprint}" if attempt.leaf_thumbprint else ""
        key = f"key {attempt.key_id}" if attempt.key_id else ""
        told = ", ".join(filter(None, (attempt.peer_address, attempt.client, thumbprint, key)))
        lines.append(f"From            {told or 'unknown'}")
    if explanation.chain is not None:
        lines += ["", "The path, from the device upwards:"]
        lines += [f"    {_in_words(one)}" for one in explanation.chain.path]
    if explanation.chain_note:
        lines += ["", explanation.chain_note]
    lines.append("")
    for number, step in enumerate(explanation.steps, 1):
        decides = " (this decides)" if step.decides else ""
        lines.append(f"{number:2}. {step.rule}  {step.candidate}: {step.said}{decides}")
        lines.append(f"        {step.because}")
    how = "concerning" if explanation.is_for_want_of_proof else "decided by"
    decided_by = f", {how} {explanation.entry_words}" if explanation.entry_words else ""
    if explanation.disabled_until is not None:
        decided_by += f", which is disabled until {as_text(explanation.disabled_until)}"
    fails = ", and failed" if explanation.fails else ""
    lines += ["", f"Verdict: {explanation.came_out}{fails} ({explanation.cause}){decided_by}"]
    if explanation.note:
        lines.append(explanation.note)
    return "\n".join(lines)


def _group_as_text(service: str, explained: ExplainedGroup) -> str:
    lines = [
        f"Enrollment group {explained.group} in service {service}",
        f"At               {explained.at.isoformat()}",
    ]
    for chain in explained.chains:
        lines += ["", "The path, from an enrolled CA upwards:"]
        lines += [f"    {_in_words(one)}" for one in chain.path]
    lines += ["", *explained.unreadable] if explained.unreadable else []
    if not explained.chains and not explained.unreadable:
        lines += [
            "",
            "Its devices sign with keys that are derived from its own: give --registration-id with it.",
        ]
    return "\n".join(lines)


def _in_words(drawn: DrawnCertificate) -> str:
    name = "".join(one if one.isprintable() else "\ufffd" for one in drawn.certificate.subject[:120])
    states = ["sent"] if drawn.sent else []
    states.append(drawn.validity)
    states += [f"enrolled in {entry}" for entry in drawn.enrolled_in]
    if drawn.possession is not None:
        states.append(f"possession {drawn.possession.possession.value}")
    states += [f"helper of {entry}" for entry in drawn.helper_of]
    states += [f"same key as in {entry}" for entry in drawn.same_key_as]
    states += [f"barred by {entry}" for entry in drawn.barred_by]
    states += [f"not barred by the disabled {entry}" for entry in drawn.not_asked]
    return f"{name or '(no subject)'}: {', '.join([*states, *drawn.problems])}"
