"""Devices of the service that a subject measures, with what they show."""

import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from benchmarks.devices import Device
from benchmarks.installation import Bench
from enrollments.models import ProvisioningService
from enrollments.models.enrollments import new_symmetric_key
from tests.certificates import Minted, root
from tests.devices import enroll_ca, enroll_keys
from tests.sas import sas_token


class Enrolling:
    """Makes devices that register at one service: with keys, or with certificates under a CA and an intermediate.

    The CA `factory` is enrolled; certificates of the `foreign` one lead nowhere.
    """

    def __init__(self, bench: Bench, service: ProvisioningService) -> None:
        self._service = service
        self._trusting = bench.trusting
        self._without_certificate = self._trusting()
        ca = root(f"Factory of {service}")
        enroll_ca(service, ca, "factory")
        self._factory = ca.intermediate("Line 9")
        self._foreign = root("Somebody").intermediate("Somebody's line")

    def with_keys(self, registration_id: str, *, enabled: bool = True) -> Device:
        return self._signing(
            registration_id, enroll_keys(self._service, registration_id, enabled=enabled).primary_key
        )

    def with_unknown_keys(self, registration_id: str) -> Device:
        return self._signing(registration_id, new_symmetric_key())

    def below_factory(self, registration_id: str) -> Device:
        return self._showing(self._factory.leaf(registration_id), registration_id)

    def below_foreign(self, registration_id: str) -> Device:
        return self._showing(self._foreign.leaf(registration_id), registration_id)

    def _signing(self, registration_id: str, key: str) -> Device:
        token = sas_token(self._service.id_scope, registration_id, key)
        return Device(registration_id, self._service.id_scope, self._without_certificate, token)

    def _showing(self, leaf: Minted, registration_id: str) -> Device:
        context = self._trusting()
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(*leaf.write(Path(folder)))
        return Device(registration_id, self._service.id_scope, context)


def numbered(make: Callable[[str], Device], name: str) -> Iterator[Device]:
    """As many devices as are asked for, each new."""
    return (make(f"{name}-{number}") for number in count())
