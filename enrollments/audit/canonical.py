"""The canonical form of a history row (RFC 8785), and the hashes that chain rows. docs/history.md describes both.

The rfc8785 package writes 24,000 rows a second where a verifier has to do 100,000; here the members of a row are
fixed, so their order is too, and the C function that escapes strings for json does most of the rest. The tests hold
this against that package.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]  # CPython has it
from json.encoder import encode_basestring as quoted
from typing import Any, NoReturn

from enrollments.errors import DpsError

FORM = "dpsportal-history/1"
# What the first row has in the place of the hash before it.
NOTHING_BEFORE = "0" * 64
# The columns of a row, in the order that RFC 8785 gives its members. Each row has all of them, save `client`: rows from
# before that was kept have no such member, nor has any row without one. Any other member is another form.
MEMBERS = (
    "actor_kind",
    "actor_name",
    "address",
    "after",
    "at",
    "before",
    "client",
    "event",
    "id",
    "reason",
    "request_id",
    "service_id",
    "service_name",
    "subject_id",
    "subject_kind",
    "subject_name",
    "way",
)
_BETWEEN = "\x7f"
_NO_CLIENT = '{"client":"",'
_WITHOUT_DECIMALS = len("2026-10-01T10:00:00")
NO_NUMBER = "id and service_id are whole numbers"
NO_TEXT = "it holds something that is no text where text belongs"
# One way to write each moment: filters compare it as text where the database has none of its own for times.
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(?!000000)(\d{6}))?", re.ASCII)
_MOMENTS = re.compile(r"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.(?!000000)\d{6})?\n)*+", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")


class NotCanonical(DpsError):
    """A row holds something that no row of this service can hold."""

    code = "not_canonical"


# The canonical form of before or after, from the text that the database makes of it.
StateForm = Callable[[str], str]


def row_form(
    state: StateForm,
    actor_kind: str,
    actor_name: str,
    address: str,
    after: str | None,
    at: str,
    before: str | None,
    client: str,
    event: str,
    id: int,
    reason: str,
    request_id: str,
    service_id: int | None,
    service_name: str,
    subject_id: str,
    subject_kind: str,
    subject_name: str,
    way: str,
) -> bytes:
    """A row as the bytes that are hashed. `at`, `before` and `after` are what the database holds, as text.

    `state`: state_form, or own_state_form where the database keeps text as it is given. Raises NotCanonical.
    """
    if type(id) is not int or not (service_id is None or type(service_id) is int):
        raise NotCanonical(NO_NUMBER)
    # fmt: off
    texts = (
        actor_kind, actor_name, address, client, event, reason, request_id, service_name, subject_id, subject_kind,
        subject_name, way,
    )
    # fmt: on
    try:
        # In one go, and taken apart again at a character that is never escaped: sooner done than each by itself.
        escaped = quoted(_BETWEEN.join(texts))[1:-1].split(_BETWEEN)
        at = moment(at)
        after = "null" if after is None else state(after)
        before = "null" if before is None else state(before)
    except TypeError:
        raise NotCanonical(NO_TEXT) from None
    if len(escaped) != len(texts):
        escaped = [quoted(text)[1:-1] for text in texts]
    # fmt: off
    (
        actor_kind, actor_name, address, client, event, reason, request_id, service_name, subject_id, subject_kind,
        subject_name, way,
    ) = escaped
    # fmt: on
    named_client = f'"client":"{client}",' if client else ""
    # Written out, in the order of MEMBERS, since this is most of a verifier's work.
    return in_utf8(
        f'{{"actor_kind":"{actor_kind}","actor_name":"{actor_name}","address":"{address}","after":{after},"at":"{at}",'
        f'"before":{before},{named_client}"event":"{event}","id":{id},"reason":"{reason}","request_id":"{request_id}",'
        f'"service_id":{"null" if service_id is None else service_id},"service_name":"{service_name}",'
        f'"subject_id":"{subject_id}","subject_kind":"{subject_kind}","subject_name":"{subject_name}","way":"{way}"}}'
    )


def joined_form(begin: str, after: str | None, at: str, before: str | None, end: str) -> bytes:
    """The same, where SQLite has written most of it: `begin` and `end` are JSON objects in canonical form, of the
    members before `after` and of those behind `before`, with text where it belongs.

    `at` is a moment's form already. Raises NotCanonical.
    """
    try:
        after = "null" if after is None else own_state_form(after)
        before = "null" if before is None else own_state_form(before)
    except TypeError:
        raise NotCanonical(NO_TEXT) from None
    end = end[len(_NO_CLIENT) :] if end.startswith(_NO_CLIENT) else end[1:]
    return in_utf8(f'{begin[:-1]},"after":{after},"at":"{at}","before":{before},{end}')


def row_hash(canonical: bytes) -> str:
    return hashlib.sha256(canonical).hexdigest()


def link_hash(index: int, previous: str, row: str) -> str:
    """What the next row names as its previous: the place, the hash before, and the hash of the row."""
    return hashlib.sha256(f"{FORM}\n{index}\n{previous}\n{row}\n".encode()).hexdigest()


def moment(text: str) -> str:
    """UTC with six decimals and a Z, from its text: a blank between day and time, decimals where there are any."""
    if not isinstance(text, str):
        raise NotCanonical(NO_TEXT)
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise NotCanonical("its time is of another form")
    return f"{found[1]}T{found[2]}.{found[3] or '000000'}Z"


def moments(texts: Sequence[str]) -> list[str] | None:
    """The same of many texts, in half the time. None where `moment` refuses one of them."""
    try:
        joined = "\n".join([*texts, ""])
    except TypeError:
        return None
    found = joined.replace(" ", "T").split("\n")[:-1]
    if len(found) != len(texts) or not _MOMENTS.fullmatch(joined):
        return None
    return [f"{text}Z" if len(text) > _WITHOUT_DECIMALS else f"{text}.000000Z" for text in found]


def moment_of(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _intricate(_: str) -> NoReturn:
    raise _Intricate


class _Intricate(Exception):
    """Only the long way gets this right."""


def json_form(text: str) -> str:
    """JSON text in its canonical form. Raises NotCanonical where a name stands twice, or it is no JSON."""
    return _value_and_form(text)[1]


def _value_and_form(text: str) -> tuple[Any, str]:
    try:
        try:
            return _short_way(text)
        except _Intricate:
            value = json.loads(text, object_pairs_hook=_once)
            return value, written(value)
    except (ValueError, RecursionError):
        raise NotCanonical("before or after is no JSON, or nested too deep") from None


def _short_way(text: str) -> tuple[Any, str]:
    """What `written` makes of it, several times as fast, where no number has a fraction and no name more than ASCII.

    json itself sorts names by code points, which RFC 8785 sorts by UTF-16: the same for ASCII.
    """
    if "\\u" in text or not text.isascii():
        raise _Intricate
    value = _read_simple(text)
    return value, "".join(_write_simple(value, 0))


@lru_cache(maxsize=4096)
def state_form(text: str) -> str:
    """No state is NULL in the column, and nothing else: the two must not stand for each other."""
    return _not_null(json_form(text))


@lru_cache(maxsize=4096)
def own_state_form(text: str) -> str:
    """The same, of the very text that the service writes.

    Another one that means the same has the same hash, and filters that look into the text do not find it.
    """
    try:
        if "\\u" not in text:
            value, _ = _read_own(text)
            if _is_own(value, text):
                return _not_null("".join(_write_simple(value, 0)))
    except (_Intricate, ValueError, RecursionError):
        pass  # for the long way to say
    value, form = _value_and_form(text)
    if not _is_own(value, text):
        raise NotCanonical("before or after is written in another way than the service writes it")
    return _not_null(form)


def _is_own(value: Any, text: str) -> bool:
    """Whether this is how the service writes it: with no name that stands twice, and nothing behind the value."""
    try:
        return "".join(_write_own(value, 0)) == text
    except RecursionError:
        return False


def _not_null(form: str) -> str:
    if form == "null":
        raise NotCanonical("before or after is null as JSON, where its column would be empty")
    return form


def written(value: Any) -> str:
    """A value as RFC 8785 writes it. Beyond it: whole numbers of any size are written with all their digits."""
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        members = [f"{start}{written(value[name])}" for name, start in _in_order(tuple(value))]
        return "{" + ",".join(members) + "}"
    return "[" + ",".join(map(written, value)) + "]"


@lru_cache(maxsize=256)
def _in_order(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """The names as RFC 8785 sorts them, each with how its member begins: rows of one kind have the same ones."""
    return [(name, f"{quoted(name)}:") for name in sorted(names, key=_utf16)]


def in_utf8(text: str) -> bytes:
    """As UTF-8. Half of a surrogate pair, which no text of ours holds, is escaped as JSON.stringify does."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode()


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotCanonical("before or after names something twice")
    return members


_read_simple = json.JSONDecoder(
    object_pairs_hook=_once, parse_float=_intricate, parse_constant=_intricate
).decode
_read_own = json.JSONDecoder(parse_float=_intricate, parse_constant=_intricate).raw_decode
# What json.JSONEncoder makes anew for each value: without a look for cycles, what makes JSON of other objects, and
# indents; escapes, what stands behind a name and a value, names sorted, names of other types left out, NaN.
_write_simple = c_make_encoder(None, None, quoted, None, ":", ",", True, False, True)
# As json.dumps writes it, and so Django.
_write_own = c_make_encoder(None, None, encode_basestring_ascii, None, ": ", ", ", False, False, True)


def _number(value: float) -> str:
    """ECMA-262, Number::toString: the shortest digits that are this number, and where the point goes."""
    if value != value or value in (float("inf"), float("-inf")):
        raise NotCanonical("before or after holds a number that JSON has no form for")
    if value == 0:
        return "0"
    sign, mantissa = ("-", repr(-value)) if value < 0 else ("", repr(value))
    mantissa, _, exponent = mantissa.partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{'+' if point > 0 else '-'}{abs(point - 1)}"
