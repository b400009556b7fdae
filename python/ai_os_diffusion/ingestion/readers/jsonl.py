"""JSON Lines: one record a line, told whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.ingestion.document import Block, Remark, spans
from ai_os_diffusion.ingestion.readers.outline import Outline
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["JsonLinesReader", "storable"]

_TEXT_FIELDS = ("text", "content", "body", "passage", "document")
_TITLE_FIELDS = ("title", "heading", "name", "subject")
_NAMED = frozenset(("id", *_TEXT_FIELDS, *_TITLE_FIELDS))
# No sentence is a row of numbers this long: an embedding, a signal.
_MAX_NUMBERS = 32
# Values that are no records, in one block.
_MAX_TOGETHER = 4096
# Beyond so many blocks of such values in a piece, several come together.
_MAX_APART = 8192
_NO_LINE = sys.maxsize
_ENCODER = json.JSONEncoder(ensure_ascii=False)


class JsonLinesReader:
    """Reads the records of a JSON Lines file; lines that are not JSON are left out and named.

    A record's passage is the first of its fields `text`, `content`, `body`, `passage` and `document` that
    says something, with its `title` as heading; its other fields are told below, one a line, as is a record
    without a text. Its `id` is kept as metadata. Records never share a passage; values that are no records
    are lines of a text.
    """

    def __init__(self, name: str) -> None:
        """Begin.

        Args:
            name: file name; unused.
        """
        del name
        self._is_readable = False
        self._first = ""
        self._damaged: list[int] = []
        self._numeric: list[int] = []
        self._decoder = json.JSONDecoder(object_pairs_hook=_fields)

    def read(self, text: str, first_line: int = 1) -> Iterator[Block]:
        """As `PieceReader.read`; a piece ends between lines."""
        from ai_os_diffusion._native import json_lines

        lines = text.split("\n")
        likely, others, plain, told = json_lines(text, _MAX_NUMBERS)
        damaged = (others + first_line).tolist()
        values = _Values()
        runs = _runs(plain, told)
        start, run = next(runs)
        blocks: list[Block] = []
        self._is_readable |= plain.size > 0
        for index in likely.tolist():
            while start < index:
                blocks += values.extend(run, first_line + start)
                start, run = next(runs)
            line, number = lines[index].strip(), first_line + index
            try:
                record, end = self._decoder.raw_decode(line)
            except (ValueError, RecursionError):
                end = -1
            if end != len(line):
                damaged.append(number)
                continue
            self._is_readable = True
            if isinstance(record, dict):
                if record:
                    blocks += values.take()
                    blocks += self._record(record, line, number)
                continue
            # A number is told as it is written.
            is_number = isinstance(record, (int, float))
            said = line if is_number else _tidy(self._told(record, line, number))
            if "\n" in said:
                blocks += values.take()
                blocks.append(Block(said, number, number))
            elif said:
                blocks += values.add(said, number)
        while run:
            blocks += values.extend(run, first_line + start)
            start, run = next(runs)
        blocks += values.take()
        if damaged and not self._first:
            self._first = self._fault(lines[min(damaged) - first_line], min(damaged))
        self._damaged += damaged
        return iter(blocks)

    def end(self) -> Iterator[Block]:
        """As `PieceReader.end`; nothing is left."""
        if self._first and not self._is_readable:
            raise IngestError(
                f"{self._first}, nor is another; expected one JSON value a line; "
                "rename the file to .txt to take it as text"
            )
        return iter(())

    def take_remarks(self) -> list[Remark]:
        """Lines that are not JSON, and those with rows of numbers."""
        remarks = []
        if self._damaged:
            remarks.append(Remark("damaged", "not JSON", lines=spans(self._damaged)))
        if self._numeric:
            reason = f"rows of more than {_MAX_NUMBERS} numbers"
            remarks.append(Remark("opaque", reason, lines=spans(self._numeric)))
        self._damaged, self._numeric = [], []
        return remarks

    def _fault(self, line: str, number: int) -> str:
        try:
            self._decoder.decode(line.strip())
        except (ValueError, RecursionError) as error:
            return f"line {number} is not JSON ({error})"
        return ""

    def _record(self, record: Mapping[str, Any], line: str, number: int) -> Sequence[Block]:
        metadata: dict[str, Any] = {"record": number}
        if _NAMED.isdisjoint(record):
            said = self._fields_told(record, (), line, number)
            return (Block(said, number, number, "prose", (), metadata),) if said else ()
        if isinstance(record.get("id"), (str, int)):
            metadata["record_id"] = record["id"]
        text = _first_said(record, _TEXT_FIELDS)
        title = _first_said(record, _TITLE_FIELDS) if text is not None else None
        own = (text, title, "id" if "record_id" in metadata else None)
        said = self._fields_told(record, own, line, number)
        texts = (_tidy(record[text]), said) if text is not None else (said,)
        blocks = [Block(said, number, number, "prose", (), metadata) for said in texts if said]
        heading = _tidy(record[title]) if title is not None else ""
        if not heading:
            return blocks
        outline = Outline()
        written = Block(heading, number, number, "prose", (), metadata)
        titles = outline.title(0, " ".join(heading.split()), written)
        return [*titles, *map(outline.below, blocks), *outline.end()]

    def _fields_told(
        self, record: Mapping[str, Any], left_out: tuple[str | None, ...], line: str, number: int
    ) -> str:
        """The fields that say something, one a line."""
        told: list[str] = []
        for key, value in record.items():
            if key not in left_out and (said := self._told(value, line, number)):
                told.append(f"{key}: {said}")
        return _tidy("\n".join(told))

    def _told(self, value: Any, line: str, number: int) -> str:
        """A value in words; the line as it stands where it is nested too deep to be told."""
        if isinstance(value, str):
            return value.strip()
        if type(value) is int:
            return str(value)
        if value is None or (isinstance(value, (list, dict)) and not value):
            return ""
        try:
            written = _ENCODER.encode(value)
            if _is_numeric(value):
                self._numeric.append(number)
                return ""
        except RecursionError:
            return line
        return written


class _Values:
    """Values that are no records, gathered to texts of the lines that follow each other.

    Beyond very many texts, which only tiny ones reach, one goes on behind lines that were left out, which are
    blank in it.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._first = 0
        self._found = 0

    def add(self, said: str, number: int) -> Sequence[Block]:
        """Take the value of a line; returns the text that ends above it, if one does."""
        ended: Sequence[Block] = ()
        gap = number - self._first - len(self._lines)
        if self._lines and (gap or len(self._lines) >= _MAX_TOGETHER):
            if self._found < _MAX_APART or len(self._lines) + gap >= _MAX_TOGETHER:
                ended = self.take()
            else:
                self._lines += [""] * gap
        if not self._lines:
            self._first = number
        self._lines.append(said)
        return ended

    def extend(self, said: list[str], number: int) -> Sequence[Block]:
        """Take the values of lines that follow each other; returns the texts that end above or among them."""
        ended = self.add(said[0], number)
        while len(said) > 1:
            taken = 1 + _MAX_TOGETHER - len(self._lines)
            self._lines += said[1:taken]
            said, number = said[taken:], number + taken
            if said:
                ended = [*ended, *self.add(said[0], number)]
        return ended

    def take(self) -> Sequence[Block]:
        """The text that was gathered, if there is one; none is left."""
        lines, self._lines = self._lines, []
        if not lines:
            return ()
        self._found += 1
        last = self._first + len(lines) - 1
        return (Block("\n".join(lines), self._first, last, "code" if lines[1:] else "prose"),)


def _runs(numbers: NDArray[np.int64], said: str) -> Iterator[tuple[int, list[str]]]:
    """Values on lines that follow each other, with the number of the first; an empty run is the last."""
    values = said.split("\n")
    begins = [*np.flatnonzero(np.diff(numbers, prepend=-2) != 1).tolist(), len(numbers)]
    for (begin, end), number in zip(pairwise(begins), numbers[begins[:-1]].tolist(), strict=True):
        yield number, values[begin:end]
    yield _NO_LINE, []


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's fields; a name that is there twice has both values."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        fields = {}
        for key, value in pairs:
            fields[key] = [fields[key], value] if key in fields else value
    return fields


def _first_said(record: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first field of these that holds words."""
    for name in names:
        if name in record and isinstance(record[name], str) and record[name].strip():
            return name
    return None


def _is_numeric(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > _MAX_NUMBERS
        and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value)
    )


def _tidy(text: str) -> str:
    return storable(text).strip()


def storable(text: str) -> str:
    """A string of JSON as it can be stored, lines separated by line feeds.

    JSON can spell half a surrogate pair, which no encoding can write down.
    """
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\0", "")
