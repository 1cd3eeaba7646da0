"""`manage.py audit_verify`: whether the history is what was sealed, here or in an export."""

from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from enrollments.audit.checkpoints import notes_in_file, verifier_key
from enrollments.audit.notes import BadNote, UnknownSigner, VerifierKey, notes_in, read_checkpoint
from enrollments.audit.other_forms import other_form
from enrollments.audit.report import Report
from enrollments.audit.verify_database import verify_database
from enrollments.audit.verify_export import IsExcerpt, is_excerpt, verify_excerpt, verify_export
from enrollments.management.command import CALLED_WRONGLY, REFUSED, DpsCommand, called_wrongly
from enrollments.policy.words import counted


class Command(DpsCommand):
    help = (
        "Check the history in the database, or an export of it: every row against its seal, every seal against the "
        "one before, and all of it against what was signed. Names the first row that is wrong. Changes nothing. "
        "Exit code 0: as sealed. 1: not as sealed, or not guarded as it was made to be. "
        "2: called wrongly, or something that was given could not be checked."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "export", nargs="?", type=Path, help="An export. Without it, the database is checked."
        )
        parser.add_argument(
            "--against",
            type=Path,
            metavar="FILE",
            help="Of an excerpt (JSON Lines of what a filter found): a whole export, in which its rows must stand.",
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

        parser.add_argument(
            "--indexes",
            action="store_true",
            help="On SQLite, also hold each index, by which pages find rows, against its table row by row. It takes as "
            "long again; without it, rows are counted by each index.",
        )

    def act(
        self,
        *,
        export: Path | None,
        against: Path | None,
        checkpoint: list[Path],
        verifier_key: list[str],
        indexes: bool,
        json: bool,
        **_: Any,
    ) -> None:
        keys, report = [_own_key(), *map(_key, verifier_key)], Report()
        try:
            kept, unknown = _by_known_keys(checkpoint, keys)
            if export is None and against is not None:
                called_wrongly("--against goes with an excerpt, and the database is none.")
            if export is None:
                report = verify_database(keys, kept, notes_in_file(), indexes=indexes)
            else:
                _verify(export, against, keys, kept, report)
        except UnknownSigner as problem:
            # Raised once all else was checked.
            unknown.insert(
                0, _not_checked("what was given ends with", problem, "nothing vouches for all of its rows")
            )
        except BadNote as problem:
            raise CommandError(problem.message, returncode=REFUSED) from None
        except OSError as problem:
            called_wrongly(f"{problem.filename or export} cannot be read: {problem.strerror or problem}")
        if json:
            self.print_json(_as_json(report, unknown))
        else:
            self.stdout.write(_as_text(report, unknown))
        if report.problem:
            raise CommandError(f"The history is not as it was sealed. {report.problem}", returncode=REFUSED)
        if report.not_as_made:
            raise CommandError(
                f"The history is not guarded as it was made to be. {' '.join(report.not_as_made)}",
                returncode=REFUSED,
            )
        if unknown:
            raise CommandError(unknown[0], returncode=CALLED_WRONGLY)


def _by_known_keys(files: list[Path], keys: list[VerifierKey]) -> tuple[list[str], list[str]]:
    """The notes that can be held against the history, and a sentence for each that can not, for lack of a key.

    Raises BadNote.
    """
    kept, unknown = [], []
    for path in files:
        for note in _notes(path):
            try:
                read_checkpoint(note, keys)
            except UnknownSigner as problem:
                unknown.append(_not_checked(f"{path} holds", problem))
            else:
                kept.append(note)
    return kept, unknown


def _not_checked(what: str, problem: UnknownSigner, without: str = "this checkpoint proves nothing") -> str:
    return (
        f"Not checked: {what} a checkpoint that was signed by {problem.signers}, whose verifier key is not known here. "
        f"Give that key with --verifier-key; without it {without}. In what was checked nothing is wrong."
    )


def _verify(
    export: Path, against: Path | None, keys: list[VerifierKey], kept: list[str], report: Report
) -> None:
    for path in filter(None, (export, against)):
        if what := other_form(path):
            called_wrongly(f"Not checked: {path} is {what}")
    with export.open("rb") as lines:
        try:
            if against is None:
                verify_export(lines, keys, kept, report)
                return
            if not is_excerpt(lines):
                called_wrongly(f"{export} is no excerpt, so there is nothing to check it --against.")
            with against.open("rb") as whole:
                verify_excerpt(lines, whole, keys, kept, report)
        except IsExcerpt as problem:
            called_wrongly(f"{against or export}: {problem.message}")


def _own_key() -> VerifierKey:
    return verifier_key()


def _key(text: str) -> VerifierKey:
    try:
        return VerifierKey.read(text)
    except BadNote as problem:
        called_wrongly(problem.message)


def _notes(path: Path) -> list[str]:
    try:
        return notes_in(path.read_text(encoding="utf-8"))
    except BadNote as problem:
        raise BadNote(f"{path}: {problem.message}") from None
    except (OSError, UnicodeDecodeError) as problem:
        called_wrongly(f"{path} cannot be read: {getattr(problem, 'strerror', None) or 'it is no text'}")


def _as_json(report: Report, unknown: list[str]) -> dict[str, Any]:
    problem = asdict(report.problem) if report.problem else None
    return {
        "ok": report.ok and not unknown and not report.not_as_made,
        "rows": report.rows,
        "head": report.head,
        "signed_rows": report.signed,
        "checkpoints": report.checkpoints,
        "waiting": report.waiting,
        "rows_by_hash_only": report.opaque,
        **(
            {}
            if report.excerpt_rows is None
            else {
                "excerpt_rows": report.excerpt_rows,
                "excerpt_rows_by_hash_only": report.excerpt_opaque,
            }
        ),
        "notices": report.notices,
        **({"not_as_made": report.not_as_made} if report.not_as_made else {}),
        "problem": problem,
        **({"not_checked": unknown} if unknown else {}),
    }


def _as_text(report: Report, unknown: list[str]) -> str:
    lines = [
        f"Rows in order       {report.rows}",
        f"Hash of the last    {report.head}",
        f"Signed              {counted(report.signed, 'row')}, by {counted(report.checkpoints, 'checkpoint')}",
        f"Not yet sealed      {report.waiting}",
    ]
    if report.opaque:
        lines.append(f"By their hash only  {report.opaque}")
    if report.excerpt_rows is not None:
        lines.append(f"Of the excerpt      {report.excerpt_rows}, each in its place")
        if report.excerpt_opaque:
            lines.append(
                f"By their hash only  {report.excerpt_opaque} of the excerpt: what they say was not shown"
            )
        lines.append(
            "Note: What the excerpt says of its filter and service is a claim: nothing proves that it is complete."
        )
    lines += [f"Note: {notice}" for notice in report.notices]
    if report.ok and not unknown:
        lines.append("Every sealed row is what was sealed.")
    return "\n".join(lines)
