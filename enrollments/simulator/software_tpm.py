"""The same device's TPM, played by swtpm where that is installed: an implementation that is not ours.

The TPM is switched on for each use, on a pair of connected sockets that nobody else can reach, and off again. What it
is to remember stands at persistent handles, in its state folder.
"""

import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enrollments.simulator.tpm_structures import (
    AES_KEY_BYTES,
    ALG_AES,
    ALG_CFB,
    ALG_NULL,
    ALG_SHA256,
    RSA_BYTES,
    BlobMalformed,
    Reader,
    TpmRefusal,
    ek_public_area,
    read_blob,
    sized,
    srk_public_area,
    u16,
    u32,
)

PROGRAM = "swtpm"
EXCHANGE_SECONDS = 30

# Part 2, 7.4 and the handles that provisioning clients use.
OWNER, NOBODY, PASSWORD, ENDORSEMENT = 0x40000001, 0x40000007, 0x40000009, 0x4000000B
EK, SRK, IDENTITY = 0x81010001, 0x81000001, 0x81000100

# Part 2, 6.9 (TPM_ST) and 6.5.2 (TPM_CC).
NO_SESSIONS, SESSIONS = 0x8001, 0x8002
EVICT_CONTROL, CREATE_PRIMARY, SHUTDOWN, ACTIVATE_CREDENTIAL = 0x120, 0x131, 0x145, 0x147
POLICY_SECRET, HMAC, IMPORT, LOAD = 0x151, 0x155, 0x156, 0x157
READ_PUBLIC, START_AUTH_SESSION = 0x173, 0x176
NAMES = {
    EVICT_CONTROL: "TPM2_EvictControl",
    CREATE_PRIMARY: "TPM2_CreatePrimary",
    SHUTDOWN: "TPM2_Shutdown",
    ACTIVATE_CREDENTIAL: "TPM2_ActivateCredential",
    POLICY_SECRET: "TPM2_PolicySecret",
    HMAC: "TPM2_HMAC",
    IMPORT: "TPM2_Import",
    LOAD: "TPM2_Load",
    READ_PUBLIC: "TPM2_ReadPublic",
    START_AUTH_SESSION: "TPM2_StartAuthSession",
}
# Part 2, 6.6.3: response codes that may say something about a blob, without the parameter that they point at.
CODES = {
    0x082: "TPM_RC_ATTRIBUTES",
    0x083: "TPM_RC_HASH",
    0x084: "TPM_RC_VALUE",
    0x087: "TPM_RC_KEY_SIZE",
    0x08A: "TPM_RC_TYPE",
    0x08B: "TPM_RC_HANDLE",
    0x092: "TPM_RC_SCHEME",
    0x095: "TPM_RC_SIZE",
    0x096: "TPM_RC_SYMMETRIC",
    0x098: "TPM_RC_SELECTOR",
    0x09A: "TPM_RC_INSUFFICIENT",
    0x09F: "TPM_RC_INTEGRITY",
    0x0A5: "TPM_RC_BINDING",
    0x101: "TPM_RC_FAILURE",
}


class SoftwareTpmMissing(TpmRefusal):
    """swtpm is not installed, or does not start."""

    code = "tpm_software_missing"


class CommandRefused(TpmRefusal):
    """The TPM answered a command with a response code. `response` names it."""

    code = "tpm_command_refused"

    def __init__(self, command: int, response_code: int) -> None:
        # Part 2, 6.6.2: with bit 7, the number of a handle, session or parameter stands beside the code.
        plain = response_code & 0x0BF if response_code & 0x080 else response_code
        self.response = CODES.get(plain, f"{response_code:#05x}")
        super().__init__(f"{NAMES[command]} is answered with {self.response}.")


