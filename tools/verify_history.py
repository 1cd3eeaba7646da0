#!/usr/bin/env python3
"""Checks a history of dpsportal without dpsportal: an export, or a copy of the SQLite database.

usage: verify_history.py FILE --key KEY [--checkpoint FILE]... [--against FILE] [--indexes] [--json]

Needs Python 3.11 and the package `cryptography`, nothing else. It shares no code with the service: it was written
from docs/history.md, so that a mistake there is not made twice. Exit code 0: every row is what was sealed, and what
was signed. 1: it is not; the first row that is wrong is named; or a copy of the database is not guarded as it was made
to be, by its triggers and indexes. 2: called wrongly, or not checked: a file holds nothing
that was sealed; or a checkpoint was signed with a key that was not given, and nothing is wrong in the rest.

    row hash   SHA-256 of the row as JSON in the form of RFC 8785
    seal hash  SHA-256 of four lines: form, index, seal hash before (64 zeros before #1), row hash
    checkpoint a signed note (C2SP signed-note): origin, number of rows, base64 of the last seal hash

An excerpt (an export of what a filter found) has gaps, so its rows cannot vouch for each other: it is checked against
a whole export or a copy of the database, given with --against, which is checked first.

How to read this file: `Chain.follow` is the check, row after row; `Export.rows` and `Database.rows` are where rows come
from; the rest says what stands around them. "Several processes" only makes it quicker.
"""

import argparse
import base64
import itertools
import json
import os
import re
import signal
import sqlite3
import struct
import subprocess
import sys
from collections import deque
from contextlib import closing, suppress
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue

FORM = "dpsportal-history/1"
# fmt: off
COLUMNS = [
    "actor_kind", "actor_name", "address", "after", "at", "before", "client", "event", "id", "reason", "request_id",
    "service_id", "service_name", "subject_id", "subject_kind", "subject_name", "way",
]
# fmt: on
AT, ID = COLUMNS.index("at"), COLUMNS.index("id")
HIDDEN = re.compile(b'{"row_hash":"([0-9a-f]{64})"')
# The end of a line of an export, as nearly all have it; others are read as JSON.
SEAL = re.compile(
    b',"seal":{"hash":"([0-9a-f]{64})","index":([1-9][0-9]{0,17}),"previous":"([0-9a-f]{64})"}}\n'
)
MOMENT = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(?!000000)(\d{6}))?", re.ASCII)
MOMENTS = re.compile(r"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.(?!000000)\d{6})?\n)*+", re.ASCII)
LONG = timedelta(hours=1)
LAST_MOMENT = "9999-12-31T23:59:59.999999Z"
# The last ID that a row can have.
LAST = 10**18 - 1


class Wrong(Exception):
    """The history is not what was sealed. One sentence says where and how."""

    def __init__(self, what, index=None, event_id=None):
        # SQLite takes anything for an ID, and not all of it can be named.
        event_id = event_id if type(event_id) is int else None
        place = f"#{index} " if index is not None else ""
        place += f"row {event_id} " if event_id is not None else ""
        super().__init__(f"{place.strip()}: {what}" if place else what)
        self.what, self.index, self.event_id = what, index, event_id


class UnknownSigner(Exception):
    """A checkpoint whose signature cannot be checked: none of the keys that were given made it."""


# --- RFC 8785 ------------------------------------------------------------------------------------------------------

# What json itself escapes strings with: control characters, quotation marks, backslashes, and no others.
text = json.encoder.encode_basestring


def canonical(value):
    """JSON in one form: members in the order of their UTF-16, no spaces, numbers as ECMAScript writes them."""
    if isinstance(value, str):
        return text(value)
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list):
        return "[" + ",".join([canonical(one) for one in value]) + "]"
    names = sorted(value) if all(name.isascii() for name in value) else sorted(value, key=utf16)
    return "{" + ",".join([text(name) + ":" + canonical(value[name]) for name in names]) + "}"


def utf16(name):
    return name.encode("utf-16-be", "surrogatepass")


def number(value):
    """ECMA-262, 6.1.6.1.20: k digits, the point after the n-th of them."""
    if value == 0:
        return "0"
    if value < 0:
        return "-" + number(-value)
    if value in (float("inf"),) or value != value:
        raise ValueError("no number")
    mantissa, exponent = f"{value!r}e0".split("e")[:2]
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    n = len(digits) - len(fraction) + int(exponent)
    digits = digits.rstrip("0")
    k = len(digits)
    if k <= n <= 21:
        return digits + "0" * (n - k)
    if 0 < n <= 21:
        return digits[:n] + "." + digits[n:]
    if -6 < n <= 0:
        return "0." + "0" * -n + digits
    sign = "+" if n > 0 else "-"
    return digits[0] + ("." + digits[1:] if k > 1 else "") + "e" + sign + str(abs(n - 1))


def stand_for_themselves(texts):
    """Whether nothing in any of these has to be escaped: written in one go, they grow by no more than the quotes."""
    try:
        all_of_them = "".join(texts)
    except TypeError:
        return False
    return len(text(all_of_them)) == len(all_of_them) + 2


def utf8(string):
    """Half a surrogate pair has no UTF-8: it stays escaped."""
    try:
        return string.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", string).encode()


def row_hash(form):
    return sha256(form).hexdigest()


def seal_hash(index, previous, row):
    return sha256(f"{FORM}\n{index}\n{previous}\n{row}\n".encode()).hexdigest()


