"""Valid paths (R9): what real fleets and odd senders come with, and what is made of it."""

import ipaddress
from datetime import UTC, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from enrollments.attestation.x509 import (
    MAX_SIGNATURE_CHECKS,
    InvalidPath,
    ParsedCertificate,
    PathValidator,
    SearchExhausted,
    build_chain_graph,
    read_presented,
)
from enrollments.attestation.x509.requirements import CA_POLICY, DEVICE_POLICY
from tests.certificates import (
    CLIENT_AUTH,
    EXPIRED,
    NOT_YET_VALID,
    NOW,
    SERVER_AUTH,
    Held,
    Minted,
    as_v1,
    mint,
    name,
    root,
    signed_with_sha1,
    spki_with_compressed_point,
    with_key_encoding,
)

UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
DNS_CONSTRAINT = x509.NameConstraints([x509.DNSName("plant.example")], None)


def path_to(anchor: Minted, sent: list[Minted | bytes], at=NOW, held=None) -> list[ParsedCertificate]:
    ders = [one if isinstance(one, bytes) else one.der for one in sent]
    lookup = held or Held(anchor)
    graph = build_chain_graph(read_presented(ders), lookup)
    return list(PathValidator(graph, at).shortest_valid_path(anchor.parsed))


@pytest.fixture(scope="module")
def plant():
    return root("Root A").intermediate("Plant 7")


def signed_with(ca_key: str = "P-256", **leaf) -> tuple[Minted, list[Minted]]:
    anchor = root("Root A", key=ca_key)
    return anchor, [anchor.leaf("pump-042", **leaf)]


@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param({}, id="bare leaf"),
        pytest.param({"subject": x509.Name([])}, id="empty subject"),
        pytest.param({"usages": [CLIENT_AUTH]}, id="for clients"),
        pytest.param({"usages": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]}, id="for anything"),
        pytest.param({"usages": [SERVER_AUTH, CLIENT_AUTH]}, id="for servers and clients"),
        pytest.param({"dns_names": ["pump-042.example"]}, id="with alternative name"),
        pytest.param({"subject_key_id": False, "authority_key_id": False}, id="without key identifiers"),
        pytest.param(
            {"authority_key_id": b"somebody else"}, id="with a wrong authority key identifier, alone"
        ),
        pytest.param({"key": "P-384"}, id="P-384"),
        pytest.param({"key": "P-521"}, id="P-521"),
        pytest.param({"key": "RSA 2048"}, id="RSA 2048"),
        pytest.param({"key": "Ed25519"}, id="Ed25519 device key"),
        pytest.param({"extensions": [(UNKNOWN, False)]}, id="unknown extension, not critical"),
        pytest.param({"digest": hashes.SHA384()}, id="SHA-384"),
        pytest.param({"digest": hashes.SHA512()}, id="SHA-512"),
    ],
)
def test_leaf_is_admitted(leaf):
    anchor = root("Root A", subject_key_id="authority_key_id" not in leaf)
    device = anchor.leaf("pump-042", **leaf)

    assert path_to(anchor, [device]) == [device.parsed, anchor.parsed]


@pytest.mark.parametrize(
    ("leaf", "cause"),
    [
        pytest.param(EXPIRED, "expired", id="expired"),
        pytest.param(NOT_YET_VALID, "is not valid before", id="not yet valid"),
        pytest.param({"usages": [SERVER_AUTH]}, "extended key usage", id="for servers only"),
        pytest.param({"ca": True}, "is a CA certificate", id="a CA"),
        pytest.param({"key": "RSA 1024"}, "RSA 1024", id="RSA 1024"),
        pytest.param({"key": "secp256k1"}, "secp256k1", id="secp256k1"),
        pytest.param({"key": "brainpool"}, "brainpool", id="brainpool"),
        pytest.param(
            {"extensions": [(UNKNOWN, True)]}, "critical extension", id="unknown critical extension"
        ),
        pytest.param({"digest": hashes.SHA224()}, "SHA-224", id="SHA-224, which the library does not know"),
    ],
)
def test_leaf_is_refused(leaf, cause):
    anchor, sent = signed_with(**leaf)

    with pytest.raises(InvalidPath, match=cause):
        path_to(anchor, sent)


