"""Valid paths from a leaf to an enrolled CA (R9; RFC 5280, section 6)."""

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from enrollments.attestation.x509.certificate import ParsedCertificate
from enrollments.attestation.x509.errors import InvalidPath, SearchExhausted
from enrollments.attestation.x509.remembered import Remembered
from enrollments.attestation.x509.requirements import (
    CA_POLICY,
    DEVICE_POLICY,
    Problem,
    ca_problems,
    date_problem,
    form_problem,
    leaf_problems,
    verifier_words,
)
from enrollments.attestation.x509.search import MAX_DEPTH, MAX_SIGNATURE_CHECKS, ChainGraph

# Paths are looked at shortest first; a mesh has more of them than anybody can look at.
MAX_PATHS_LOOKED_AT = 512

Path = tuple[ParsedCertificate, ...]


# By the digests of their certificates: paths that the library found valid. What refuses one is asked anew.
_VALIDATED = Remembered(most=8192)
# By the digest of a certificate, as a CA's and as a device's: what is wrong with it at any time.
_PROBLEMS = Remembered(most=8192)
# By the digest of a certificate: whether it can stand at the lower end of a path.
_FITNESS = Remembered(most=8192)


class PathValidator:
    """Judges the paths of one graph at one time, with what the search has left of the budget."""

    def __init__(self, graph: ChainGraph, at: datetime) -> None:
        if at.tzinfo is None:
            raise ValueError("the time of validation needs a time zone")
        self._graph = graph
        self._at = at.astimezone(UTC)
        self._checks_left = MAX_SIGNATURE_CHECKS - graph.checks_used
        self._problems: dict[tuple[str, bool], Problem | None] = {}

    def shortest_valid_path(self, anchor: ParsedCertificate) -> Path:
        """The leaf, what lies between, and the enrolled CA in place of any certificate of its name and key.

        Raises InvalidPath with the most telling cause, for those who administer, or SearchExhausted.
        """
        if _name_and_key(self._graph.leaf) == _name_and_key(anchor):
            # Nothing was signed: a CA's own key proves the CA, not a device below it.
            raise InvalidPath(f"The device presented the enrolled CA {_named(anchor)} itself.")
        shortest = next(self._paths_to(anchor, only_sound=False), None)
        if shortest is None:
            raise InvalidPath(f"No signatures with matching names lead from the leaf to {_named(anchor)}.")
        self._refuse_unsound(shortest[0], shortest[-1])

        refusal: InvalidPath | None = self._first_problem(shortest)
        for path in self._paths_to(anchor, only_sound=True):
            try:
                self._validate(path)
            except InvalidPath as error:
                refusal = refusal or error
            else:
                return path
        raise refusal or InvalidPath(f"No valid path leads from the leaf to {_named(anchor)}.")

    def _paths_to(self, anchor: ParsedCertificate, *, only_sound: bool) -> Iterator[Path]:
        """Paths without repetition, shortest first."""
        distances = self._distances_to(anchor)
        paths: deque[Path] = deque([(self._graph.leaf,)])
        looked_at = 0
        while paths:
            path = paths.popleft()
            looked_at += 1
            if looked_at > MAX_PATHS_LOOKED_AT:
                raise SearchExhausted("The certificates form more paths than can be looked at.")
            if self._is_issued_by_anchor(path[-1], anchor):
                yield (*path, anchor)
            passed = {_name_and_key(anchor), *map(_name_and_key, path)}
            for issuer in self._named_issuers(path[-1]):
                too_far = len(path) + distances.get(issuer.thumbprint_sha256, MAX_DEPTH) > MAX_DEPTH
                if too_far or _name_and_key(issuer) in passed or (only_sound and self._ca_problem(issuer)):
                    continue
                paths.append((*path, issuer))

    def _distances_to(self, anchor: ParsedCertificate) -> dict[str, int]:
        """Fewest signatures from each certificate up to the anchor; what is not in it cannot lead there."""
        children: dict[str, list[ParsedCertificate]] = {}
        for child in self._graph.certificates.values():
            for issuer in self._named_issuers(child):
                children.setdefault(issuer.thumbprint_sha256, []).append(child)
        distances = {
            child.thumbprint_sha256: 1
            for child in self._graph.certificates.values()
            if self._is_issued_by_anchor(child, anchor)
        }
        todo = deque(distances)
        while todo:
            thumbprint = todo.popleft()
            for child in children.get(thumbprint, ()):
                if child.thumbprint_sha256 not in distances:
                    distances[child.thumbprint_sha256] = distances[thumbprint] + 1
                    todo.append(child.thumbprint_sha256)
        return distances

    def _named_issuers(self, child: ParsedCertificate) -> Iterator[ParsedCertificate]:
        """Whose key signed the child and whose name the child gives (RFC 5280, 6.1.3 a 4)."""
        for thumbprint in self._graph.issuers[child.thumbprint_sha256]:
            issuer = self._graph.certificates[thumbprint]
            if issuer.subject_sha256 == child.issuer_sha256:
                yield issuer

    def _is_issued_by_anchor(self, child: ParsedCertificate, anchor: ParsedCertificate) -> bool:
        """RFC 5280, 6.1.1 d: an anchor is a name and a key, whichever certificate brought them."""
        return child.issuer_sha256 == anchor.subject_sha256 and any(
            self._graph.certificates[thumbprint].spki_sha256 == anchor.spki_sha256
            for thumbprint in self._graph.issuers[child.thumbprint_sha256]
        )

    def _refuse_unsound(self, leaf: ParsedCertificate, anchor: ParsedCertificate) -> None:
        """What is wrong with either end is wrong with every path between them."""
        for certificate, problem in ((leaf, self._leaf_problem()), (anchor, self._ca_problem(anchor))):
            if problem is not None:
                raise InvalidPath(f"{_named(certificate)} {problem.message}.")

    def _first_problem(self, path: Path) -> InvalidPath | None:
        for certificate in path[1:-1]:
            if (problem := self._ca_problem(certificate)) is not None:
                return InvalidPath(f"{_named(certificate)} {problem.message}.")
        return None

    def _leaf_problem(self) -> Problem | None:
        return self._remembered(self._graph.leaf, is_ca=False)

    def _ca_problem(self, certificate: ParsedCertificate) -> Problem | None:
        return self._remembered(certificate, is_ca=True)

    def _remembered(self, certificate: ParsedCertificate, *, is_ca: bool) -> Problem | None:
        key = (certificate.thumbprint_sha256, is_ca)
        if key not in self._problems:
            self._problems[key] = date_problem(certificate, self._at) or _PROBLEMS.get(
                key, lambda: _lasting_problem(certificate, is_ca=is_ca)
            )
        return self._problems[key]

    def _validate(self, path: Path) -> None:
        """The path as a whole: path lengths by us, for a clear word, then everything by the library."""
        _check_path_lengths(path)
        signatures = len(path) - 1
        if signatures > self._checks_left:
            raise SearchExhausted(f"Validation needs more than {MAX_SIGNATURE_CHECKS} signature checks.")
        self._checks_left -= signatures
        # Of its own dates each certificate of the path has been asked already, for this very time.
        _VALIDATED.get(
            tuple(one.thumbprint_sha256 for one in path), lambda: _validated_by_library(path, self._at)
        )


