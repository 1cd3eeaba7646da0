"""Proving a SAS token: the arithmetic alone, and the judgement of a device that nobody has enrolled."""

from collections.abc import Callable

from cryptography.fernet import Fernet
from django.utils import timezone

from benchmarks.installation import Bench
from benchmarks.measure import Figure, Part, Ratio, in_this_process
from enrollments.actions.judging import judge
from enrollments.actions.services import change_settings
from enrollments.attestation.symmetric_key import check_token, derive_device_key, key_bytes, read_token
from enrollments.models import ProvisioningService
from enrollments.models.enrollments import new_symmetric_key
from tests.devices import ALICE, enroll_key_group, new_service, signs
from tests.sas import sas_token

REGISTRATION_ID = "pump-042"


def sas_tokens(bench: Bench) -> Part:
    quick, slow, (none, *some) = bench.size.quick_calls, bench.size.slow_calls, bench.size.groups_with_keys
    stored, key = new_symmetric_key(), key_bytes(new_symmetric_key())
    cipher = Fernet(Fernet.generate_key())
    encrypted = cipher.encrypt(stored.encode())
    return Part(
        "SAS token",
        [
            Figure(
                "sas.verification", "verification, two keys tried", quick, in_this_process(_verification())
            ),
            Figure(
                "sas.derivation",
                "deriving a device's key from a group's",
                quick,
                in_this_process(lambda: derive_device_key(key, REGISTRATION_ID)),
            ),
            Figure(
                "sas.decryption",
                "decrypting a stored key",
                quick,
                in_this_process(lambda: key_bytes(cipher.decrypt(encrypted).decode())),
            ),
            *(
                Figure(
                    _judgement(groups),
                    f"judging a stranger's, {groups} groups with keys",
                    slow,
                    in_this_process(_stranger_before(groups)),
                )
                for groups in (none, *some)
            ),
        ],
        [
            Ratio(
                f"judging a stranger's token, {groups} groups to none", _judgement(groups), _judgement(none)
            )
            for groups in some
        ],
    )


def _judgement(groups: int) -> str:
    return f"sas.stranger.{groups}-groups"


def _verification() -> Callable[[], object]:
    primary, secondary = new_symmetric_key(), new_symmetric_key()
    keys = [key_bytes(primary), key_bytes(secondary)]
    id_scope, now = "0ne00000000", timezone.now().timestamp()
    token = sas_token(id_scope, REGISTRATION_ID, primary)

    def verify() -> None:
        check_token(read_token(token), id_scope=id_scope, registration_id=REGISTRATION_ID, keys=keys, now=now)

    return verify


def _stranger_before(groups: int) -> Callable[[], object]:
    service = new_service(f"groups-{groups}")
    change_settings(service, {"symmetric_key_groups": True}, actor=ALICE)
    for number in range(groups):
        enroll_key_group(service, f"line-{number}")
    service = ProvisioningService.objects.get(pk=service.pk)
    credential, now = signs(service, REGISTRATION_ID, new_symmetric_key()), timezone.now()
    return lambda: judge(service, REGISTRATION_ID, credential, at=now)