@pytest.mark.parametrize(
    "ca",
    [
        pytest.param({}, id="P-256"),
        pytest.param({"key": "P-384"}, id="P-384"),
        pytest.param({"key": "P-521"}, id="P-521"),
        pytest.param({"key": "RSA 2048"}, id="RSA 2048"),
        pytest.param({"key_cert_sign": None}, id="no key usage"),
        pytest.param({"subject_key_id": False}, id="no key identifier"),
        pytest.param({"path_length": 0}, id="path length 0"),
        pytest.param({"serial_number": 2**158 + 1}, id="serial number of 20 octets"),
        pytest.param({"usages": [SERVER_AUTH]}, id="extended key usage of a CA is not looked at"),
    ],
)
@pytest.mark.parametrize("place", ["anchor", "intermediate"])
def test_ca_is_accepted(ca, place):
    top = root("Root A", **(ca if place == "anchor" else {}))
    issuer = top if place == "anchor" else top.intermediate("Plant 7", **ca)
    device = issuer.leaf("pump-042")

    assert path_to(top, device.chain)[-1] == top.parsed


@pytest.mark.parametrize(
    ("ca", "cause"),
    [
        pytest.param(EXPIRED, "expired", id="expired"),
        pytest.param(NOT_YET_VALID, "is not valid before", id="not yet valid"),
        pytest.param({"basic_constraints": False}, "not a CA", id="no basic constraints"),
        pytest.param({"key_cert_sign": False}, "does not allow it to sign", id="no keyCertSign"),
        pytest.param({"key": "Ed25519"}, "Ed25519", id="Ed25519"),
        pytest.param({"key": "secp256k1"}, "secp256k1", id="secp256k1"),
        pytest.param({"key": "brainpool"}, "brainpool", id="brainpool"),
        pytest.param({"key": "RSA 1024"}, "RSA 1024", id="RSA 1024"),
        pytest.param({"key": "RSA 2040"}, "RSA 2040", id="RSA 2040, which the library lets through"),
        pytest.param(
            {"extensions": [(UNKNOWN, True)]}, "critical extension", id="unknown critical extension"
        ),
        pytest.param(
            {"extensions": [(x509.BasicConstraints(False, None), True)], "basic_constraints": False},
            "not a CA",
            id="CA: false",
        ),
        pytest.param(
            {"extensions": [(x509.PolicyConstraints(0, None), True)]},
            "critical extension",
            id="critical policy constraints",
        ),
    ],
)
@pytest.mark.parametrize("place", ["anchor", "intermediate"])
def test_ca_is_refused(ca, cause, place):
    top = root("Root A", **(ca if place == "anchor" else {}))
    issuer = top if place == "anchor" else top.intermediate("Plant 7", **ca)
    device = issuer.leaf("pump-042")

    with pytest.raises(InvalidPath, match=cause):
        path_to(top, device.chain)


def test_library_alone_would_let_a_2040_bit_ca_key_through():
    """Why the size of RSA keys of CAs is checked here as well."""
    anchor, [device] = signed_with("RSA 2040")
    policy = PolicyBuilder().store(Store([anchor.certificate])).time(NOW)
    policy = policy.extension_policies(ca_policy=CA_POLICY, ee_policy=DEVICE_POLICY)

    assert policy.build_client_verifier().verify(device.certificate, [])


@pytest.mark.parametrize(
    ("salt", "admitted"),
    [
        pytest.param(padding.PSS.DIGEST_LENGTH, True, id="salt as long as the digest"),
        pytest.param(padding.PSS.MAX_LENGTH, False, id="longest salt, as OpenSSL makes it"),
    ],
)
def test_rsa_pss(salt, admitted):
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
    anchor, sent = signed_with("RSA 2048", rsa_padding=pss)

    if admitted:
        assert path_to(anchor, sent)
    else:
        with pytest.raises(InvalidPath, match="RSA-PSS"):
            path_to(anchor, sent)


