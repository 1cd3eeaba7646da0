"""`manage.py explain`: which entry decides about a device, step by step. Changes nothing."""

from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from django.utils import timezone

from enrollments.actions.attempts import find_attempt, trace_as_json
from enrollments.actions.certificates import parsed
from enrollments.actions.judging import judge
from enrollments.attestation.credential import PresentedCredential
from enrollments.attestation.x509 import ParsedCertificate, read_upload
from enrollments.errors import NotFound
from enrollments.management.command import (
    DpsCommand,
    add_service_option,
    called_wrongly,
    moment,
    service_named,
)
from enrollments.models import AttemptOutcome, AttestationMechanism, ProvisioningService, RegistrationAttempt
from enrollments.policy.names import FORM_IN_WORDS, is_registration_id, registration_key
from enrollments.policy.reasons import Reason
from enrollments.simulator.credentials import sas_token


class Command(DpsCommand):
    help = (
        "Explain which entry decides about a device, and why. With --certificate: what the service would "
        "answer, now, to a device that has the key of that certificate. With --tracking-id: why the answer "
        "with that tracking ID was given. With --registration-id alone: what it would answer, now, to what "
        "the device showed last, or to the credential that is enrolled for it; failing both, why its last "
        "attempt was refused. With --at: what it would answer at a later time, when certificates may have expired and "
        "what is scheduled will have happened."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        add_service_option(parser)
        parser.add_argument(
            "--certificate", type=Path, metavar="FILE", help="The chain as the device sends it, leaf first."
        )
        parser.add_argument("--tracking-id", metavar="ID", help="From an answer that a device was given.")
        parser.add_argument(
            "--registration-id",
            metavar="ID",
            help="With --certificate: the ID to register under, if not its common name.",
        )
        parser.add_argument(
            "--at",
            type=moment,
            metavar="TIME",
            help="A time to come, such as 2026-05-03T14:00Z; without a zone it is UTC.",
        )

    def act(
        self,
        *,
        service: str,
        certificate: Path | None,
        tracking_id: str | None,
        registration_id: str | None,
        at: datetime | None,
        json: bool,
        **_: Any,
    ) -> None:
        if at is not None and at <= timezone.now():
            called_wrongly(
                "--at is for times to come: what was answered in the past stands under its tracking ID."
            )
        if tracking_id and at is not None:
            called_wrongly("--tracking-id is about an answer that was given, and --at about one to come.")
        if tracking_id and (certificate or registration_id):
            called_wrongly("--tracking-id stands alone: it says which device and which certificate it was.")
        if registration_id and not is_registration_id(registration_id):
            called_wrongly(f"{registration_id!r} is no registration ID: give {FORM_IN_WORDS}.")
        found = service_named(service)
        if tracking_id:
            explained = _kept(found, find_attempt(found, tracking_id), f"the tracking ID {tracking_id}")
        elif certificate:
            explained = _of_certificate(found, certificate, registration_id, at)
        elif registration_id:
            explained = _of_registration_id(found, registration_id, at)
        else:
            called_wrongly("Give --certificate, --tracking-id or --registration-id.")
        if json:
            self.print_json(explained)
        else:
            self.stdout.write(_as_text(explained))


def _of_certificate(
    service: ProvisioningService, path: Path, registration_id: str | None, at: datetime | None
) -> dict[str, Any]:
    try:
        chain = read_upload(path.read_bytes())
    except OSError as problem:
        called_wrongly(f"{path} cannot be read: {problem.strerror or problem}")
    if registration_id is None:
        names = chain[0].common_names
        if len(names) != 1:
            called_wrongly(
                f"The certificate has {len(names)} common names: say with --registration-id what the device "
                "registers as."
            )
        registration_id = names[0]
    shown = PresentedCredential(certificates=tuple(one.der for one in chain))
    return _judged(service, registration_id, shown, f"{path}, taken as sent by a device that has its key", at)


def _of_registration_id(
    service: ProvisioningService, registration_id: str, at: datetime | None
) -> dict[str, Any]:
    """By what is known of the device: what it showed last, what is enrolled for it, or what became of it."""
    record = service.registrations.filter(registration_key=registration_key(registration_id)).first()
    if record is not None and (chain := _certificates(record.evidence.select_related("certificate"))):
        shown = PresentedCredential(certificates=tuple(one.der for one in chain))
        return _judged(service, registration_id, shown, "the chain with which it proved itself last", at)
    entry = service.individualenrollments.filter(registration_key=registration_key(registration_id)).first()
    if entry is not None and entry.mechanism == AttestationMechanism.SYMMETRIC_KEY:
        token = sas_token(service.id_scope, registration_id, entry.primary_key, now=at)
        return _judged(
            service,
            registration_id,
            PresentedCredential(authorization=token),
            "a SAS token by the primary key of its individual enrollment",
            at,
        )
    if entry is not None and (chain := _certificates(entry.certificates.select_related("certificate"))):
        shown = PresentedCredential(certificates=(chain[0].der,))
        return _judged(service, registration_id, shown, "the certificate of its individual enrollment", at)
    if at is not None:
        raise NotFound(
            f"Nothing is known that {registration_id} could show at that time: give the chain with --certificate."
        )
    attempts = service.attempts.filter(registration_key=registration_key(registration_id))
    return _kept(service, attempts.order_by("-last_at").first(), f"registration ID {registration_id}")


def _certificates(rows: Iterable[Any]) -> list[ParsedCertificate]:
    return [parsed(row.certificate.pem) for row in rows]


def _judged(
    service: ProvisioningService,
    registration_id: str,
    shown: PresentedCredential,
    basis: str,
    at: datetime | None,
) -> dict[str, Any]:
    judgement = judge(service, registration_id, shown, at=at or timezone.now(), entries_at=at)
    decision = judgement.decision
    return {
        "service": service.name,
        "registration_id": registration_id,
        "basis": basis,
        "at": judgement.at.isoformat(),
        "verdict": decision.verdict.value,
        "reason": decision.reason.value,
        "because": decision.reason.in_words,
        "entry": str(decision.entry) if decision.entry else None,
        "trace": trace_as_json(judgement),
    }


def _kept(service: ProvisioningService, attempt: RegistrationAttempt | None, what: str) -> dict[str, Any]:
    if attempt is None:
        raise NotFound(
            f"Nothing is kept about {what} in service {service}. Attempts are kept for "
            f"{service.attempts_kept_days} days; with --certificate, explain needs none."
        )
    reason = Reason(attempt.reason)
    kind = {"individual": "individual enrollment", "group": "enrollment group"}.get(attempt.entry_kind)
    return {
        "service": service.name,
        "registration_id": attempt.claimed_registration_id,
        "basis": f"the latest of {attempt.count} such attempts since {attempt.first_at.isoformat()}"
        if attempt.count > 1
        else "one attempt",
        "at": attempt.last_at.isoformat(),
        "verdict": _VERDICTS[AttemptOutcome(attempt.outcome)],
        "reason": reason.value,
        "because": reason.in_words,
        "entry": f"{kind} {attempt.entry_name}" if kind else None,
        "trace": attempt.trace,
        "from": {
            "address": attempt.peer_address,
            "client": attempt.client,
            "leaf_thumbprint_sha256": attempt.leaf_thumbprint,
        },
    }


# An attempt that an entry admitted, and that found no hub, was admitted all the same.
_VERDICTS = {
    AttemptOutcome.ASSIGNED: "admit",
    AttemptOutcome.FAILED: "admit",
    AttemptOutcome.DISABLED: "disabled",
    AttemptOutcome.REFUSED: "unauthorized",
}


def _as_text(explained: dict[str, Any]) -> str:
    lines = [
        f"Registration ID {explained['registration_id']} in service {explained['service']}",
        f"Judged by       {explained['basis']}",
        f"At              {explained['at']}",
    ]
    if sender := explained.get("from"):
        told = [sender["address"], sender["client"]]
        if sender["leaf_thumbprint_sha256"]:
            told.append(f"certificate SHA-256 {sender['leaf_thumbprint_sha256']}")
        lines.append(f"From            {', '.join(filter(None, told)) or 'unknown'}")
    lines.append("")
    for number, step in enumerate(explained["trace"], 1):
        lines.append(f"{number:2}. {step['rule']}  {step['candidate']}: {step['said']}")
        lines.append(f"        {step['because']}")
    decided_by = f", decided by {explained['entry']}" if explained["entry"] else ""
    lines += ["", f"Verdict: {explained['verdict']} ({explained['because']}){decided_by}"]
    return "\n".join(lines)
