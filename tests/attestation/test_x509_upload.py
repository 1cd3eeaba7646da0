"""What administrators upload or paste, in all the wrappings that certificates come in."""

import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enrollments.attestation.x509 import (
    MAX_UPLOAD_BYTES,
    EmptyUpload,
    NotACertificate,
    PrivateKeyInUpload,
    UnreadableCertificate,
    UploadTooLarge,
    findings_for_ca,
    findings_for_device,
    read_upload,
)
from enrollments.errors import AttestationError
from tests.certificates import (
    EXPIRED,
    NOT_YET_VALID,
    NOW,
    SERVER_AUTH,
    as_v1,
    name,
    root,
    rsa_key,
    self_signed,
    signed_with_sha1,
)

TOP = root("Root A")
PLANT = TOP.intermediate("Plant 7")
DEVICE = self_signed("pump-042")
RSA_DEVICE = self_signed("pump-042", key="RSA 2048")


def in_lines(text: bytes) -> bytes:
    return b"\n".join(text[start : start + 76] for start in range(0, len(text), 76))


@pytest.mark.parametrize(
    "upload",
    [
        pytest.param(PLANT.pem.encode(), id="PEM"),
        pytest.param(PLANT.pem, id="pasted PEM"),
        pytest.param(PLANT.der, id="DER"),
        pytest.param(PLANT.der + b"\r\n", id="DER with a line end"),
        pytest.param(base64.b64encode(PLANT.der), id="base64 of DER"),
        pytest.param(in_lines(base64.b64encode(PLANT.der)) + b"\n", id="base64 in lines"),
        pytest.param(base64.b64encode(PLANT.pem.encode()), id="base64 of PEM"),
        pytest.param(PLANT.pem.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(PLANT.pem.replace("\n", "\r").encode(), id="CR"),
        pytest.param(b"\xef\xbb\xbf" + PLANT.pem.encode(), id="BOM"),
        pytest.param("\ufeff" + PLANT.pem, id="pasted BOM"),
        pytest.param(PLANT.pem.encode("utf-16"), id="UTF-16"),
        pytest.param(f"subject=CN = Plant 7\n\n{PLANT.pem}\nthat was it".encode(), id="text around it"),
        pytest.param("Grüße: \x00\n".encode("latin-1") + PLANT.pem.encode(), id="text in another encoding"),
        pytest.param("   " + PLANT.pem.replace("\n", "\n   "), id="indented"),
        pytest.param(PLANT.pem.replace("\n", " "), id="on one line"),
        pytest.param(PLANT.pem.replace("CERTIFICATE", "X509 CERTIFICATE"), id="old label"),
        pytest.param(PLANT.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), id="trusted certificate"),
        pytest.param(PLANT.pem * 3, id="repeated"),
    ],
)
def test_certificate_is_read(upload):
    assert read_upload(upload) == (PLANT.parsed,)


@pytest.mark.parametrize(
    "upload",
    [
        pytest.param((PLANT.pem + TOP.pem).encode(), id="PEM"),
        pytest.param(f"plant:\n{PLANT.pem}root:\n{TOP.pem}", id="with text between"),
        pytest.param(PLANT.der + TOP.der, id="DER"),
        pytest.param(base64.b64encode((PLANT.pem + TOP.pem).encode()), id="base64 of PEM"),
    ],
)
def test_several_are_read_in_their_order(upload):
    assert read_upload(upload) == (PLANT.parsed, TOP.parsed)


@pytest.mark.parametrize("last", [b"\n", b"\r"], ids=["LF", "CR"])
@pytest.mark.parametrize("behind", [b"", b"\n", b"\r\n"], ids=["nothing", "LF", "CRLF"])
def test_certificate_whose_last_octet_looks_like_a_line_end_is_read_whole(last, behind):
    certificate = next(
        made for made in (self_signed("pump-042") for _ in range(20_000)) if made.der.endswith(last)
    )

    assert read_upload(certificate.der + behind) == (certificate.parsed,)