def without_twins(pairs):
    """A name that stands twice means one thing to one reader and another to the next."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


read_json = json.JSONDecoder(object_pairs_hook=without_twins).decode


class Intricate(Exception):
    """What only the long way gets right."""


def intricate(_):
    raise Intricate


def encoder(escaped, separators, in_order):
    """As json.JSONEncoder, which makes its encoder in C anew for each value: that takes longer than writing does."""
    try:
        encode = json.encoder.c_make_encoder(None, None, escaped, None, *separators, in_order, False, False)
    except TypeError:  # a Python without it, or with another one
        ascii_alone = escaped is not text
        options = {"ensure_ascii": ascii_alone, "sort_keys": in_order, "separators": separators[::-1]}
        return json.JSONEncoder(allow_nan=False, **options).encode
    return lambda value: "".join(encode(value, 0))


read_simple_json = json.JSONDecoder(parse_float=intricate, parse_constant=intricate).raw_decode
# Without fractions and with names of ASCII alone, this is what `canonical` makes, several times as fast.
simple_json = encoder(text, (":", ","), True)
# How the service writes it into a column of SQLite. Another text that means the same has the same hash, and whoever
# looks into the text does not find it.
as_stored = encoder(json.encoder.encode_basestring_ascii, (": ", ", "), False)


@lru_cache(maxsize=4096)
def state(stored):
    """before and after: JSON as text in the database, or no value at all."""
    if stored is None:
        return "null"
    try:
        if "\\u" in stored:
            raise Intricate
        value, _ = read_simple_json(stored)
        # A name that stands twice would be lost by this, what stands behind the value, and what is not ASCII.
        if as_stored(value) != stored:
            raise Intricate
        form = simple_json(value)
    except (Intricate, json.JSONDecodeError):
        value = read_json(stored)
        form = canonical(value)
        if as_stored(value) != stored:
            raise ValueError("before or after is written in another way than the service writes it") from None
    if form == "null":
        raise ValueError("before or after is null as JSON")
    return form


# --- Signed notes --------------------------------------------------------------------------------------------------


class Key:
    """A verifier key: name+hash+base64 of 0x01 and the 32 bytes of an Ed25519 public key."""

    def __init__(self, written):
        self.name, hash, encoded = written.strip().split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
        self.id = sha256(self.name.encode() + b"\n" + raw).digest()[:4]
        if raw[:1] != b"\x01" or len(raw) != 33 or self.id.hex() != hash:
            raise ValueError("no verifier key")
        self.raw = raw[1:]

    def has_signed(self, message, signature):
        # Only here, since processes at work can do without and begin in two thirds of the time.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def shown(written, most=200):
    """What anybody may have written: cut short, and without what would move the cursor of a terminal."""
    characters = "".join(one if one.isprintable() else "\ufffd" for one in written[:most])
    return characters if len(written) <= most else f"{characters}…"


def opened(note, keys):
    """Size, head and time of a note that one of the keys has signed, of the history that is named like that key."""
    if not isinstance(note, str):
        raise Wrong("a checkpoint is no text")
    message, _, signatures = note.partition("\n\n")
    message += "\n"
    origin = message.partition("\n")[0]
    signers = []
    for line in signatures.strip("\n").split("\n"):
        found = re.fullmatch("— ([^ +]+) ([A-Za-z0-9+/=]+)", line)
        if not found:
            raise Wrong("a checkpoint has no signature that can be read")
        try:
            raw, signed = base64.b64decode(found[2], validate=True), message.encode()
        except ValueError:
            raise Wrong("a checkpoint cannot be read") from None
        signers.append(found[1])
        of_this_name = [key for key in keys if key.name == found[1]]
        for key in of_this_name:
            if key.id != raw[:4]:
                continue
            if not key.has_signed(signed, raw[4:]):
                raise Wrong(f"a checkpoint's signature does not fit it: {key.name} did not sign this")
            if origin == key.name:
                return said(message)
            break
        else:
            if of_this_name:
                raise Wrong(f"a checkpoint names {found[1]} as its signer, and was signed with another key")
    known = {key.name for key in keys}.intersection(signers)
    if known:
        raise Wrong(f"a checkpoint that {min(known)} signed is of another history, {shown(origin)}")
    raise UnknownSigner(", ".join(signers))


def said(message):
    lines = message.split("\n")
    if (
        len(lines) != 6
        or lines[3] != f"form {FORM}"
        or not lines[4].startswith("time ")
        or not re.fullmatch("[0-9]{1,18}", lines[1])
    ):
        raise Wrong("a checkpoint is of another form")
    try:
        head = base64.b64decode(lines[2], validate=True).hex()
    except ValueError:
        raise Wrong("a checkpoint is of another form") from None
    return int(lines[1]), head, lines[4].removeprefix("time ")


def notes_of(path):
    """The notes of a file: one, or many, one after the other. Nothing in it is passed over."""
    written = path.read_text(encoding="utf-8") + "\n"
    note = r"(?:[^\n]+\n)+\n(?:— [^\n]+\n)+"
    notes = re.findall(note, written)
    if not notes:
        raise Wrong(f"{path} holds no checkpoint")
    if rest := re.sub(note, "", written).strip():
        raise Wrong(f"{path} holds something that is no checkpoint: {rest[:60]!r}")
    return notes


def checked(note, where, keys, unchecked):
    """What a note says, or None where nobody can tell; `unchecked` then has the sentence."""
    try:
        return opened(note, keys)
    except UnknownSigner as signers:
        sentence = (
            f"{where} was signed by {shown(str(signers))}, and no such key was given. Give its verifier key with "
            "--key; without it this checkpoint proves nothing."
        )
        if sentence not in unchecked:
            unchecked.append(sentence)
        return None


# --- What cannot be checked ----------------------------------------------------------------------------------------

CSV = (b"when (UTC),who,", b"\xef\xbb\xbfwhen (UTC),who,")
# Each row of an export has the one, its end the other. CSV doubles the quotation marks, XLSX and ZIP compress them.
OF_EXPORT = re.compile(rb'"(?:seal|checkpoint)"\s*:')


def holds_export(path):
    """Whatever does is checked as one: no line that was changed, and nothing around it, makes it another thing."""
    with path.open("rb") as file:
        return any(OF_EXPORT.search(line) for line in iter(lambda: file.readline(1024 * 1024), b""))


def other_form(path):
    """What a file is that comes from the history and does not hold what was sealed; None for what is to be checked."""
    with path.open("rb") as file:
        begin = file.read(20)
    is_csv, is_zip = begin.startswith(CSV), begin.startswith(b"PK\x03\x04")
    if not (is_csv or is_zip) or holds_export(path):
        return None
    if is_csv:
        return "CSV"
    import zipfile  # what few need

    try:
        with zipfile.ZipFile(path) as archive:
            return "a sheet of Excel" if "xl/workbook.xml" in archive.namelist() else "a ZIP"
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error):
        return None


def is_database(path):
    """One that can be read and has a history, whatever is in it, or a damaged one without rows of an export."""
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            return False
    query = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'enrollments_historyevent'"
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as database:
            has_history = database.execute(query).fetchone() != (0,)
    except sqlite3.Error:
        has_history = False
    return has_history or not holds_export(path)


# --- Where rows come from ------------------------------------------------------------------------------------------
# Each gives (index, previous, hash, row hash or None, event ID or None, what is wrong with the row), place by place.
# Of a long history it also says in which portions it can be read: one follows the other, and the last has no end.


class Export:
    """JSON Lines: {"event": …, "seal": …}; for rows of others {"row_hash": …, "seal": …}; last {"checkpoint": …}."""

    def __init__(self, path):
        self.path = path
        self.forget()

    def forget(self):
        self.notes, self.hidden, self.read, self.event = [], 0, 0, b"{}"

    def portions(self):
        """Where lines begin, by bytes."""
        begin, size = 0, self.path.stat().st_size
        if size >= LEAST_BYTES:
            with self.path.open("rb") as file:
                while begin + PORTION_BYTES < size:
                    file.seek(begin + PORTION_BYTES - 1)
                    file.readline()
                    yield begin, file.tell()
                    begin = file.tell()
        yield begin, None

    def rows(self, begin=0, end=None):
        with self.path.open("rb") as file:
            file.seek(begin)
            yield from self.of_lines(file if end is None else lines_of(file, end - begin))

    def of_lines(self, lines):
        for line in lines:
            self.read += 1
            try:
                if self.notes or not line.endswith(b"}\n"):
                    raise ValueError
                if line.startswith(b'{"checkpoint":'):
                    self.ended(line)
                    continue
                # A line is in canonical form as a whole: what was sealed are these very bytes.
                end = line.rindex(b',"seal":')
                if found := SEAL.fullmatch(line, end):
                    hash, index, previous = found[1].decode(), int(found[2]), found[3].decode()
                else:
                    index, previous, hash = self.seal(line[end + 8 : -2])
                if line.startswith(b'{"event":'):
                    self.event = line[9:end]
                    row = row_hash(self.event)
                else:
                    self.event = b"{}"
                    self.hidden += 1
                    row = HIDDEN.fullmatch(line, 0, end)[1].decode()
                yield index, previous, hash, row, None, ""
            except (ValueError, KeyError, TypeError, RecursionError):
                raise Wrong(f"line {self.read} is no line of an export, or comes after its end") from None

    @staticmethod
    def seal(written):
        seal = read_json(written.decode())
        if canonical(seal).encode() != written:
            raise ValueError
        return seal["index"], seal["previous"], seal["hash"]

    def ended(self, line):
        self.notes.append(read_json(line.decode())["checkpoint"])

    def event_id(self):
        """Of the row read last."""
        try:
            return read_json(self.event.decode()).get("id")
        except (ValueError, AttributeError, RecursionError):
            return None

    def found(self):
        """What is to be known of lines that another process read; None where this one has to look at them."""
        return None if self.notes else {"hidden": self.hidden}

    def take(self, found, rows):
        """Whether they may come here, and then as if they had been read here."""
        if self.notes:
            return False
        self.hidden += found["hidden"]
        self.read += rows
        return True

    def others(self):
        return {}

    def left_over(self):
        if not self.notes:
            raise Wrong("the export was cut off: it ends without a checkpoint")

    def waiting(self):
        return 0


def lines_of(file, size):
    while size > 0 and (line := file.readline()):
        size -= len(line)
        yield line


class Excerpt(Export):
    """As an export, with gaps and in any order: first {"excerpt": …}, last {"checkpoint": …, "rows": …}."""

    def __init__(self, path):
        super().__init__(path)
        self.count = None

    @staticmethod
    def is_one(path):
        with path.open("rb") as file:
            return file.read(12) == b'{"excerpt":{'

    def rows(self):
        with self.path.open("rb") as lines:
            next(lines)
            self.read = 1
            yield from self.of_lines(lines)

    def ended(self, line):
        last = read_json(line.decode())
        self.notes.append(last["checkpoint"])
        self.count = last["rows"]


def is_late(at, latest):
    """A day that no calendar has is out of order as well; whether it was sealed so, is found out by the hash."""
    try:
        return datetime.fromisoformat(latest) - datetime.fromisoformat(at) > LONG
    except ValueError:
        return True


class Database:
    """The tables of dpsportal in a copy of its SQLite file."""

    def __init__(self, path, by_row=False):
        """by_row: hold the indexes against the tables row by row, which takes as long again."""
        self.path, self.by_row, self.hidden = path, by_row, 0
        self.connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        self.forget()

    def forget(self):
        self.read, self.late, self.latest, self.earliest = 0, [], "", LAST_MOMENT

    def checkpoints(self):
        query = "SELECT id, note, size, head, at FROM enrollments_historycheckpoint ORDER BY size, id"
        return self.connection.execute(query).fetchall()

    def portions(self):
        """Behind which place, and up to which one. Where the first is not #1, all is read in one."""
        count, begin = self.seals(), None
        if count >= LEAST_ROWS:
            ((first,),) = self.fetched('SELECT "index" FROM enrollments_historyseal ORDER BY "index" LIMIT 1')
            if type(first) is int and first == 1:
                yield from ((some, min(some + PORTION_ROWS, count)) for some in range(0, count, PORTION_ROWS))
                begin = count
        yield begin, None

    def columns(self):
        there = {
            name for _, name, *_ in self.connection.execute("PRAGMA table_info(enrollments_historyevent)")
        }
        # A copy from before the client was kept: a row without one has no such member.
        return ", ".join(f'e."{name}"' if name in there or name != "client" else "''" for name in COLUMNS)

    def sealed(self, begin, end):
        """Seals and their rows, some at a time."""
        query = (
            f'SELECT s."index", s.previous_hash, s.hash, s.event_id, {self.columns()} FROM enrollments_historyseal s '  # noqa: S608
            'LEFT JOIN enrollments_historyevent e ON e.id = s.event_id WHERE {} ORDER BY s."index" LIMIT 1001'
        )
        # Places begin at 1; somebody might hide a row below, or between two chunks, or behind one in the same place.
        more = True
        while more:
            bounds = {'s."index" > ?': begin, 's."index" <= ?': end}
            given = {condition: bound for condition, bound in bounds.items() if bound is not None}
            chunk = self.fetched(query.format(" AND ".join(given) or "1"), *given.values())
            more = len(chunk) > 1000
            if more and chunk[-1][0] != chunk[-2][0]:
                chunk.pop()
            yield chunk
            self.read += len(chunk)
            begin = chunk[-1][0] if more else None

    def fetched(self, query, *given):
        try:
            return self.connection.execute(query, given).fetchall()
        except sqlite3.OperationalError:
            # Bytes that are no text: they become something that no row was sealed with.
            self.connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            try:
                return self.connection.execute(query, given).fetchall()
            finally:
                self.connection.text_factory = str

    def rows(self, begin=None, end=None):
        for chunk in self.sealed(begin, end):
            moments = self.moments([row[4 + AT] for row in chunk])
            for (index, previous, hash, event_id, *row), at in zip(chunk, moments, strict=True):
                if row[ID] is None:
                    yield index, previous, hash, None, event_id, "it is gone"
                    continue
                try:
                    if row[ID] != event_id:
                        raise ValueError("its seal names another ID")
                    at = at or self.moment(row[AT])
                    form = self.form(row, at)
                except (ValueError, TypeError, RecursionError) as problem:
                    yield index, previous, hash, None, event_id, f"it is no row: {problem}"
                    continue
                if at >= self.latest:
                    self.latest = at
                elif is_late(at, self.latest):
                    self.late.append(f"#{index} (row {event_id})")
                if at < self.earliest:
                    self.earliest = at
                yield index, previous, hash, row_hash(form), event_id, ""

    @staticmethod
    def form(row, at):
        """The row as it was sealed. Text where none belongs raises TypeError, numbers where none belong ValueError."""
        # fmt: off
        (
            kind, name, address, after, _, before, client, event, id, reason, request, service, of, subject,
            subject_kind, subject_name, way,
        ) = row
        if type(id) is not int or not (service is None or type(service) is int):
            raise ValueError("it holds something that is no number where a number belongs")
        texts = kind, name, address, client, event, request, of, subject, subject_kind, subject_name, way
        if not stand_for_themselves(texts):
            texts = [text(one)[1:-1] for one in texts]
            kind, name, address, client, event, request, of, subject, subject_kind, subject_name, way = texts
        # fmt: on
        of_client = f'"client":"{client}",' if client else ""
        # Written out, since this is most of the work: the members in the order of their names.
        return utf8(
            f'{{"actor_kind":"{kind}","actor_name":"{name}","address":"{address}",'
            f'"after":{state(after)},"at":"{at}","before":{state(before)},'
            f'{of_client}"event":"{event}","id":{id},'
            f'"reason":{text(reason)},"request_id":"{request}",'
            f'"service_id":{"null" if service is None else service},"service_name":"{of}",'
            f'"subject_id":"{subject}","subject_kind":"{subject_kind}","subject_name":"{subject_name}",'
            f'"way":"{way}"}}'
        )

    def found(self):
        """What is to be known of rows that another process read; None where this one has to look at them."""
        return None if self.late else {"earliest": self.earliest, "latest": self.latest}

    def take(self, found, rows):
        """Whether they may come here, and then as if they had been read here."""
        if found["earliest"] < self.latest and is_late(found["earliest"], self.latest):
            return False
        self.latest = max(self.latest, found["latest"])
        self.read += rows
        return True

    def others(self):
        """What is looked at beside the rows, which does not wait for them."""
        guards = Guards(self.connection)
        by_row = {"compare_indexes": guards.compare_indexes} if self.by_row else {}
        return {"left_over": self.left_over, **by_row, "count_by_indexes": guards.count_by_indexes}

    def event_id(self):
        return None

    @staticmethod
    def moment(at):
        found = MOMENT.fullmatch(at)
        if not found:
            raise ValueError("its time is of another form")
        day, time, decimals = found.groups("000000")
        return f"{day}T{time}.{decimals}Z"

    def moments(self, texts):
        """Of many, sooner than one after the other; of none of them where one has none."""
        try:
            together = "\n".join([*texts, ""])
        except TypeError:
            return [None] * len(texts)
        found = together.replace(" ", "T").split("\n")[:-1]
        if len(found) != len(texts) or not MOMENTS.fullmatch(together):
            return [None] * len(texts)
        return [f"{one}Z" if "." in one else f"{one}.000000Z" for one in found]

    def second(self, at):
        """As a note has it; None where a column holds something else."""
        try:
            return self.moment(at).replace(".000000Z", "Z")
        except (ValueError, TypeError):
            return None

    def left_over(self):
        """Rows without a seal: those that wait for one are on a list, others came in some other way."""
        has_seal = "EXISTS (SELECT 1 FROM enrollments_historyseal s WHERE s.event_id = {})"
        is_row = "EXISTS (SELECT 1 FROM enrollments_historyevent e WHERE e.id = w.event_id)"
        is_listed = "EXISTS (SELECT 1 FROM enrollments_unsealedevent w WHERE w.event_id = e.id)"
        listed = "SELECT MIN(w.event_id) FROM enrollments_unsealedevent w WHERE "
        of_rows = "SELECT MIN(e.id) FROM enrollments_historyevent e WHERE "
        self.in_place()
        if (found := self.first(f"{listed} NOT {is_row}")) is not None:
            raise Wrong("it is gone, and had no seal yet", None, found)
        if (found := self.first(listed + has_seal.format("w.event_id"))) is not None:
            raise Wrong("it is on the list of rows that wait for their seal, and has it", None, found)
        several = (
            "SELECT MIN(t.event_id) FROM (SELECT w.event_id FROM enrollments_unsealedevent w "
            "JOIN enrollments_historyevent e ON e.id = w.event_id GROUP BY w.event_id HAVING COUNT(*) > 1) t"
        )
        if (found := self.first(several)) is not None:
            raise Wrong(
                "it waits for its seal more than once, or there are several rows of this ID", None, found
            )
        if (found := self.first(f"{of_rows} NOT {has_seal.format('e.id')} AND NOT {is_listed}")) is not None:
            raise Wrong(
                "it has no seal and is not among the rows that wait for one: it was put in from outside, or taken off "
                "their list",
                None,
                found,
            )
        twice = self.fetched(
            "SELECT event_id FROM enrollments_historyseal "
            "GROUP BY event_id HAVING COUNT(*) > 1 ORDER BY event_id LIMIT 1"
        )
        for (event_id,) in twice:
            places = 'SELECT MIN("index"), MAX("index") FROM enrollments_historyseal WHERE event_id = ?'
            ((first, second),) = self.fetched(places, event_id)
            raise Wrong(f"it stands at #{first} already, and has a second seal here", second, event_id)
        self.readable()

    def in_place(self):
        """No seal but those that were read, and no ID but those that a row can have."""
        seals = self.seals()
        if seals != self.read:
            raise Wrong(f"{seals} seals for {self.read} places: put in from outside, or taken away")
        bounds = ("{} IS NULL", "{} < 1", f"{{}} > {LAST}")
        for table, column, wrong, what in (
            (
                "enrollments_historyevent",
                "id",
                bounds,  # a fraction has no seal, or is seen by it
                "it was put in from outside: no row of the history can have its ID",
            ),
            (
                "enrollments_unsealedevent",
                "event_id",
                (*bounds, "typeof({}) <> 'integer'"),
                "something that is no row's ID is on the list of rows that wait for their seal",
            ),
        ):
            # Each by itself is one look into an index.
            for condition in wrong:
                condition = condition.format(column)
                query = f"SELECT {column} FROM {table} WHERE {condition} ORDER BY {column} LIMIT 1"  # noqa: S608
                for (found,) in self.fetched(query):
                    raise Wrong(what, None, found)

    def seals(self):
        return self.first("SELECT COUNT(*) FROM enrollments_historyseal")

    def first(self, query):
        ((found,),) = self.fetched(query)
        return found

    def readable(self):
        """The rows that wait: what could never be sealed was put in from outside."""
        last = 0
        query = (
            f"SELECT {self.columns()} FROM enrollments_unsealedevent w JOIN enrollments_historyevent e "  # noqa: S608
            "ON e.id = w.event_id WHERE w.event_id > ? ORDER BY w.event_id LIMIT 1000"
        )
        while chunk := self.fetched(query, last):
            for row in chunk:
                try:
                    self.form(row, self.moment(row[AT]))
                except (ValueError, TypeError, RecursionError) as problem:
                    raise Wrong(
                        f"it waits for a seal and cannot have one: {problem}", None, row[ID]
                    ) from None
            last = chunk[-1][ID]

    def waiting(self):
        ((count,),) = self.connection.execute("SELECT COUNT(*) FROM enrollments_unsealedevent").fetchall()
        return count


