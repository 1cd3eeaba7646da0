"""SAS tokens: the contract's vectors, each spelling that is accepted, each field that may not be touched."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrollments.attestation.symmetric_key import (
    KeyMalformed,
    TokenExpired,
    TokenForOtherDevice,
    TokenMalformed,
    TokenSignatureWrong,
    check_token,
    derive_device_key,
    key_bytes,
    read_token,
)
from enrollments.errors import AttestationError
from tests.sas import sas_token

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
OTHER = base64.b64encode(b"o" * 32).decode()
NOW = 1_700_000_000.0


def check(authorization: str, *, scope="0neSCOPE", device="pump-042", keys=(KEY,), now=NOW) -> None:
    check_token(
        read_token(authorization),
        id_scope=scope,
        registration_id=device,
        keys=[key_bytes(key) for key in keys],
        now=now,
    )


@pytest.mark.parametrize(
    ("resource", "expiry", "signature", "device"),
    [
        (
            "0neSCOPE/registrations/ok1-http",
            1795439006,
            "ERZ08dNuzD5ful3L67OSru5WAG0NIalsStXTGTJY13M=",
            "ok1-http",
        ),
        (
            "0neSCOPE%2Fregistrations%2Fok-pl-tcp",
            1795439729,
            "YGo7JZa3eXnftREEc3FRHhIF1r38cAyKrBwpVNKQkxs=",
            "ok-pl-tcp",
        ),
        (
            "0nescope%2Fregistrations%2Fok-pl-tcp",
            1795439729,
            "DoEe7o9/UKtn0E+e4u4msXiIoA1g9+xM6sjP1axbYYY=",
            "ok-pl-tcp",
        ),
        (
            "0neSCOPE%2fregistrations%2fok-pl-tcp",
            1795439729,
            "HUmPZCJ+akBIbHoVPWal2uJ8zrCYbhndxWCNcwYEAPw=",
            "ok-pl-tcp",
        ),
    ],
    ids=["raw", "upper-case hex", "all lower-cased", "lower-case hex"],
)
def test_token_of_a_real_client_is_proven(resource, expiry, signature, device):
    encoded = signature.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")

    check(f"SharedAccessSignature sr={resource}&sig={encoded}&se={expiry}", device=device)


@pytest.mark.parametrize(
    "shape",
    [
        "sr={sr}&sig={sig}&se={se}",
        "sr={sr}&sig={sig}&skn=registration&se={se}",
        "sr={sr}&sig={sig}&se={se}&skn=",
        "se={se}&skn=registration&sig={sig}&sr={sr}",
    ],
)
def test_order_of_fields_and_policy_name_do_not_matter(shape):
    token = read_token(sas_token("0neSCOPE", "pump-042", KEY, expiry=int(NOW) + 60))
    signature = base64.b64encode(token.signature).decode().replace("+", "%2b")

    check("SharedAccessSignature " + shape.format(sr=token.resource, sig=signature, se=token.expiry))


def test_raw_plus_in_the_signature_is_base64s_plus():
    for expiry in range(int(NOW) + 1, int(NOW) + 200):
        authorization = sas_token("0neSCOPE", "pump-042", KEY, expiry=expiry)
        if "%2B" in authorization:
            check(authorization.replace("%2B", "+"))
            return
    raise AssertionError("no signature with a plus among two hundred")


@pytest.mark.parametrize("resource", ["pump:042", "pump%3A042", "pump%3a042", "pump%253A042"])
def test_colon_may_be_encoded_once_or_twice(resource):
    resource = f"0neSCOPE%2Fregistrations%2F{resource}"

    check(sas_token("", "", KEY, resource=resource, expiry=int(NOW) + 60), device="pump:042")


def test_secondary_key_proves_as_well():
    check(sas_token("0neSCOPE", "pump-042", KEY, expiry=int(NOW) + 60), keys=(OTHER, KEY))


@pytest.mark.parametrize(
    ("authorization", "error"),
    [
        pytest.param(
            sas_token("0neSCOPE", "pump-042", OTHER, expiry=int(NOW) + 60), TokenSignatureWrong, id="key"
        ),
        pytest.param(
            sas_token("0neSCOPE", "pump-043", KEY, expiry=int(NOW) + 60), TokenForOtherDevice, id="device"
        ),
        pytest.param(
            sas_token("0neOTHER", "pump-042", KEY, expiry=int(NOW) + 60), TokenForOtherDevice, id="scope"
        ),
        pytest.param(sas_token("0neSCOPE", "pump-042", KEY, expiry=int(NOW)), TokenExpired, id="expired"),
        pytest.param(
            sas_token("", "", KEY, resource="0neSCOPE/registrations", expiry=int(NOW) + 60),
            TokenForOtherDevice,
            id="prefix of the resource",
        ),
        pytest.param(
            sas_token("", "", KEY, resource="0neSCOPE/registrations/pump-04\u212a", expiry=int(NOW) + 60),
            TokenForOtherDevice,
            id="a letter that lower-cases into ASCII",
        ),
    ],
)
def test_token_is_refused(authorization, error):
    with pytest.raises(error):
        check(authorization)


@pytest.mark.parametrize("field", ["sr", "sig", "se"])
def test_token_with_one_field_changed_is_refused(field):
    authorization = sas_token("0neSCOPE", "pump-042", KEY, expiry=int(NOW) + 60)
    before, _, after = authorization.partition(f"{field}=")
    value, ampersand, rest = after.partition("&")
    changed = ("9" if value[0] != "9" else "8") + value[1:]

    with pytest.raises(TokenSignatureWrong):
        check(f"{before}{field}={changed}{ampersand}{rest}")


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer x",
        "SharedAccessSignature",
        "SharedAccessSignature sr=a&sig=YQ==",
        "SharedAccessSignature sr=a&se=1",
        "SharedAccessSignature sig=YQ==&se=1",
        "SharedAccessSignature sr=a&sr=b&sig=YQ==&se=1",
        "SharedAccessSignature sr=a&sig=%%%&se=1",
        "SharedAccessSignature sr=a&sig=YQ==&se=1e9",
        "SharedAccessSignature sr=a&sig=YQ==&se=-1",
        "SharedAccessSignature sr=a&sig=YQ==&se=١٢٣",
        "SharedAccessSignature sr=a&sig=YQ==&se=" + "9" * 13,
        "SharedAccessSignature sr=" + "a" * 2000 + "&sig=YQ==&se=1",
    ],
)
def test_malformed_token_is_refused(authorization):
    with pytest.raises(TokenMalformed):
        read_token(authorization)


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text):
    for authorization in (
        text,
        f"SharedAccessSignature {text}",
        f"SharedAccessSignature sr={text}&sig=YQ==&se=9999999999",
    ):
        try:
            check(authorization)
        except AttestationError:
            continue
        raise AssertionError("a token that nobody signed was accepted")


def test_device_key_of_a_group_is_derived():
    group_key = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="

    derived = derive_device_key(key_bytes(group_key), "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6")

    assert base64.b64encode(derived).decode() == "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="


@pytest.mark.parametrize(
    "text", ["", "not base64!", base64.b64encode(b"x" * 15).decode(), base64.b64encode(b"x" * 65).decode()]
)
def test_key_of_wrong_form_is_refused(text):
    with pytest.raises(KeyMalformed):
        key_bytes(text)


def test_token_does_not_show_its_signature():
    assert "sig" not in repr(read_token(sas_token("0neSCOPE", "pump-042", KEY)))
