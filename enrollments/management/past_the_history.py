"""Commands that Django brings and that would go past the history (R15): refused, with the way that leaves its row."""

from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError

from enrollments.management.command import REFUSED


class RefusedCommand(BaseCommand):
    """Stands before Django's own class, so that its options are read and the sentence comes whatever is given."""

    instead = ""

    def execute(self, *args: Any, **options: Any) -> NoReturn:
        name = type(self).__module__.rpartition(".")[2]
        raise CommandError(
            f"{name} would leave no row in the history, so it does nothing here. {self.instead}",
            returncode=REFUSED,
        )
