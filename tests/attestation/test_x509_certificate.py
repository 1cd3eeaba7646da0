"""What is read from one certificate, and that nothing unreadable gets any further."""

import subprocess
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enrollments.attestation.x509 import (
    MAX_CERTIFICATE_BYTES,
    LeafRefused,
    NoSingleCommonName,
    PathValidator,
    UnreadableCertificate,
    build_chain_graph,
    check_leaf,
    findings_for_ca,
    findings_for_device,
    parse_der,
    read_presented,
    registration_id_of,
)
from enrollments.attestation.x509.der import elements
from enrollments.attestation.x509.search import is_signed_by
from enrollments.errors import AttestationError
from tests.certificates import (
    CLIENT_AUTH,
    EXPIRED,
    NEXT_YEAR,
    NOT_YET_VALID,
    NOW,
    SERVER_AUTH,
    YESTERDAY,
    Held,
    as_v1,
    der_element,
    mint,
    name,
    new_key,
    root,
    rsa_key,
    self_signed,
    signed_with_sha1,
    spki_with_compressed_point,
    with_key_encoding,
)


def test_all_that_is_kept_of_a_certificate():
    top = root("Root A", path_length=3)
    plant = top.intermediate("Plant 7", path_length=0, serial_number=0xAB12)

    parsed = plant.parsed

    assert (parsed.subject, parsed.issuer) == ("CN=Plant 7", "CN=Root A")
    assert parsed.common_names == ("Plant 7",)
    assert parsed.serial_number == "AB12"
    assert (parsed.not_before, parsed.not_after) == (YESTERDAY, NEXT_YEAR)
    assert parsed.thumbprint_sha1 == plant.certificate.fingerprint(hashes.SHA1()).hex()
    assert parsed.thumbprint_sha256 == plant.certificate.fingerprint(hashes.SHA256()).hex()
    assert parsed.issuer_sha256 == top.parsed.subject_sha256 != parsed.subject_sha256
    assert parsed.authority_key_id == top.parsed.subject_key_id != parsed.subject_key_id
    assert (parsed.is_ca, parsed.path_length, parsed.version) == (True, 0, 3)
    assert (parsed.key_description, parsed.signature_description) == ("EC P-256", "ECDSA with SHA-256")
    assert parsed.pem == plant.pem
    assert not parsed.is_self_issued
    assert top.parsed.is_self_issued


def test_digest_of_the_key_is_that_of_its_der_encoding():
    device = self_signed("pump-042")
    spki = device.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)

    assert device.parsed.spki_sha256 == digest.finalize().hex()


@pytest.mark.parametrize(
    ("key", "description"),
    [
        ("P-384", "EC P-384"),
        ("P-521", "EC P-521"),
        ("secp256k1", "EC secp256k1"),
        ("RSA 2048", "RSA 2048"),
        ("Ed25519", "Ed25519"),
    ],
)
def test_key_is_described(key, description):
    assert self_signed("pump-042", key=key).parsed.key_description == description


@pytest.mark.parametrize(
    ("minted", "description"),
    [
        (lambda: self_signed("pump", digest=hashes.SHA384()), "ECDSA with SHA-384"),
        (lambda: self_signed("pump", key="RSA 2048"), "RSA with SHA-256"),
        (lambda: self_signed("pump", key="Ed25519"), "Ed25519"),
        (lambda: signed_with_sha1(self_signed("pump")), "ECDSA with SHA-1"),
    ],
    ids=["ECDSA", "RSA", "Ed25519", "old ECDSA"],
)
def test_signature_is_described(minted, description):
    assert minted().parsed.signature_description == description


class TestOneKeyInManyEncodings:
    """A barred key must be known in any clothes (R6, R7)."""

    def test_compressed_and_hybrid_points(self):
        plain = self_signed("pump-042")
        point = plain.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        compressed = spki_with_compressed_point(plain.key)
        [algorithm, _] = elements(compressed[2:])
        hybrid = bytes([6 + (point[-1] & 1)]) + point[1:]

        for spki in (
            compressed,
            der_element(0x30, algorithm + der_element(0x03, b"\x00" + hybrid)),
        ):
            other = with_key_encoding(plain, spki)
            assert other.der != plain.der
            assert other.parsed.spki_sha256 == plain.parsed.spki_sha256

    def test_explicit_curve_parameters(self, tmp_path):
        plain = self_signed("pump-042")
        pem = plain.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        command = ["openssl", "ec", "-param_enc", "explicit", "-pubout", "-outform", "DER"]
        explicit = subprocess.run(command, input=pem, capture_output=True, check=True).stdout

        other = with_key_encoding(plain, explicit)

        assert len(other.der) > len(plain.der) + 100
        assert other.parsed.spki_sha256 == plain.parsed.spki_sha256

    @pytest.mark.parametrize(
        "algorithm",
        [
            pytest.param("06092a864886f70d010101", id="without NULL"),
            pytest.param("06092a864886f70d01010a", id="as a PSS key"),
            pytest.param("06092a864886f70d01010a3000", id="as a PSS key with parameters"),
        ],
    )
    def test_rsa(self, algorithm):
        key = rsa_key(2048)
        issuer = root("Root A")
        plain = issuer.leaf("pump-042", key=key)
        numbers = key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
        spki = der_element(
            0x30, der_element(0x30, bytes.fromhex(algorithm)) + der_element(0x03, b"\x00" + numbers)
        )

        other = with_key_encoding(plain, spki)

        assert other.der != plain.der
        assert other.parsed.spki_sha256 == plain.parsed.spki_sha256

    def test_different_keys_stay_different(self):
        assert self_signed("pump-042").parsed.spki_sha256 != self_signed("pump-042").parsed.spki_sha256