@pytest.mark.parametrize("upload", [b"", "", b" \r\n\t ", b"\xef\xbb\xbf", "\ufeff\n"])
def test_nothing_is_said_so(upload):
    with pytest.raises(EmptyUpload, match="Nothing was uploaded"):
        read_upload(upload)


def test_size_is_limited():
    filling = "#" * (MAX_UPLOAD_BYTES - len(PLANT.pem))

    assert read_upload(PLANT.pem + filling)
    for upload in (
        PLANT.pem + filling + "#",
        b"x" * (MAX_UPLOAD_BYTES + 1),
        "ä" * (MAX_UPLOAD_BYTES // 2 + 1),
    ):
        with pytest.raises(UploadTooLarge, match="at most 65536"):
            read_upload(upload)


def private_bytes(minted, form=PrivateFormat.PKCS8, encoding=Encoding.DER, encryption=None):
    return minted.key.private_bytes(encoding, form, encryption or NoEncryption())


ENCRYPTED = BestAvailableEncryption(b"pass phrase")
PKCS_12 = pkcs12.serialize_key_and_certificates(b"pump", DEVICE.key, DEVICE.certificate, None, NoEncryption())
OPENSSH = DEVICE.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
PEM_KEY = DEVICE.key_pem
PRIVATE_KEYS = [
    pytest.param(PEM_KEY, id="PKCS 8"),
    pytest.param(private_bytes(DEVICE, PrivateFormat.TraditionalOpenSSL, Encoding.PEM), id="EC"),
    pytest.param(private_bytes(RSA_DEVICE, PrivateFormat.TraditionalOpenSSL, Encoding.PEM), id="RSA"),
    pytest.param(private_bytes(DEVICE, encoding=Encoding.PEM, encryption=ENCRYPTED), id="encrypted"),
    pytest.param(
        private_bytes(RSA_DEVICE, PrivateFormat.TraditionalOpenSSL, Encoding.PEM, ENCRYPTED),
        id="old encrypted",
    ),
    pytest.param(OPENSSH, id="OpenSSH"),
    pytest.param(PLANT.pem + PEM_KEY, id="behind a certificate"),
    pytest.param(PEM_KEY + PLANT.pem, id="before a certificate"),
    pytest.param(PEM_KEY.encode("utf-16"), id="UTF-16"),
    pytest.param(PEM_KEY.encode("utf-16-le"), id="UTF-16 without a mark"),
    pytest.param(PEM_KEY[: len(PEM_KEY) // 2], id="cut off"),
    pytest.param(PEM_KEY.replace("-----", ""), id="without dashes"),
    pytest.param(PEM_KEY.lower().encode(), id="lower case"),
    pytest.param(PEM_KEY.replace("PRIVATE KEY", "CERTIFICATE"), id="called a certificate"),
    pytest.param(PEM_KEY.replace("PRIVATE KEY", "SOMETHING"), id="called something"),
    pytest.param(base64.b64encode(PEM_KEY.encode()), id="base64 of PEM"),
    pytest.param(private_bytes(DEVICE), id="DER PKCS 8"),
    pytest.param(private_bytes(DEVICE, PrivateFormat.TraditionalOpenSSL), id="DER EC"),
    pytest.param(private_bytes(RSA_DEVICE, PrivateFormat.TraditionalOpenSSL), id="DER RSA"),
    pytest.param(private_bytes(RSA_DEVICE), id="DER PKCS 8 RSA"),
    pytest.param(private_bytes(DEVICE, encryption=ENCRYPTED), id="DER encrypted"),
    pytest.param(private_bytes(RSA_DEVICE)[:900], id="DER cut off"),
    pytest.param(base64.b64encode(private_bytes(DEVICE)), id="base64 of DER"),
    pytest.param(PLANT.der + private_bytes(DEVICE), id="DER behind a certificate"),
    pytest.param(PKCS_12, id="PKCS 12"),
    pytest.param(base64.b64encode(PKCS_12), id="base64 of PKCS 12"),
    pytest.param("PuTTY-User-Key-File-3: ssh-ed25519\n", id="PuTTY"),
]


@pytest.mark.parametrize("upload", PRIVATE_KEYS)
def test_private_key_is_refused_and_never_repeated(upload):
    with pytest.raises(PrivateKeyInUpload, match="contains a private key, which was not stored") as refused:
        read_upload(upload)

    error = refused.value
    assert error.code == "private_key_in_upload"
    assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    text = upload if isinstance(upload, str) else upload.decode("latin-1")
    assert not any(text[start : start + 24] in str(error) for start in range(0, len(text) - 23, 24))


def signing_request() -> x509.CertificateSigningRequest:
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name("pump-042"))
        .sign(DEVICE.key, hashes.SHA256())
    )


def revocation_list() -> x509.CertificateRevocationList:
    builder = x509.CertificateRevocationListBuilder().issuer_name(name("Root A"))
    return builder.last_update(NOW).next_update(NOW + timedelta(days=1)).sign(TOP.key, hashes.SHA256())


PUBLIC_KEY = DEVICE.key.public_key()


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER], ids=["PEM", "DER"])
@pytest.mark.parametrize(
    ("made", "what"),
    [
        pytest.param(lambda form: signing_request().public_bytes(form), "signing request", id="request"),
        pytest.param(lambda form: revocation_list().public_bytes(form), "revocation list", id="CRL"),
        pytest.param(
            lambda form: PUBLIC_KEY.public_bytes(form, PublicFormat.SubjectPublicKeyInfo),
            "public key",
            id="public key",
        ),
        pytest.param(
            lambda form: rsa_key(2048).public_key().public_bytes(form, PublicFormat.PKCS1),
            "public key",
            id="RSA public key",
        ),
        pytest.param(
            lambda form: pkcs7.serialize_certificates([PLANT.certificate], form), "PKCS #7", id="PKCS 7"
        ),
    ],
)
def test_other_things_are_called_what_they_are(made, what, encoding):
    with pytest.raises(NotACertificate, match=what):
        read_upload(made(encoding))


