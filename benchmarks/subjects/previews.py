"""What is shown before a change: the preview of a group over many devices."""

from datetime import timedelta
from functools import partial

from django.db.models import F

from benchmarks.copying import analyze, copy_row, digest
from benchmarks.installation import Bench
from benchmarks.measure import Figure, Part, in_this_process
from enrollments.actions.preview import Act, preview_of_act
from enrollments.models import Certificate, EnrollmentGroup, RegistrationAttempt, RegistrationRecord
from tests.certificates import Minted, root
from tests.devices import enroll_ca, new_service, register

DISABLE, DELETE, RENEWED = "preview.disable", "preview.delete", "preview.renewed"
# What stands for keys is made of other numbers than what stands for certificates, which are made of no others twice.
KEYS = 1_000_000_000
# As long as somebody waits at a dialog. Of a processor: nothing here waits for anybody else.
SECONDS = 2.0


def previews(bench: Bench) -> Part:
    devices = bench.size.previewed_devices
    group, renewed = _fleet("previewed", devices, 0), _fleet("renewed", devices, devices // 2)

    def preview(act: Act, group: EnrollmentGroup) -> None:
        told = preview_of_act(group.service, act, [group])
        if (told.known, told.not_examined) != (devices, 0):
            raise RuntimeError(f"{told.known} devices of {devices} were looked at")

    return Part(
        f"Preview of a group: {devices:,} known devices",
        [
            Figure(key, title, 1, in_this_process(partial(preview, act, of)), below=below)
            for key, title, act, of, below in (
                (DISABLE, "disabling it", Act.DISABLE, group, SECONDS),
                (DELETE, "deleting it, which a root stands above", Act.DELETE, group, SECONDS),
                (RENEWED, "disabling it, just after half of them were renewed", Act.DISABLE, renewed, None),
            )
        ],
    )


def _fleet(name: str, devices: int, renewed: int) -> EnrollmentGroup:
    """Devices below a group, which stands below another one. renewed: so many had another certificate before."""
    service = new_service(name)
    ca = root(f"{name} CA")
    enroll_ca(service, ca, "root")
    line = ca.intermediate(f"{name} line")
    group = enroll_ca(service, line, "fleet")
    former = line.leaf("fleet-0")
    if renewed:
        register(service, former)
    register(service, line.leaf("fleet-0"))
    record = RegistrationRecord.objects.get(service=service)
    _multiply(record, devices, first=renewed * 1000)
    if renewed:
        _had_before(record, former, renewed, first=renewed * 2000)
    return group


def _multiply(record: RegistrationRecord, devices: int, first: int) -> None:
    """Make of one registration as many, each with a leaf certificate of its own, as they would have left them."""
    leaf, issuer = record.evidence.all()
    name, thumbprint, key = "'fleet-' || i", digest(f"i + {first}"), digest(f"i + {first + KEYS}")
    leaves = copy_row(
        leaf.certificate,
        devices - 1,
        {"thumbprint_sha256": thumbprint, "thumbprint_sha1": digest("i", 40), "spki_sha256": key},
    )
    records = copy_row(
        record,
        devices - 1,
        {
            "registration_id": name,
            "registration_key": name,
            "device_id": name,
            "leaf_thumbprint": thumbprint,
            "leaf_spki": key,
        },
    )
    of_record = {"registration_id": f"{records} + i"}
    copy_row(leaf, devices - 1, {**of_record, "certificate_id": f"{leaves} + i"})
    copy_row(issuer, devices - 1, of_record)
    attempt = RegistrationAttempt.objects.get(service=record.service, leaf_thumbprint=record.leaf_thumbprint)
    named = {"claimed_registration_id": name, "registration_key": name, "leaf_thumbprint": thumbprint}
    copy_row(attempt, devices - 1, named)
    analyze()


def _had_before(record: RegistrationRecord, former: Minted, devices: int, first: int) -> None:
    """The attempts of so many at which that certificate, or one like it, admitted them."""
    thumbprint = digest(f"i + {first}")
    copy_row(
        Certificate.objects.get(thumbprint_sha256=former.parsed.thumbprint_sha256),
        devices - 1,
        {
            "thumbprint_sha256": thumbprint,
            "thumbprint_sha1": digest(f"i + {first}", 40),
            "spki_sha256": digest(f"i + {first + KEYS}"),
        },
    )
    attempts = RegistrationAttempt.objects.filter(service=record.service)
    # The latest of all, so that they are looked at.
    attempts.exclude(leaf_thumbprint=former.parsed.thumbprint_sha256).update(
        last_at=F("last_at") - timedelta(hours=1)
    )
    name = "'fleet-' || i"
    copy_row(
        attempts.get(leaf_thumbprint=former.parsed.thumbprint_sha256),
        devices - 1,
        {"claimed_registration_id": name, "registration_key": name, "leaf_thumbprint": thumbprint},
    )
    analyze()
