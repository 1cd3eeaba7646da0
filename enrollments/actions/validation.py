"""What Django's validators say of a row, in the words of our own failures."""

from django.core.exceptions import ValidationError
from django.db import models

from enrollments.errors import Invalid


def validate(row: models.Model) -> None:
    try:
        row.full_clean()
    except ValidationError as problem:
        raise Invalid(
            {
                ("" if field == "__all__" else field): list(texts)
                for field, texts in problem.message_dict.items()
            }
        ) from None