# --- What stands around the rows -----------------------------------------------------------------------------------
# Triggers keep rows as they are, and the service reads rows by indexes. Neither is sealed. Of each the SHA-256 of its
# SQL as SQLite keeps it; of triggers by the migration that made them, since older copies have fewer.

GUARDS = {
    "0002_history_is_final": {
        "history_no_update": "656f8ae16cbfa2d357462b02fd1a41f9b335c3fd8c51aa8ed5e19c8050d11435",
        "history_no_delete": "d16f37853006d2c3d638b021935c5cb40d5c357e34fe8009a31b74cbcdcf5bd7",
    },
    "0010_history_seals": {
        "history_awaits_seal": "4f0639eb72ef5ba1f56900d644e98ed3dc903476e43c11fff3cefc5c38a5a652",
        "history_seals_no_update": "65f17f7fd25c46d79681a30dc953341a2f61f5019bb013d1c287f17204e28c83",
        "history_seals_no_delete": "0fc2c8df41e174cafc0349c5660219b7009a99bb40f2a272e8acdaaf78960302",
        "history_checkpoints_no_update": "e90df18e66c2425849818c5930a9adf2232701d4ce09c73474b11a6d4e25e8aa",
        "history_checkpoints_no_delete": "c8935030dfc882e7b6d2976250883504fd2d61cc0368dc082784ce6db9e41288",
        "history_events_no_replace": "dd3323eefe1f81a40c224c7c89682524b90d9f18652fd87f941f6b4168b7f8a5",
        "history_seals_no_replace": "d888eb0e8ccf7b08bbe79a28b858357a15f2140c8c76ab4ff130bc9edf96d0ae",
        "history_checkpoints_no_replace": "a0e1ddebe3a164d0a58cf24592e9eabb9985a837eea9428d90a7c84aa910931c",
    },
    "0030_history_takes_what_belongs": {
        "history_events_typed": "acdcab7f5b6fdb086c33034986edd5e5eb3523004031dc357f26d7e8aa847bc4",
        "history_seals_next": "d60581cc51de61728d555b48108ff3f8cc63212fda354e6e364e533f8cbde576",
        "history_checkpoints_typed": "b5eb8c4d521601bb9234ab1c71d57f900db132026d70881029ddd4e45e9869dc",
        "history_waiting_begins": "67733733239cf1040aaa58833f7730fb8acbd3c12d90e1f1f8bae221ed7ac6d2",
        "history_waiting_no_update": "a42e6e04cb999e3b612d986aac0fccca34ab66c2df43f6218cb1731e7c4db24f",
        "history_waiting_ends": "4dd3ec8cc6aab8cbfc9be8dbc650283564b060ad2f81770942b5c36050fea49a",
    },
}
INDEXES = {
    "history_by_time": "bc11b4ac8b552d3738839426f6572f7132117bed1c9a99270c394b840abd8ca7",
    "history_by_time_with_texts": "bac8660d919fc6de797de70741c1f08feec452de269649937c2b40479dc76bf9",
    "history_by_event": "6fd02f14019b657298b4401625d5ba5d4d63cb2f969d1b2253b9ae633a69cb8f",
    "history_by_way": "a134bb62fcb04c05e7b4b6ad4462eef8bc331beefdae44fe074b6bebc81badac",
    "history_by_actor": "4bf599a2fc84d97eed80471e0ea3b5164b973c296a3091174c45c6d1909ed3ea",
    "history_by_kind": "a9c7b104f4e9909ffdc106116802baf57216686652a9c9611c276aa3efff8934",
    "history_by_name": "f2ac6090f256aef5824b7f0a6cfb5ec14d73e56f8b5fecaf894a6f717916bc50",
    "history_by_moment": "bc64d10eae7f89600858f92b7b26db0556a414ce17ae9e98d1c8168ce809c8f4",
    "history_shut_out_by_change": "2ca52c8416ef7a9a3aa4230c0a6e02a972c07e54bd8a4efbb6987e4dd8147b99",
    "history_checkpoint_by_size": "a85007be3c11b474a7a30515eccc4819276e4afe9c06077e3b9ebc317fa324e3",
}
TABLES = [
    "enrollments_historyevent",
    "enrollments_historyseal",
    "enrollments_historycheckpoint",
    "enrollments_unsealedevent",
]
BY_INDEX = (
    "the service reads by indexes, so its pages, filters and exports may lack rows that are here and sealed"
)


