"""Reading the body of a registration: by hand, as the device API does, and with the model in its document."""

import json
from collections.abc import Callable

from benchmarks.installation import Bench
from benchmarks.measure import Figure, Part, Ratio, in_this_process
from enrollments.device_api.messages import device_registration
from enrollments.device_api.models import DeviceRegistration
from enrollments.policy.documents import parse_json
from enrollments.policy.names import same_registration_id
from enrollments.wire.requests import MAX_MESSAGE_BYTES

REGISTRATION_ID = "pump-042"
MESSAGE = {"registrationId": REGISTRATION_ID, "payload": {"region": "north", "firmware": "1.2.3", "line": 4}}
JSON, BY_HAND, WITH_MODEL = "body.json", "body.by-hand", "body.with-model"


def bodies(bench: Bench) -> Part:
    quick, raw = bench.size.quick_calls, json.dumps(MESSAGE).encode()
    return Part(
        "Body of a registration",
        [
            Figure(
                JSON, "its JSON", quick, in_this_process(lambda: parse_json(raw, max_bytes=MAX_MESSAGE_BYTES))
            ),
            Figure(
                BY_HAND,
                "its members, by hand",
                quick,
                in_this_process(lambda: device_registration(MESSAGE, REGISTRATION_ID)),
            ),
            Figure(WITH_MODEL, "its members, with pydantic", quick, in_this_process(_with_model())),
        ],
        [Ratio("members by hand to those with pydantic", BY_HAND, WITH_MODEL)],
    )


def _with_model() -> Callable[[], object]:
    def read() -> object:
        message = DeviceRegistration.model_validate(MESSAGE)
        assert same_registration_id(message.registration_id or "", REGISTRATION_ID)
        return message

    return read
