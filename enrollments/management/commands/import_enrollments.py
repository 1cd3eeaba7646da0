"""`manage.py import_enrollments`: enrollments and groups from a list, checked first, then carried out and resumable."""

import time
from argparse import ArgumentParser
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from django.core.management.base import CommandError

from enrollments.actions.import_holding import LEASE, NotHeld, hold, let_go
from enrollments.actions.import_previews import WAITING, keep_foreseen
from enrollments.actions.import_work import pause_import
from enrollments.actions.imports import (
    NOT_LOOKED_AT,
    begin_import,
    cancel_import,
    file_is_there,
    import_of,
    may_widen,
    start_import,
)
from enrollments.actions.outcomes import Outcome
from enrollments.actions.preview import NO_LIMITS, Limits
from enrollments.audit.sealer import seal_everything
from enrollments.errors import Conflict, DpsError, PreviewOutdated
from enrollments.management.command import (
    REFUSED,
    add_service_option,
    called_wrongly,
    command_line_actor,
    service_named,
)
from enrollments.management.dialogue import TRIES, AskingCommand, add_epoch, add_yes, nobody_is_asked
from enrollments.management.import_reports import (
    foreseen_in_lines,
    problems_in_lines,
    run_as_json,
    write_devices,
    write_errors,
)
from enrollments.management.progress import Progress
from enrollments.models import ImportFormat, ImportRun, ImportState, ProvisioningService
from enrollments.policy.words import counted
from enrollments.transfer.foreseen import Foreseen, HowFar, foresee
from enrollments.transfer.kept import as_json as preview_as_json
from enrollments.transfer.kept import numbers_of
from enrollments.transfer.words import (
    NOT_CARRIED_OUT,
    UPDATING_RESETS,
    WRONG,
    done_in_words,
    foreseen_in_words,
    format_of,
    in_short,
)
from enrollments.transfer.work import carry_out_run, check_run


