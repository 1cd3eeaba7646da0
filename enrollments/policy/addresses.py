"""Addresses that this service may call: HTTPS, and nothing hidden in them."""

from urllib.parse import SplitResult, urlsplit

MAX_URL = 1000


def problem_of_https_url(url: str) -> str:
    """Why this is no address to be called over HTTPS, as the end of a sentence; empty where it is one."""
    if len(url) > MAX_URL or not url.isascii() or any(character <= " " for character in url):
        return f"has at most {MAX_URL} characters, ASCII without spaces"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "cannot be read: give https://host/path"
    if parts.scheme != "https" or not parts.hostname:
        return "is called over HTTPS: give https://host/path"
    if parts.username is not None or parts.fragment:
        return "has no user name and no fragment; keys belong into its query"
    return ""


def host_and_port(url: str) -> tuple[str, int]:
    """Of an address without a problem."""
    parts: SplitResult = urlsplit(url)
    return (parts.hostname or "").lower(), parts.port or 443


def shown_url(url: str) -> str:
    """The address as it may be shown and recorded: a query may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}{'?…' if parts.query else ''}"
