"""The keys by which devices proved themselves at attempts, where no registration record has them (R3, R4)."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from django.db.models import (
    BooleanField,
    Case,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Value,
    When,
)
from django.db.models.functions import Concat

from enrollments.actions.attempts import OVERFLOW_NAME
from enrollments.actions.attempts_certificates import MAX_LEAVES, was_outlived
from enrollments.actions.key_identifiers import DIGITS, OF_GROUP
from enrollments.models import (
    AttemptOutcome,
    ProvisioningService,
    RegistrationAttempt,
    RegistrationRecord,
)
from enrollments.policy.facts import EntryKind, Mechanism
from enrollments.policy.names import registration_key
from enrollments.policy.reasons import Reason


class Signed(NamedTuple):
    """With what key a device signed at an attempt, as it spelled its name there.

    key_ids: what identifies it, that of a group with `group:` before it (OF_GROUP). Two where an attempt of an older
    version does not say whether the key was the device's own or that of a group: it is one of them. None where
    there are more keys than are looked at.
    is_registered: whether there is a registration record of it besides. at: the time of that attempt. was_outlived: see
    attempts_certificates.py.
    """

    registration_id: str
    mechanism: Mechanism
    key_ids: tuple[str, ...]
    is_registered: bool
    at: datetime
    was_outlived: bool = False


# Of one device so many keys are looked at, unless all is, those that it proved last.
MAX_KEYS = MAX_LEAVES


def keys_at_attempts(
    service: ProvisioningService, most: int | None = None, *, registration_id: str = ""
) -> dict[str, list[Signed]]:
    """By registration key, the latest first: as shown_at_attempts has it of certificates.

    most: so many attempts are looked at, the latest of all. registration_id: of that device alone.
    """
    records = RegistrationRecord.objects.filter(
        service=OuterRef("service"), registration_key=OuterRef("registration_key")
    )
    attempts = proofs_by_key(service.attempts.all()).filter(~Exists(_told(records)))
    if registration_id:
        attempts = attempts.filter(registration_key=registration_key(registration_id))
    elif most is not None:
        attempts = attempts.filter(pk__in=service.attempts.order_by("-last_at").values("pk")[:most])
    rows = attempts.annotate(is_registered=Exists(records), outlived=was_outlived(records)).order_by(
        "last_at", "pk"
    )
    columns = (
        "registration_key",
        "claimed_registration_id",
        *KEY_COLUMNS,
        "is_registered",
        "last_at",
        "outlived",
    )
    latest: dict[str, dict[tuple[str, ...], Signed]] = {}
    too_many, is_everything = set(), most is None and not registration_id
    for key, name, *proven, is_registered, at, outlived in rows.values_list(*columns).iterator():
        mechanism, key_ids = key_proven(*proven)
        shown = latest.setdefault(key, {})
        shown.pop((name, *key_ids), None)  # the latest go behind all others
        shown[name, *key_ids] = Signed(
            name, mechanism, key_ids, is_registered, at, is_registered and outlived != ""
        )
        if len(shown) > MAX_KEYS and not is_everything:
            del shown[next(iter(shown))]
            too_many.add(key)
    return {
        key: [*reversed(shown.values()), *([_one_of_many(shown)] if key in too_many else [])]
        for key, shown in latest.items()
    }


def _one_of_many(shown: Mapping[tuple[str, ...], Signed]) -> Signed:
    """In place of those that are not looked at: one of which it is not known what it was."""
    return next(iter(shown.values()))._replace(mechanism=Mechanism.SYMMETRIC_KEY, key_ids=())


def proofs_by_key(attempts: "QuerySet[RegistrationAttempt]") -> "QuerySet[RegistrationAttempt]":
    """Those of these of which it is kept what key they proved; `of_group`: whether that is the key of a group."""
    known = attempts.exclude(key_id="").exclude(claimed_registration_id=OVERFLOW_NAME)
    return known.annotate(of_group=is_key_of_group())


# By what `key_proven` tells.
KEY_COLUMNS = ("key_id", "of_group")


def key_proven(key_id: str, of_group: bool | None) -> tuple[Mechanism, tuple[str, ...]]:
    """By these columns of an attempt: of what mechanism the key is, and what identifies it (see Signed)."""
    if len(key_id) > DIGITS:
        return Mechanism.TPM, (key_id,)
    own, derived = (key_id,), (f"{OF_GROUP}{key_id}",)
    return Mechanism.SYMMETRIC_KEY, own + derived if of_group is None else derived if of_group else own


def is_key_of_group() -> Case:
    """Of an attempt; empty where one of an older version does not tell, and where it proved no key.

    As far as such a one tells: where an individual enrollment decided, it may hold that key.
    """
    by_group = ~Q(entry_kind=EntryKind.INDIVIDUAL.value) | Q(reason=Reason.OTHER_CREDENTIAL.value)
    is_admitted = Q(outcome__in=(AttemptOutcome.ASSIGNED, AttemptOutcome.FAILED))
    return Case(
        When(key_id="", then=Value(None)),
        When(key_of_group__isnull=False, then=F("key_of_group")),
        When(by_group, then=Value(True)),
        When(is_admitted, then=Value(False)),
        default=Value(None),
        output_field=BooleanField(null=True),
    )


def _told(records: "QuerySet[RegistrationRecord]") -> "QuerySet[RegistrationRecord]":
    """The record that has the key of an attempt.

    Where it is not known whether it was its own or that of a group, any of the record counts.
    """
    of_group = ExpressionWrapper(OuterRef("of_group"), output_field=BooleanField(null=True))
    # In a record what is the device's own stands before what is of groups.
    has_own = Q(of_group=False, key_ids__startswith=OuterRef("key_id"))
    has_derived = Q(of_group=True, key_ids__contains=Concat(Value(OF_GROUP), OuterRef("key_id")))
    has_any = Q(of_group=None, key_ids__contains=OuterRef("key_id"))
    return records.alias(of_group=of_group).filter(has_own | has_derived | has_any)
