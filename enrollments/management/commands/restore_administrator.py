"""`manage.py restore_administrator`: the way back in when nobody can sign in any more."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User

from enrollments.actions.people import restore_administrator, tokens_of
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
        parser.add_argument(
            "--keep-tokens",
            action="store_true",
            help="Leave API tokens of theirs as they are. Otherwise they end: whoever had the old password may have "
            "made some, and they work without one.",
        )

    def act(self, *, name: str, reason: str, keep_tokens: bool, json: bool, **_: Any) -> None:
        before = self._tokens(name)
        password = restore_administrator(
            name, actor=command_line_actor(), reason=reason, end_tokens=not keep_tokens
        )
        kept = self._tokens(name)
        if json:
            self.print_json(
                {"name": name, "password": password, "tokens_ended": before - kept, "tokens_kept": kept}
            )
            return
        self.stdout.write(f"Administrator  {name}")
        self.stdout.write(f"Password       {password}   (shown this once)")
        if before:
            self.stdout.write(f"API tokens     {before - kept} ended, {kept} kept")

    @staticmethod
    def _tokens(name: str) -> int:
        user = User.objects.filter(username__iexact=name).first()
        return tokens_of(user) if user is not None else 0
