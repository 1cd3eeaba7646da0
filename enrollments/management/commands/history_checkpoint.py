"""`manage.py history_checkpoint`: sign where the history ends now."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from enrollments.actions.ended_windows import record_ended_windows
from enrollments.actions.history import take_checkpoint
from enrollments.audit.checkpoints import destinations, verifier_key
from enrollments.management.command import REFUSED, DpsCommand, called_wrongly


class Command(DpsCommand):
    help = (
        "Seal every row of the history that waits, sign how many there are and how they end, bring that checkpoint "
        "to DPS_CHECKPOINT_FILE and DPS_CHECKPOINT_URL, and print it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--out", type=Path, metavar="FILE", help="Write it there instead of printing it.")
        parser.add_argument(
            "--show-verifier-key",
            action="store_true",
            help="Print the key that checks signatures, and do nothing.",
        )

    def act(self, *, out: Path | None, show_verifier_key: bool, json: bool, **_: Any) -> None:
        key = str(verifier_key())
        if show_verifier_key:
            self.print_json({"verifier_key": key}) if json else self.stdout.write(key)
            return
        record_ended_windows()
        checkpoint, problems = take_checkpoint()
        if out is not None:
            try:
                out.write_text(checkpoint.note)
            except OSError as problem:
                called_wrongly(f"{out} cannot be written: {problem.strerror}")
        if json:
            self.print_json(
                {
                    "size": checkpoint.size,
                    "head": checkpoint.head,
                    "at": checkpoint.at.isoformat(),
                    "note": checkpoint.note,
                    "verifier_key": key,
                    "not_delivered": problems,
                }
            )
        elif out is None:
            self.stdout.write(checkpoint.note, ending="")
        if problems:
            told = "; ".join(f"{destinations()[name]}: {problem}" for name, problem in problems.items())
            raise CommandError(
                f"The checkpoint was signed and not delivered everywhere. {told}", returncode=REFUSED
            )
