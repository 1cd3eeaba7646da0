"""`manage.py rotate_encryption_key`: bring every secret under the newest of several keys."""

from typing import Any

from django.core.management.base import CommandError

from enrollments.actions.encryption import Step, bring_under_newest_key
from enrollments.management.command import REFUSED, DpsCommand, command_line_actor
from enrollments.management.progress import Progress
from enrollments.models.fields import encryption_keys


class Command(DpsCommand):
    help = (
        "Encrypt every secret in the database anew with the first key of DPS_ENCRYPTION_KEY. The service goes on "
        "meanwhile, if it was started with the same keys. Can be interrupted and repeated. With a single key it only "
        "says whether that one decrypts everything."
    )

    def act(self, *, json: bool, **_: Any) -> None:
        progress = Progress(self.stderr)  # type: ignore[arg-type]  # Django's wrapper of a stream

        def tell(step: Step) -> None:
            progress.tell(f"{step.table}: {step.seen} of {step.total}")

        try:
            renewed, now = bring_under_newest_key(actor=command_line_actor(), tell=tell)
        finally:
            progress.close()
        keys = len(encryption_keys())
        if json:
            told = {"keys": keys, "renewed": renewed, "under_newest_key": now.newest}
            self.print_json({**told, "under_older_keys": now.older, "unreadable": list(now.unreadable)})
        else:
            self.stdout.write(
                f"{renewed} secrets were encrypted anew; {now.newest} stand under the newest key."
            )
        if now.unreadable:
            first = ", ".join(now.unreadable[:5])
            raise CommandError(
                f"{len(now.unreadable)} secrets are decrypted by none of the keys given: {first}. Nothing else is "
                "wrong with the others. Name the key that they were written with as well, and run this again.",
                returncode=REFUSED,
            )
        if keys > 1 and not json:
            self.stdout.write("The older keys can be taken out of DPS_ENCRYPTION_KEY.")