def test_v1_leaf_is_refused(plant):
    device = plant.leaf("pump-042")

    assert path_to(plant.issuer, [device, plant])
    with pytest.raises(InvalidPath, match="v1"):
        path_to(plant.issuer, [as_v1(device), plant])


def test_v1_anchor_is_refused():
    top = root("Root A")
    device = top.leaf("pump-042")

    assert path_to(top, [device])
    with pytest.raises(InvalidPath, match="v1"):
        path_to(as_v1(top), [device])


@pytest.mark.parametrize("place", ["leaf", "intermediate", "anchor"])
def test_sha1_is_refused(plant, place):
    chain = {"leaf": plant.leaf("pump-042"), "intermediate": plant, "anchor": plant.issuer}
    chain[place] = signed_with_sha1(chain[place])

    with pytest.raises(InvalidPath, match="SHA-1"):
        path_to(chain["anchor"], [chain["leaf"], chain["intermediate"]])


class TestPathLength:
    def test_is_respected(self):
        top = root("Root A", path_length=1)
        device = top.intermediate("Plant 7").leaf("pump-042")

        assert len(path_to(top, device.chain)) == 3

    @pytest.mark.parametrize(
        ("root_length", "plant_length"),
        [(1, None), (0, None), (None, 0)],
        ids=["root 1", "root 0", "plant 0"],
    )
    def test_is_broken(self, root_length, plant_length):
        top = root("Root A", path_length=root_length)
        device = top.intermediate("Plant 7", path_length=plant_length).intermediate("Line 3").leaf("pump-042")

        with pytest.raises(InvalidPath, match=r"allows \d CA certificates below it"):
            path_to(top, device.chain)

    def test_of_the_enrolled_certificate_counts_not_that_of_the_one_sent(self):
        generous = root("Root A")
        strict = generous.reissued(path_length=0)
        device = generous.intermediate("Plant 7").leaf("pump-042")

        assert path_to(generous, [*device.chain, strict])
        with pytest.raises(InvalidPath, match="allows 0 CA certificates below it"):
            path_to(strict, [*device.chain, generous])

    def test_self_issued_ca_counts_which_errs_on_the_refusing_side(self):
        top = root("Root A", path_length=0)
        new_key = top.intermediate("Root A")
        device = new_key.leaf("pump-042")

        with pytest.raises(InvalidPath, match="allows 0 CA certificates below it"):
            path_to(top, device.chain)


class TestNameConstraints:
    @pytest.mark.parametrize("place", ["anchor", "intermediate"])
    def test_dns_name_within_is_admitted_and_outside_refused(self, place):
        constrained = {"extensions": [(DNS_CONSTRAINT, True)]}
        top = root("Root A", **(constrained if place == "anchor" else {}))
        issuer = top.intermediate("Plant 7", **(constrained if place == "intermediate" else {}))

        inside = issuer.leaf("pump-042", dns_names=["pump-042.plant.example"])
        outside = issuer.leaf("pump-042", dns_names=["pump-042.office.example"])

        assert path_to(top, inside.chain)
        with pytest.raises(InvalidPath, match="name constraint"):
            path_to(top, outside.chain)

    def test_excluded_address_is_refused(self):
        network = x509.NameConstraints(None, [x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))])
        top = root("Root A", extensions=[(network, False)])

        def at_address(address):
            san = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            return [top.leaf("pump-042", extensions=[(san, False)])]

        assert path_to(top, at_address("192.0.2.1"))
        with pytest.raises(InvalidPath, match="name constraint"):
            path_to(top, at_address("10.1.2.3"))

    def test_common_name_is_not_a_dns_name(self):
        top = root("Root A", extensions=[(DNS_CONSTRAINT, True)])

        assert path_to(top, [top.leaf("pump-042.office.example")])

    @pytest.mark.parametrize("critical", [True, False], ids=["critical", "not critical"])
    @pytest.mark.parametrize("place", ["anchor", "intermediate"])
    @pytest.mark.parametrize(
        "kind",
        [
            pytest.param(x509.DirectoryName(name("Plant")), id="directory name"),
            pytest.param(x509.RFC822Name("plant.example"), id="mail"),
            pytest.param(x509.UniformResourceIdentifier("plant.example"), id="URI"),
            pytest.param(x509.RegisteredID(x509.ObjectIdentifier("1.2.3")), id="registered ID"),
            pytest.param(x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), id="other name"),
        ],
    )
    def test_kind_that_cannot_be_checked_is_refused(self, kind, place, critical):
        constrained = {"extensions": [(x509.NameConstraints(None, [kind]), critical)]}
        top = root("Root A", **(constrained if place == "anchor" else {}))
        issuer = top.intermediate("Plant 7", **(constrained if place == "intermediate" else {}))

        with pytest.raises(InvalidPath, match="cannot be checked"):
            path_to(top, issuer.leaf("pump-042").chain)


