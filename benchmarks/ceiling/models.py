"""Two tables of the benchmark's own: one row per device, found by its name, and one row per visit."""

from django.db import models


class Device(models.Model):
    name = models.CharField(max_length=128, unique=True)
    visits = models.PositiveIntegerField(default=0)
    seen_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name


class Visit(models.Model):
    device = models.ForeignKey(Device, on_delete=models.PROTECT)
    at = models.DateTimeField()
    address = models.CharField(max_length=45)

    def __str__(self) -> str:
        return f"{self.device_id} at {self.at}"
