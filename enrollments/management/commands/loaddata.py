"""`manage.py loaddata`: refused, because it writes people, roles and entries of which the history knows nothing."""

from django.core.management.commands import loaddata

from enrollments.management.past_the_history import RefusedCommand


class Command(RefusedCommand, loaddata.Command):
    help = "Refused: lists come in by import_enrollments, a whole database by move_database or from a backup."
    instead = (
        "A list of entries comes in by manage.py import_enrollments, a whole database by manage.py move_database or "
        "from a backup."
    )
