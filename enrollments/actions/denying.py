"""What denying devices would do, rehearsed as it is done, and what it did (R5, R6).

A deny entry pins the certificate of its device, so that its key is refused under any name: other devices may have it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from enrollments.actions.known_credentials import proven_by_name
from enrollments.actions.preview import Act, Entry, Limits, Preview, carry_out, preview_of
from enrollments.actions.preview.acts import NOBODY, told_afterwards
from enrollments.actions.revocation import deny_device_of, deny_devices, unread_leaves
from enrollments.actions.schedule import switches_now
from enrollments.models import IndividualEnrollment, ProvisioningService, RegistrationAttempt
from enrollments.policy.names import registration_key


@dataclass(frozen=True, slots=True)
class StoodBefore:
    """The individual enrollments of devices before these are denied, by their primary keys."""

    entries: Mapping[int, IndividualEnrollment]
    enabled: Collection[int]

    @classmethod
    def of(cls, service: ProvisioningService, registration_ids: Iterable[str]) -> "StoodBefore":
        as_of = switches_now(service)  # what was due before is no part of the denial
        rows = service.individualenrollments.without_secrets()
        found = {
            row.pk: row for row in rows.filter(registration_key__in=map(registration_key, registration_ids))
        }
        return cls(found, {pk for pk, row in found.items() if as_of.enabled(row)})

    def changed(self, made: Iterable[IndividualEnrollment]) -> list[IndividualEnrollment]:
        """Those that denying added or wrote: each write gives an entry a new etag."""
        return [one for one in made if one.pk not in self.entries or self.entries[one.pk].etag != one.etag]

    def shut_out(self, made: Iterable[IndividualEnrollment]) -> list[IndividualEnrollment]:
        """Those by which somebody may be kept out who was not before."""
        return [one for one in made if one.pk not in self.entries or one.pk in self.enabled]


def preview_of_denying(
    service: ProvisioningService, registration_ids: Iterable[str], *, limits: Limits | None = None
) -> Preview:
    """What denying these devices would do to those that are known. limits: see preview_of.

    Raises SecretUnreadable, StoredUnreadable.
    """
    names = list(registration_ids)
    return _preview(service, names, lambda: deny_devices(service, names, actor=NOBODY), limits)


def preview_of_denying_attempt(
    service: ProvisioningService, attempt: RegistrationAttempt, *, limits: Limits | None = None
) -> Preview:
    """The same of whoever made an attempt. Raises SecretUnreadable, StoredUnreadable, Conflict."""
    names = [attempt.claimed_registration_id]
    return _preview(service, names, lambda: [deny_device_of(service, attempt, actor=NOBODY)], limits)


def what_denying_did(
    service: ProvisioningService, before: StoodBefore, made: Iterable[IndividualEnrollment]
) -> Preview | None:
    """What denying did, told by rehearsing its opposite, now that it is done (see what_disabling_did)."""
    shut_out = before.shut_out(made)
    turned = [one for one in shut_out if one.pk in before.entries]
    added = [one for one in shut_out if one.pk not in before.entries]

    def undo() -> list[Entry]:
        carry_out(service, Act.ENABLE, turned, actor=NOBODY)
        carry_out(service, Act.DELETE, added, actor=NOBODY)
        return []

    return told_afterwards(service, lambda: preview_of(service, undo, shut_out, undoes=True))


def keys_left_open(
    service: ProvisioningService,
    before: StoodBefore,
    made: Iterable[IndividualEnrollment],
    attempt: RegistrationAttempt | None = None,
) -> str:
    """Of devices for which entries were added by denying: which of their keys these could not bar."""
    added = [one.registration_id for one in made if one.pk not in before.entries]
    return bars_by_name_alone(
        [leaf for name in added for leaf in unread_leaves(proven_by_name(service, name), attempt)]
    )


def bars_by_name_alone(unread: Sequence[str]) -> str:
    """`unread`: thumbprints of certificates that an entry would have held. A sentence, where there are any."""
    if not unread:
        return ""
    if len(unread) == 1:
        return f"Certificate {unread[0]} of the device cannot be read, so its key is not barred under other names."
    several = f"{', '.join(unread[:-1])} and {unread[-1]}"
    return f"Certificates {several} cannot be read, so their keys are not barred under other names."


def _preview(
    service: ProvisioningService,
    names: list[str],
    deny: Callable[[], Iterable[IndividualEnrollment]],
    limits: Limits | None,
) -> Preview:
    before = StoodBefore.of(service, names)

    def change() -> list[Entry]:
        return [one for one in deny() if one.pk not in before.entries]

    return preview_of(service, change, list(before.entries.values()), limits=limits)
