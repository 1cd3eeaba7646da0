"""`manage.py enrollments`: individual enrollments from the command line."""

from enrollments.management.entry_commands import EntriesCommand
from enrollments.management.entry_kinds import INDIVIDUALS


class Command(EntriesCommand):
    help = (
        "List, show, disable, enable and delete individual enrollments. It needs the database and nothing else: no "
        "portal, no listener, no sign-in."
    )
    kind = INDIVIDUALS
