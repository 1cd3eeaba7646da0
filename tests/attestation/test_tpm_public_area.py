"""TPM2B_PUBLIC as devices send it and people paste it: read, or refused with a sentence for what is wrong."""

import base64
import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrollments.attestation.tpm import (
    MAX_PUBLIC_BYTES,
    TpmKeyMalformed,
    read_endorsement_key,
    read_storage_root_key,
)
from tests.certificates import rsa_key

MODULUS = rsa_key(2048).public_key().public_numbers().n
MODULUS_OCTETS = MODULUS.to_bytes(256, "big")
# Contract 3.2: the policy of the endorsement key template.
EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")


def public_area(
    *,
    kind=0x0001,
    name_alg=0x000B,
    attributes=0x000300B2,
    policy=EK_POLICY,
    symmetric=(0x0006, 128, 0x0043),
    scheme=0x0010,
    bits=2048,
    exponent=0,
    modulus=MODULUS_OCTETS,
    behind=b"",
    size=None,
) -> bytes:
    area = struct.pack(">HHIH", kind, name_alg, attributes, len(policy)) + policy
    area += struct.pack(">HHH", *symmetric) + struct.pack(">HHI", scheme, bits, exponent)
    area += struct.pack(">H", len(modulus)) + modulus + behind
    return struct.pack(">H", len(area) if size is None else size) + area


EK = public_area()
SRK = public_area(attributes=0x00030472, policy=b"")


def test_sizes_and_beginnings_are_those_of_the_contract():
    assert (len(EK), len(SRK)) == (316, 284)
    assert base64.b64encode(EK).startswith(b"AToAAQALAAMAsgAgg3GXZ0SE")
    assert base64.b64encode(SRK).startswith(b"ARoAAQALAAMEcgAAAAYAgABDABAI")


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(EK, id="bytes"),
        pytest.param(base64.b64encode(EK).decode(), id="base64"),
        pytest.param(base64.b64encode(EK), id="base64 in a file"),
        pytest.param(base64.encodebytes(EK).decode().replace("\n", "\r\n"), id="base64 in lines"),
        pytest.param(f"  {base64.b64encode(EK).decode()}\n", id="with spaces around"),
        pytest.param(public_area(exponent=65537), id="exponent written out"),
        pytest.param(public_area(policy=b""), id="without a policy"),
    ],
)
def test_endorsement_key_is_read(given):
    key = read_endorsement_key(given)

    assert (key.modulus, key.exponent) == (MODULUS, 65537)
    assert key.public_key.key_size == 2048


def test_storage_root_key_is_read_with_its_name():
    key = read_storage_root_key(SRK)

    assert key.name == b"\x00\x0b" + hashlib.sha256(SRK[2:]).digest()
    assert key.digest == hashlib.sha256(SRK).hexdigest()


def test_device_without_a_name_is_called_by_its_endorsement_key():
    """Contract 2.1: base32 of the digest of the TPM2B_PUBLIC, lower case, without padding."""
    name = read_endorsement_key(EK).default_registration_id

    assert base64.b32decode(name.upper() + "====") == hashlib.sha256(EK).digest()