class TestAnchor:
    def test_bare_leaf_is_enough_when_the_issuers_are_held(self, plant):
        device = plant.leaf("pump-042")

        found = path_to(plant.issuer, [device], held=Held(plant.issuer, plant))

        assert found == [device.parsed, plant.parsed, plant.issuer.parsed]

    def test_intermediate_alone_can_be_the_anchor(self, plant):
        assert path_to(plant, plant.leaf("pump-042").chain, held=Held(plant))

    def test_of_another_root_is_refused(self, plant):
        stranger = root("Root A")

        with pytest.raises(InvalidPath, match="No signatures"):
            path_to(stranger, plant.leaf("pump-042").chain)

    def test_signature_that_does_not_verify_is_refused(self, plant):
        device = plant.leaf("pump-042")
        forged = bytearray(device.der)
        forged[-1] ^= 1

        with pytest.raises(InvalidPath, match="No signatures"):
            path_to(plant.issuer, [bytes(forged), plant])

    def test_expired_enrolled_certificate_refuses_though_its_self_signed_reissue_was_sent(self):
        expired = root("Root A", **EXPIRED)
        renewed = expired.reissued()
        device = renewed.leaf("pump-042")

        assert path_to(renewed, [device], held=Held(renewed))
        with pytest.raises(InvalidPath, match="expired"):
            path_to(expired, [device, renewed])

    def test_enrolled_reissue_stands_in_for_the_expired_one_that_was_sent(self):
        expired = root("Root A", **EXPIRED)
        renewed = expired.reissued()

        assert path_to(renewed, [renewed.leaf("pump-042"), expired])[-1] == renewed.parsed

    def test_same_key_under_another_name_is_another_anchor(self):
        old = root("Root A")
        renamed = old.reissued("Root B")
        device = old.leaf("pump-042")

        with pytest.raises(InvalidPath, match="No signatures"):
            path_to(renamed, [device, old])

    def test_presented_as_the_leaf_proves_no_device(self):
        top = root("pump-042")

        with pytest.raises(InvalidPath, match="itself"):
            path_to(top, [top])
        with pytest.raises(InvalidPath, match="itself"):
            path_to(top, [top.reissued()])

    def test_repeated_in_what_was_sent_changes_nothing(self, plant):
        sent = [*plant.leaf("pump-042").chain, plant.issuer, plant.issuer, plant]

        assert len(path_to(plant.issuer, sent)) == 3


class TestChoice:
    def test_shortest_of_two_paths_is_taken(self):
        top = root("Root A")
        line = top.intermediate("Plant 7").intermediate("Line 3")
        directly = line.cross_signed_by(top)
        device = line.leaf("pump-042")

        assert path_to(top, [*device.chain, directly]) == [device.parsed, directly.parsed, top.parsed]

    def test_invalid_shorter_path_gives_way_to_a_valid_longer_one(self):
        top = root("Root A")
        line = top.intermediate("Plant 7").intermediate("Line 3")
        directly = line.cross_signed_by(top, **EXPIRED)
        device = line.leaf("pump-042")

        assert len(path_to(top, [device, directly, *device.chain])) == 4

    def test_shorter_path_that_only_the_library_can_judge_gives_way_as_well(self):
        top = root("Root A")
        line = top.intermediate("Plant 7").intermediate("Line 3")
        directly = line.cross_signed_by(top, extensions=[(DNS_CONSTRAINT, True)])
        device = line.leaf("pump-042", dns_names=["pump.office.example"])

        assert len(path_to(top, [device, directly, *device.chain])) == 4

    def test_cause_is_that_of_the_shortest_path(self):
        top = root("Root A")
        line = top.intermediate("Plant 7", key_cert_sign=False).intermediate("Line 3")
        directly = line.cross_signed_by(top, **EXPIRED)
        device = line.leaf("pump-042")

        with pytest.raises(InvalidPath, match="“CN=Line 3” expired"):
            path_to(top, [*device.chain, directly])

    def test_certificate_is_never_passed_twice(self):
        top = root("Root A")
        a, b = top.intermediate("A"), top.intermediate("B")
        sent = [a.leaf("pump-042"), a, b, a.cross_signed_by(b), b.cross_signed_by(a)]

        assert len(path_to(top, sent)) == 3