class Command(AskingCommand):
    help = (
        "Create, change and disable enrollments and groups as a list says, CSV or JSON Lines (docs/import.md). Every "
        "line is checked before anything is changed. Where somebody may come in by a line, it is asked first. An "
        "import that was interrupted goes on with --resume. " + UPDATING_RESETS
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        add_service_option(parser)
        parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="The list.")
        parser.add_argument(
            "--zip", type=Path, metavar="ZIP", help="The certificates that the list names as files."
        )
        parser.add_argument(
            "--format",
            choices=ImportFormat.values,
            help="Of the list. Default: as its name ends, .csv or .jsonl.",
        )
        parser.add_argument("--reason", default="", help="Why, for the history.")
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Check every line, say what becomes of known devices, and change nothing.",
        )
        parser.add_argument(
            "--preview",
            type=Path,
            metavar="FILE",
            help="With --dry-run: write each known device with what becomes of it into this file, as CSV.",
        )
        parser.add_argument(
            "--no-preview",
            action="store_true",
            help="Start a list that only shuts out at once. Otherwise what becomes of known devices is worked out "
            "before, and kept: half a minute for a hundred thousand of them.",
        )
        add_yes(parser)
        add_epoch(parser)
        parser.add_argument(
            "--skip-bad-lines", action="store_true", help="Import the good lines, where others are wrong."
        )
        parser.add_argument(
            "--errors",
            type=Path,
            metavar="FILE",
            help="Write what is wrong with which line into this file, as CSV.",
        )
        parser.add_argument(
            "--resume", type=int, metavar="RUN", help="Go on with an import that was interrupted."
        )

    def act(
        self,
        *,
        file: Path | None,
        zip: Path | None,
        format: str | None,
        service: str,
        reason: str,
        dry_run: bool,
        skip_bad_lines: bool,
        preview: Path | None,
        no_preview: bool,
        yes: bool,
        epoch: int | None,
        errors: Path | None,
        resume: int | None,
        json: bool,
        **_: Any,
    ) -> None:
        if (file is None) == (resume is None):
            called_wrongly("Give the list, or --resume and the number of an import that was interrupted.")
        if dry_run and no_preview:
            called_wrongly("A dry run is about the preview: leave --no-preview out, or --dry-run.")
        if preview is not None and not dry_run:
            called_wrongly("The devices are written by a dry run: add --dry-run, or leave --preview out.")
        found = service_named(service)
        progress = Progress(self.stderr)  # type: ignore[arg-type]  # Django's wrapper of a stream
        try:
            if file is None:
                run = import_of(found, resume or 0)
            else:
                run = self._checked(found, file, zip, format, reason, progress)
            if run.state == ImportState.REFUSED:
                raise CommandError(f"{run.problem} Nothing was changed.", returncode=REFUSED)
            if dry_run or (file is not None and not _may_start(run, skip_bad_lines)):
                try:
                    seen = _foreseen(run, progress, NO_LIMITS) if dry_run else None
                finally:
                    cancel_import(run, actor=command_line_actor())
                if seen is not None and preview is not None:
                    write_devices(preview, seen, run)
                self._tell_check(run, errors, seen, as_json=json, dry_run=dry_run)
                return
            if run.state in WAITING:
                asked = _Asked(yes=yes, epoch=epoch, no_preview=no_preview, skip_bad_lines=skip_bad_lines)
                try:
                    run = self._started(run, asked, progress, as_json=json)
                except BaseException:
                    if file is not None and not self.done:
                        cancel_import(run, actor=command_line_actor())
                    raise
            else:
                # It runs already, or there is nothing to go on with: nobody looks at it first.
                run = start_import(
                    run,
                    without_bad_lines=skip_bad_lines,
                    actor=command_line_actor(),
                    expected_epoch=NOT_LOOKED_AT,
                )
                self.done = True
            run = self._carried_out(run, progress)
        finally:
            progress.close()
        self._tell_end(run, errors, as_json=json)

    def _checked(
        self,
        service: ProvisioningService,
        file: Path,
        zip: Path | None,
        format: str | None,
        reason: str,
        progress: Progress,
    ) -> ImportRun:
        kind = ImportFormat(format) if format else format_of(file.name)
        if kind is None:
            called_wrongly(
                "The name of the list ends neither in .csv nor in .jsonl: say which it is, with --format."
            )
        with ExitStack() as opened:
            content = _opened(file, opened)
            archive = _opened(zip, opened) if zip is not None else None
            run = begin_import(
                service,
                list_name=file.name,
                format=kind,
                archive_name=zip.name if zip is not None else "",
                actor=command_line_actor(),
                reason=reason,
            )
            holder = file_is_there(run, actor=command_line_actor())

            def tell(run: ImportRun) -> None:
                progress.tell(f"checking: {run.lines} lines")

            try:
                check_run(run, holder, content, archive, tell=tell)
            except BaseException:
                cancel_import(run, actor=command_line_actor())
                raise
        run.refresh_from_db()
        return run

    def _started(self, run: ImportRun, asked: "_Asked", progress: Progress, *, as_json: bool) -> ImportRun:
        """Looked at, agreed to where somebody may come in by it, and started on the state that was looked at (R12)."""
        widens = may_widen(run)
        if widens:
            if asked.no_preview:
                called_wrongly(
                    "Somebody may come in by this list, so it starts on its preview: leave --no-preview out."
                )
            nobody_is_asked(json=as_json, yes=asked.yes, dry_run=False)
            if not asked.yes:
                self.needs_somebody_here()
        for left in reversed(range(TRIES)):
            seen = None if asked.no_preview else _foreseen(run, progress)
            if widens and asked.epoch is not None and seen is not None and seen.now.epoch != asked.epoch:
                raise PreviewOutdated(str(run.service))
            keep_foreseen(run, numbers_of(seen) if seen is not None else None)
            if seen is not None and not as_json:
                self._write_lines(foreseen_in_lines(seen))
            if widens and not asked.yes:
                self.stdout.write(f"{counted(run.lines, 'line')}: {foreseen_in_words(run)}.")
                progress.close()
                if not self.agreed("Start?"):
                    raise Conflict("Nobody said yes, so nothing was changed.")
            try:
                run = start_import(
                    run,
                    without_bad_lines=asked.skip_bad_lines,
                    actor=command_line_actor(),
                    expected_epoch=seen.now.epoch if seen is not None else NOT_LOOKED_AT,
                    agreed=widens,  # nobody was asked otherwise
                )
            except PreviewOutdated:
                if asked.epoch is not None or not left:
                    raise
                self.stderr.write("Something was changed meanwhile, and nothing was started. This holds now:")
            else:
                break
        self.done = True
        return run

    def _carried_out(self, run: ImportRun, progress: Progress) -> ImportRun:
        run, holder = _held(run, progress)

        def tell(run: ImportRun) -> None:
            progress.tell(f"{run.position} of {run.chunks} portions, {run.lines_done} lines")

        try:
            run = carry_out_run(run, holder, tell=tell)
        except KeyboardInterrupt:
            pause_import(run.pk, holder, "Interrupted at the command line.")
            raise CommandError(
                f"Import {run.pk} was interrupted. What is done stays; go on with --resume {run.pk}.",
                returncode=REFUSED,
            ) from None
        except NotHeld:
            raise
        except DpsError as problem:
            pause_import(run.pk, holder, problem.message)
            raise Conflict(
                f"{problem.message} What is done stays; go on with --resume {run.pk}."
            ) from problem
        except BaseException:
            let_go(run.pk, holder)
            raise
        progress.tell("sealing the history")
        seal_everything()
        return run

    def _tell_check(
        self, run: ImportRun, errors: Path | None, seen: Foreseen | None, *, as_json: bool, dry_run: bool
    ) -> None:
        write_errors(run, errors)
        if as_json:
            told = {"preview": preview_as_json(seen)} if seen else {}
            self.print_json({**run_as_json(run, run.planned, dry_run=True), **told})
        else:
            self.stdout.write(f"{counted(run.lines, 'line')}: {foreseen_in_words(run)}.")
            self._write_lines(foreseen_in_lines(seen) if seen else ())
            self._write_lines(problems_in_lines(run))
        if not run.bad_lines:
            on = f" It was looked at on epoch {seen.now.epoch}." if seen and may_widen(run) else ""
            self.stderr.write(f"Nothing was changed.{on}")
            return
        way_out = "" if dry_run else " Correct them, or import the others with --skip-bad-lines."
        raise CommandError(
            f"{run.bad_lines} of {counted(run.lines, 'line')} {'is' if run.bad_lines == 1 else 'are'} {WRONG}. "
            f"Nothing was changed.{way_out}",
            returncode=REFUSED,
        )

    def _tell_end(self, run: ImportRun, errors: Path | None, *, as_json: bool) -> None:
        write_errors(run, errors)
        if as_json:
            self.print_json({**run_as_json(run, run.counts, dry_run=False), "preview": run.foreseen})
        else:
            self.stdout.write(f"Import {run.pk}: {done_in_words(run)}.")
            self._write_lines(problems_in_lines(run))
        refused = run.counts.get(Outcome.REFUSED, 0)
        if refused:
            raise CommandError(f"{counted(refused, 'line')} {NOT_CARRIED_OUT}.", returncode=REFUSED)

    def _write_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.stdout.write(line)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What whoever called it said about starting."""

    yes: bool
    epoch: int | None
    no_preview: bool
    skip_bad_lines: bool


def _opened(path: Path, opened: ExitStack) -> IO[bytes]:
    try:
        return opened.enter_context(path.open("rb"))
    except OSError as problem:
        called_wrongly(f"{path} cannot be read: {problem.strerror}")


def _may_start(run: ImportRun, skip_bad_lines: bool) -> bool:
    return not run.bad_lines or (skip_bad_lines and run.chunks > 0)


def _held(run: ImportRun, progress: Progress) -> tuple[ImportRun, str]:
    """Whoever had it before may have been killed: that is known when it has given no sign of life for a while."""
    deadline = time.monotonic() + LEASE.total_seconds() + 5
    while (held := hold(run.pk)) is None:
        run.refresh_from_db()
        if not run.is_working or time.monotonic() > deadline:
            raise Conflict(f"Import {run.pk} is {run.get_state_display().lower()}, and somebody else has it.")
        progress.tell("waiting for whoever had it")
        time.sleep(0.5)
    return held


def _foreseen(run: ImportRun, progress: Progress, limits: Limits | None = None) -> Foreseen:
    words = "working out what that does to known devices"
    progress.tell(words)

    def tell(far: HowFar) -> None:
        progress.tell(f"{words}: {in_short(far.step, far.done, far.of)}")

    return foresee(run, limits, tell=tell)
