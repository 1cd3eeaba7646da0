"""Carrying an import out: the check, then chunk by chunk, by whoever holds it, in the foreground or in a thread.

A worker that is killed leaves a run that nobody holds after a while; whoever looks at it then takes it over.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, TypeVar

from django.db import DatabaseError, connections

from enrollments.actions.import_agreed import ChangedSincePreview, narrow_by_themselves
from enrollments.actions.import_changes import HELPS_OTHERS, LineProblem, Tally
from enrollments.actions.import_freed import Freed
from enrollments.actions.import_holding import NotHeld, hold, let_go, say_alive
from enrollments.actions.import_work import (
    begin_check,
    carry_out,
    carry_out_of_waiting,
    end_check,
    end_import,
    keep_checked,
    pause_import,
    refuse_file,
)
from enrollments.actions.schedule import settle_if_possible
from enrollments.attestation.x509 import CertificateFacts
from enrollments.audit.actor import Way
from enrollments.audit.sealer import seal_everything
from enrollments.collecting import without_collecting
from enrollments.errors import DpsError, PreviewOutdated
from enrollments.models import (
    Certificate,
    EnrollmentGroup,
    HeldCertificate,
    ImportFormat,
    ImportRun,
    ImportState,
    IndividualEnrollment,
    PartKind,
    ProvisioningService,
)
from enrollments.models.imports import WORKING
from enrollments.models.inserting import count_again, room_for_many
from enrollments.models.locks import change_lock
from enrollments.policy.names import registration_key
from enrollments.transfer.archive import Archive, ArchiveRefused
from enrollments.transfer.limits import CHUNK_BYTES, CHUNK_LINES
from enrollments.transfer.lines import BadLine, Record, records
from enrollments.transfer.list_formats import ListRefused
from enrollments.transfer.parts import uploaded
from enrollments.transfer.planning import Plan, as_text, from_text, plan, to_be_kept
from enrollments.transfer.previewing import work_out_preview
from enrollments.transfer.reading import Known, Portion, with_certificates
from enrollments.transfer.words import NOT_THE_LIST

logger = logging.getLogger(__name__)

# Where somebody else keeps changing things between the look and the lock.
TRIES = 4
Tell = Callable[[ImportRun], None]
T = TypeVar("T")


def check_run(
    run: ImportRun, holder: str, file: IO[bytes], archive: IO[bytes] | None, *, tell: Tell = lambda _: None
) -> None:
    """Read the list, look at every line, and keep those that are good. Raises NotHeld."""
    begin_check(run.pk, holder)
    checking = _Checking(run, holder)
    try:
        members = Archive(archive) if archive is not None else None
        portions = _portions(records(file, ImportFormat(run.format), members))
        with closing(with_certificates(portions)) as read:
            for portion, known in read:
                checking.check(portion, known)
                tell(run)
    except (ListRefused, ArchiveRefused) as refused:
        refuse_file(run.pk, holder, refused.message)
        return
    end_check(run.pk, holder)


@dataclass
class _Checking:
    run: ImportRun
    holder: str
    # Keys of groups that were met, and the line of each of their CAs.
    groups: set[str] = field(default_factory=set)
    authorities: dict[tuple[str, str], int] = field(default_factory=dict)

    @without_collecting()
    def check(self, portion: Portion, known: Known) -> None:
        good = [one for one in portion if isinstance(one, Record)]
        to_come = frozenset(self.groups)
        planned = plan(self.run.service_id, good, thoroughly=True, groups_to_come=to_come, known=known)
        tally = Tally()
        for one in portion:
            if isinstance(one, BadLine):
                tally.refuse(one.line, one.name, one.sentence)
        for problem in [*planned.problems, *self._repeated_authorities(planned)]:
            tally.refuse(problem.line, problem.name, problem.sentence)
        bad = {problem.line for problem in tally.problems}
        for change in planned.changes:
            if change.line not in bad:
                tally.add(change.outcome)
                if change.helps_others:
                    tally.add(HELPS_OTHERS)
        read = {change.line: change for change in planned.changes}
        kept = [to_be_kept(one, read[one.line]) for one in good if one.line not in bad]
        self.groups |= {registration_key(one.name) for one in kept if one.is_group}
        keep_checked(self.run.pk, self.holder, len(portion), as_text(kept), tally)
        self.run.lines += len(portion)

    def _repeated_authorities(self, planned: Plan) -> Iterator[LineProblem]:
        """One subject and key belongs to one group (R7), also among those that are only about to be added."""
        for change in planned.changes:
            if not change.is_group or change.spec is None:
                continue
            for certificate in change.spec.certificates.values():
                first = self.authorities.setdefault(_authority(certificate), change.line)
                if first != change.line:
                    sentence = f"The CA {certificate.subject} is already that of the group in line {first}."
                    yield LineProblem(change.line, change.name, sentence)
                    break


def _authority(certificate: CertificateFacts) -> tuple[str, str]:
    return certificate.subject_sha256, certificate.spki_sha256


def _portions(lines: Iterator[Record | BadLine]) -> Iterator[Portion]:
    portion: Portion = []
    size = 0
    for one in lines:
        portion.append(one)
        size += one.size if isinstance(one, Record) else 0
        if len(portion) == CHUNK_LINES or size > CHUNK_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def carry_out_run(run: ImportRun, holder: str, *, tell: Tell = lambda _: None) -> ImportRun:
    """From the first chunk that is not done to the last. Raises NotHeld where it was stopped.

    Raises ChangedSincePreview where it has to pause; then all that only shuts out is done.
    """
    freed = Freed()
    with room_for_many():
        while run.position < run.chunks:
            try:
                run = _chunk(run, holder, freed)
            except ChangedSincePreview:
                _narrow(run, holder, tell)
                raise
            tell(run)
    count_again(IndividualEnrollment, EnrollmentGroup, HeldCertificate, Certificate)
    return end_import(run.pk, holder)


@without_collecting()
def _chunk(run: ImportRun, holder: str, freed: Freed) -> ImportRun:
    lines = _lines_of(run, run.position)

    def work_off() -> ImportRun:
        planned = plan(run.service_id, lines, thoroughly=False)
        return carry_out(
            run.pk, holder, run.position, planned.changes, planned.problems, planned.epoch, freed
        )

    return _on_one_state(run.service, work_off)


def _narrow(run: ImportRun, holder: str, tell: Tell) -> None:
    """Of what is not done, the lines by which nobody comes in: whatever was changed above, they are not held up."""
    for number in range(run.position, run.chunks):
        if (done := _chunk_narrowed(run, holder, number)) is not None:
            tell(done)


@without_collecting()
def _chunk_narrowed(run: ImportRun, holder: str, number: int) -> ImportRun | None:
    """None where all its lines wait."""
    lines = _lines_of(run, number)

    def work_off() -> ImportRun | None:
        planned = plan(run.service_id, lines, thoroughly=False)
        narrowing = narrow_by_themselves(planned.changes)
        if not narrowing:
            say_alive(run.pk, holder)
            return None
        done = {one.line for one in narrowing}
        rest = as_text(one for one in lines if one.line not in done)
        return carry_out_of_waiting(run.pk, holder, number, narrowing, rest, planned.epoch)

    return _on_one_state(run.service, work_off)


def _lines_of(run: ImportRun, number: int) -> list[Record]:
    text = run.content.filter(number=number).values_list("content", flat=True).first()
    if text is None:  # cancelled
        raise NotHeld
    return from_text(text)


def _on_one_state(service: ProvisioningService, work_off: Callable[[], T]) -> T:
    """Looked up and parsed before the lock is taken, and again where something was changed before it was had."""
    for _ in range(TRIES):
        try:
            return work_off()
        except PreviewOutdated:
            # It may be a switch that is due, which stays so until somebody writes that down.
            settle_if_possible(service)
    # Changes come so fast that it never holds: looked up once they have to wait.
    with change_lock(service):
        return work_off()


def work_on(run_id: int) -> None:
    """Do what is to be done about a run, if nobody else does it. Whatever goes wrong is written on the run.

    What was checked is previewed at once: whoever comes back to its page finds it there.
    """
    held = hold(run_id)
    if held is None:
        return
    run, holder = held
    _worked_on(run, holder)
    if run.state == ImportState.CHECKING:
        work_out_preview(run_id)


def _worked_on(run: ImportRun, holder: str) -> None:
    try:
        if run.state == ImportState.CHECKING:
            _check_uploaded(run, holder)
        else:
            carry_out_run(run, holder)
            seal_everything()
    except NotHeld:
        return
    except DpsError as problem:
        _give_back(run, holder, problem.message)
    except DatabaseError:
        # It may pass: nothing of the chunk was done, and whoever looks next takes it up again.
        logger.exception("an import was interrupted", extra={"fields": {"import": run.pk}})
        let_go(run.pk, holder)
    except Exception:  # of a thread nobody else would hear
        logger.exception("an import failed", extra={"fields": {"import": run.pk}})
        _give_back(run, holder, NOT_THE_LIST)


def _check_uploaded(run: ImportRun, holder: str) -> None:
    file = uploaded(run, PartKind.LIST)
    if file is None:
        refuse_file(run.pk, holder, _nothing_uploaded(run))
        return
    check_run(run, holder, file, uploaded(run, PartKind.ARCHIVE))


def _nothing_uploaded(run: ImportRun) -> str:
    if run.way == Way.COMMAND_LINE:
        return "The check was interrupted, and the list lies where the command was run: run it there again."
    return "The list is empty."


def _give_back(run: ImportRun, holder: str, sentence: str) -> None:
    try:
        if run.state == ImportState.CHECKING:
            refuse_file(run.pk, holder, sentence)
        else:
            pause_import(run.pk, holder, sentence)
    except NotHeld:
        return


def work_in_background(run_id: int) -> None:
    """In a thread of this process. If it dies with the process, the next who looks begins another."""
    threading.Thread(target=_apart, args=(run_id,), name=f"import {run_id}", daemon=True).start()


def _apart(run_id: int) -> None:
    try:
        work_on(run_id)
    finally:
        connections.close_all()


def take_over_where_left(runs: list[ImportRun]) -> None:
    """Of these, those that should be worked on, and that nobody works on any more."""
    for run in runs:
        if run.state in WORKING and not run.is_held:
            work_in_background(run.pk)