class TestBounds:
    def chain_of(self, signatures: int) -> tuple[Minted, Minted]:
        top = issuer = root("Root A")
        for number in range(signatures - 1):
            issuer = issuer.intermediate(f"CA {number}")
        return top, issuer.leaf("pump-042")

    def test_eight_signatures_are_admitted_and_nine_refused(self):
        top, device = self.chain_of(8)
        assert len(path_to(top, device.chain)) == 9

        top, device = self.chain_of(9)
        with pytest.raises(SearchExhausted):
            path_to(top, device.chain)

    def test_search_and_validation_share_one_budget(self, plant):
        """Each validation of the path to the root costs two signatures, the search has cost two (or more)."""
        device = plant.leaf("pump-042")
        graph = build_chain_graph(read_presented([device.der, plant.der]), Held(plant.issuer))
        validator = PathValidator(graph, NOW)

        for _ in range((MAX_SIGNATURE_CHECKS - graph.checks_used) // 2):
            assert validator.shortest_valid_path(plant.issuer.parsed)
        with pytest.raises(SearchExhausted):
            validator.shortest_valid_path(plant.issuer.parsed)


class TestTime:
    def test_first_and_last_second_count(self, plant):
        device = plant.leaf("pump-042", not_before=NOW, not_after=NOW + timedelta(seconds=10))

        assert path_to(plant.issuer, device.chain, at=NOW)
        assert path_to(plant.issuer, device.chain, at=NOW + timedelta(seconds=10))
        for outside in (NOW - timedelta(seconds=1), NOW + timedelta(seconds=11)):
            with pytest.raises(InvalidPath):
                path_to(plant.issuer, device.chain, at=outside)

    def test_time_zone_does_not_matter_but_one_is_needed(self, plant):
        graph = build_chain_graph(read_presented([plant.leaf("pump-042").der, plant.der]), Held(plant.issuer))
        elsewhere = NOW.astimezone(timezone(timedelta(hours=14)))

        assert PathValidator(graph, elsewhere).shortest_valid_path(plant.issuer.parsed)
        with pytest.raises(ValueError, match="time zone"):
            PathValidator(graph, NOW.replace(tzinfo=None))
        assert NOW.tzinfo is UTC


def test_issuer_of_the_right_name_and_key_id_but_another_key_is_no_issuer(plant):
    impostor = mint(
        subject=plant.certificate.subject,
        issuer=root("Elsewhere"),
        ca=True,
        subject_key_id=bytes.fromhex(plant.parsed.subject_key_id),
    )
    device = plant.leaf("pump-042")

    assert path_to(plant.issuer, [device, impostor, plant]) == [
        device.parsed,
        plant.parsed,
        plant.issuer.parsed,
    ]


def test_key_identifiers_that_differ_do_not_hide_the_one_true_key():
    """A CA re-issued with the same key under another way to compute its identifier."""
    top = root("Root A")
    device = top.leaf("pump-042")
    renewed = top.reissued(subject_key_id=b"another way to count")

    assert path_to(renewed, [device])[-1] == renewed.parsed


def test_compressed_leaf_key_is_the_same_key(plant):
    device = plant.leaf("pump-042")

    compressed = with_key_encoding(device, spki_with_compressed_point(device.key))

    assert compressed.der != device.der
    assert path_to(plant.issuer, [compressed, plant])
