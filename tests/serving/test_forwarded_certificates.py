"""What a proxy says in Client-Cert and Client-Cert-Chain: certificates, or one error, and nothing in between."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpsportal.serving.forwarded_certificates import (
    CERTIFICATE_HEADERS,
    MAX_CHARACTERS,
    UnreadableCertificateHeader,
    read_forwarded,
    take_certificate_headers,
)
from tests.certificates import root

CA = root("Root A")
LOWER = CA.intermediate("Lower")
LEAF = LOWER.leaf("pump-042")


def sequence(*ders: bytes) -> str:
    return f":{base64.b64encode(b''.join(ders)).decode()}:"


def escaped(pem: str) -> str:
    """As nginx and Envoy write it."""
    return quote(pem, safe="")


ITEM = sequence(LEAF.der)


@pytest.mark.parametrize(
    ("client_cert", "chain", "read"),
    [
        pytest.param("", "", (), id="no certificate"),
        pytest.param(ITEM, "", (LEAF.der,), id="leaf"),
        pytest.param(ITEM, sequence(LOWER.der), (LEAF.der, LOWER.der), id="leaf and intermediate"),
        pytest.param(
            ITEM,
            f"{sequence(CA.der)}, {sequence(LOWER.der)}",
            (LEAF.der, CA.der, LOWER.der),
            id="in the order sent",
        ),
        pytest.param(
            ITEM,
            f"{sequence(CA.der)},{sequence(LOWER.der)}",
            (LEAF.der, CA.der, LOWER.der),
            id="a list spread over two headers, as gunicorn joins them",
        ),
        pytest.param(
            ITEM,
            sequence(LOWER.der, CA.der),
            (LEAF.der, LOWER.der, CA.der),
            id="one after the other, as HAProxy",
        ),
        pytest.param(escaped(LEAF.pem), "", (LEAF.der,), id="percent-encoded PEM"),
        pytest.param(escaped(LEAF.pem.strip()), "", (LEAF.der,), id="without the last line end"),
        pytest.param(
            quote(LEAF.pem, safe=" /").replace(" ", "%20"),
            "",
            (LEAF.der,),
            id="with some characters as they are",
        ),
    ],
)
def test_certificates_are_read_leaf_first(client_cert, chain, read):
    assert read_forwarded(client_cert, chain) == read


def test_no_certificate_is_left_out_however_many_there_are():
    others = [CA.intermediate(f"CA {number}").der for number in range(40)]

    assert read_forwarded(ITEM, ", ".join(map(sequence, others))) == (LEAF.der, *others)
    assert read_forwarded(ITEM, sequence(*others)) == (LEAF.der, *others)


@pytest.mark.parametrize(
    ("client_cert", "told"),
    [
        (f"{ITEM},{ITEM}", "Client-Cert is no structured field"),
        (f",{ITEM}", "Client-Cert is no structured field"),
        (f"{ITEM} x", "Client-Cert is no structured field"),
        (ITEM[:-1], "Client-Cert is no structured field"),
        (ITEM.replace("M", "!", 1), "Client-Cert is no structured field"),
        ("token", "Client-Cert holds something else than byte sequences"),
        (f"{ITEM};a=1", "Client-Cert holds something else than byte sequences"),
        ('"text"', "Client-Cert holds something else than byte sequences"),
        ("1", "Client-Cert holds something else than byte sequences"),
        ("?0", "Client-Cert holds something else than byte sequences"),
        ("::", "Client-Cert holds something that is no DER certificate"),
        (":AAAA:", "Client-Cert holds something that is no DER certificate"),
        (sequence(LEAF.der[:-1]), "Client-Cert holds something that is no DER certificate"),
        (sequence(LEAF.der + b"\0\0"), "Client-Cert holds something that is no DER certificate"),
        (sequence(LEAF.der, LOWER.der), "Client-Cert must hold exactly one certificate"),
        (LEAF.pem.replace("\n", " "), "Client-Cert is not one percent-encoded PEM certificate"),
        (escaped(LEAF.pem + LOWER.pem), "Client-Cert is not one percent-encoded PEM certificate"),
        (escaped(LEAF.pem) + escaped("x"), "Client-Cert is not one percent-encoded PEM certificate"),
        (f"{escaped(LEAF.pem)},{ITEM}", "Client-Cert is not one percent-encoded PEM certificate"),
        (escaped(LEAF.pem)[:-30], "Client-Cert is not one percent-encoded PEM certificate"),
        (escaped(LEAF.key_pem), "Client-Cert is not one percent-encoded PEM certificate"),
        (escaped(LEAF.pem).replace("%0A", "%", 1), "Client-Cert is not one percent-encoded PEM certificate"),
        ("-", "Client-Cert is not one percent-encoded PEM certificate"),
        (f":{'A' * MAX_CHARACTERS}:", "Client-Cert is longer than 61440 characters"),
    ],
)
def test_what_is_no_certificate_is_told_in_one_sentence(client_cert, told):
    with pytest.raises(UnreadableCertificateHeader, match=told) as error:
        read_forwarded(client_cert, "")

    assert str(error.value).count(".") == 1 and str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("chain", "told"),
    [
        ("::", "Client-Cert-Chain holds something that is no DER certificate"),
        (f"{sequence(LOWER.der)}, ::", "Client-Cert-Chain holds something that is no DER certificate"),
        (f"{sequence(LOWER.der)},", "Client-Cert-Chain is no structured field"),
        (f",{sequence(LOWER.der)}", "Client-Cert-Chain is no structured field"),
        (f"{sequence(LOWER.der)};a", "Client-Cert-Chain holds something else than byte sequences"),
        (f"({sequence(LOWER.der)})", "Client-Cert-Chain holds something else than byte sequences"),
        (escaped(LOWER.pem), "Client-Cert-Chain is no structured field"),
        (sequence(LOWER.der, CA.der[:-4]), "Client-Cert-Chain holds something that is no DER certificate"),
        (f":{'A' * MAX_CHARACTERS}:", "Client-Cert-Chain is longer than 61440 characters"),
    ],
)
def test_a_chain_is_read_whole_or_not_at_all(chain, told):
    with pytest.raises(UnreadableCertificateHeader, match=told):
        read_forwarded(ITEM, chain)


def test_a_chain_without_its_leaf_is_refused():
    with pytest.raises(UnreadableCertificateHeader, match="Client-Cert-Chain came without Client-Cert"):
        read_forwarded("", sequence(LOWER.der))


SYNTAX = (":", ",", ", ", ";a=1", "-", "%", "%0A", "(", ")", '"', "@1", "?1", "é", "\0", "MAA=", "gA==")
PEM_LINES = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----")
PIECES = st.sampled_from([*SYNTAX, *PEM_LINES, ITEM, sequence(LOWER.der), escaped(LEAF.pem)])
VALUES = st.one_of(
    st.text(st.characters(max_codepoint=255)),
    st.lists(PIECES).map("".join),
    st.binary().map(sequence),
)


@given(VALUES, VALUES)
@example("é", "")
@example(":é:", "")
@example("-%FF", "")
@example('%"%C3"', "")
def test_no_value_ends_in_anything_but_certificates_or_the_one_error(client_cert, chain):
    try:
        read = read_forwarded(client_cert, chain)
    except UnreadableCertificateHeader:
        return

    assert all(der[0] == 0x30 for der in read)
    assert bool(read) == bool(client_cert)


def test_every_header_that_could_be_a_certificate_is_taken_and_nothing_else():
    environ = {"HTTP_" + header.upper().replace("-", "_"): header for header in CERTIFICATE_HEADERS}
    environ |= {"HTTP_CLIENT_CERTAIN": "stays", "dps.peer_certificates": ()}

    assert take_certificate_headers(environ) == {header: header for header in CERTIFICATE_HEADERS}
    assert set(environ) == {"HTTP_CLIENT_CERTAIN", "dps.peer_certificates"}
