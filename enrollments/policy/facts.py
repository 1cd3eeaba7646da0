"""What a decision may look at: frozen values, gathered beforehand, in terms of rules R3 to R9."""

from dataclasses import dataclass, field
from enum import StrEnum

from enrollments.policy.reasons import Reason


class EntryKind(StrEnum):
    INDIVIDUAL = "individual"
    GROUP = "group"


class Mechanism(StrEnum):
    X509 = "x509"
    SYMMETRIC_KEY = "symmetricKey"
    TPM = "tpm"


@dataclass(frozen=True, slots=True)
class EntryRef:
    """Names one entry, so that verdict and trace can point at it."""

    kind: EntryKind
    pk: int
    name: str

    def __str__(self) -> str:
        word = "individual enrollment" if self.kind is EntryKind.INDIVIDUAL else "enrollment group"
        return f"{word} {self.name}"


@dataclass(frozen=True, slots=True)
class CredentialFacts:
    """What the device showed. With a `problem` it proves nothing, whoever is asked."""

    mechanism: Mechanism | None
    summary: str = ""
    problem: Reason | None = None
    problem_detail: str = ""


@dataclass(frozen=True, slots=True)
class IndividualFacts:
    """The individual enrollment of the claimed registration ID, if there is one (R5)."""

    ref: EntryRef
    enabled: bool
    mechanism: Mechanism
    own_credential_proven: bool
    detail: str = ""
    problem: Reason | None = None


@dataclass(frozen=True, slots=True)
class BarredKey:
    """A public key on the chain that a disabled individual enrollment bars (R6)."""

    ref: EntryRef
    steps: int
    certificate: str


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A group that the chain touches, or whose derived key signed the token (R4, R7).

    signed: it is a group with symmetric keys, and the token was signed with a key derived from one of them.
    switched_off: the service lets such groups admit nobody.
    steps_to_key: fewest verified signatures from the leaf to a public key of the group; the leaf itself is 0.
    path: subjects from leaf to anchor, if there is a valid path (R9) to the enrolled subject and key.
    path_thumbprints: the certificates of that path, SHA-256, in the same order.
    lacks_proof: the service demands proof of possession, and there is none of the CA that the path leads to.
    created: rank of creation within the service; lower is earlier.
    """

    ref: EntryRef
    enabled: bool
    created: tuple[float, int]
    steps_to_key: int
    path: tuple[str, ...] | None = None
    path_problem: str = ""
    path_thumbprints: tuple[str, ...] = ()
    signed: bool = False
    switched_off: bool = False
    lacks_proof: bool = False

    @property
    def proves(self) -> bool:
        """Whether the device has proven itself through this group, enabled or disabled (R3)."""
        return self.signed or self.path is not None

    @property
    def may_admit(self) -> bool:
        """Whether it admits the device, if it is enabled and no other comes first."""
        return self.proves and not self.switched_off and not self.lacks_proof

    @property
    def path_steps(self) -> int:
        return 0 if self.signed else len(self.path or ()) - 1


@dataclass(frozen=True, slots=True)
class RegistrationFacts:
    """All that decides about one registration. `groups` holds every group whose key was met or reached."""

    claimed_registration_id: str
    credential: CredentialFacts
    individual: IndividualFacts | None = None
    barred_keys: tuple[BarredKey, ...] = field(default=())
    groups: tuple[GroupFacts, ...] = field(default=())
