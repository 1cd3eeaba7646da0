"""Numbers that databases write in different ways, in what the history says of a twin and of a device."""

import json

import pytest

from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import add_individual_enrollment, change_individual_enrollment
from enrollments.actions.history import take_checkpoint
from enrollments.audit import checkpoints
from enrollments.audit.canonical import json_form
from enrollments.audit.export import export_lines
from enrollments.audit.verify_database import verify_database
from enrollments.models import AttestationMechanism, HistoryEvent
from tests.audit.tampering import by_tool
from tests.devices import ALICE
from tests.models.test_json_columns import ODD

TWIN = {"tags": {}, "properties": {"desired": {"odd": ODD}}}
SPEC = IndividualSpec(
    registration_id="pump-1",
    mechanism=AttestationMechanism.SYMMETRIC_KEY,
    initial_twin=TWIN,
    device_information={"odd": ODD},
)


@pytest.mark.django_db(transaction=True)
def test_they_are_sealed_as_they_were_given_and_both_verifiers_agree(service, tmp_path):
    add_individual_enrollment(service, SPEC, actor=ALICE)
    checkpoint, _ = take_checkpoint()
    export = tmp_path / "export.jsonl"
    export.write_bytes(b"".join(export_lines(checkpoint)))

    assert verify_database([checkpoints.verifier_key()]).problem is None
    assert by_tool(export).returncode == 0
    # Twice: in the twin and in what is known of the device.
    assert export.read_text().count(json_form(json.dumps(ODD))) == 2


@pytest.mark.django_db
def test_saving_them_again_changes_nothing(service):
    enrollment = add_individual_enrollment(service, SPEC, actor=ALICE)
    rows = HistoryEvent.objects.count()

    change_individual_enrollment(service, "pump-1", SPEC, expected_etag=enrollment.etag, actor=ALICE)

    assert HistoryEvent.objects.count() == rows
