"""`manage.py audit_verify`: whether the history is what was sealed, here or in an export."""

from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from enrollments.audit.checkpoints import verifier_key
from enrollments.audit.notes import BadNote, VerifierKey
from enrollments.audit.verify import Report, notes_of_file, verify_database, verify_export
from enrollments.management.command import REFUSED, DpsCommand, called_wrongly
from enrollments.policy.words import counted


class Command(DpsCommand):
    help = (
        "Check the history in the database, or an export of it: every row against its seal, every seal against the "
        "one before, and all of it against what was signed. Names the first row that is wrong. Changes nothing. "
        "Exit code 0: as sealed. 1: not as sealed. 2: called wrongly."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "export", nargs="?", type=Path, help="An export. Without it, the database is checked."
        )
        parser.add_argument(
            "--checkpoint",
            action="append",
            default=[],
            type=Path,
            metavar="FILE",
            help="A checkpoint, or several in one file, kept since. Against the database, the checkpoint file of the "
            "installation counts in any case. Can be given several times.",
        )
        parser.add_argument(
            "--verifier-key",
            action="append",
            default=[],
            metavar="KEY",
            help="A key that signed checkpoints, besides the one of this installation. Can be given several times.",
        )

    def act(
        self,
        *,
        export: Path | None,
        checkpoint: list[Path],
        verifier_key: list[str],
        json: bool,
        **_: Any,
    ) -> None:
        keys = [_own_key(), *map(_key, verifier_key)]
        own = Path(settings.DPS_CHECKPOINT_FILE)
        try:
            kept = [note for path in checkpoint for note in _notes(path)]
            if export is None:
                report = verify_database(keys, kept, _notes(own) if own.exists() else [])
            else:
                with export.open("rb") as lines:
                    report = verify_export(lines, keys, kept)
        except BadNote as problem:
            raise CommandError(problem.message, returncode=REFUSED) from None
        except OSError as problem:
            called_wrongly(f"{export} cannot be read: {problem.strerror}")
        if json:
            self.print_json(_as_json(report))
        else:
            self.stdout.write(_as_text(report))
        if report.problem:
            raise CommandError(f"The history is not as it was sealed. {report.problem}", returncode=REFUSED)


def _own_key() -> VerifierKey:
    return verifier_key()


def _key(text: str) -> VerifierKey:
    try:
        return VerifierKey.read(text)
    except BadNote as problem:
        called_wrongly(problem.message)


def _notes(path: Path) -> list[str]:
    try:
        return notes_of_file(path.read_text())
    except BadNote as problem:
        raise BadNote(f"{path}: {problem.message}") from None
    except (OSError, UnicodeDecodeError) as problem:
        called_wrongly(f"{path} cannot be read: {getattr(problem, 'strerror', None) or 'it is no text'}")


def _as_json(report: Report) -> dict[str, Any]:
    problem = asdict(report.problem) if report.problem else None
    return {
        "ok": report.ok,
        "rows": report.rows,
        "head": report.head,
        "signed_rows": report.signed,
        "checkpoints": report.checkpoints,
        "waiting": report.waiting,
        "rows_by_hash_only": report.opaque,
        "notices": report.notices,
        "problem": problem,
    }


def _as_text(report: Report) -> str:
    lines = [
        f"Rows in order       {report.rows}",
        f"Hash of the last    {report.head}",
        f"Signed              {counted(report.signed, 'row')}, by {counted(report.checkpoints, 'checkpoint')}",
        f"Not yet sealed      {report.waiting}",
    ]
    if report.opaque:
        lines.append(f"By their hash only  {report.opaque}")
    lines += [f"Note: {notice}" for notice in report.notices]
    if report.ok:
        lines.append("Every sealed row is what was sealed.")
    return "\n".join(lines)