class Guards:
    """The triggers and indexes of a copy of the SQLite file."""

    def __init__(self, connection):
        self.connection = connection

    def there(self, kind, table):
        """Name, SQL and its hash; no SQL where SQLite made it itself."""
        query = "SELECT name, COALESCE(sql, '') FROM sqlite_master WHERE type = ? AND lower(tbl_name) = ? ORDER BY name"
        rows = self.connection.execute(query, [kind, table]).fetchall()
        return [(name, sql, row_hash(sql.encode())) for name, sql in rows]

    def not_as_made(self):
        """Sentences. None of them proves that a row was changed."""
        applied = self.connection.execute(
            "SELECT name FROM django_migrations WHERE app = 'enrollments'"
        ).fetchall()
        ours = {}
        for (migration,) in applied:
            ours |= GUARDS.get(migration, {})
        said = []
        for table in TABLES:
            for name, _, hash in self.there("trigger", table):
                if name not in ours:
                    said.append(f"The trigger {shown(name, 63)} of {table} does not belong there.")
                elif ours.pop(name) != hash:
                    said.append(f"The trigger {name} of {table} is not as it belongs there.")
            for name, sql, hash in self.there("index", table):
                if INDEXES.get(name, hash) != hash:
                    said.append(f"The index {name} of {table} is not as it belongs there.")
                elif name not in INDEXES and " where " in sql.lower():
                    said.append(
                        f"The index {shown(name, 63)} of {table}, of some rows only, does not belong there."
                    )
        said += [f"The trigger {name} is missing." for name in ours]
        return said[:20]

    def count_by_indexes(self):
        """Whether each index has the rows that its table has, by their number and a sum of their IDs."""
        for table in TABLES:
            of_table = self.counted(table, "NOT INDEXED")
            for name, sql, hash in self.there("index", table):
                if name in INDEXES and INDEXES[name] != hash:
                    continue
                _, where, condition = sql.partition(" WHERE ")
                if where and name not in INDEXES:
                    continue
                quoted = name.replace('"', '""')
                by_index = self.counted(table, f'INDEXED BY "{quoted}" {where}{condition}')
                by_table = self.counted(table, f"NOT INDEXED {where}{condition}") if where else of_table
                if by_index != by_table:
                    raise Wrong(
                        f"the index {shown(name, 63)} does not hold the rows that its table holds: {BY_INDEX}; "
                        "--indexes looks for the row"
                    )

    def counted(self, table, way):
        # COUNT(*) alone would be taken from whichever index is the smallest.
        query = f"SELECT COUNT(*), SUM(rowid % 999983) FROM {table} {way}"  # noqa: S608
        return self.connection.execute(query).fetchone()

    def compare_indexes(self):
        """Each row looked up in each index, by SQLite itself."""
        for table in TABLES:
            ((said,), *_) = self.connection.execute(f"PRAGMA integrity_check('{table}')").fetchall()
            if said != "ok":
                found = re.fullmatch(r"row (\d+) missing from index .*", said)
                row = self.nth(int(found[1])) if found and table == TABLES[0] else None
                raise Wrong(
                    f"the table {table} and its indexes disagree ({shown(said)}): {BY_INDEX}", None, row
                )

    def nth(self, number):
        """The ID of the row that SQLite counts as this one."""
        query = "SELECT id FROM enrollments_historyevent NOT INDEXED ORDER BY id LIMIT 1 OFFSET ?"
        found = self.connection.execute(query, [number - 1]).fetchone()
        return found and found[0]


