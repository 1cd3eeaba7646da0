"""A page as a browser reads it: where it leads, what it loads, and its forms as they would be sent."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

_NOT_SENT = {"submit", "button", "image", "reset", "file"}


@dataclass
class Form:
    """`fields`: what is sent if nobody fills in anything. `texts`: the names of those that one can write into.

    buttons: method and address that each of them sends to.
    """

    method: str
    action: str
    fields: dict[str, list[str]] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)


class Page(HTMLParser):
    """`leads_to`: every address that the page names, to go to or to load. `posts_to`: where scripts post something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.leads_to: list[str] = []
        self.posts_to: list[str] = []
        self.forms: list[Form] = []
        self._by_id: dict[str, Form] = {}
        self._open: Form | None = None
        self._controls: list[tuple[Form | str | None, str, dict[str, str]]] = []
        self._fieldsets: list[bool] = []
        self._text: list[str] | None = None
        self._select: dict[str, Any] | None = None
        self.feed(html)
        for owner, kind, given in self._controls:
            form = self._by_id.get(owner) if isinstance(owner, str) else owner
            if form is not None:
                _add(form, kind, given)

    def form_to(self, path: str) -> Form | None:
        return next((one for one in self.forms if one.action.partition("?")[0] == path), None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.leads_to += [given[one] for one in ("href", "src", "hx-get") if one in given]
        # A form is posted by its buttons, unless it posts itself.
        by_itself = tag != "form" or "load" in given.get("hx-trigger", "")
        if "hx-post" in given and by_itself and "disabled" not in given and not any(self._fieldsets):
            self.posts_to.append(given["hx-post"])
        if tag == "form":
            self._open = Form(given.get("method", "get").upper(), given.get("action", "").partition("#")[0])
            self.forms.append(self._open)
            self._by_id[given.get("id", "")] = self._open
        elif tag == "fieldset":
            self._fieldsets.append("disabled" in given)
        elif tag == "select":
            self._select = {"given": given, "options": []}
        elif tag == "option" and self._select is not None:
            self._select["options"].append(given)
        elif tag == "textarea":
            self._text = []
            self._control("textarea", given)
        elif tag in ("input", "button"):
            self._control(given.get("type", "text" if tag == "input" else "submit"), given)

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "fieldset" and self._fieldsets:
            self._fieldsets.pop()
        elif tag == "textarea" and self._text is not None:
            if self._controls and self._controls[-1][1] == "textarea":
                self._controls[-1][2]["value"] = "".join(self._text).removeprefix("\n")
            self._text = None
        elif tag == "select" and self._select is not None:
            options = self._select["options"]
            chosen = [one for one in options if "selected" in one]
            for one in chosen or ([] if "multiple" in self._select["given"] else options[:1]):
                self._control("select", {**self._select["given"], "value": one.get("value", "")})
            self._select = None

    def _control(self, kind: str, given: dict[str, str]) -> None:
        if "disabled" not in given and not any(self._fieldsets):
            self._controls.append((given.get("form") or self._open, kind, given))


def _add(form: Form, kind: str, given: dict[str, str]) -> None:
    if kind in ("submit", "image"):
        method = given.get("formmethod", form.method).upper()
        form.buttons.append((method, given.get("formaction", form.action)))
    elif kind in _NOT_SENT or "name" not in given:
        return
    elif kind not in ("checkbox", "radio") or "checked" in given:
        if kind in ("text", "search", "textarea"):
            form.texts.add(given["name"])
        on = "on" if kind in ("checkbox", "radio") else ""
        form.fields.setdefault(given["name"], []).append(given.get("value", on))
