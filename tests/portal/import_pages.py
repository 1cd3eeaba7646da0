"""Pages of imports and exports as tests ask for them."""

from django.test import Client
from django.urls import reverse

from tests.factories import a_user


def signed_in(role, service):
    client = Client()
    client.force_login(a_user(role, service, f"the-{role.value}"))
    return client


def url(view, service, **parameters):
    return reverse(f"portal:{view}", kwargs={"service_name": service.name, **parameters})


def text_of(response):
    content = b"".join(response) if response.streaming else response.content
    return " ".join(content.decode().split())
