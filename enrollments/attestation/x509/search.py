"""What can lie above a leaf: following every signature that verifies, within bounds (R7, R9).

Nothing here is trusted. The graph says which certificates are connected to the leaf by signatures, whatever
their dates, constraints and names; `path` says which of those connections are valid.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from enrollments.attestation.x509.certificate import (
    ParsedCertificate,
    is_costly,
    parse_der,
    signature_hash,
    signature_parameters,
)
from enrollments.attestation.x509.der import contents, elements
from enrollments.attestation.x509.errors import NoCertificate, SearchExhausted, TooManyCertificates
from enrollments.attestation.x509.remembered import Remembered

MAX_SENT = 10
MAX_DEPTH = 8
MAX_SIGNATURE_CHECKS = 64
MAX_HELD = 256
# By the digests of a certificate and of a public key: whether this key made its signature.
_SIGNATURES = Remembered(most=8192)


@dataclass(frozen=True, slots=True)
class PresentedChain:
    """What a device sent: the leaf, whose key the handshake has proven, and whatever came along with it."""

    leaf: ParsedCertificate
    untrusted_intermediates: tuple[ParsedCertificate, ...]


def read_presented(ders: Sequence[bytes]) -> PresentedChain:
    """What a device sent, the leaf first: counted before it is parsed, exact repetitions dropped."""
    if not ders:
        raise NoCertificate("No certificate was presented.")
    if len(ders) > MAX_SENT:
        raise TooManyCertificates(
            f"{len(ders)} certificates were presented; at most {MAX_SENT} are accepted."
        )
    leaf, *others = [parse_der(der) for der in dict.fromkeys(ders)]
    return PresentedChain(leaf, tuple(others))


class IssuerLookup(Protocol):
    """The certificates we hold: enrolled CAs, helpers, and those of disabled individual enrollments.

    Returns each whose `subject_sha256` is in `subjects`, or whose `subject_key_id` is in `key_ids`, or whose
    `spki_sha256` is in `spkis`.
    """

    def __call__(
        self, *, subjects: frozenset[str], key_ids: frozenset[str], spkis: frozenset[str]
    ) -> Iterable[ParsedCertificate]: ...


@dataclass(frozen=True, slots=True)
class ChainGraph:
    """Everything that was reached from the leaf by verified signatures, the leaf included."""

    leaf: ParsedCertificate
    certificates: Mapping[str, ParsedCertificate]
    """By SHA-256 thumbprint."""
    issuers: Mapping[str, tuple[str, ...]]
    """Thumbprint of each certificate to the thumbprints of those whose key verifiably signed it."""
    steps: Mapping[str, int]
    """Fewest signatures from the leaf; certificates of one public key have the same."""
    checks_used: int

    def key_steps(self) -> Mapping[str, int]:
        """Each public key that was met (SPKI digest), with the fewest signatures from the leaf."""
        return {
            certificate.spki_sha256: self.steps[thumbprint]
            for thumbprint, certificate in self.certificates.items()
        }


def build_chain_graph(
    chain: PresentedChain, issuers: IssuerLookup, *, same_key_included: bool = False
) -> ChainGraph:
    """Follow every signature upwards from the leaf, or raise SearchExhausted.

    An incomplete search could miss a barred key, so each bound ends it with a refusal: signatures,
    certificates held, and also depth. A key nine signatures above the leaf is nobody's real PKI, and cutting
    the search there would let a long enough chain get past the bar above it.

    `same_key_included` promises that `issuers` returns, along with each certificate, all others held of the
    same public key. Then the search need not ask for them, and an ordinary chain costs one look-up; without
    the promise it asks, which costs another.
    """
    return _Search(chain, issuers, same_key_included).run()


class _Search:
    """One search, level by level: all certificates of the keys that are n signatures away from the leaf."""

    def __init__(self, chain: PresentedChain, issuers: IssuerLookup, same_key_included: bool) -> None:
        self.leaf = chain.leaf
        self.at_hand = _CertificatesAtHand((chain.leaf, *chain.untrusted_intermediates))
        self.questions = _Questions(issuers, same_key_included)
        self.verified: dict[tuple[str, str], bool] = {}
        self.checks_used = 0
        self.key_steps: dict[str, int] = {}

    def run(self) -> ChainGraph:
        # All that was sent is asked about in the first round: an ordinary chain then needs no second.
        self._ask_about(list(self.at_hand))
        keys = {self.leaf.spki_sha256: None}
        level = 0
        while keys:
            if level > MAX_DEPTH:
                raise SearchExhausted(f"The chain goes on for more than {MAX_DEPTH} signatures.")
            self.key_steps.update(dict.fromkeys(keys, level))
            signers = dict.fromkeys(
                signer for child in self._certificates_of(keys) for signer in self._signing_keys(child)
            )
            keys = {key: None for key in signers if key not in self.key_steps}
            level += 1
        return self._graph()

    def _certificates_of(self, keys: Iterable[str]) -> list[ParsedCertificate]:
        """Every certificate of these keys, under whatever name; holding one may mean holding more."""
        certificates: list[ParsedCertificate] = []
        while True:
            found = [certificate for key in keys for certificate in self.at_hand.with_key(key)]
            if len(found) == len(certificates):
                return certificates
            certificates = found
            self._ask_about(certificates)

    def _ask_about(self, certificates: Sequence[ParsedCertificate]) -> None:
        self.at_hand.add_held(self.questions.ask(certificates))

    def _signing_keys(self, child: ParsedCertificate) -> Iterator[str]:
        likely, unlikely = self.at_hand.possible_issuers(child)
        if not likely and not unlikely:
            return
        if child.is_self_issued and self._is_signed_by(child, child):
            # Signed by itself: its namesakes, as many as a CA has had keys, need not be tried.
            return
        found = [issuer.spki_sha256 for issuer in likely if self._is_signed_by(child, issuer)]
        # One signature is made by one key, so the unlikely are tried only where that is still unknown.
        yield from found or [issuer.spki_sha256 for issuer in unlikely if self._is_signed_by(child, issuer)]

    def _is_signed_by(self, child: ParsedCertificate, issuer: ParsedCertificate) -> bool:
        pair = (child.thumbprint_sha256, issuer.spki_sha256)
        if pair not in self.verified:
            if self.checks_used >= MAX_SIGNATURE_CHECKS:
                raise SearchExhausted(f"The chain needs more than {MAX_SIGNATURE_CHECKS} signature checks.")
            self.checks_used += 1
            # A check that was made before counts too: the bound does not depend on what others have shown.
            self.verified[pair] = _SIGNATURES.get(pair, lambda: is_signed_by(child, issuer.public_key))
        return self.verified[pair]

    def _graph(self) -> ChainGraph:
        reached = {
            certificate.thumbprint_sha256: certificate
            for key in self.key_steps
            for certificate in self.at_hand.with_key(key)
        }
        return ChainGraph(
            leaf=self.leaf,
            certificates=MappingProxyType(reached),
            issuers=MappingProxyType({thumbprint: self._issuers_of(thumbprint) for thumbprint in reached}),
            steps=MappingProxyType(
                {thumbprint: self.key_steps[one.spki_sha256] for thumbprint, one in reached.items()}
            ),
            checks_used=self.checks_used,
        )

    def _issuers_of(self, thumbprint: str) -> tuple[str, ...]:
        return tuple(
            issuer.thumbprint_sha256
            for (child, key), is_signed in self.verified.items()
            if is_signed and child == thumbprint
            for issuer in self.at_hand.with_key(key)
        )


class _CertificatesAtHand:
    """What was sent and what the look-ups brought, found by name, key identifier and key."""

    def __init__(self, sent: Iterable[ParsedCertificate]) -> None:
        self._all: dict[str, ParsedCertificate] = {}
        self._by_subject: dict[str, list[ParsedCertificate]] = {}
        self._by_key_id: dict[str, list[ParsedCertificate]] = {}
        self._by_key: dict[str, list[ParsedCertificate]] = {}
        self._held = 0
        for certificate in sent:
            self._add(certificate)

    def __iter__(self) -> Iterator[ParsedCertificate]:
        return iter(self._all.values())

    def add_held(self, certificates: Iterable[ParsedCertificate]) -> None:
        for certificate in certificates:
            if certificate.thumbprint_sha256 not in self._all:
                self._held += 1
                if self._held > MAX_HELD:
                    raise SearchExhausted(
                        f"More than {MAX_HELD} enrolled certificates could lie on the chain."
                    )
                self._add(certificate)

    def _add(self, certificate: ParsedCertificate) -> None:
        self._all[certificate.thumbprint_sha256] = certificate
        self._by_subject.setdefault(certificate.subject_sha256, []).append(certificate)
        self._by_key.setdefault(certificate.spki_sha256, []).append(certificate)
        if certificate.subject_key_id is not None:
            self._by_key_id.setdefault(certificate.subject_key_id, []).append(certificate)

    def with_key(self, spki_sha256: str) -> Sequence[ParsedCertificate]:
        return self._by_key.get(spki_sha256, ())

    def possible_issuers(
        self, child: ParsedCertificate
    ) -> tuple[list[ParsedCertificate], list[ParsedCertificate]]:
        """Certificates whose key is worth a signature check, one for each key: the likely, then the unlikely.

        By name, or by key identifier under whatever name. A path that admits has matching names throughout
        (RFC 5280, 6.1.3 a 4), and each certificate of a key that it passes is reached by that key: so
        whatever admits lies inside the graph, and what neither name nor identifier connects to the leaf can
        admit nobody. The price of not trying all against all: a CA above the anchor that we hold only under
        another name *and* another key identifier is not found.

        Unlikely are those of the right name with an identifier that the child does not ask for, as after a CA
        has changed its key. An identifier is a hint and not a proof, so they are not left out altogether.
        """
        likely: dict[str, ParsedCertificate] = {}
        unlikely: dict[str, ParsedCertificate] = {}
        if child.authority_key_id is not None:
            likely.update({one.spki_sha256: one for one in self._by_key_id.get(child.authority_key_id, ())})
        for one in self._by_subject.get(child.issuer_sha256, ()):
            place = unlikely if self._is_another_key(child, one) else likely
            place.setdefault(one.spki_sha256, one)
        own_key = {child.spki_sha256} if child.is_self_issued else set()
        return (
            [one for key, one in likely.items() if key not in own_key],
            [one for key, one in unlikely.items() if key not in own_key and key not in likely],
        )

    def _is_another_key(self, child: ParsedCertificate, issuer: ParsedCertificate) -> bool:
        """By the identifiers: those that its certificates declare, and the usual ways to compute one."""
        if child.authority_key_id is None or issuer.subject_key_id is None:
            return False
        if any(child.authority_key_id == one.subject_key_id for one in self.with_key(issuer.spki_sha256)):
            return False
        return child.authority_key_id not in computed_key_ids(issuer.public_key)


class _Questions:
    """Asks for certificates that we hold, all of a round at once and nothing twice."""

    def __init__(self, issuers: IssuerLookup, same_key_included: bool) -> None:
        self._issuers = issuers
        self._same_key_included = same_key_included
        self._subjects: set[str] = set()
        self._key_ids: set[str] = set()
        self._keys: set[str] = set()

    def ask(self, certificates: Iterable[ParsedCertificate]) -> Iterable[ParsedCertificate]:
        certificates = list(certificates)
        subjects = {one.issuer_sha256 for one in certificates} - self._subjects
        key_ids = {one.authority_key_id for one in certificates if one.authority_key_id} - self._key_ids
        keys = {one.spki_sha256 for one in certificates} - self._keys
        if not (subjects or key_ids or keys):
            return ()
        self._subjects |= subjects
        self._key_ids |= key_ids
        self._keys |= keys
        answer = list(
            self._issuers(subjects=frozenset(subjects), key_ids=frozenset(key_ids), spkis=frozenset(keys))
        )
        if self._same_key_included:
            self._keys |= {one.spki_sha256 for one in answer}
        return answer


def computed_key_ids(key: CertificatePublicKeyTypes | None) -> frozenset[str]:
    """The identifiers that CAs usually derive: RFC 5280, 4.2.1.2 (1) and RFC 7093, section 2 (1)."""
    if key is None:
        return frozenset()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    _algorithm, bit_string = elements(contents(spki))
    bits = contents(bit_string)[1:]
    return frozenset(
        {hashlib.sha1(bits, usedforsecurity=False).hexdigest(), hashlib.sha256(bits).hexdigest()[:40]}
    )


def is_signed_by(child: ParsedCertificate, key: CertificatePublicKeyTypes | None) -> bool:
    """Whether this key made the child's signature; names, dates and strength do not matter here.

    Weak and old algorithms count as well: a bar must be met even where a path could not be valid. Keys that make a
    check costly never do: whoever sends them leads nowhere with them, and none can be enrolled.
    """
    if is_costly(key):
        return False
    signature, signed = child.certificate.signature, child.certificate.tbs_certificate_bytes
    digest = signature_hash(child.certificate)
    parameters = signature_parameters(child.certificate)
    try:
        match key, digest:
            case rsa.RSAPublicKey(), hashes.HashAlgorithm():
                scheme = parameters if isinstance(parameters, padding.PSS) else padding.PKCS1v15()
                key.verify(signature, signed, scheme, digest)
            case ec.EllipticCurvePublicKey(), hashes.HashAlgorithm():
                key.verify(signature, signed, ec.ECDSA(digest))
            case dsa.DSAPublicKey(), hashes.HashAlgorithm():
                key.verify(signature, signed, digest)
            case ((ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey()), None):
                key.verify(signature, signed)
            case _:
                return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        # Not a signature by this key, or none that can be checked: no connection either way.
        return False
    return True