# --- The check -----------------------------------------------------------------------------------------------------


def verify_excerpt(excerpt, whole, keys, kept):
    """Check each row's own seal, then the whole history, and there that it has these very seals.

    Of a row with a seal that fits it, nobody could have changed anything without another hash at that place.
    """
    seals = {}
    for index, previous, hash, row, _, _ in excerpt.rows():
        if seal_hash(index, previous, row) != hash:
            raise Wrong("it is not the row that was sealed", index, excerpt.event_id())
        if index in seals:
            raise Wrong("it is there twice", index, excerpt.event_id())
        seals[index] = hash
    if not excerpt.notes:
        raise Wrong("the excerpt was cut off: it ends without a checkpoint")
    unchecked = []
    end = checked(excerpt.notes[0], "the checkpoint of the excerpt", keys, unchecked)
    if excerpt.count != len(seals):
        raise Wrong(f"the excerpt says that it has {excerpt.count} rows, and {len(seals)} are here")
    if end and max(seals, default=0) > end[0]:
        raise Wrong("it is not covered by the checkpoint of the excerpt", max(seals))
    rows = len(seals)
    own = [(excerpt.notes[0], "")] if end else []
    report = verify(whole, keys, [*kept, *own], seals)
    if seals:
        raise Wrong(f"the history that it was checked against ends at #{report['rows']}", min(seals))
    unchecked += report["not_checked"]
    of_excerpt = {"excerpt_rows": rows, "excerpt_rows_by_hash_only": excerpt.hidden}
    return {**report, **of_excerpt, "not_checked": unchecked}