class _Commands:
    """Commands over a connection to a TPM that is switched on."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def run(self, code: int, handles: bytes = b"", parameters: bytes = b"", sessions: bytes = b"") -> bytes:
        """One command (Part 1, 18). Returns what follows the header. Raises CommandRefused."""
        authorization = u32(len(sessions)) + sessions if sessions else b""
        body = handles + authorization + parameters
        tag = SESSIONS if sessions else NO_SESSIONS
        self._connection.sendall(struct.pack(">HII", tag, 10 + len(body), code) + body)
        _, size, response_code = struct.unpack(">HII", self._exactly(10))
        answer = self._exactly(size - 10)
        if response_code:
            raise CommandRefused(code, response_code)
        return answer

    def _exactly(self, count: int) -> bytes:
        octets = b""
        while len(octets) < count:
            part = self._connection.recv(count - len(octets))
            if not part:
                raise SoftwareTpmMissing(f"{PROGRAM} ended in the middle of an answer.")
            octets += part
        return octets


class SoftwareTpm:
    """A TPM whose state is kept in a folder of its own."""

    def __init__(self, state: Path) -> None:
        """Makes the storage keys, unless they are there. Raises SoftwareTpmMissing."""
        self._state = state
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._switched_on() as commands:
            self._ek = _storage_key(commands, EK, ENDORSEMENT, ek_public_area(bytes(RSA_BYTES)))
            self._srk = _storage_key(commands, SRK, OWNER, srk_public_area(bytes(RSA_BYTES)))

    @property
    def endorsement_key(self) -> bytes:
        return self._ek

    @property
    def storage_root_key(self) -> bytes:
        return self._srk

    def activate(self, blob: bytes) -> None:
        parts = read_blob(blob)
        with self._switched_on() as commands:
            credential = _activate_credential(commands, parts.id_object, parts.credential_seed)
            if len(credential) != AES_KEY_BYTES:
                raise BlobMalformed(
                    f"The credential has {len(credential)} octets instead of {AES_KEY_BYTES}."
                )
            private = _import(commands, credential, parts.public_area, parts.duplicate, parts.duplicate_seed)
            loaded = commands.run(LOAD, u32(SRK), sized(private) + sized(parts.public_area), _with_password())
            _persist(commands, loaded[:4])

    def sign(self, text: bytes) -> bytes:
        with self._switched_on() as commands:
            answer = commands.run(HMAC, u32(IDENTITY), sized(text) + u16(ALG_SHA256), _with_password())
        return _parameters(answer).sized()

    @contextmanager
    def _switched_on(self) -> Iterator[_Commands]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = _start(self._state, theirs)
            theirs.close()
            ours.settimeout(EXCHANGE_SECONDS)
            try:
                commands = _Commands(ours)
                yield commands
                commands.run(SHUTDOWN, parameters=u16(0))
            except OSError as problem:
                raise SoftwareTpmMissing(f"{PROGRAM} does not answer: {problem}.") from problem
            finally:
                ours.close()
                _end(process)


def is_installed() -> bool:
    return shutil.which(PROGRAM) is not None


def _start(state: Path, connection: socket.socket) -> subprocess.Popen[bytes]:
    command = [PROGRAM, "socket", "--tpm2", "--tpmstate", f"dir={state},mode=0600"]
    command += ["--fd", str(connection.fileno()), "--flags", "not-need-init,startup-clear"]
    try:
        return subprocess.Popen(
            command,
            pass_fds=(connection.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the fleet, which then switches its TPMs off
        )
    except OSError as problem:
        raise SoftwareTpmMissing(
            f"{PROGRAM} cannot be started: {problem.strerror}. Install it, or take --tpm virtual."
        ) from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """It ends by itself when its connection does."""
    try:
        process.wait(EXCHANGE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _with_password() -> bytes:
    """A session with an empty password: no nonce, no attribute, no secret (Part 1, 19)."""
    return u32(PASSWORD) + sized(b"") + b"\0" + sized(b"")


def _with_policy(session: bytes) -> bytes:
    """A policy session that ends with the command."""
    return session + sized(b"") + b"\0" + sized(b"")


def _parameters(answer: bytes) -> Reader:
    """The parameters of an answer without handles: those of a command with sessions come after their size."""
    reader = Reader(answer, "The answer of the TPM", SoftwareTpmMissing)
    return Reader(reader.take(reader.u32()), "The answer of the TPM", SoftwareTpmMissing)


def _storage_key(commands: _Commands, handle: int, hierarchy: int, template: bytes) -> bytes:
    """The public area of a persistent key, which is made where it is missing. As TPM2B_PUBLIC."""
    try:
        return sized(_public_area(commands, handle))
    except CommandRefused as refused:
        if refused.response != "TPM_RC_HANDLE":
            raise
    nothing_sensitive = sized(sized(b"") + sized(b""))
    parameters = nothing_sensitive + sized(template) + sized(b"") + u32(0)
    made = commands.run(CREATE_PRIMARY, u32(hierarchy), parameters, _with_password())
    commands.run(EVICT_CONTROL, u32(OWNER) + made[:4], u32(handle), _with_password())
    return sized(_public_area(commands, handle))


def _public_area(commands: _Commands, handle: int) -> bytes:
    answer = commands.run(READ_PUBLIC, u32(handle))
    return Reader(answer, "The answer of the TPM", SoftwareTpmMissing).sized()


def _activate_credential(commands: _Commands, id_object: bytes, secret: bytes) -> bytes:
    """The EK is used under its policy, which asks for the (empty) secret of its hierarchy."""
    nonce, policy, no_cipher = sized(bytes(16)), b"\1", u16(ALG_NULL)
    parameters = nonce + sized(b"") + policy + no_cipher + u16(ALG_SHA256)
    session = commands.run(START_AUTH_SESSION, u32(NOBODY) + u32(NOBODY), parameters)[:4]
    never_expires = u32(0)
    parameters = sized(b"") + sized(b"") + sized(b"") + never_expires
    commands.run(POLICY_SECRET, u32(ENDORSEMENT) + session, parameters, _with_password())
    answer = commands.run(
        ACTIVATE_CREDENTIAL,
        u32(SRK) + u32(EK),
        sized(id_object) + sized(secret),
        _with_password() + _with_policy(session),
    )
    return _parameters(answer).sized()


def _import(
    commands: _Commands, wrapping_key: bytes, public_area: bytes, duplicate: bytes, secret: bytes
) -> bytes:
    inner_wrapper = u16(ALG_AES) + u16(8 * AES_KEY_BYTES) + u16(ALG_CFB)
    parameters = sized(wrapping_key) + sized(public_area) + sized(duplicate) + sized(secret) + inner_wrapper
    return _parameters(commands.run(IMPORT, u32(SRK), parameters, _with_password())).sized()


def _persist(commands: _Commands, transient: bytes) -> None:
    """Put a loaded key where the identity key is kept. What was there before goes first."""
    try:
        commands.run(READ_PUBLIC, u32(IDENTITY))
    except CommandRefused as refused:
        if refused.response != "TPM_RC_HANDLE":
            raise
    else:
        commands.run(EVICT_CONTROL, u32(OWNER) + u32(IDENTITY), u32(IDENTITY), _with_password())
    commands.run(EVICT_CONTROL, u32(OWNER) + transient, u32(IDENTITY), _with_password())
