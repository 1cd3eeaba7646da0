"""Passwords as people get them: by the rules, and generated unless one is given."""

from contextlib import suppress

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.utils.crypto import get_random_string

from enrollments.errors import Invalid

GENERATED_PASSWORD_LENGTH = 20


def set_password(user: User, password: str) -> str:
    """On the row, which the caller saves; returns what was set. Raises Invalid."""
    try:
        password = password or _generated_password(user)
        validate_password(password, user)
    except ValidationError as problem:
        raise Invalid({"password": list(problem.messages)}) from None
    user.set_password(password)
    return password


def _generated_password(user: User) -> str:
    """One that holds the rules as well: by chance it may have too many letters of the name."""
    while True:
        password = get_random_string(GENERATED_PASSWORD_LENGTH)
        with suppress(ValidationError):
            validate_password(password, user)
            return password