@pytest.mark.parametrize(
    "upload",
    [
        b"hello",
        b"MIIB",
        b"\x00\x01\x02",
        b"\x30\x03\x02\x01\x09",
        "日本語",
        b"\x89PNG\r\n\x1a\n",
        b"\x30\x82\xff",
    ],
)
def test_anything_else_is_no_certificate(upload):
    with pytest.raises((NotACertificate, UnreadableCertificate), match="certificate"):
        read_upload(upload)


@pytest.mark.parametrize(
    ("upload", "sentence"),
    [
        pytest.param(PLANT.pem[:300], "is cut off", id="cut off"),
        pytest.param(PLANT.pem + TOP.pem[:300], "is cut off", id="second one cut off"),
        pytest.param(PLANT.pem[:300] + TOP.pem, "is cut off", id="first one cut off"),
        pytest.param(PLANT.pem.replace("M", "!", 1), "is not base64", id="not base64"),
        pytest.param(PLANT.pem.replace("MII", "MIJ"), "cannot be read", id="damaged"),
    ],
)
def test_damaged_certificate_is_said_so(upload, sentence):
    with pytest.raises(UnreadableCertificate, match=sentence):
        read_upload(upload)


def codes(findings) -> dict[str, str]:
    return {finding.code: finding.severity for finding in findings}


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
BY_DIRECTORY_NAME = x509.NameConstraints([x509.DirectoryName(name("x"))], None)
LONGEST_SALT = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)


