"""Whatever a stranger sends is answered with a result or an error body, and never with a 500."""

import base64
import itertools
import json
from collections import Counter
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from enrollments.actions.enrollment_specs import IndividualSpec
from enrollments.actions.enrollments import add_individual_enrollment
from enrollments.actions.services import change_settings
from enrollments.attestation.credential import PresentedCredential
from enrollments.models import AttestationMechanism
from tests.device_api.conftest import VERSION
from tests.devices import ALICE, derived_key, enroll_key_group, signs
from tests.soft_tpm import SoftTpm

pytestmark = pytest.mark.django_db

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
GROUP_KEY = base64.b64encode(b"g" * 32).decode()
TPM = SoftTpm(0).keys
NOTHING = PresentedCredential()
# Each request has a name and an address of its own, so that none is answered by a rate.
_numbers = itertools.count(1)


@pytest.fixture
def anyone(service, device):
    """A service whose group admits any name with a derived key, which has a TPM enrolled, and looks at payloads."""
    enroll_key_group(service, "lamps", primary_key=GROUP_KEY)
    change_settings(service, {"allocation_policy": "geoLatency"}, actor=ALICE)
    spec = IndividualSpec(
        registration_id="press-1",
        mechanism=AttestationMechanism.TPM,
        endorsement_key=TPM.endorsement_key,
        storage_root_key=TPM.storage_root_key,
    )
    add_individual_enrollment(service, spec, actor=ALICE)
    return device


def name_and_place() -> tuple[str, dict[str, str]]:
    number = next(_numbers)
    return f"lamp-{number}", {"REMOTE_ADDR": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}


def status_of(answer) -> int:
    """Its status, once it was seen that it is none of ours to be ashamed of."""
    told = json.loads(answer.content)
    assert answer.status_code < 500, told
    if "status" not in told:
        if "authenticationKey" not in told:
            assert told["errorCode"] // 1000 == answer.status_code
            assert {"message", "trackingId", "timestampUtc"} <= told.keys()
        assert answer.status_code >= 400
    return answer.status_code


# --- Authorization ---------------------------------------------------------------------------

# What a header can hold: any octet but those that end a line, as a WSGI server hands it on.
HEADERS = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=200)
ODD = st.one_of(
    HEADERS,
    st.sampled_from(
        ["", "0", "-1", "9" * 400, "1e9", "%", "%zz", "%00", "%ff%fe", "%2525", "=", "==", "none"]
    ),
)


@st.composite
def tokens(draw) -> str:
    """A token as one would be, with fields that are odd, missing, repeated or out of order."""
    fields = {"sr": "{sr}", "sig": "{sig}", "se": "{se}", "skn": "registration"}
    given_fields = [
        (name, draw(ODD) if draw(st.booleans()) else fields[name])
        for name in draw(st.lists(st.sampled_from(list(fields)), max_size=6))
    ]
    scheme = draw(st.sampled_from(["SharedAccessSignature ", "sharedaccesssignature ", "Bearer ", "", " "]))
    return scheme + draw(st.sampled_from(["&", "&&", ";", " "])).join(f"{a}={b}" for a, b in given_fields)


def filled(header: str, token: str) -> str:
    """The good fields, which depend on the service and the name, where the header leaves room for them."""
    for field in token.removeprefix("SharedAccessSignature ").split("&"):
        name, _, value = field.partition("=")
        header = header.replace(f"{{{name}}}", value)
    return header


def test_any_authorization_is_answered(anyone, service):
    seen: Counter[int] = Counter()

    @FEW
    @given(st.one_of(HEADERS, tokens()), st.sampled_from(["register", "poll", "look up"]))
    @example("SharedAccessSignature sr={sr}&sig={sig}&se={se}&skn=registration", "register")
    @example("SharedAccessSignature sr={sr}&sig=AAAA&se={se}", "register")
    def answers(header: str, call: str) -> None:
        name, place = name_and_place()
        good = signs(service, name, derived_key(GROUP_KEY, name)).authorization
        shown = PresentedCredential(authorization=filled(header, good))
        if call == "register":
            answer = anyone.register(name, shown, **place)
        elif call == "poll":
            answer = anyone.poll(name, "5.0000000000000000.x", shown, **place)
        else:
            answer = anyone.look_up(name, shown, **place)
        seen[status_of(answer)] += 1

    answers()

    assert {202, 401} <= seen.keys()


# --- Bodies ----------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(), st.sampled_from([10**400, -(10**400), 1e308, float("inf"), float("nan")]))
TEXTS = st.one_of(
    # With halves of surrogate pairs, which JSON can spell and UTF-8 cannot.
    st.text(max_size=40),
    st.sampled_from(["\ud800", "\udfff\ud800", "\0", "west", "WEST ", "lamp-1", "A" * 5000]),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(TEXTS, st.sampled_from(["region", "tags", ""])), inner, max_size=4),
    ),
    max_leaves=12,
)