def test_names_are_compared_as_they_are_encoded():
    utf8 = name("Plant 7")
    printable = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "Plant 7", _type=x509.name._ASN1Type.PrintableString)]
    )

    assert utf8 == printable
    assert mint(subject=utf8).parsed.subject_sha256 != mint(subject=printable).parsed.subject_sha256


class TestUnreadable:
    @pytest.mark.parametrize(
        "der",
        [b"", b"\x30", b"\x30\x80", b"nothing of the kind", b"\x30\x03\x02\x01\x00"],
        ids=["empty", "one byte", "indefinite length", "text", "another structure"],
    )
    def test_is_refused(self, der):
        with pytest.raises(UnreadableCertificate):
            parse_der(der)

    def test_anything_behind_it_is_refused(self):
        with pytest.raises(UnreadableCertificate):
            parse_der(root("Root A").der + b"\x00")

    def test_size_is_limited_before_parsing(self):
        padding = x509.UnrecognizedExtension(
            x509.ObjectIdentifier("1.2.3.4"), b"\x00" * MAX_CERTIFICATE_BYTES
        )

        with pytest.raises(UnreadableCertificate, match="at most 16384"):
            parse_der(self_signed("pump-042", extensions=[(padding, False)]).der)
        with pytest.raises(UnreadableCertificate, match="at most 16384"):
            parse_der(b"x" * (MAX_CERTIFICATE_BYTES + 1))

    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({"subject_key_id": b"k" * 65}, id="key identifier too long to keep"),
            pytest.param({"ca": True, "path_length": 2**31}, id="path length too large to keep"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, options):
        with pytest.raises(UnreadableCertificate):
            parse_der(self_signed("pump-042", **options).der)

    def test_extension_that_makes_no_sense_is_found_at_once(self):
        nonsense = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x02\x01\x00")

        with pytest.raises(UnreadableCertificate):
            parse_der(self_signed("pump-042", extensions=[(nonsense, False)]).der)

    def test_key_of_unknown_kind_can_be_told_but_proves_nothing(self):
        unknown_kind = der_element(0x30, der_element(0x30, bytes.fromhex("06032a0304")) + b"\x03\x02\x00\x00")
        device = with_key_encoding(self_signed("pump-042"), unknown_kind)

        assert device.parsed.public_key is None
        assert device.parsed.key_description == "unknown (1.2.3.4)"
        with pytest.raises(LeafRefused, match="cannot be read"):
            check_leaf(device.parsed, NOW)
        assert [(one.code, one.blocks_barring) for one in findings_for_device(device.parsed, NOW)] == [
            ("unreadable_key", True)
        ]


class TestPinnedLeaf:
    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({}, id="ordinary"),
            pytest.param({"usages": [CLIENT_AUTH]}, id="for clients"),
            pytest.param({"key": "Ed25519"}, id="Ed25519"),
            pytest.param({"key": "RSA 2048"}, id="RSA 2048"),
            pytest.param({"ca": True}, id="self-signed CA"),
            pytest.param({"digest": hashes.SHA224()}, id="SHA-224"),
        ],
    )
    def test_may_be_used(self, options):
        check_leaf(self_signed("pump-042", **options).parsed, NOW)

    def test_may_be_v1(self):
        check_leaf(as_v1(self_signed("pump-042")).parsed, NOW)

    @pytest.mark.parametrize(
        ("options", "cause"),
        [
            pytest.param(EXPIRED, "expired", id="expired"),
            pytest.param(NOT_YET_VALID, "not valid before", id="not yet valid"),
            pytest.param({"usages": [SERVER_AUTH]}, "extended key usage", id="for servers"),
            pytest.param({"key": "RSA 1024"}, "RSA 1024", id="RSA 1024"),
            pytest.param({"key": "secp256k1"}, "secp256k1", id="secp256k1"),
        ],
    )
    def test_is_refused(self, options, cause):
        with pytest.raises(LeafRefused, match=cause) as refused:
            check_leaf(self_signed("pump-042", **options).parsed, NOW)
        assert refused.value.code == "leaf_refused"

    def test_signed_with_sha1_is_refused(self):
        with pytest.raises(LeafRefused, match="SHA-1"):
            check_leaf(signed_with_sha1(self_signed("pump-042")).parsed, NOW)


