"""The application that the listeners under test serve: it tells what reached it."""

import hashlib
import json
import time
from urllib.parse import parse_qs

from dpsportal.serving.environment import ListenerEnvironment


def _tell(environ, start_response):
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    path = environ["PATH_INFO"]
    if path == "/sleep":
        time.sleep(float(query["seconds"]))
    if path == "/exit":
        raise SystemExit("as the test asked")
    if path == "/fail":
        raise RuntimeError("as the test asked")
    if path == "/zeros":
        size = int(query["size"])
        start_response("200 OK", [("Content-Length", str(size))])
        return [bytes(size)]
    if path == "/break-off":
        start_response("200 OK", [("Content-Length", "100000")])
        return _breaking_off()
    body = b"" if path == "/unread" else environ["wsgi.input"].read()
    answer = {
        "method": environ["REQUEST_METHOD"],
        "path": path,
        "listener": environ["dps.listener"],
        "certificates": [hashlib.sha256(der).hexdigest() for der in environ["dps.peer_certificates"]],
        "peer": environ["REMOTE_ADDR"],
        "scheme": environ["wsgi.url_scheme"],
        "body": hashlib.sha256(body).hexdigest(),
        "headers": {name: value for name, value in environ.items() if name.startswith("HTTP_")},
    }
    content = json.dumps(answer).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
    return [content]


def _breaking_off():
    yield bytes(50_000)
    raise RuntimeError("as the test asked, in the middle")


application = ListenerEnvironment(_tell, listener="device", trusted_proxies=[])
