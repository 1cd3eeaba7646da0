"""What the listener knows about the peer, put into the WSGI environment where no header can put it."""

import io
import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dpsportal.serving.forwarded_certificates import (
    CLIENT_CERT,
    CLIENT_CERT_CHAIN,
    UnreadableCertificateHeader,
    read_forwarded,
    take_certificate_headers,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


Listener = Literal["device", "portal", "proxied", "metrics"]


class Refusal(NamedTuple):
    """Why a request may reach nothing but the health of the process."""

    cause: Literal["untrusted peer", "unreadable certificate"]
    sentence: str


UNTRUSTED_PEER = Refusal(
    "untrusted peer",
    "This listener is for proxies that are named in its configuration, and you are none of them.",
)


class ListenerEnvironment:
    """A WSGI application around another. It sets

    - `dps.listener`: "device", "portal" or "metrics", which says what is served;
    - `dps.listener_name`: the same, or "proxied" where devices are served behind a proxy that terminates TLS;
    - `dps.peer_certificates`: DER of the leaf whose key the TLS handshake proved, then of the certificates
      sent along with it, in the order sent; empty without a certificate. Nothing in it is verified. The handshake
      is this listener's own; on the proxied listener, and from a believed proxy only, it is the proxy's, which
      hands the certificates on in the headers of RFC 9440;
    - `dps.ignored_certificate_headers`: names of all other headers that could be taken for a certificate;
    - `dps.refusal`: on the proxied listener, why the request may reach nothing; else None;
    - `REMOTE_ADDR`: behind a believed proxy, the address that it names;
    - `CONTENT_TYPE`: as sent, without a charset;
    - `CONTENT_LENGTH` and `wsgi.input`: of a body that came in chunks, put together, as if its length had been
      announced. Django reads as many bytes as are announced, which would be none of them.

    Forwarding headers of anybody else are removed, and headers with certificates of everybody, so that nothing
    further in can believe them. Request headers arrive as `HTTP_…` and `CONTENT_…` and cannot reach the names above.
    """

    def __init__(
        self,
        application: "WSGIApplication",
        *,
        listener: Listener,
        trusted_proxies: Sequence[str],
    ) -> None:
        self._application = application
        self._listener = listener
        self._trusted: tuple[Network, ...] = tuple(map(ipaddress.ip_network, trusted_proxies))

    def __call__(self, environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        # Before REMOTE_ADDR becomes what the proxy says.
        is_trusted = self._is_trusted(environ["REMOTE_ADDR"])
        environ["dps.listener"] = "device" if self._listener == "proxied" else self._listener
        environ["dps.listener_name"] = self._listener
        if "CONTENT_TYPE" in environ:
            environ["CONTENT_TYPE"] = _without_charset(environ["CONTENT_TYPE"])
        if environ.pop("HTTP_TRANSFER_ENCODING", None) is not None:
            _announce_length(environ)
        self._set_certificates(environ, is_trusted)
        if is_trusted:
            environ["REMOTE_ADDR"] = self._client_behind_proxies(environ)
        else:
            for name in [
                each for each in environ if each.startswith(("HTTP_X_FORWARDED_", "HTTP_FORWARDED"))
            ]:
                del environ[name]
        return self._application(environ, start_response)

    def _set_certificates(self, environ: dict[str, Any], is_trusted: bool) -> None:
        environ["dps.peer_certificates"] = environ["gunicorn.socket"].peer_certificates()
        environ["dps.refusal"] = None
        said = take_certificate_headers(environ)
        if self._listener == "proxied" and not is_trusted:
            environ["dps.refusal"] = UNTRUSTED_PEER
        elif self._listener == "proxied":
            try:
                environ["dps.peer_certificates"] = read_forwarded(
                    said.pop(CLIENT_CERT, ""), said.pop(CLIENT_CERT_CHAIN, "")
                )
            except UnreadableCertificateHeader as problem:
                environ["dps.refusal"] = Refusal("unreadable certificate", str(problem))
        environ["dps.ignored_certificate_headers"] = tuple(said)

    def _is_trusted(self, address: str) -> bool:
        if not self._trusted or not address:
            return False
        return any(ipaddress.ip_address(address) in network for network in self._trusted)

    def _client_behind_proxies(self, environ: dict[str, Any]) -> str:
        """Each proxy appends the peer it saw: the list is read from the right, as far as it is believed."""
        client: str = environ["REMOTE_ADDR"]
        for hop in reversed(environ.get("HTTP_X_FORWARDED_FOR", "").split(",")):
            try:
                named = str(ipaddress.ip_address(hop.strip()))
            except ValueError:
                return client
            client = named
            if not self._is_trusted(client):
                return client
        return client


def _announce_length(environ: dict[str, Any]) -> None:
    """The body is in memory and within the listener's limits: the poller collected all of it beforehand."""
    body: bytes = environ["wsgi.input"].read()
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))


def _without_charset(content_type: str) -> str:
    """Everything here is UTF-8. Django would decode with whatever codec a client names, outside of our error pages."""
    return ";".join(
        part for part in content_type.split(";") if not part.strip().lower().startswith("charset=")
    )
