"""`manage.py changepassword`: refused, because the history would not tell that somebody has another's password."""

from django.contrib.auth.management.commands import changepassword

from enrollments.management.past_the_history import RefusedCommand


class Command(RefusedCommand, changepassword.Command):
    help = "Refused: new passwords are made in the portal, for administrators also by restore_administrator."
    instead = (
        "Make a new password in the portal, on the page of the person under People; an administrator of the whole "
        "installation gets one by manage.py restore_administrator NAME --reason WHY as well."
    )
