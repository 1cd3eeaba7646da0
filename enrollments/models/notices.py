"""What administrators should know of and nobody did: counted, not history."""

from django.db import models


class IgnoredCertificateHeader(models.Model):
    """Requests of one day that carried a client certificate in a header which is not believed there.

    A request counts under the first of its headers. Listeners and headers are few, so the table stays small.
    """

    listener = models.CharField(max_length=10)
    header = models.CharField(max_length=40)
    day = models.DateField()
    count = models.PositiveBigIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    last_address = models.CharField(max_length=45, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["listener", "header", "day"], name="ignored_certificate_headers_counted_per_day"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.header} on the {self.listener} listener, {self.day}: {self.count}"
