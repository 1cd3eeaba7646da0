"""Lists of several pages, gone through as a person does: by the links that lead on."""

from typing import Any

from django.test import Client


def pages_of(client: Client, url: str, *, back: bool = False) -> list[list[Any]]:
    """The objects on each page, from this one on to the last; `back`: to the first instead, which then comes last."""
    path, found = url.partition("?")[0], []
    while True:
        page = client.get(url).context["page"]
        found.append(list(page.rows))
        leads_to = page.previous_url if back else page.next_url
        if not leads_to:
            return found
        url = path + leads_to
