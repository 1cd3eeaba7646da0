"""`manage.py restore_administrator`: the way back in when nobody can sign in any more."""

from argparse import ArgumentParser
from typing import Any

from enrollments.actions.people import restore_administrator
from enrollments.management.command import DpsCommand, command_line_actor


class Command(DpsCommand):
    help = (
        "Make somebody an administrator of the whole installation, with a new password that is printed once. "
        "A person who is there is activated again; one who is not is added. The history says who did it and why."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="The name to sign in with.")
        parser.add_argument("--reason", required=True, help="Why; kept in the history.")

    def act(self, *, name: str, reason: str, json: bool, **_: Any) -> None:
        password = restore_administrator(name, actor=command_line_actor(), reason=reason)
        if json:
            self.print_json({"name": name, "password": password})
            return
        self.stdout.write(f"Administrator  {name}")
        self.stdout.write(f"Password       {password}   (shown this once)")
