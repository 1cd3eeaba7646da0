"""No page offers or loads what its reader is refused: all links, forms and fragments of all pages, by role (R17)."""

from itertools import product
from urllib.parse import urljoin, urlsplit

import pytest
from django.http import QueryDict
from django.test import Client
from django.urls import Resolver404, resolve

from enrollments.models import HistoryEvent
from enrollments.policy.roles import Role
from tests.portal.addresses import ADDRESSES, Address
from tests.portal.pages import Page
from tests.portal.real_requests import GETS, request_of
from tests.portal.test_access import EVERYWHERE, HERE, may
from tests.portal.world import World, a_world, signed_in_as

pytestmark = pytest.mark.django_db
BY_NAME = {one.name: one for one in ADDRESSES}
# The row that these are asked for is not a viewer's own, and so a refused look; none of their pages leads there.
ROWS = {"history-row", "installation-history-row"}


def address_of(url: str) -> Address | None:
    """None of what is not of the portal."""
    try:
        match = resolve(urlsplit(url).path)
    except Resolver404:
        return None
    return BY_NAME[str(match.url_name)] if match.namespace == "portal" else None


def kind_of(url: str) -> tuple[str, frozenset[str]]:
    """Of pages that differ alone in the object and in the values of their query, one is looked at."""
    split = urlsplit(url)
    return str(resolve(split.path).url_name), frozenset(QueryDict(split.query))


class Walk:
    """From the pages that one is given to all that they lead to. `refused`: what was offered and is not allowed."""

    def __init__(self, client: Client, role: Role, place: str) -> None:
        self.client, self.role, self.place = client, role, place
        self.seen: set[tuple[str, frozenset[str]]] = set()
        self.refused: list[str] = []

    def begin(self, url: str) -> None:
        waiting = [(url, "")]
        while waiting:
            url, source = waiting.pop()
            if kind_of(url) in self.seen:
                continue
            self.seen.add(kind_of(url))
            answer = self.client.get(url)
            if answer.status_code == 403:
                self.refused.append(f"{source} leads to {url}")
            if answer.status_code == 200 and answer["Content-Type"].startswith("text/html"):
                waiting += [(one, url) for one in self._offered(url, Page(answer.content.decode()))]

    def _offered(self, url: str, page: Page) -> list[str]:
        offers = [("GET", one) for one in page.leads_to]
        offers += [("POST", one) for one in page.posts_to]
        offers += [button for form in page.forms for button in form.buttons]
        offers = [(method, urljoin(url, where)) for method, where in offers]
        for method, where in offers:
            address = address_of(where)
            if address is not None and not may(address, method, self.role, self.place):
                self.refused.append(f"{url} offers {method} {where}")
        return [where for method, where in offers if method == "GET" and address_of(where) is not None]


@pytest.fixture
def world(db: None) -> World:
    return a_world()


@pytest.mark.parametrize(
    ("role", "place"),
    # Nothing is refused to an administrator of the installation.
    [one for one in product(Role, (HERE, EVERYWHERE)) if one != (Role.ADMINISTRATOR, EVERYWHERE)],
)
def test_r17_no_page_offers_what_its_reader_is_refused(world, role, place):
    who = signed_in_as(role, world.service if place == HERE else None)
    walk = Walk(who.client, role, place)

    for address in ADDRESSES:
        if role is Role.VIEWER and address.name in ROWS:
            continue
        if may(address, "GET", role, place) and address.name not in GETS:
            walk.begin(request_of(world, address, "GET", who).url)

    assert walk.refused == []
    assert not HistoryEvent.objects.filter(event="action.refused").exists()
    assert len(walk.seen) > 40