def _validated_by_library(path: Path, at: datetime) -> bool:
    """True, or raises InvalidPath."""
    leaf, *intermediates, anchor = path
    # An anchor store of one, made for this path: nothing that could be stale, and nowhere else to end.
    verifier = (
        PolicyBuilder()
        .store(Store([anchor.certificate]))
        .time(at)
        .max_chain_depth(MAX_DEPTH)
        .extension_policies(ca_policy=CA_POLICY, ee_policy=DEVICE_POLICY)
        .build_client_verifier()
    )
    try:
        verified = verifier.verify(leaf.certificate, [one.certificate for one in intermediates])
    except VerificationError as error:
        raise InvalidPath(f"The path to {_named(anchor)} is not valid: {verifier_words(error)}.") from error
    if verified.chain != [one.certificate for one in path]:
        # The library may cut across between two certificates of one name; only what was asked counts.
        raise InvalidPath(f"The path to {_named(anchor)} is not the one that was validated.")
    return True


def can_end_a_path(leaf: ParsedCertificate) -> bool:
    """Whether this device certificate can stand at the lower end of any path, on whatever CAs and at whatever time.

    By everything that is asked of a leaf but its dates, in the library's words too: devices whose leaves can, and have
    the same above them, are on the same paths.
    """
    return _FITNESS.get(
        leaf.thumbprint_sha256,
        lambda: _lasting_problem(leaf, is_ca=False) is None and form_problem(leaf) is None,
    )


def _lasting_problem(certificate: ParsedCertificate, *, is_ca: bool) -> Problem | None:
    problems: Iterable[Problem] = ca_problems(certificate) if is_ca else leaf_problems(certificate)
    return next(iter(problems), None)


def _check_path_lengths(path: Path) -> None:
    """Counts every CA below, self-issued ones too.

    RFC 5280, 6.1.4 l would not count those; the library does, which errs on the refusing side.
    """
    for below, certificate in enumerate(path[1:]):
        if certificate.path_length is not None and below > certificate.path_length:
            raise InvalidPath(
                f"{_named(certificate)} allows {certificate.path_length} CA certificates below it, "
                f"and there are {below}."
            )


def _name_and_key(certificate: ParsedCertificate) -> tuple[str, str]:
    return certificate.subject_sha256, certificate.spki_sha256


def _named(certificate: ParsedCertificate) -> str:
    return f"“{certificate.subject[:120] or certificate.thumbprint_sha256[:16]}”"