class TestFindingsForCa:
    def test_none_for_a_good_one(self):
        assert findings_for_ca(TOP.parsed, NOW) == findings_for_ca(PLANT.parsed, NOW) == ()

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            pytest.param(EXPIRED, {"expired": "warning"}, id="expired"),
            pytest.param(NOT_YET_VALID, {"not_yet_valid": "warning"}, id="not yet valid"),
            pytest.param({"ca": False}, {"not_a_ca": "error"}, id="device certificate"),
            pytest.param({"key_cert_sign": False}, {"no_cert_sign": "error"}, id="may not sign"),
            pytest.param({"key": "RSA 1024"}, {"weak_key": "error"}, id="RSA 1024"),
            pytest.param({"key": "secp256k1"}, {"unsupported_key": "error"}, id="secp256k1"),
            pytest.param(
                {"key": "Ed25519"}, {"unsupported_key": "error", "weak_signature": "error"}, id="Ed25519"
            ),
            pytest.param(
                {"key": "RSA 2048", "rsa_padding": LONGEST_SALT},
                {"unsupported_signature": "error"},
                id="RSA-PSS",
            ),
            pytest.param(
                {"extensions": [(UNKNOWN, True)]},
                {"unknown_critical_extension": "error"},
                id="critical extension",
            ),
            pytest.param(
                {"extensions": [(BY_DIRECTORY_NAME, False)]},
                {"unchecked_name_constraint": "error"},
                id="name constraint",
            ),
            pytest.param(
                {**EXPIRED, "key": "RSA 1024"},
                {"weak_key": "error", "expired": "warning"},
                id="weak and expired",
            ),
        ],
    )
    def test_are_told(self, options, expected):
        findings = findings_for_ca(self_signed("Root A", **{"ca": True} | options).parsed, NOW)

        assert codes(findings) == expected
        assert not any(finding.blocks_barring for finding in findings)
        assert all(finding.message.startswith("The certificate ") for finding in findings)

    def test_v1_is_told(self):
        assert codes(findings_for_ca(as_v1(TOP).parsed, NOW)) == {"old_version": "error", "not_a_ca": "error"}

    def test_sha1_is_told(self):
        assert codes(findings_for_ca(signed_with_sha1(TOP).parsed, NOW)) == {"weak_signature": "error"}

    def test_what_only_the_library_minds_is_told(self):
        nameless = root("Root A", issuer_name=x509.Name([]))

        assert codes(findings_for_ca(nameless.parsed, NOW)) == {"unsupported_form": "error"}


class TestFindingsForDevice:
    def test_none_for_a_good_one(self):
        assert findings_for_device(DEVICE.parsed, NOW) == findings_for_device(RSA_DEVICE.parsed, NOW) == ()

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            pytest.param(EXPIRED, {"expired": "warning"}, id="expired"),
            pytest.param(NOT_YET_VALID, {"not_yet_valid": "warning"}, id="not yet valid"),
            pytest.param({"ca": True}, {"ca_as_device": "warning"}, id="CA certificate"),
            pytest.param({"usages": [SERVER_AUTH]}, {"not_for_clients": "error"}, id="for servers"),
            pytest.param({"key": "RSA 1024"}, {"weak_key": "error"}, id="RSA 1024"),
            pytest.param({"key": "Ed25519"}, {}, id="Ed25519"),
        ],
    )
    def test_are_told(self, options, expected):
        assert codes(findings_for_device(self_signed("pump-042", **options).parsed, NOW)) == expected

    def test_v1_is_fine_and_sha1_is_not(self):
        assert findings_for_device(as_v1(DEVICE).parsed, NOW) == ()
        assert codes(findings_for_device(signed_with_sha1(DEVICE).parsed, NOW)) == {"weak_signature": "error"}


FRAGMENTS = [
    PLANT.pem.encode(),
    PLANT.der,
    PEM_KEY.encode(),
    base64.b64encode(PLANT.der),
    b"-----BEGIN CERTIFICATE-----",
    b"-----END CERTIFICATE-----",
    b"-----BEGIN ",
    b"\x30\x82",
    b"\xff\xfe",
    b"\n",
]


class TestFuzz:
    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.one_of(st.binary(max_size=300), st.text(max_size=300)))
    def test_anything(self, upload):
        with pytest.raises(AttestationError):
            read_upload(upload)

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=8)), max_size=6))
    def test_fragments_of_the_real_thing(self, fragments):
        try:
            certificates = read_upload(b"".join(fragments))
        except AttestationError:
            return
        assert certificates == (PLANT.parsed,)

    def test_hostile_text_takes_no_time(self):
        for hostile in (
            "-----BEGIN " * 6000,
            "-----BEGIN A-----" * 4000,
            "BEGIN " + "A" * 60000,
            "A" * 65536,
        ):
            with pytest.raises(AttestationError):
                read_upload(hostile)
