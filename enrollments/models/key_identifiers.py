"""What identifies a symmetric key without telling it, for as long as the installation lives."""

from django.db import models

from enrollments.models.enrollments import new_symmetric_key
from enrollments.models.fields import EncryptedTextField


class KeyIdentifierSecret(models.Model):
    """The one secret that identifiers of keys are made with (actions/key_identifiers.py).

    Not the encryption key: that one is replaced from time to time, and what the history holds is never made anew.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    secret = EncryptedTextField(default=new_symmetric_key)

    class Meta:
        constraints = [
            models.CheckConstraint(name="one_secret_for_key_identifiers", condition=models.Q(id=1)),
        ]

    def __str__(self) -> str:
        return "the secret for identifiers of keys"
