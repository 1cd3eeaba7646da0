"""What differs between the two kinds of entry, individual enrollments and groups: all else is done alike."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db.models import QuerySet

from enrollments.actions.enrollment_groups import (
    add_enrollment_group,
    change_enrollment_group,
    delete_enrollment_groups,
    reveal_group_keys,
)
from enrollments.actions.enrollments import (
    add_individual_enrollment,
    change_individual_enrollment,
    delete_enrollments,
    reveal_enrollment_keys,
)
from enrollments.actions.entries import EnrollmentGroupNotFound, EnrollmentNotFound
from enrollments.errors import NotFound
from enrollments.models import EnrollmentGroup, IndividualEnrollment, ProvisioningService
from enrollments.models.enrollments import EnrollmentGroupQuerySet
from enrollments.models.switches import AsOf
from enrollments.policy.names import registration_key
from enrollments.service_api.answers import group_body, individual_body, state_of
from enrollments.service_api.errors import (
    ENROLLMENT_EXISTS,
    GROUP_EXISTS,
    NO_SUCH_ENROLLMENT,
    NO_SUCH_GROUP,
)
from enrollments.service_api.operations import GROUP_ITEM, INDIVIDUAL_ITEM
from enrollments.wire import messages
from enrollments.wire.errors import ErrorAnswer
from enrollments.wire.specs import group_spec, individual_spec

M = TypeVar("M", messages.IndividualEnrollment, messages.EnrollmentGroup)
E = TypeVar("E", IndividualEnrollment, EnrollmentGroup)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[M, E]):
    """member, name: of a bulk operation's list, and of what names an entry. item, listed: what a query is told to hold.

    entries: all of a service, without secrets. key: the column of what is made of a name. find: one that is written.
    shown: an entry that is asked for alone.
    """

    member: str
    name: str
    item: str
    listed: str
    model: type[M]
    entries: Callable[[ProvisioningService], QuerySet[E]]
    key: str
    find: Callable[[ProvisioningService, str], E | None]
    body: Callable[..., dict[str, Any]]
    shown: Callable[[E, AsOf], dict[str, Any]]
    spec: Callable[[ProvisioningService, M, E | None], Any]
    add: Callable[..., E]
    change: Callable[..., E]
    delete: Callable[..., int]
    reveal: Callable[..., tuple[E, str, str]]
    exists: ErrorAnswer
    missing: ErrorAnswer
    not_found: type[NotFound]


def _individuals(service: ProvisioningService) -> QuerySet[IndividualEnrollment]:
    return service.individualenrollments.without_secrets()


def _groups(service: ProvisioningService) -> EnrollmentGroupQuerySet:
    return service.enrollmentgroups.without_secrets()


def _find_individual(service: ProvisioningService, name: str) -> IndividualEnrollment | None:
    return _individuals(service).filter(registration_key=registration_key(name)).first()


def _find_group(service: ProvisioningService, name: str) -> EnrollmentGroup | None:
    groups = _groups(service).with_predecessor()
    return groups.filter(group_key=registration_key(name)).first()


def _individual_shown(entry: IndividualEnrollment, as_of: AsOf) -> dict[str, Any]:
    return individual_body(entry, as_of, state=state_of(entry))


INDIVIDUALS = Kind(
    member="enrollments",
    name="registrationId",
    item=INDIVIDUAL_ITEM,
    listed="enrollments",
    model=messages.IndividualEnrollment,
    entries=_individuals,
    key="registration_key",
    find=_find_individual,
    body=individual_body,
    shown=_individual_shown,
    spec=individual_spec,
    add=add_individual_enrollment,
    change=change_individual_enrollment,
    delete=delete_enrollments,
    reveal=reveal_enrollment_keys,
    exists=ENROLLMENT_EXISTS,
    missing=NO_SUCH_ENROLLMENT,
    not_found=EnrollmentNotFound,
)
GROUPS = Kind(
    member="enrollmentGroups",
    name="enrollmentGroupId",
    item=GROUP_ITEM,
    listed="groups",
    model=messages.EnrollmentGroup,
    entries=_groups,
    key="group_key",
    find=_find_group,
    body=group_body,
    shown=group_body,
    spec=group_spec,
    add=add_enrollment_group,
    change=change_enrollment_group,
    delete=delete_enrollment_groups,
    reveal=reveal_group_keys,
    exists=GROUP_EXISTS,
    missing=NO_SUCH_GROUP,
    not_found=EnrollmentGroupNotFound,
)
