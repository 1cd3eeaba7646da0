"""`manage.py ca_certificates`: upload CA certificates, make and answer verification codes, list and delete."""

from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from django.utils import timezone

from enrollments.actions.ca_certificates import (
    add_ca_certificate,
    ca_certificate_named,
    delete_ca_certificate,
    groups_of,
    make_verification_code,
    may_let_in_by_proof,
    preview_of_deleting,
    preview_of_verifying,
    signing_commands,
    verify_ca_certificate,
    what_deleting_did,
)
from enrollments.actions.possession import state_of
from enrollments.actions.preview import NO_LIMITS, Coming, Preview, coming_by
from enrollments.actions.preview.words import as_json, coming_as_json, coming_in_lines, did, in_lines
from enrollments.actions.schedule import as_text
from enrollments.attestation.x509 import MAX_UPLOAD_BYTES, ParsedCertificate, read_one
from enrollments.errors import Conflict, PreviewOutdated
from enrollments.management.command import (
    add_service_option,
    called_wrongly,
    command_line_actor,
    service_named,
)
from enrollments.management.device_lists import DeviceLists, add_device_lists
from enrollments.management.dialogue import TRIES, AskingCommand, add_epoch
from enrollments.models import CaCertificate, ProvisioningService

ACTS = ("list", "add", "code", "verify", "delete")
TAKES_FILE = ("add", "verify")
TAKES_DRY_RUN = ("verify", "delete")


class Command(AskingCommand):
    help = (
        "CA certificates and proof of possession. add: upload one under a name. code: make a verification code, "
        "which takes the place of the one before. verify: give the certificate that the CA has signed for the code. "
        "delete: also its proof. list: all of a service, with their state."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("act", choices=ACTS)
        parser.add_argument("name", metavar="NAME", nargs="?", default="", help="Not with list.")
        parser.add_argument(
            "--certificate",
            type=Path,
            metavar="FILE",
            help="With add and verify: one certificate, PEM or DER.",
        )
        add_service_option(parser)
        parser.add_argument("--reason", default="", help="Why; kept in the history.")
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="With verify and delete: only say what would become of the devices that are known.",
        )
        parser.add_argument(
            "--yes",
            action="store_true",
            help="With verify: do it without asking where devices may come in by it; needed without a terminal.",
        )
        add_epoch(parser)
        add_device_lists(parser)

    def act(
        self,
        *,
        act: str,
        name: str,
        certificate: Path | None,
        service: str,
        reason: str,
        dry_run: bool,
        yes: bool,
        epoch: int | None,
        listed: bool,
        csv: Path | None,
        json: bool,
        **_: Any,
    ) -> None:
        if bool(name) is (act == "list"):
            called_wrongly(
                "list takes no name."
                if act == "list"
                else "Say which CA certificate is meant: its name is missing."
            )
        if (certificate is None) is (act in TAKES_FILE):
            called_wrongly(
                f"{act} needs --certificate with a file."
                if act in TAKES_FILE
                else f"--certificate is for {' and '.join(TAKES_FILE)}."
            )
        if dry_run and act not in TAKES_DRY_RUN:
            called_wrongly(f"--dry-run is for {' and '.join(TAKES_DRY_RUN)}: no device is touched by {act}.")
        if (yes or epoch is not None) and act != "verify":
            called_wrongly(f"--yes and --epoch are for verify: nobody comes in by {act}.")
        lists = DeviceLists.asked(dry_run=dry_run, listed=listed, csv=csv)
        found = service_named(service)
        actor = command_line_actor()
        parsed = _certificate_in(certificate) if certificate is not None else None
        match act:
            case "list":
                self._list(found, json=json)
            case "add" if parsed is not None:
                row = add_ca_certificate(found, name, parsed, actor=actor, reason=reason)
                self._say(row, f"CA certificate {row} is uploaded to {found}, not verified.", json=json)
            case "code":
                row = make_verification_code(found, name, actor=actor, reason=reason)
                self._say(row, _how_to_answer(row), json=json)
            case "verify" if parsed is not None:
                self._verify(
                    found,
                    name,
                    parsed,
                    reason=reason,
                    dry_run=dry_run,
                    lists=lists,
                    yes=yes,
                    epoch=epoch,
                    json=json,
                )
            case _:
                self._delete(found, name, reason=reason, dry_run=dry_run, lists=lists, json=json)

    def _verify(
        self,
        service: ProvisioningService,
        name: str,
        proof: ParsedCertificate,
        *,
        reason: str,
        dry_run: bool,
        lists: DeviceLists,
        yes: bool,
        epoch: int | None,
        json: bool,
    ) -> None:
        """Where devices may come in by it, looked at, agreed to, and done on the state that was looked at (R7, R12)."""
        for left in reversed(range(TRIES)):
            # Read first: whatever changes while it is looked at makes the answer void.
            looked_at = ProvisioningService.epoch_of(service.pk)
            row = ca_certificate_named(service, name)
            widens = may_let_in_by_proof(row)
            preview = None
            comings: Sequence[Coming] = ()
            if widens or dry_run:

                def look(at: datetime | None = None, of: CaCertificate = row) -> Preview:
                    return preview_of_verifying(service, of, proof, at=at, limits=NO_LIMITS)

                coming = coming_by(service, look(), look)
                preview, comings = coming.now, coming.comings
            if dry_run and preview is not None:
                self._foretell(preview, lists, row, act="verify", json=json, comings=comings, on_epoch=True)
                return
            if epoch is not None and looked_at != epoch:
                raise PreviewOutdated(str(service))
            if preview is not None and not yes:
                if json:
                    called_wrongly(
                        "Somebody may come in by this, and with --json nobody is asked: say --yes, or --dry-run to "
                        "look at it first."
                    )
                self.stdout.write(f"If possession of the key of {row} is verified:")
                for line in in_lines(preview):
                    self.stdout.write(f"- {line}")
                for line in coming_in_lines(comings, "- "):
                    self.stdout.write(line)
                if not self.agreed("Verify?"):
                    raise Conflict("Nobody said yes, so nothing was changed.")
            try:
                row = verify_ca_certificate(
                    service,
                    name,
                    proof,
                    actor=command_line_actor(),
                    reason=reason,
                    expected_etag=row.etag,
                    expected_epoch=looked_at,
                )
            except PreviewOutdated:
                if epoch is not None or not left:
                    raise
                if preview is not None and not yes:
                    self.stdout.write(
                        "Something was changed meanwhile, and nothing was done. This holds now:"
                    )
                continue
            self.done = True
            said = f"Possession of the key of CA certificate {row} is verified."
            if json:
                self.print_json(
                    {**_as_json(row), "preview": as_json(preview) if preview is not None else None}
                )
            else:
                self.stdout.write(f"{said} {did(preview)}" if preview is not None else said)
            return

    def _delete(
        self,
        service: ProvisioningService,
        name: str,
        *,
        reason: str,
        dry_run: bool,
        lists: DeviceLists,
        json: bool,
    ) -> None:
        if dry_run:
            row = ca_certificate_named(service, name)
            preview = preview_of_deleting(service, row, limits=NO_LIMITS)
            self._foretell(preview, lists, row, act="delete", json=json)
            return
        row = delete_ca_certificate(service, name, actor=command_line_actor(), reason=reason)
        self.done = True
        what = what_deleting_did(service, row)
        if json:
            told = {"name": row.name, "service": service.name, "deleted": True}
            self.print_json({**told, "preview": as_json(what) if what is not None else None})
            return
        self.stdout.write(f"CA certificate {row} of {service} is deleted, and its proof with it.")
        self.stdout.write(did(what))

    def _list(self, service: ProvisioningService, *, json: bool) -> None:
        rows = service.ca_certificates.select_related("service", "certificate").order_by("name_key")
        if json:
            self.print_json([_as_json(row) for row in rows])
            return
        for row in rows:
            self.stdout.write(f"{row}: {_state_in_words(row)}; {row.certificate.subject}")
        if not rows:
            self.stdout.write(f"There is no CA certificate in {service}.")

    def _say(self, row: CaCertificate, sentence: str, *, json: bool) -> None:
        self.done = True
        if json:
            self.print_json(_as_json(row))
        else:
            self.stdout.write(sentence)

    def _foretell(
        self,
        preview: Preview,
        lists: DeviceLists,
        row: CaCertificate,
        *,
        act: str,
        json: bool,
        comings: Sequence[Coming] = (),
        on_epoch: bool = False,
    ) -> None:
        parts = {"from now on": preview}
        lists.write(parts, f"{act} CA certificate {row}", row.service)
        if json:
            later = {"to_come": coming_as_json(comings)} if comings else {}
            self.print_json({"dry_run": True, "preview": as_json(preview), **later, **lists.as_json(parts)})
            return
        for line in [*in_lines(preview), *coming_in_lines(comings), *lists.lines(parts)]:
            self.stdout.write(line)
        on = f" It was looked at on epoch {preview.epoch}." if on_epoch else ""
        self.stdout.write(f"Nothing was changed.{on}")