class TestRegistrationId:
    def test_is_the_common_name(self):
        assert registration_id_of(self_signed("pump-042").parsed) == "pump-042"

    @pytest.mark.parametrize("common_names", [(), ("pump-042", "pump-043"), ("pump-042", "pump-042")])
    def test_needs_exactly_one(self, common_names):
        issuer = root("Root A")
        with pytest.raises(NoSingleCommonName, match=f"has {len(common_names)} common names"):
            registration_id_of(issuer.leaf(*common_names).parsed)

    def test_two_in_one_part_of_the_name_are_two(self):
        both = x509.RelativeDistinguishedName(
            [x509.NameAttribute(NameOID.COMMON_NAME, one) for one in ("pump-042", "pump-043")]
        )
        with pytest.raises(NoSingleCommonName):
            registration_id_of(self_signed(subject=x509.Name([both])).parsed)


def thoroughly_used(der: bytes) -> None:
    """Everything that a registration or an upload could do with a certificate once it has been read."""
    parsed = parse_der(der)
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert parsed.pem and parsed.is_self_issued in (True, False)
    assert "\x00" not in parsed.subject + parsed.issuer
    assert len(parsed.key_description) <= 40 and len(parsed.signature_description) <= 60
    findings_for_ca(parsed, now)
    findings_for_device(parsed, now)
    for key in (parsed.public_key, new_key().public_key(), rsa_key(2048).public_key()):
        is_signed_by(parsed, key)
    graph = build_chain_graph(read_presented([der, FUZZED_TOP.der]), Held(FUZZED_TOP))
    validator = PathValidator(graph, NOW)
    for use in (
        lambda: check_leaf(parsed, NOW),
        lambda: registration_id_of(parsed),
        lambda: validator.shortest_valid_path(FUZZED_TOP.parsed),
        lambda: validator.shortest_valid_path(parsed),
    ):
        try:
            use()
        except AttestationError:
            continue


FUZZED_TOP = root("Root A", extensions=[(x509.NameConstraints([x509.DNSName("example")], None), True)])
FUZZED = [
    FUZZED_TOP.der,
    FUZZED_TOP.leaf("pump-042", usages=[CLIENT_AUTH], dns_names=["pump.example"]).der,
    self_signed("pump-042", key="RSA 2048").der,
    as_v1(self_signed("pump-042")).der,
    FUZZED_TOP.leaf(
        "pump-042",
        extensions=[
            (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)]), False),
            (
                x509.AuthorityInformationAccess(
                    [
                        x509.AccessDescription(
                            x509.ObjectIdentifier("1.2.3"),
                            x509.UniformResourceIdentifier("http://ca.example"),
                        )
                    ]
                ),
                False,
            ),
        ],
    ).der,
]

IN_THEIR_OWN_TIME = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
class TestFuzz:
    """Whatever comes in, nothing but AttestationError comes out, neither at once nor later on."""

    @IN_THEIR_OWN_TIME
    @given(st.binary(max_size=400))
    def test_any_bytes(self, data):
        with pytest.raises(AttestationError):
            parse_der(data)

    @settings(IN_THEIR_OWN_TIME, max_examples=400)
    @given(
        st.sampled_from(FUZZED),
        st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3),
    )
    def test_changed_bytes(self, der, changes):
        changed = bytearray(der)
        for place, value in changes:
            changed[int(place * len(changed))] = value
        try:
            thoroughly_used(bytes(changed))
        except AttestationError:
            return

    @IN_THEIR_OWN_TIME
    @given(st.sampled_from(FUZZED), st.floats(0, 1), st.floats(0, 1))
    def test_bytes_left_out(self, der, start, end):
        first, last = sorted((int(start * len(der)), int(end * len(der))))
        try:
            thoroughly_used(der[:first] + der[last:])
        except AttestationError:
            return

    @IN_THEIR_OWN_TIME
    @given(st.lists(st.sampled_from([*FUZZED, b"", b"\x30\x00"]), max_size=12))
    def test_any_selection_presented(self, ders):
        try:
            chain = read_presented(ders)
        except AttestationError:
            return
        assert chain.leaf.der == ders[0]
