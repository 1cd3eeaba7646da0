"""Commands for people at a terminal: sub-commands, names, questions, and a quiet end when nobody reads on."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from typing import Any

from django.core.management.base import CommandError

from enrollments.management.command import (
    REFUSED,
    DpsCommand,
    add_service_option,
    called_wrongly,
    service_named,
    whole_number,
)
from enrollments.policy.names import registration_key

INTERRUPTED = 130
# For one call: all of it is one transaction, for which registrations wait, and one preview.
MAX_NAMES = 1000
MAX_LINE = 200
MOST = 10**9
# So often is something that nobody looks at again begun anew, where others keep changing the service.
TRIES = 5
STANDARD_INPUT = "-"


class AskingCommand(DpsCommand):
    """A command that may ask before it does something.

    done: whether what was asked for has happened. Set by what changes something, as soon as that is committed.
    """

    done = False

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            super().handle(*args, **options)
            self.stdout.flush()
        except BrokenPipeError as gone:
            # Whoever read it has seen enough, as `head` has.
            out: Any = getattr(self.stdout, "_out", None)
            if out is sys.stdout:
                # What is left in the buffer goes nowhere, and the end of the process does not stumble over it.
                os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
            if not self.done:
                sentence = "Nobody reads what is to be said before it is done, so nothing was changed."
                raise CommandError(sentence, returncode=REFUSED) from gone
        except KeyboardInterrupt:
            sentence = "Interrupted." if self.done else "Interrupted before it was done."
            raise CommandError(sentence, returncode=INTERRUPTED) from None

    def agreed(self, question: str) -> bool:
        """Asked on a terminal, of whoever sits there. Standard error, so that what is printed can go elsewhere."""
        self.needs_somebody_here()
        self.stdout.flush()
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def needs_somebody_here(self) -> None:
        """Before what takes long is worked out for a question that nobody could answer."""
        if not sys.stdin.isatty():
            called_wrongly(
                "Somebody may come in by this, so it is asked about first, and nobody is here to answer: look at it "
                "with --dry-run, then say --yes."
            )


class PeopleCommand(AskingCommand):
    """A command with sub-commands. Each is given to `add_verb` with what carries it out."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        self.verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
        self.add_verbs()

    def add_verbs(self) -> None:
        raise NotImplementedError

    def add_verb(self, name: str, carry_out: Callable[..., None], help: str) -> ArgumentParser:
        parser: ArgumentParser = self.verbs.add_parser(name, help=help, description=help)
        parser.set_defaults(carry_out=carry_out)
        add_service_option(parser)
        return parser

    def act(self, *, carry_out: Callable[..., None], service: str, **options: Any) -> None:
        carry_out(service_named(service), **options)

    def tell_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.stdout.write(line)

    def tell_list(self, lines: Iterable[str], none: str) -> None:
        """As it comes. `none`: what is said beside where nothing does."""
        self.done = True  # whoever reads no further has what they wanted
        empty = True
        for line in lines:
            self.stdout.write(line)
            empty = False
        if empty:
            self.stderr.write(none, style_func=str)


def add_names(parser: ArgumentParser, what: str) -> None:
    parser.add_argument(
        "names",
        metavar="ID",
        nargs="+",
        help=f"{what}; a single - reads them from standard input, one a line.",
    )


def add_list_options(parser: ArgumentParser, statuses: Iterable[str]) -> None:
    parser.add_argument(
        "--search", default="", metavar="TEXT", help="Those whose ID begins so; case does not count."
    )
    parser.add_argument("--status", choices=list(statuses))
    parser.add_argument("--limit", type=whole_number(1, MOST), metavar="N", help="The first N of them.")
    add_json(parser, "Print a JSON object a line.")


def add_json(parser: ArgumentParser, help: str = "Print one JSON document.") -> None:
    parser.add_argument("--json", action="store_true", help=help)


def add_reason(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="Why; kept in the history. Needed, but for a dry run.")


def add_act_options(parser: ArgumentParser, *, asks: bool, previews: bool = True) -> None:
    """Of what changes something. `asks`: whether somebody may come in by it."""
    add_reason(parser)
    if previews:
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say what it would do. Nothing is changed."
        )
    if asks:
        add_yes(parser)
    add_json(parser)


def add_yes(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--yes", action="store_true", help="Do it without asking; needed where there is no terminal."
    )


def add_epoch(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--epoch",
        type=whole_number(0, 2**63 - 1),
        metavar="N",
        help="Only on the state that a dry run looked at; it says which epoch that was. What only narrows access is "
        "not held up by it.",
    )


def nobody_is_asked(*, json: bool, yes: bool, dry_run: bool) -> None:
    """A question would stand in the JSON."""
    if json and not (yes or dry_run):
        called_wrongly("With --json nobody is asked: say --yes, or --dry-run to look at it first.")


def needs_reason(reason: str, *, dry_run: bool = False) -> None:
    if not reason and not dry_run:
        called_wrongly("Say why, with --reason: it is kept in the history.")


def names_given(names: list[str]) -> list[str]:
    """Each once, as first given (R2): from the command line, or from standard input where that is a single `-`."""
    if STANDARD_INPUT in names:
        if names != [STANDARD_INPUT]:
            called_wrongly("Give the IDs, or - alone to read them from standard input.")
        names = _lines_of_standard_input()
    once: dict[str, str] = {}
    for name in names:
        once.setdefault(registration_key(name), name)
    if len(once) > MAX_NAMES:
        called_wrongly(
            f"These are {len(once):,} IDs, and all of them would be one transaction: give at most {MAX_NAMES:,} a call."
        )
    return list(once.values())


def _lines_of_standard_input() -> list[str]:
    names: list[str] = []
    # What is too long for a name is not read to its end.
    while line := sys.stdin.readline(MAX_LINE + 1):
        name = line.strip()
        if len(line) > MAX_LINE:
            called_wrongly(f"Line {len(names) + 1} of standard input is no ID: {name[:40]!r}…")
        if name:
            names.append(name)
        if len(names) > MAX_NAMES:
            called_wrongly(
                f"Standard input holds more than {MAX_NAMES:,} IDs: give at most that many a call."
            )
    if not names:
        called_wrongly("Standard input holds no ID.")
    return names


def list_of(names: list[str], most: int = 5) -> str:
    """Names in a sentence, quoted where they could be mistaken for anything else."""
    shown = ", ".join(name if name.isprintable() and name.isascii() else repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown
