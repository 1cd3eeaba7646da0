"""TLS for the device listener: the only module that imports OpenSSL.

The standard library's ssl cannot do this: told to ask for a client certificate, it ends the handshake when it
does not know the issuer. Here every certificate is accepted, since the handshake proves possession of the key
and nothing else is OpenSSL's to say: the application judges what the peer presented (R3, R9).
"""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from OpenSSL import SSL, crypto

from dpsportal.serving.buffered_socket import (
    READ_BYTES,
    WAIT_TO_READ,
    WAIT_TO_WRITE,
    BufferedSocket,
    WouldBlock,
)

CIPHERS_OF_TLS_1_2 = b"ECDHE+AESGCM:ECDHE+CHACHA20"

# Far above what the application accepts (R9: ten), so that it sees an excess and can say so.
MOST_CERTIFICATES = 100


class UnusableCertificate(Exception):
    """The server's own certificate or key cannot be used; the text says which files and why."""


def server_context(certificate_chain: Path, key: Path) -> SSL.Context:
    """A context to be made once per worker, after the fork, and never changed once a connection uses it."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(CIPHERS_OF_TLS_1_2)
    # A resumed session comes with the leaf but without the certificates that were sent along, and a device
    # would be judged on less than it presented: neither tickets nor cached sessions.
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # Ask for a certificate, never demand one, and accept any. The depth of 0 only keeps OpenSSL from building
    # and checking paths whose outcome nobody reads.
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    context.set_verify_depth(0)
    try:
        context.use_certificate_chain_file(str(certificate_chain))
        context.use_privatekey_file(str(key))
        context.check_privatekey()
    except SSL.Error as error:
        reasons = ", ".join(reason for *_, reason in error.args[0])
        raise UnusableCertificate(f"{certificate_chain} with the key {key}: {reasons}") from None
    return context


@contextmanager
def _openssl_errors() -> Iterator[None]:
    """SSL.Error is no OSError: untranslated it becomes a traceback, and a plain-text 500 in the stream."""
    try:
        yield
    except SSL.WantReadError:
        raise WouldBlock(WAIT_TO_READ) from None
    except SSL.WantWriteError:
        raise WouldBlock(WAIT_TO_WRITE) from None
    except SSL.Error as error:
        raise ConnectionResetError(errno.ECONNRESET, f"TLS failed: {error!r}") from None


class TlsSocket(BufferedSocket):
    """A client's TLS connection. OpenSSL's errors leave it as what gunicorn takes for a broken connection."""

    def __init__(
        self, raw: socket.socket, context: SSL.Context, *, unsent_bytes: int, sending_seconds: float
    ) -> None:
        super().__init__(raw, unsent_bytes=unsent_bytes, sending_seconds=sending_seconds)
        self._tls = SSL.Connection(context, raw)
        self._tls.set_accept_state()
        self._peer_certificates: tuple[bytes, ...] | None = None

    def handshake(self) -> None:
        with _openssl_errors():
            self._tls.do_handshake()

    def peer_certificates(self) -> tuple[bytes, ...]:
        """DER of the leaf, then of the other certificates in the order in which the client sent them."""
        if self._peer_certificates is None:
            leaf = self._tls.get_peer_certificate()
            # On the server's side OpenSSL keeps the leaf apart from what was sent along with it.
            others = self._tls.get_peer_cert_chain() or []
            sent = [leaf, *others[: MOST_CERTIFICATES - 1]] if leaf is not None else []
            # Not parsed here: some certificates that OpenSSL lets pass have no valid reading elsewhere.
            self._peer_certificates = tuple(
                crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) for certificate in sent
            )
        return self._peer_certificates

    def finish_writing(self) -> None:
        # The alert that says "this was all" is sent at most once and not waited for.
        unwaited = suppress(SSL.WantReadError, SSL.WantWriteError, SSL.ZeroReturnError)
        with _openssl_errors(), unwaited:
            self._tls.shutdown()
        super().finish_writing()

    def _read(self) -> bytes:
        with _openssl_errors():
            try:
                return self._tls.recv(READ_BYTES)
            except SSL.ZeroReturnError:
                return b""
            except SSL.SysCallError as error:
                # -1: the client closed without the closing alert, as many do between two requests.
                if error.args[0] == -1:
                    return b""
                raise

    def _write(self, data: bytes) -> int:
        with _openssl_errors():
            return self._tls.send(data)
