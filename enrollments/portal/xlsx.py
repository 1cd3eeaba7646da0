"""Tables as an Excel workbook (ECMA-376), written as they are sent.

The libraries for this write a file first and send it then: of a million rows, more than a minute without a byte, and
hundreds of megabytes of temporary files. The part of the format that rows of text need is as small as this module.
Every text is an inline string, which no spreadsheet ever takes for a formula.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple
from xml.sax.saxutils import escape

from enrollments.portal.zip_stream import Part, zipped

TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# What Excel opens: rows of a sheet, characters of a cell. And what a ZIP can hold without ZIP64, with room to spare.
MOST_ROWS, MOST_CHARACTERS, MOST_BYTES = 1_048_576, 32_767, 2**30
CHUNK = 500
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
# What XML cannot hold, and what a reader would take for the escape of such a character (ECMA-376, 22.9.2.19).
_UNSPEAKABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CUT = "… (cut: a cell holds no more; JSON Lines has all of it)"
_STYLES = (
    f'{_HEAD}<styleSheet xmlns="{_MAIN}"><fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts><fills count="2"><fill><patternFill '
    'patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills><borders count="1"><border>'
    '<left/><right/><top/><bottom/><diagonal/></border></borders><cellStyleXfs count="1"><xf numFmtId="0" fontId="0" '
    'fillId="0" borderId="0"/></cellStyleXfs><cellXfs count="2"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" '
    'xfId="0"/><xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
)

Row = Sequence[str | int]


class Sheet(NamedTuple):
    """A table with a row of headings. One that is full goes on in another sheet, with the same headings."""

    name: str
    headings: Sequence[str]
    rows: Iterable[Row]


def workbook(sheets: Iterable[Sheet], at: datetime) -> Iterator[bytes]:
    """The bytes of the workbook. Sheets are asked for one after the other, each when the one before has been sent."""
    return zipped(_parts(sheets), at)


def _parts(sheets: Iterable[Sheet]) -> Iterator[Part]:
    names: list[str] = []
    yield Part("xl/styles.xml", [_STYLES.encode()])
    for sheet in sheets:
        rows, part = iter(sheet.rows), 1
        while (first := next(rows, None)) is not None or part == 1:
            names.append(sheet.name if part == 1 else f"{sheet.name} {part}")
            left = chain(() if first is None else (first,), rows)
            yield Part(f"xl/worksheets/sheet{len(names)}.xml", _sheet(sheet.headings, left))
            part += 1
    yield from (Part(name, [(_HEAD + text).encode()]) for name, text in _around(names))


def _sheet(headings: Sequence[str], rows: Iterable[Row]) -> Iterator[bytes]:
    begin = (
        f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0"><pane ySplit="1" '
        'topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
        f'<sheetFormatPr defaultRowHeight="15"/><cols>'
        f'<col min="1" max="{len(headings)}" width="24" customWidth="1"/></cols><sheetData>'
    )
    lines = [begin, _row(headings, ' s="1"')]
    count, size = 1, 0
    for row in rows:
        lines.append(_row(row))
        count += 1
        if len(lines) >= CHUNK or count == MOST_ROWS:
            data = "".join(lines).encode()
            size += len(data)
            lines = []
            yield data
            if count == MOST_ROWS or size > MOST_BYTES:
                break
    yield ("".join(lines) + "</sheetData></worksheet>").encode()


def _row(values: Row, style: str = "") -> str:
    return f"<row>{''.join(_cell(value, style) for value in values)}</row>"


def _cell(value: str | int, style: str) -> str:
    if isinstance(value, int):
        return f"<c{style}><v>{value}</v></c>"
    if not value:
        return f"<c{style}/>"
    return f'<c{style} t="inlineStr"><is><t xml:space="preserve">{_text(value)}</t></is></c>'


def _text(value: str) -> str:
    if len(value) > MOST_CHARACTERS:
        value = value[: MOST_CHARACTERS - len(_CUT)] + _CUT
    value = _UNSPEAKABLE.sub(lambda one: f"_x{ord(one[0]):04X}_", value)
    return escape(_SURROGATE.sub("\ufffd", value)).replace("\r", "&#13;")


def _around(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What says which parts there are."""
    numbers = range(1, len(names) + 1)
    sheet = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    yield (
        "xl/workbook.xml",
        f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>'
        + "".join(
            f'<sheet name="{escape(name)}" sheetId="{number}" r:id="rId{number}"/>'
            for number, name in zip(numbers, names, strict=True)
        )
        + "</sheets></workbook>",
    )
    yield (
        "xl/_rels/workbook.xml.rels",
        f'<Relationships xmlns="{_PACKAGE}/relationships">'
        + "".join(
            f'<Relationship Id="rId{number}" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet{number}.xml"/>'
            for number in numbers
        )
        + f'<Relationship Id="rId0" Type="{_RELATIONS}/styles" Target="styles.xml"/></Relationships>',
    )
    yield (
        "_rels/.rels",
        f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
        f'Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    )
    yield (
        "[Content_Types].xml",
        f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" '
        f'ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="{sheet}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{sheet}.styles+xml"/>'
        + "".join(
            f'<Override PartName="/xl/worksheets/sheet{number}.xml" ContentType="{sheet}.worksheet+xml"/>'
            for number in numbers
        )
        + "</Types>",
    )
