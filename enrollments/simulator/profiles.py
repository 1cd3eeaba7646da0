"""How the HTTPS clients of the protocol behave: what they send, insist on, wait for and give up on.

`plain` is the simulator's own manner. The others are as the vendor's public sources have them, as far as a service
can notice; docs/simulator.md has the same as a table.
"""

import math
import random
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from enrollments.simulator.credentials import HOUR, PLAIN_TOKEN, Spelling, TokenForm

JSON = "application/json"
JSON_UTF8 = "application/json; charset=utf-8"
# What most clients wait without a Retry-After, and the longest one that any of them believes (contract 1.5).
DEFAULT_WAIT, LONGEST_WAIT = 2, 300


class Trouble(Enum):
    """What a client does when it is throttled, or when the service fails."""

    FAILS = "fails at once"
    RETRIES = "tries again a few times"
    POLLS_ON = "polls on"


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long a client waits before it asks again, in seconds.

    A Retry-After outside of `shortest` and `longest` is brought within, or counts as none at all if `outside_is_none`.
    `jitter` is added by chance. With `fixed`, Retry-After is not looked at.
    """

    default: float = DEFAULT_WAIT
    shortest: float = 0
    longest: float = math.inf
    outside_is_none: bool = False
    jitter: float = 0
    fixed: bool = False

    def seconds(self, retry_after: int | None) -> float:
        return self._told(retry_after) + random.uniform(0, self.jitter)  # noqa: S311  # nothing secret

    def _told(self, retry_after: int | None) -> float:
        if retry_after is None or self.fixed:
            return self.default
        within = min(max(retry_after, self.shortest), self.longest)
        return self.default if self.outside_is_none and within != retry_after else within


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Members that a client does not do without, dots for what is inside. `a|b`: either."""

    accepted: tuple[str, ...] = ("operationId", "status")
    assigning: tuple[str, ...] = ("operationId", "status")
    assigned: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    every_state: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One client. `complaint` is what its user sees first when an answer is not to its liking."""

    name: str
    complaint: str
    api_version: str
    headers: tuple[tuple[str, str], ...]
    content_type: str = JSON_UTF8
    content_type_on_poll: bool = False
    request_id: bool = False
    authorization: str = "Authorization"
    token: TokenForm
    tpm_token: TokenForm
    encodes_ids: bool
    indents: bool = False
    repeats_tpm: bool = True
    poll_body: bytes = b""
    accepts_on_register: Collection[int] = (202,)
    accepts_on_poll: Collection[int] = (200, 202)
    needs_json_type: bool = False
    needs: Needs
    # What the user of this client reads of a disabled device.
    disabled: str = ""
    waiting: Waiting
    trouble_on_register: Trouble
    trouble_on_poll: Trouble


PLAIN = Profile(
    name="plain",
    complaint="",
    api_version="2021-06-01",
    headers=(("User-Agent", "dpsportal-simulator"), ("Accept", JSON)),
    token=PLAIN_TOKEN,
    tpm_token=PLAIN_TOKEN,
    encodes_ids=True,
    needs=Needs(accepted=("operationId",), assigning=("status",)),
    waiting=Waiting(shortest=1, longest=LONGEST_WAIT),
    trouble_on_register=Trouble.RETRIES,
    trouble_on_poll=Trouble.RETRIES,
)

NODE = Profile(
    name="node",
    complaint="SyntaxError",
    api_version="2019-03-31",
    headers=(("Accept", JSON), ("User-Agent", "azure-iot-provisioning-device/1.9.1")),
    content_type_on_poll=True,
    request_id=True,
    token=TokenForm(Spelling.RAW, ("sr", "sig", "skn", "se")),
    tpm_token=TokenForm(Spelling.UPPER_HEX, ("sr", "sig", "se", "skn")),
    encodes_ids=False,
    poll_body=b"{}",
    accepts_on_register=range(200, 300),
    accepts_on_poll=range(200, 300),
    needs_json_type=True,
    needs=Needs(assigned=("registrationState",)),
    disabled="SyntaxError: status is disabled",
    waiting=Waiting(),
    trouble_on_register=Trouble.FAILS,
    trouble_on_poll=Trouble.FAILS,
)

_UPPER_HEX_ONE_DAY = TokenForm(Spelling.UPPER_HEX, ("sr", "sig", "se", "skn"), seconds=24 * HOUR)
CSHARP = Profile(
    name="csharp",
    complaint="ProvisioningTransportException",
    api_version="2019-03-31",
    headers=(("User-Agent", "Microsoft.Azure.Devices.Provisioning.Client/1.19.4 (.NET; Linux; X64)"),),
    token=_UPPER_HEX_ONE_DAY,
    tpm_token=_UPPER_HEX_ONE_DAY,
    encodes_ids=True,
    indents=True,
    needs=Needs(assigned=("registrationState",), failed=("registrationState",)),
    disabled="ProvisioningRegistrationStatusType.Disabled",
    waiting=Waiting(shortest=2, jitter=5),
    trouble_on_register=Trouble.FAILS,
    trouble_on_poll=Trouble.POLLS_ON,
)

_RAW_NAMELESS = TokenForm(Spelling.RAW, ("sr", "sig", "se", "skn"), skn="")
JAVA = Profile(
    name="java",
    complaint="ProvisioningDeviceClientException",
    api_version="2019-03-31",
    headers=(("User-Agent", "com.microsoft.azure.sdk.iot.dps.dps-device-client/2.1.3"), ("Accept", JSON)),
    content_type_on_poll=True,
    authorization="authorization",
    token=_RAW_NAMELESS,
    tpm_token=_RAW_NAMELESS,
    encodes_ids=False,
    accepts_on_register=range(200, 301),
    accepts_on_poll=range(200, 301),
    needs=Needs(
        assigned=("registrationState.assignedHub", "registrationState.deviceId"),
        failed=("registrationState",),
        every_state=("registrationId", "status"),
    ),
    disabled="ProvisioningDeviceClientException: disabled",
    waiting=Waiting(shortest=2, longest=LONGEST_WAIT, outside_is_none=True),
    trouble_on_register=Trouble.FAILS,
    trouble_on_poll=Trouble.FAILS,
)

_LOWER_HEX = TokenForm(Spelling.LOWER_HEX, ("sr", "sig", "se", "skn"), seconds=2400)
C = Profile(
    name="c",
    complaint="PROV_DEVICE_RESULT_PARSING",
    api_version="2021-06-01",
    headers=(("UserAgent", "prov_device_client/1.0"), ("Accept", JSON), ("Connection", "keep-alive")),
    content_type_on_poll=True,
    token=_LOWER_HEX,
    tpm_token=_LOWER_HEX,
    encodes_ids=True,
    accepts_on_register=range(200, 300),
    accepts_on_poll=range(200, 300),
    needs=Needs(assigned=("registrationState.assignedHub", "registrationState.deviceId")),
    disabled="PROV_DEVICE_RESULT_DISABLED",
    waiting=Waiting(default=1, shortest=1, longest=LONGEST_WAIT),
    trouble_on_register=Trouble.RETRIES,
    trouble_on_poll=Trouble.POLLS_ON,
)

_LOWERED_HALF_A_MINUTE = TokenForm(Spelling.LOWERED, ("sr", "sig", "se", "skn"), seconds=30)
EDGE = Profile(
    name="edge",
    complaint="InvalidData",
    api_version="2021-06-01",
    headers=(("Accept", JSON),),
    content_type=JSON,
    token=_LOWERED_HALF_A_MINUTE,
    tpm_token=_LOWERED_HALF_A_MINUTE,
    encodes_ids=False,
    repeats_tpm=False,
    needs_json_type=True,
    needs=Needs(
        accepted=("operationId",),
        assigning=("registrationState.registrationId",),
        assigned=("registrationState.assignedHub", "registrationState.deviceId"),
        failed=("registrationState.errorCode", "registrationState.errorMessage"),
        refused=("errorCode|code", "message|errorMessage"),
    ),
    disabled="InvalidData: unknown variant disabled",
    waiting=Waiting(default=5, fixed=True),
    trouble_on_register=Trouble.FAILS,
    trouble_on_poll=Trouble.FAILS,
)

PROFILES = {one.name: one for one in (PLAIN, NODE, CSHARP, JAVA, C, EDGE)}