class Chain:
    """What was followed of a history. signed: (head, time) by place. seals: hashes of an excerpt by place."""

    def __init__(self, signed, seals):
        self.signed, self.seals, self.places = signed, seals, {*signed, *seals}
        self.length, self.last, self.agreed = 0, "0" * 64, 0

    def follow(self, source, rows):
        """Row after row. Raises Wrong at the first one that does not fit."""
        length, last, places = self.length, self.last, self.places
        for index, previous, hash, row, event_id, problem in rows:
            expected = length + 1
            if type(index) is not int:
                raise Wrong("a seal has a place that no row can have: it was put in from outside", expected)
            if index != expected:
                after = f"after #{length} comes" if length else "the first is"
                what = f"its seal is missing: {after} #{index}"
                if length and index <= length:
                    what = f"#{index} stands in its place"
                raise Wrong(what, expected)
            if previous != last:
                raise Wrong("its seal does not follow the one before", index, event_id)
            if row is None:
                raise Wrong(problem, index, event_id)
            if seal_hash(index, previous, row) != hash:
                raise Wrong("it is not the row that was sealed", index, event_id or source.event_id())
            if index in places:
                self.meet(index, hash, source, event_id)
            length, last = index, hash
        self.length, self.last = length, last

    def meet(self, index, hash, source, event_id=None):
        """A place of which something else is known."""
        if self.seals.pop(index, hash) != hash:
            raise Wrong(
                "the row of the excerpt is not the one that stands here",
                index,
                event_id or source.event_id(),
            )
        for head, at in self.signed.get(index, ()):
            if head != hash:
                raise Wrong(
                    f"the checkpoint of {at} was signed for another row here: something from #{self.agreed + 1} to "
                    f"#{index} was changed and sealed anew",
                    index,
                )
            self.agreed = index

    def joined(self, source, found):
        """Whether a portion that another process followed goes on where this chain ends; it is then part of it."""
        behind, before, length, last, met, more = found
        fits = all(
            self.seals.get(index, hash) == hash
            and all(head == hash for head, _ in self.signed.get(index, ()))
            for index, hash in met
        )
        if not (
            behind == self.length and before == self.last and fits and source.take(more, length - behind)
        ):
            return False
        for index, hash in met:
            self.meet(index, hash, source)
        self.length, self.last = length, last
        return True


