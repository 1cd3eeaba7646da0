"""Forms about people: signing in, passwords, roles. Translation only; the rules are in the actions."""

from typing import Any

from django import forms

from enrollments.models import ProvisioningService
from enrollments.policy.roles import Role
from enrollments.policy.words import counted

# Where a form asks for a service, and the whole installation is meant.
EVERYWHERE = "*"


class SignInForm(forms.Form):
    username = forms.CharField(
        label="Name",
        max_length=150,
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "autofocus": True}
        ),
    )
    password = forms.CharField(
        label="Password",
        max_length=1024,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class OwnPasswordForm(forms.Form):
    current = forms.CharField(
        label="Current password",
        max_length=1024,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )
    password = forms.CharField(
        label="New password",
        max_length=1024,
        strip=False,
        help_text="At least 12 characters. A sentence is easier to remember than a puzzle.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    again = forms.CharField(
        label="New password again",
        max_length=1024,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if "password" in values and "again" in values and values["password"] != values["again"]:
            self.add_error("again", "The two new passwords differ.")
        return values


class NewPasswordForm(forms.Form):
    """Of somebody else. `tokens`: how many API tokens they have."""

    end_tokens = forms.BooleanField(
        required=False,
        initial=True,
        help_text="Whoever had the old password may have made tokens with it. They work without a password, until they "
        "are revoked. Leave the box without its tick where scripts of theirs must go on.",
    )

    def __init__(self, *args: Any, tokens: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auto_id = "question_%s"
        self.fields["end_tokens"].label = f"End {counted(tokens, 'API token')}"

    @property
    def ends_tokens(self) -> bool:
        return bool(self.cleaned_data["end_tokens"])


class _WhereForm(forms.Form):
    """A role, and where it counts."""

    where = forms.ChoiceField(label="Where")
    role = forms.ChoiceField(label="Role", choices=[(role.value, role.label) for role in Role])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.services = {service.name: service for service in ProvisioningService.objects.all()}
        self.fields["where"].choices = [  # type: ignore[attr-defined]  # a ChoiceField, declared above
            (EVERYWHERE, "Whole installation"),
            *((name, f"Service {name}") for name in self.services),
        ]

    @property
    def service(self) -> ProvisioningService | None:
        """The chosen service; None is the whole installation. Ask a valid form only."""
        return self.services.get(self.cleaned_data["where"])


class PersonForm(_WhereForm):
    username = forms.CharField(
        label="Name",
        max_length=150,
        help_text="Letters, digits and @ . + - _. Case does not count when signing in.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "autofocus": True}),
    )
    field_order = ("username", "where", "role")


class _RoleGiven(forms.Form):
    """A role, and why it is given. One is taken away by a question of its own."""

    role = forms.ChoiceField(label="Role", choices=[(role.value, role.label) for role in Role])
    reason = forms.CharField(label="Reason", required=False, max_length=500)

    @property
    def chosen_role(self) -> Role:
        """Ask a valid form only."""
        return Role(self.cleaned_data["role"])


class RoleForm(_RoleGiven, _WhereForm):
    """Of one person, anywhere."""


class ServiceRoleForm(_RoleGiven):
    """Of anybody, in one service."""

    username = forms.CharField(
        label="Name",
        max_length=150,
        help_text="The whole name of somebody whom the installation has. Case does not count.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    field_order = ("username", "role", "reason")
