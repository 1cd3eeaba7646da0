"""What the listener knows about the peer, put into the WSGI environment where no header can put it."""

import io
import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ListenerEnvironment:
    """A WSGI application around another. It sets

    - `dps.listener`: "device" or "portal";
    - `dps.peer_certificates`: DER of the leaf whose key the TLS handshake proved, then of the certificates
      sent along with it, in the order sent; empty without a certificate and without TLS. Nothing in it is
      verified;
    - `REMOTE_ADDR`: behind a believed proxy, the address that it names;
    - `CONTENT_TYPE`: as sent, without a charset;
    - `CONTENT_LENGTH` and `wsgi.input`: of a body that came in chunks, put together, as if its length had been
      announced. Django reads as many bytes as are announced, which would be none of them.

    Forwarding headers of anybody else are removed, so that nothing further in can believe them. Request
    headers arrive as `HTTP_…` and `CONTENT_…` and cannot reach the names above.
    """

    def __init__(
        self,
        application: "WSGIApplication",
        *,
        listener: Literal["device", "portal"],
        trusted_proxies: Sequence[str],
    ) -> None:
        self._application = application
        self._listener = listener
        self._trusted: tuple[Network, ...] = tuple(map(ipaddress.ip_network, trusted_proxies))

    def __call__(self, environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        environ["dps.listener"] = self._listener
        if "CONTENT_TYPE" in environ:
            environ["CONTENT_TYPE"] = _without_charset(environ["CONTENT_TYPE"])
        if environ.pop("HTTP_TRANSFER_ENCODING", None) is not None:
            _announce_length(environ)
        environ["dps.peer_certificates"] = environ["gunicorn.socket"].peer_certificates()
        if self._is_trusted(environ["REMOTE_ADDR"]):
            environ["REMOTE_ADDR"] = self._client_behind_proxies(environ)
        else:
            for name in [
                each for each in environ if each.startswith(("HTTP_X_FORWARDED_", "HTTP_FORWARDED"))
            ]:
                del environ[name]
        return self._application(environ, start_response)

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
