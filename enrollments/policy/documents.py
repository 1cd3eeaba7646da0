"""JSON from outside: bounded before it is parsed, and only what every database can hold."""

import json
from typing import Any

MAX_DEPTH = 64
MAX_TWIN_BYTES = 8 * 1024


class DocumentProblem(ValueError):
    """One sentence about what is wrong with a JSON document."""


class NotJson(DocumentProblem):
    """That it is none. `place`: at which character, counted from one on; None where nobody knows."""

    def __init__(self, problem: ValueError) -> None:
        found = problem if isinstance(problem, json.JSONDecodeError) else None
        where = f" at line {found.lineno}, column {found.colno}" if found else ""
        super().__init__(f"That is not valid JSON{where}.")
        self.place = found.pos + 1 if found else None

    def within(self, of: str) -> str:
        """For what is one line, or one cell, to whoever wrote it, and stands in a line with a number of its own."""
        where = f" at {of} {self.place}" if self.place else ""
        return f"That is not valid JSON{where}."


def parse_json(raw: bytes | str, *, max_bytes: int) -> Any:
    """Strict RFC 8259: no duplicate names, NaN, NUL or lone surrogates, at most MAX_DEPTH levels deep.

    Raises DocumentProblem.
    """
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    if len(data) > max_bytes:
        raise DocumentProblem(f"The JSON is {len(data)} bytes long; at most {max_bytes} are allowed.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DocumentProblem("The JSON is not valid UTF-8.") from None
    try:
        value = _STRICT.decode(text)
    except DocumentProblem:
        raise
    except RecursionError:
        raise DocumentProblem(f"The JSON is nested more than {MAX_DEPTH} levels deep.") from None
    except ValueError as problem:
        raise NotJson(problem) from None
    # Without an escape no text can hold what UTF-8 and the parser have not refused already, and with few brackets
    # nothing is nested deep.
    escaped = "\\u" in text
    if escaped or text.count("{") + text.count("[") > MAX_DEPTH:
        _check(value, 0, texts=escaped)
    return value


def parse_initial_twin(raw: str) -> dict[str, Any]:
    """An initial twin: `{"tags": {...}, "properties": {"desired": {...}}}`, either part may be missing."""
    if not raw.strip():
        return {"tags": {}, "properties": {"desired": {}}}
    twin = parse_json(raw, max_bytes=MAX_TWIN_BYTES)
    if not isinstance(twin, dict):
        raise DocumentProblem('The initial twin must be a JSON object, such as {"tags": {}}.')
    return check_initial_twin(twin)


def check_initial_twin(twin: dict[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(twin) - {"tags", "properties"}):
        raise DocumentProblem(f"The initial twin has tags and properties, not {unknown[0]!r}.")
    tags, properties = twin.get("tags", {}), twin.get("properties", {})
    if not isinstance(tags, dict):
        raise DocumentProblem("The tags of the initial twin must be a JSON object.")
    if not isinstance(properties, dict) or set(properties) - {"desired"}:
        raise DocumentProblem(
            'The properties of the initial twin must be an object with the one member "desired".'
        )
    desired = properties.get("desired", {})
    if not isinstance(desired, dict):
        raise DocumentProblem("The desired properties of the initial twin must be a JSON object.")
    return {"tags": tags, "properties": {"desired": desired}}


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise DocumentProblem(f"The JSON names {_shown(twice)} twice.")
    return result


def _no_constant(name: str) -> Any:
    raise DocumentProblem(f"{name} is not a JSON value.")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise DocumentProblem("The JSON holds a number that is too large.")
    return number


_STRICT = json.JSONDecoder(
    object_pairs_hook=_without_duplicates, parse_constant=_no_constant, parse_float=_finite
)


def _check(value: Any, depth: int, *, texts: bool) -> None:
    if depth > MAX_DEPTH:
        raise DocumentProblem(f"The JSON is nested more than {MAX_DEPTH} levels deep.")
    if isinstance(value, str):
        if texts:
            _check_text(value)
    elif isinstance(value, dict):
        for name, member in value.items():
            if texts:
                _check_text(name)
            _check(member, depth + 1, texts=texts)
    elif isinstance(value, list):
        for member in value:
            _check(member, depth + 1, texts=texts)


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise DocumentProblem("The JSON holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DocumentProblem("The JSON holds half of a surrogate pair.") from None


def _shown(name: str) -> str:
    return ascii(name[:40])
