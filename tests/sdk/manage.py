"""A back end with the management SDK for Python as it is published: calls in, what came of each out, as in manage.js.

A call is a pair of group and method (`["enrollment", "get"]`) with keyword arguments.
"""

import json
import sys
import time
from typing import Any

from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.iot.deviceprovisioning import DeviceProvisioningClient


class ApiToken:
    """A credential as the SDK wants it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_token(self, *_scopes: str, **_: Any) -> AccessToken:
        return AccessToken(self._text, int(time.time()) + 3600)


def done(client: DeviceProvisioningClient, group: str, method: str, given: dict[str, Any]) -> dict[str, Any]:
    try:
        result = getattr(getattr(client, group), method)(**given)
        if method == "query":
            result = [list(page) for page in result.by_page()]
    except HttpResponseError as error:
        body = error.response.json() if error.response is not None else None
        return {"error": type(error).__name__, "statusCode": error.status_code, "body": body}
    return {"result": result}


def main() -> None:
    task = json.load(sys.stdin)
    if "token" in task:
        client = DeviceProvisioningClient(f"https://{task['host']}", ApiToken(task["token"]))
    else:
        client = DeviceProvisioningClient.from_connection_string(task["connectionString"])
    print(json.dumps([done(client, *call) for call in task["calls"]], default=str))


if __name__ == "__main__":
    main()
