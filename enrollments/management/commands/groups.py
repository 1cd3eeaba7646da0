"""`manage.py groups`: enrollment groups from the command line."""

from enrollments.management.entry_commands import EntriesCommand
from enrollments.management.entry_kinds import GROUPS


class Command(EntriesCommand):
    help = (
        "List, show, disable, enable and delete enrollment groups. It needs the database and nothing else: no "
        "portal, no listener, no sign-in."
    )
    kind = GROUPS