# --- Several processes ---------------------------------------------------------------------------------------------
# Of a long history, portions are looked at ahead by processes, which run this file as well. None of them says that
# something is wrong: all it can say is that a portion is in order throughout, from the hash that its first seal
# follows to the hash of its last. Whether the portions before it end with that hash, at that place, and whether what
# was signed has the hashes that it met, is for this process to see. What does not join, what is not in order, and what
# a process has no answer to, since it died or could not be started, this process reads itself, as it does without
# them. So whatever is wrong is named here alone, and a portion that nobody vouched for is never passed over.

AT_WORK, THIS_FILE = "--at-work", globals().get("__file__")
MOST_PROCESSES = 8
LEAST_ROWS, PORTION_ROWS = 20_000, 5_000
LEAST_BYTES, PORTION_BYTES = 16 * 1024 * 1024, 2 * 1024 * 1024


def processors():
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class Helpers:
    """Processes that look at portions of a source ahead of this one."""

    def __init__(self, source, places):
        self.source, self.places = source, places
        self.processes, self.idle, self.threads, self.asked = [], SimpleQueue(), None, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
        if self.threads:
            self.threads.shutdown(cancel_futures=True)
        for process in self.processes:
            with suppress(OSError), process:
                pass

    def portions(self):
        """Each portion, and what a process found of it, one after the other. The last is for this process alone."""
        ahead = deque()
        for begin, end in self.source.portions():
            if end is not None and not self.threads:
                self.start()
            ahead.append((begin, end, self.ask(begin, end) if end is not None else None))
            while ahead and (end is None or len(ahead) > 2 * len(self.processes)):
                begin_of, end_of, answer = ahead.popleft()
                yield begin_of, end_of, answer and answer.result()

    def start(self):
        from concurrent.futures import ThreadPoolExecutor  # here as well only what others can do without

        number = min(processors(), MOST_PROCESSES)
        self.threads = ThreadPoolExecutor(number)
        command = [sys.executable, *(["-I"] if sys.flags.isolated else []), THIS_FILE, AT_WORK]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        about = [isinstance(self.source, Export), str(self.source.path.absolute()), list(self.places)]
        with suppress(OSError):  # without any, this process reads all
            for _ in range(number if number > 1 and THIS_FILE and sys.executable else 0):
                process = subprocess.Popen(command, **pipes, encoding="ascii")
                self.processes.append(process)
                self.idle.put(process)
                print(json.dumps(about), file=process.stdin, flush=True)
        self.asked = {name: self.ask(name) for name in self.source.others()}

    def ask(self, *question):
        """An answer that comes; none where nobody is there to give one."""
        return self.threads.submit(self.said, question) if self.processes else None

    def said(self, question):
        process = self.idle.get()
        try:
            print(json.dumps(question), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())
        except (OSError, ValueError):
            return None  # it died
        finally:
            self.idle.put(process)

    def others(self):
        """Of what is looked at beside the rows: how many there were when it was in order."""
        return {name: answer and answer.result() for name, answer in self.asked.items()}


class Ahead(Chain):
    """A portion by itself, from the hash that its first seal says it follows."""

    def __init__(self, places):
        super().__init__({}, {})
        self.places, self.met = places, []

    def meet(self, index, hash, *_):
        self.met.append((index, hash))


class DatabaseAhead(Database):
    """A day that no calendar has is before and after others at once: rows of such a day are not for processes."""

    @staticmethod
    def moment(at):
        moment = Database.moment(at)
        datetime.fromisoformat(moment)
        return moment

    def moments(self, texts):
        found = super().moments(texts)
        try:
            for one in filter(None, found):
                datetime.fromisoformat(one)
        except ValueError:
            return [None] * len(found)
        return found


def in_order(source, places, begin, end):
    """What Chain.joined takes; None where anything in the portion is not in order."""
    chain, rows = Ahead(places), source.rows(begin, end)
    first = next(rows, (None,))
    if type(first[0]) is not int:
        return None
    behind, before = chain.length, chain.last = first[0] - 1, first[1]
    chain.follow(source, itertools.chain([first], rows))
    more = source.found()
    return more and [behind, before, chain.length, chain.last, chain.met, more]


def in_order_beside(source, name):
    """The number of rows that there are now, if nothing else is wrong."""
    source.read = source.seals()
    source.others()[name]()
    return source.read


def answered(source, places, question):
    source.forget()
    try:
        if len(question) == 1:
            return in_order_beside(source, *question)
        return in_order(source, places, *question)
    except (Wrong, OSError, sqlite3.Error):
        return None


