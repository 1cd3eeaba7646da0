"""What answers a verification code, and what only looks like an answer."""

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from enrollments.attestation.x509 import (
    NotOneCertificate,
    PossessionNotProven,
    PrivateKeyInUpload,
    check_possession,
    read_one,
)
from tests.certificates import (
    EXPIRED,
    NOT_YET_VALID,
    NOW,
    as_v1,
    mint,
    name,
    new_key,
    root,
    self_signed,
    signed_with_sha1,
)

CODE = "9F1C2A" * 8


@pytest.fixture(scope="module")
def ca():
    return root("Plant CA")


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "RSA 2048"])
def test_holder_of_the_key_answers_the_code(kind):
    ca = root("Plant CA", key=kind)

    check_possession(ca.leaf(CODE).parsed, ca.parsed, CODE, NOW)


def test_plain_tools_make_version_1(ca):
    check_possession(as_v1(ca.leaf(CODE)).parsed, ca.parsed, CODE, NOW)


def test_ca_may_stand_below_another_and_be_proven_by_itself(ca):
    line = ca.intermediate("Line")

    check_possession(line.leaf(CODE).parsed, line.parsed, CODE, NOW)


def second_rdn():
    """Two relative distinguished names, as OpenSSL writes /CN=pump/CN=code."""
    return name("pump-042", CODE)


def multi_valued_rdn():
    attributes = [
        x509.NameAttribute(NameOID.COMMON_NAME, "pump-042"),
        x509.NameAttribute(NameOID.COMMON_NAME, CODE),
    ]
    return x509.Name([x509.RelativeDistinguishedName(attributes)])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(
            lambda ca: root(ca.parsed.common_names[0]).leaf(CODE),
            "is not signed with the key of CN=Plant CA",
            id="another key under the same name",
        ),
        pytest.param(
            lambda ca: mint(CODE, issuer=ca, issuer_name=name("Another CA")),
            "names CN=Another CA as its issuer",
            id="another issuer name",
        ),
        pytest.param(
            lambda ca: ca.intermediate("Line").leaf(CODE), "names CN=Line as its issuer", id="a CA below"
        ),
        pytest.param(lambda ca: self_signed(CODE), "as its issuer", id="signed by itself"),
        pytest.param(
            lambda ca: mint(CODE, issuer_name=ca.certificate.subject),
            "is not signed with the key",
            id="signed by itself in the name of the CA",
        ),
        pytest.param(lambda ca: ca.leaf(CODE.lower()), "is not the verification code", id="another case"),
        pytest.param(lambda ca: ca.leaf(CODE[:-1]), "is not the verification code", id="one character less"),
        pytest.param(lambda ca: ca.leaf(f"{CODE} "), "is not the verification code", id="a space more"),
        pytest.param(lambda ca: ca.leaf("ÄÖ\U0001f600"), "is not the verification code", id="not ASCII"),
        pytest.param(lambda ca: mint(issuer=ca, subject=second_rdn()), "has 2 common names", id="two RDNs"),
        pytest.param(
            lambda ca: mint(issuer=ca, subject=multi_valued_rdn()), "has 2 common names", id="one RDN of two"
        ),
        pytest.param(lambda ca: mint(issuer=ca, subject=x509.Name([])), "has 0 common names", id="no name"),
        pytest.param(
            lambda ca: mint(issuer=ca, subject=name("pump-042"), dns_names=[CODE]),
            "is not the verification code",
            id="the code as a DNS name",
        ),
        pytest.param(lambda ca: ca.intermediate(CODE), "is a CA certificate", id="a CA itself"),
        pytest.param(lambda ca: signed_with_sha1(ca.leaf(CODE)), "is signed with ECDSA", id="SHA-1"),
        pytest.param(lambda ca: ca.leaf(CODE, **EXPIRED), "expired on", id="expired"),
        pytest.param(lambda ca: ca.leaf(CODE, **NOT_YET_VALID), "is not valid before", id="not yet valid"),
        pytest.param(lambda ca: ca.leaf(CODE, key=new_key("RSA 1024")), "2048 bits", id="a weak key"),
        pytest.param(lambda ca: ca, "is a CA certificate", id="the CA certificate"),
    ],
)
def test_nothing_else_proves_possession(ca, answer, says):
    with pytest.raises(PossessionNotProven) as refused:
        check_possession(answer(ca).parsed, ca.parsed, CODE, NOW)

    assert says in refused.value.message


def test_without_a_code_nothing_is_proven(ca):
    """An empty code would be answered by an empty name."""
    with pytest.raises(PossessionNotProven):
        check_possession(ca.leaf("x").parsed, ca.parsed, "", NOW)


def test_one_certificate_is_read(ca):
    assert read_one(ca.pem) == ca.parsed
    assert read_one(ca.der) == ca.parsed
    with pytest.raises(NotOneCertificate):
        read_one(ca.leaf(CODE).pem + ca.pem)
    with pytest.raises(PrivateKeyInUpload):
        read_one(ca.leaf(CODE).pem + ca.key_pem)
