"""What is shown before a change: the preview of a group over many devices."""

from functools import partial

from benchmarks.copying import analyze, copy_row, digest
from benchmarks.installation import Bench
from benchmarks.measure import Figure, Part, in_this_process
from enrollments.actions.preview import Act, preview_of_act
from enrollments.models import RegistrationAttempt, RegistrationRecord
from tests.certificates import root
from tests.devices import enroll_ca, new_service, register

DISABLE, DELETE = "preview.disable", "preview.delete"
# As long as somebody waits at a dialog. Of a processor: nothing here waits for anybody else.
SECONDS = 2.0


def previews(bench: Bench) -> Part:
    devices = bench.size.previewed_devices
    service = new_service("previewed")
    ca = root("Previewed CA")
    enroll_ca(service, ca, "root")
    line = ca.intermediate("Previewed line")
    group = enroll_ca(service, line, "fleet")
    register(service, line.leaf("fleet-0"))
    _multiply(RegistrationRecord.objects.get(service=service), devices)

    def preview(act: Act) -> None:
        known = preview_of_act(service, act, [group]).known
        if known != devices:
            raise RuntimeError(f"{known} devices of {devices} were looked at")

    return Part(
        f"Preview of a group: {devices:,} known devices",
        [
            Figure(key, title, 1, in_this_process(partial(preview, act)), below=SECONDS)
            for key, title, act in (
                (DISABLE, "disabling it", Act.DISABLE),
                (DELETE, "deleting it, which a root stands above", Act.DELETE),
            )
        ],
    )


def _multiply(record: RegistrationRecord, devices: int) -> None:
    """Make of one registration as many, each with a leaf certificate of its own, as they would have left them."""
    leaf, issuer = record.evidence.all()
    name, thumbprint, key = "'fleet-' || i", digest("i"), digest("i + 1000000000")
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
    attempt = RegistrationAttempt.objects.get(service=record.service)
    named = {"claimed_registration_id": name, "registration_key": name, "leaf_thumbprint": thumbprint}
    copy_row(attempt, devices - 1, named)
    analyze()
