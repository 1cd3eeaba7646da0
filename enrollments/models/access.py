"""How back ends prove themselves: access policies with keys, and API tokens of people (contract 6.1)."""

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from enrollments.models.enrollments import new_etag, new_symmetric_key
from enrollments.models.fields import EncryptedTextField
from enrollments.models.json_columns import JsonColumn
from enrollments.models.services import ProvisioningService
from enrollments.policy.access import AccessRight, rights_among

OWNER_POLICY = "provisioningserviceowner"


def policy_key(name: str) -> str:
    """The form in which names of policies are compared; they are ASCII."""
    return name.lower()


class AccessPolicy(models.Model):
    """A name with two keys and what they open. Either key signs tokens, so that one can be replaced at a time."""

    service = models.ForeignKey(ProvisioningService, on_delete=models.PROTECT, related_name="access_policies")
    name = models.CharField(
        max_length=64,
        validators=[
            RegexValidator(
                r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z",
                "Use letters, digits and . _ - with a letter or digit first.",
            )
        ],
        help_text="Back ends name it in their connection strings. Letters, digits and . _ -; it cannot be changed.",
    )
    name_key = models.CharField(max_length=64, editable=False)
    primary_key = EncryptedTextField(default=new_symmetric_key)
    secondary_key = EncryptedTextField(default=new_symmetric_key)
    rights = JsonColumn(default=list)
    enabled = models.BooleanField(default=True)
    etag = models.CharField(max_length=80, default=new_etag)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name_key"]
        constraints = [
            models.UniqueConstraint(fields=["service", "name_key"], name="policy_name_once_per_service"),
            models.CheckConstraint(
                condition=~Q(primary_key="") & ~Q(secondary_key=""), name="policy_has_its_keys"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: object, **kwargs: object) -> None:
        self.name_key = policy_key(self.name)
        super().save(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    @property
    def access_rights(self) -> frozenset[AccessRight]:
        return rights_among(self.rights)


class ApiToken(models.Model):
    """A bearer token of one person for one service. Only its digest is kept; `hint` is how people tell it apart."""

    service = models.ForeignKey(ProvisioningService, on_delete=models.PROTECT, related_name="api_tokens")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    hint = models.CharField(max_length=12)
    digest = models.CharField(max_length=64, unique=True)
    rights = JsonColumn(default=list)
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_from = models.CharField(max_length=45, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["service", "user", "name"], name="token_name_once_per_person"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def access_rights(self) -> frozenset[AccessRight]:
        return rights_among(self.rights)

    def last_known(self) -> dict[str, object]:
        """What the history keeps of a token that ends: nothing else tells later whether and from where it was used."""
        of: dict[str, object] = {"of": self.user.get_username(), "rights": self.rights}
        if self.last_used_at is None:
            return of
        used = self.last_used_at.isoformat(timespec="seconds")
        return {**of, "last_used": used, "last_used_from": self.last_used_from}