def _certificate_in(path: Path) -> ParsedCertificate:
    try:
        with path.open("rb") as file:
            return read_one(file.read(MAX_UPLOAD_BYTES + 1))
    except OSError as problem:
        called_wrongly(f"{path} cannot be read: {problem.strerror}.")


def _how_to_answer(row: CaCertificate) -> str:
    assert row.code_expires_at is not None  # a database constraint: code_has_an_end
    return (
        f"The verification code of {row} is {row.code}, until {as_text(row.code_expires_at)}. "
        f"Where the key of the CA is:\n\n{signing_commands(row.code)}\n\n"
        f"Then: manage.py ca_certificates verify {row} --certificate verification.pem"
    )


def _state_in_words(row: CaCertificate) -> str:
    state = state_of(row, timezone.now())
    if state.until is not None:
        return f"not verified, code waiting until {as_text(state.until)}"
    return state.possession.value


def _as_json(row: CaCertificate) -> dict[str, Any]:
    group = groups_of(row).first()
    return {
        "name": row.name,
        "service": row.service.name,
        "subject": row.certificate.subject,
        "thumbprint_sha256": row.certificate.thumbprint_sha256,
        "not_after": row.certificate.not_after.isoformat(),
        "verified": row.is_verified,
        "verified_at": row.verified_at.isoformat() if row.verified_at else None,
        "code": row.code or None,
        "code_expires_at": row.code_expires_at.isoformat() if row.code_expires_at else None,
        "group": group.group_id if group else None,
    }
