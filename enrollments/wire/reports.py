"""What the service API reports of writes: of each entry of a list, and of devices that a write would touch."""

from typing import Literal

from enrollments.wire.models import Model


class BulkError(Model):
    """What is wrong with one entry of the list; the member that names it is that of its kind."""

    registration_id: str | None = None
    enrollment_group_id: str | None = None
    error_code: int
    error_status: str
    """In words."""


class BulkResult(Model):
    is_successful: bool
    """Whether all of it was done. What is not in `errors` was done."""
    errors: list[BulkError]


class Through(Model):
    entry: str | None
    devices: int


class DevicesAffected(Model):
    devices: int
    through: list[Through]
    """The entries through which they come in, or by which they are kept out."""
    name_held_through: list[Through]
    """Of those that are admitted: through which other entries their names are held. They fail all the same."""
    admitted_otherwise_through: list[Through]
    """Of those that are out afterwards: the entries that admit them if they send another credential that is known of
    them, or their own with CA certificates that are enrolled now."""


class Effects(Model):
    refused: DevicesAffected
    still_admitted: DevicesAffected
    still_out: DevicesAffected
    comes_in: DevicesAffected
    unknown: DevicesAffected
    """They are judged by what they show, which nobody knows beforehand."""


class GroupBelow(Model):
    """A group of the call whose CA stands below that of another one."""

    group: str
    through: list[str]
    barred_by: list[str]
    uncertain: bool


class LeftOpen(Model):
    """Names that deleting leaves to groups."""

    registration_ids: list[str]
    through: list[str]


class DryRunThen(Model):
    """What holds at a time to come, compared with the same time without the write."""

    at: str
    """A `switchesAt` of the write or one that it drops; or when a switch of any entry turns, on or off, or a
    certificate begins to be valid, if the write lets some in then."""
    known: int
    not_examined: int
    attempts_since: str | None = None
    effects: Effects
    below: list[GroupBelow]


class Decided(Model):
    """What is decided about a device."""

    verdict: Literal["admitted", "disabled", "unauthorized"]
    entry: str | None
    """The entry that decides. None does about a device that nothing is enrolled for."""


class DryRunDevice(Model):
    """One device, before and after the write. Both are null where nothing is known that could be judged."""

    registration_id: str
    effect: Literal["refused", "stillAdmitted", "stillOut", "comesIn", "unknown"]
    before: Decided | None
    after: Decided | None
    name_held_before: str | None
    """The other entry that holds its name now, where one admits it: it fails all the same."""
    name_held_through: str | None
    """The other entry that holds its name, where it is admitted afterwards: it fails all the same."""
    admitted_otherwise_through: str | None
    """Where it is out afterwards: the entry that admits it if it sends something else, as above."""


class NameWanted(Model):
    """An entry that admits a device of this name, which was refused the name: it has it from its next call on."""

    entry: str
    refused: int
    """How often, as far as attempts are kept."""
    last_date_time_utc: str


class NameFreed(Model):
    """A registration ID that no entry holds any more: whichever admits a device of this name next takes it over."""

    registration_id: str
    etag: str
    """Of the record, for `If-Match`: who holds the name may change without the epoch."""
    held_by: str | None
    wanted_by: list[NameWanted]


class DryRun(Model):
    """What a write would do to devices. Nothing was done."""

    dry_run: Literal[True]
    epoch: int
    """For the query parameter of that name: the write is then done only while the service is as it was found here."""
    known: int
    """Devices that were looked at."""
    not_examined: int
    """Devices that were not, since there are too many."""
    attempts_since: str | None = None
    """What devices have proven at attempts before it alone was not looked at. Absent where all was."""
    effects: Effects
    below: list[GroupBelow]
    left_open: LeftOpen
    then: list[DryRunThen]
    """For each time that the write sets or drops, or from which it lets devices in, the earliest first."""
    more_later: int | None = None
    """Devices that come in at times that `then` does not tell, as there are many. Absent where there are none."""
    devices: list[DryRunDevice] | None = None
    """With `devices`: one page of them, in the order of their names."""
    frees: NameFreed | None = None
    """Of a registration record that is deleted."""
    is_successful: bool | None = None
    """Of a bulk operation."""
    errors: list[BulkError] | None = None
    """Of a bulk operation."""
