"""`manage.py createsuperuser`: refused, because Django's makes a person of whom the history knows nothing."""

from django.contrib.auth.management.commands import createsuperuser

from enrollments.management.past_the_history import RefusedCommand


class Command(RefusedCommand, createsuperuser.Command):
    help = "Refused: people are added in the portal, administrators also by restore_administrator."
    instead = (
        "Add people in the portal, under People; an administrator of the whole installation is added by manage.py "
        "restore_administrator NAME --reason WHY as well."
    )