WRONG = [
    pytest.param("", "is missing", id="nothing"),
    pytest.param(b"", "is missing", id="no bytes"),
    pytest.param("hello!", "is not base64", id="no base64"),
    pytest.param("-----BEGIN PUBLIC KEY-----\nMIIB\n", "was given as PEM", id="PEM"),
    pytest.param(b"-----BEGIN PUBLIC KEY-----\nMIIB\n", "was given as PEM", id="PEM file"),
    pytest.param("-----BEGIN PRIVATE KEY-----\nMIIB\n", "is a private key", id="private key"),
    pytest.param(b"-----BEGIN RSA PRIVATE KEY-----\n", "is a private key", id="private key in a file"),
    pytest.param(b"\x30\x82\x01\x22\x30\x0d", "was given as DER", id="DER"),
    pytest.param(base64.b64encode(b"\x30\x82\x04\x00").decode(), "was given as DER", id="DER in base64"),
    pytest.param("A" * 10_000, "characters long", id="too long a text"),
    pytest.param(b"\x00" * (MAX_PUBLIC_BYTES + 1), "bytes long", id="too many bytes"),
    pytest.param(b"\x01", "is no TPM2B_PUBLIC", id="one byte"),
    pytest.param(EK[2:], "is a TPMT_PUBLIC", id="without its size"),
    pytest.param(EK[:-1], "is cut off: its first two bytes announce 314 bytes, and 313 follow", id="cut off"),
    pytest.param(EK[:60], "is cut off", id="cut off early"),
    pytest.param(
        EK + b"\x00",
        "is no TPM2B_PUBLIC: its first two bytes announce 314 bytes, and 315 follow",
        id="longer than announced",
    ),
    pytest.param(public_area(behind=b"\x00\x00"), "2 bytes follow", id="more inside"),
    pytest.param(public_area(kind=0x0023), "not an RSA key", id="ECC"),
    pytest.param(public_area(name_alg=0x0004), "nameAlg", id="SHA-1"),
    pytest.param(public_area(attributes=0x000100B2), "restricted decryption key", id="does not decrypt"),
    pytest.param(public_area(attributes=0x000200B2), "restricted decryption key", id="not restricted"),
    pytest.param(public_area(attributes=0x000300B0), "restricted decryption key", id="not fixed to its TPM"),
    pytest.param(
        public_area(attributes=0x000300A2), "restricted decryption key", id="not fixed to its parent"
    ),
    pytest.param(public_area(attributes=0x000700B2), "restricted decryption key", id="signs"),
    pytest.param(public_area(symmetric=(0x0006, 256, 0x0043)), "AES-128 in CFB", id="AES-256"),
    pytest.param(public_area(symmetric=(0x0006, 128, 0x0042)), "AES-128 in CFB", id="CBC"),
    pytest.param(public_area(scheme=0x0014), "a storage key has none", id="has a scheme"),
    pytest.param(public_area(bits=3072), "has 3072 bits", id="RSA 3072"),
    pytest.param(public_area(exponent=3), "exponent", id="exponent 3"),
    pytest.param(public_area(modulus=b"\x00" * 256), "modulus", id="zero"),
    pytest.param(public_area(modulus=b"\xff" * 255 + b"\xfe"), "modulus", id="even"),
    pytest.param(public_area(modulus=b"\x7f" + b"\xff" * 255), "modulus", id="a bit short"),
    pytest.param(public_area(modulus=b"\xff" * 128), "modulus", id="half"),
]


@pytest.mark.parametrize(("given", "sentence"), WRONG)
def test_each_way_to_be_wrong_has_its_sentence(given, sentence):
    with pytest.raises(TpmKeyMalformed, match=sentence) as refused:
        read_endorsement_key(given)

    assert "endorsement key" in refused.value.message


@pytest.mark.parametrize("length", range(2, 314, 7))
def test_area_that_ends_early_says_what_is_missing(length):
    area = EK[2 : 2 + length]

    with pytest.raises(TpmKeyMalformed, match=r"is cut off: its .* is missing or incomplete"):
        read_endorsement_key(struct.pack(">H", len(area)) + area)


def is_read_or_refused_with_a_sentence(given) -> bool:
    try:
        read_endorsement_key(given)
    except TpmKeyMalformed as refused:
        return refused.message.endswith(".")
    return True


@given(st.one_of(st.binary(max_size=400), st.text(max_size=400)))
def test_no_input_ends_in_anything_but_a_key_or_a_sentence(given):
    assert is_read_or_refused_with_a_sentence(given)


@given(st.integers(0, 315), st.integers(0, 255))
def test_one_octet_that_is_another_is_a_key_or_a_sentence(position, octet):
    assert is_read_or_refused_with_a_sentence(EK[:position] + bytes([octet]) + EK[position + 1 :])
