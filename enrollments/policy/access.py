"""What back ends may do through the service API (contract 6.1), and how far a person's role reaches there (R17)."""

from collections.abc import Collection
from enum import StrEnum

from enrollments.policy.roles import Right, Role


class AccessRight(StrEnum):
    """Wire names. None of them contains another: who changes entries does not thereby read them."""

    SERVICE_CONFIG = "ServiceConfig"
    ENROLLMENT_READ = "EnrollmentRead"
    ENROLLMENT_WRITE = "EnrollmentWrite"
    REGISTRATION_STATUS_READ = "RegistrationStatusRead"
    REGISTRATION_STATUS_WRITE = "RegistrationStatusWrite"

    @property
    def in_words(self) -> str:
        return _WORDS[self.value]


_WORDS = {
    "ServiceConfig": "change the configuration of the service",
    "EnrollmentRead": "read enrollments and groups, without their keys",
    "EnrollmentWrite": "add, change and delete enrollments and groups, and read their keys",
    "RegistrationStatusRead": "read registration records",
    "RegistrationStatusWrite": "delete registration records",
}
# What a person needs to be allowed in the service for a token of theirs to give it.
_NEEDS = {
    AccessRight.SERVICE_CONFIG: Right.ADMINISTER,
    AccessRight.ENROLLMENT_READ: Right.SEE,
    AccessRight.ENROLLMENT_WRITE: Right.CHANGE_ENTRIES,
    AccessRight.REGISTRATION_STATUS_READ: Right.SEE,
    AccessRight.REGISTRATION_STATUS_WRITE: Right.CHANGE_ENTRIES,
}


def rights_among(names: Collection[str]) -> frozenset[AccessRight]:
    """Of names that are kept. One that another version alone knows gives nothing."""
    return frozenset(right for right in AccessRight if right.value in names)


def rights_within(role: Role | None) -> frozenset[AccessRight]:
    """The most that a token of somebody with this role can give."""
    if role is None:
        return frozenset()
    return frozenset(right for right, needed in _NEEDS.items() if needed in role.rights)
