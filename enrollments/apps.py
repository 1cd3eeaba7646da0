"""The one Django application of dpsportal."""

from django.apps import AppConfig


class EnrollmentsConfig(AppConfig):
    name = "enrollments"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from enrollments import checks  # noqa: F401  # registers the system checks
