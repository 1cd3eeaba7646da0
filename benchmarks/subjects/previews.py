"""What is shown before a change: the preview of a group over many devices."""

from functools import partial

from django.db import connection

from benchmarks.installation import Bench
from benchmarks.measure import Figure, Part, in_this_process
from enrollments.actions.preview import Act, preview_of_act
from enrollments.models import Certificate, RegistrationEvidence, RegistrationRecord
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
    leaf, issuer = record.evidence.order_by("position")
    # Below the numbers of rows that are there, nothing is taken: each new one is told by its own number.
    first_record, first_leaf = record.pk + 1, Certificate.objects.order_by("-pk")[0].pk + 1
    first_evidence = RegistrationEvidence.objects.order_by("-pk")[0].pk + 1
    name, thumbprint, key = "'fleet-' || i", "printf('%064x', i)", "printf('%064x', i + 1000000000)"
    new_leaf, new_record = f"{first_leaf} + i", f"{first_record} + i"
    with connection.cursor() as cursor:
        for model, source, changed in (
            (
                Certificate,
                leaf.certificate_id,
                {
                    "id": new_leaf,
                    "thumbprint_sha256": thumbprint,
                    "thumbprint_sha1": thumbprint,
                    "spki_sha256": key,
                },
            ),
            (
                RegistrationRecord,
                record.pk,
                {
                    "id": new_record,
                    "registration_id": name,
                    "registration_key": name,
                    "device_id": name,
                    "leaf_thumbprint": thumbprint,
                    "leaf_spki": key,
                },
            ),
            (
                RegistrationEvidence,
                leaf.pk,
                {
                    "id": f"{first_evidence} + 2 * i",
                    "registration_id": new_record,
                    "certificate_id": new_leaf,
                },
            ),
            (
                RegistrationEvidence,
                issuer.pk,
                {"id": f"{first_evidence} + 2 * i + 1", "registration_id": new_record},
            ),
        ):
            columns = [field.column for field in model._meta.concrete_fields]
            values = [changed.get(column, column) for column in columns]
            cursor.execute(
                "WITH RECURSIVE number(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < %s - 1) "
                f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) "
                f"SELECT {', '.join(values)} FROM number, {model._meta.db_table} WHERE id = %s",
                [devices, source],
            )
        cursor.execute("ANALYZE")