@st.composite
def tpm_keys(draw, key: bytes) -> object:
    """A key of a TPM as one would be, or with some octets turned, cut off or put in; or no such thing at all."""
    octets = bytearray(key)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(octets)))
        octets[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return draw(st.one_of(st.just(base64.b64encode(octets).decode()), JSON))


MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "registrationId": st.one_of(st.just("{name}"), JSON),
        "payload": st.one_of(st.fixed_dictionaries({"region": JSON}), JSON),
        "csr": st.one_of(st.none(), JSON),
        "tpm": st.one_of(
            JSON,
            st.fixed_dictionaries(
                {},
                optional={
                    "endorsementKey": tpm_keys(TPM.endorsement_key),
                    "storageRootKey": tpm_keys(TPM.storage_root_key),
                },
            ),
        ),
    },
)
WHOLE_TPM = {
    "endorsementKey": base64.b64encode(TPM.endorsement_key).decode(),
    "storageRootKey": base64.b64encode(TPM.storage_root_key).decode(),
}


@st.composite
def written(draw) -> bytes:
    """A message on the wire: whole, cut off, or with something in it that JSON does not know."""
    text = json.dumps(draw(st.one_of(MESSAGES, JSON)), ensure_ascii=draw(st.booleans()))
    octets = bytearray(text.encode("utf-8", "surrogatepass"))
    if draw(st.booleans()):
        return bytes(octets)
    at = draw(st.integers(0, len(octets)))
    octets[at:] = draw(st.binary(max_size=8)) + (octets[at:] if draw(st.booleans()) else b"")
    return bytes(octets)


BODIES = st.one_of(
    written(),
    st.binary(max_size=300),
    st.sampled_from(
        [b"[" * 5000, b'{"a":' * 5000, b"1" * 5000, b'{"payload": 1, "payload": 2}', b"\xef\xbb\xbf{}"]
    ),
)


@pytest.mark.parametrize(
    ("has_key", "expected"), [(True, {202, 400}), (False, {400, 401})], ids=["of a device", "of a stranger"]
)
def test_any_body_is_answered(anyone, service, has_key, expected):
    seen: Counter[int] = Counter()

    @FEW
    @given(
        BODIES, st.sampled_from(["application/json", "text/plain", "multipart/form-data", "", "a;charset=x"])
    )
    @example(b"{}", "application/json")
    @example(b'{"payload": {"region": "\\ud800"}}', "application/json")
    @example(b"[]", "application/json")
    def answers(body: bytes, content_type: str) -> None:
        name, place = name_and_place()
        shown = signs(service, name, derived_key(GROUP_KEY, name)) if has_key else NOTHING
        body = body.replace(b"{name}", name.encode())
        for answer in (
            anyone.register(name, shown, body, content_type=content_type, **place),
            anyone.look_up(name, shown, body=body, content_type=content_type, **place),
        ):
            seen[status_of(answer)] += 1

    answers()

    assert expected <= seen.keys()


def test_any_body_about_a_tpm_is_answered(anyone):
    seen: Counter[int] = Counter()

    @FEW
    @given(MESSAGES, st.one_of(st.just(""), tokens()))
    @example({"tpm": WHOLE_TPM}, "")
    @example({"tpm": {**WHOLE_TPM, "endorsementKey": WHOLE_TPM["storageRootKey"]}}, "")
    @example({"tpm": {"endorsementKey": 1}}, "")
    def answers(message: dict, header: str) -> None:
        _, place = name_and_place()
        raw = json.dumps(message).replace("{name}", "press-1").encode()
        shown = PresentedCredential(authorization=header)
        seen[status_of(anyone.register("press-1", shown, raw, **place))] += 1

    answers()

    assert {400, 401, 404} <= seen.keys()


# --- Paths -----------------------------------------------------------------------------------

SEGMENTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(lambda text: quote(text, safe="")),
    st.sampled_from(
        ["", ".", "..", "%00", "%FF", "%C3%28", "%2F", "%0d%0a", "a" * 3000, "register", "operations"]
    ),
)
QUERIES = st.one_of(
    st.sampled_from(
        [VERSION, "", "api-version=", "api-version=%00", "api-version=٢٠٢١-06-01", f"{VERSION}&{VERSION}"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(quote),
)
METHODS = st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "REGISTER"])


def test_any_path_is_answered(anyone):
    seen: Counter[int] = Counter()

    @FEW
    @given(
        METHODS, st.one_of(st.just("{scope}"), SEGMENTS), SEGMENTS, st.lists(SEGMENTS, max_size=3), QUERIES
    )
    @example("PUT", "{scope}", "lamp-1", ["register"], VERSION)
    @example("PUT", "{scope}", "lamp-1", ["register"], "")
    @example("DELETE", "{scope}", "lamp-1", [], VERSION)
    @example("GET", "0ne00000000", "lamp-1", ["operations", "x"], VERSION)
    def answers(method: str, scope: str, name: str, rest: list[str], query: str) -> None:
        _, place = name_and_place()
        scope = scope.replace("{scope}", anyone.id_scope)
        path = "/" + "/".join([scope, "registrations", name, *rest])
        answer = anyone.call(method, f"{path}?{query}", NOTHING, **place)
        if method == "HEAD":
            assert answer.status_code < 500
        else:
            seen[status_of(answer)] += 1

    answers()

    assert {400, 401, 404, 405} <= seen.keys()