def work():
    """In a process of its own: answers questions, each a line of JSON, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    is_export, path, places = json.loads(sys.stdin.readline())
    source = Export(Path(path)) if is_export else DatabaseAhead(Path(path), by_row=True)
    places = set(places)
    for line in sys.stdin:
        print(json.dumps(answered(source, places, json.loads(line))), flush=True)
    return 0


def verify(source, keys, kept, seals=None):
    """Follow the chain from the first row. Raises Wrong at the first one that does not fit.

    kept: notes, each with the words that say where it is. seals: of an excerpt, by index; each that is found in its
    place is taken out.
    """
    signed, unchecked = {}, []
    for note, where in kept:
        if said_there := checked(note, where, keys, unchecked):
            size, head, at = said_there
            signed.setdefault(size, []).append((head, at))
    if isinstance(source, Database):
        for number, note, *columns in source.checkpoints():
            try:
                said_there = checked(note, "a checkpoint in the database", keys, unchecked)
                if said_there is None:
                    continue
                size, head, at = said_there
                if [size, head, at] != [*columns[:2], source.second(columns[2])]:
                    raise Wrong("its columns say something else than the note")
            except Wrong as problem:
                raise Wrong(
                    f"checkpoint {number} of the database is not what was signed: {problem.what}"
                ) from None
            signed.setdefault(size, []).append((head, at))
    chain = Chain(signed, {} if seals is None else seals)
    with Helpers(source, chain.places) as helpers:
        for begin, end, found in helpers.portions():
            if not (found and chain.joined(source, found)):
                chain.follow(source, source.rows(begin, end))
        beside = helpers.others()
    length, last = chain.length, chain.last
    if isinstance(source, Export) and source.notes:
        end = checked(source.notes[0], "the checkpoint with which the export ends", keys, unchecked)
        if end:
            size, head, at = end
            if size == length and head != last:
                raise Wrong(f"the checkpoint of {at} was signed for another row here", length)
            if size < length:
                raise Wrong("it is not covered by the checkpoint of the export", size + 1)
            signed.setdefault(size, []).append((head, at))
    longest = max(signed, default=0)
    if longest > length:
        at = signed[longest][0][1]
        what = f"the history was cut off: the checkpoint of {at} was signed for {longest} rows"
        if seals is not None:
            what += "; or it was exported before the excerpt was: export it once more"
        raise Wrong(what, length + 1)
    not_as_made = []
    if isinstance(source, Export):
        source.left_over()
    else:
        for name, look in source.others().items():
            if beside.get(name) != source.read:
                look()
        not_as_made = Guards(source.connection).not_as_made()
    return {
        "rows": length,
        "head": last,
        "signed_rows": longest,
        "checkpoints": sum(map(len, signed.values())),
        "not_checked": unchecked,
        "not_as_made": not_as_made,
    }


def whole(path, by_row=False):
    return Database(path, by_row) if is_database(path) else Export(path)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file", type=Path, help="an export, or a copy of the SQLite database")
    parser.add_argument(
        "--key", action="append", required=True, help="a verifier key; can be given several times"
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="checkpoints that were kept",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="for an excerpt: a whole export, or a copy of the SQLite database",
    )
    parser.add_argument(
        "--indexes",
        action="store_true",
        help="of a copy of the SQLite database: hold each index against its table row by row (takes as long again)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser.parse_args()


def main():
    given = arguments()
    try:
        import cryptography  # noqa: F401  # only whether it is there
    except ImportError:
        print("It needs Python's package cryptography: python -m pip install cryptography", file=sys.stderr)
        return 2
    try:
        keys = [Key(written) for written in given.key]
    except ValueError:
        print("That is no verifier key of the form name+hash+key.", file=sys.stderr)
        return 2
    try:
        kept = []
        for path in given.checkpoint:
            kept += [(note, f"a checkpoint in {path}") for note in notes_of(path)]
        for path in filter(None, (given.file, given.against)):
            if path.is_fifo():
                print(
                    f"{path} is a pipe, which can be read only once. Write it to a file, and give that.",
                    file=sys.stderr,
                )
                return 2
            if form := other_form(path):
                print(
                    f"Not checked: {path} is {form}, which does not hold the bytes that were sealed. Give JSON Lines "
                    "instead: the whole history, as the portal's page Proof and manage.py export_history write it, or "
                    "what a filter found, with --against.",
                    file=sys.stderr,
                )
                return 2
        if Excerpt.is_one(given.file) != (given.against is not None):
            print(
                "--against FILE belongs to an excerpt, which cannot be checked without it.", file=sys.stderr
            )
            return 2
        if given.against and Excerpt.is_one(given.against):
            print(f"{given.against} is an excerpt itself: --against takes a whole history.", file=sys.stderr)
            return 2
        source = whole(given.against or given.file, given.indexes)
        excerpt = Excerpt(given.file) if given.against else None
        found = verify_excerpt(excerpt, source, keys, kept) if excerpt else verify(source, keys, kept)
        not_checked, not_as_made = found.pop("not_checked"), found.pop("not_as_made")
        ok = not (not_checked or not_as_made)
        report = {"ok": ok, **found, "waiting": source.waiting(), "problem": None}
        if not_as_made:
            report["not_as_made"] = not_as_made
        if not_checked:
            report["not_checked"] = not_checked
    except Wrong as problem:
        report = {
            "ok": False,
            "problem": {"index": problem.index, "event_id": problem.event_id, "what": problem.what},
        }
        print(
            json.dumps(report, indent=2) if given.json else f"The history is not as it was sealed. {problem}"
        )
        return 1
    except (OSError, UnicodeDecodeError, sqlite3.Error) as problem:
        print(f"It cannot be read: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if given.json:
        print(json.dumps(report, indent=2))
    if not_as_made:
        print(
            f"The history is not guarded as it was made to be. {' '.join(not_as_made)} Every sealed row is what was "
            "sealed; somebody changed its tables, and may have changed rows that were not sealed then.",
            file=sys.stderr if given.json else sys.stdout,
        )
        return 1
    if not_checked:
        print(
            f"Not checked: {not_checked[0]} In what was checked nothing is wrong; {report['signed_rows']} of "
            f"{report['rows']} rows are covered by a signature that was checked.",
            file=sys.stderr,
        )
        return 2
    if given.json:
        return 0
    if given.against:
        print(
            f"{report['excerpt_rows']} rows of the excerpt stand in the history as they are there. Of that history:"
        )
    print(f"{report['rows']} rows in order, the last with hash {report['head']}.")
    if excerpt and excerpt.hidden:
        print(
            f"{excerpt.hidden} rows of the excerpt are there by their hash only: what they say was not shown."
        )
    if excerpt:
        print(
            "What the excerpt says of its filter and service is a claim: nothing proves that it is complete."
        )
    print(
        f"{report['signed_rows']} of them are covered by a signature; {report['waiting']} are not yet sealed."
    )
    if source.hidden:
        print(f"{source.hidden} rows are there by their hash only: what they say was not shown.")
    for late in getattr(source, "late", [])[:1]:
        print(
            f"Note: {len(source.late)} rows are dated more than an hour before rows sealed earlier, first {late}."
        )
    print("Every sealed row is what was sealed.")
    return 0


if __name__ == "__main__":
    sys.exit(work() if sys.argv[1:] == [AT_WORK] else main())
