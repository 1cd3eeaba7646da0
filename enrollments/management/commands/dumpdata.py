"""`manage.py dumpdata`: refused, because it writes out everything, and exports are in the history."""

from django.core.management.commands import dumpdata

from enrollments.management.past_the_history import RefusedCommand


class Command(RefusedCommand, dumpdata.Command):
    help = (
        "Refused: export_enrollments and export_history leave their row; the database has backups of its own."
    )
    instead = (
        "Export with manage.py export_enrollments or with manage.py export_history; a backup is made with what the "
        "database has for it."
    )
