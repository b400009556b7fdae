"""JSON Lines: one record a line, told whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ai_os_diffusion.ingestion.document import Block, Remark, spans
from ai_os_diffusion.ingestion.readers.outline import Outline
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["JsonLinesReader"]

_TEXT_FIELDS = ("text", "content", "body", "passage", "document")
_TITLE_FIELDS = ("title", "heading", "name", "subject")
# No sentence is a row of numbers this long: an embedding, a signal.
_MAX_NUMBERS = 32
# Values that are no records, in one block.
_MAX_TOGETHER = 4096
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
        values: list[str] = []
        number = first_line - 1
        for number, line in enumerate(text.split("\n"), first_line):
            line = line.strip()
            if not line:
                if values:
                    yield from _lines(values, number)
                continue
            try:
                record, end = self._decoder.raw_decode(line)
            except (ValueError, RecursionError):
                end = -1
            if end != len(line):
                if values:
                    yield from _lines(values, number)
                self._leave_out(line, number)
                continue
            self._is_readable = True
            if isinstance(record, dict):
                if values:
                    yield from _lines(values, number)
                if record:
                    yield from self._record(record, line, number)
                continue
            if isinstance(record, (int, float)) and len(values) < _MAX_TOGETHER:
                # A number is told as it is written.
                values.append(line)
                continue
            said = _tidy(self._told(record, line, number))
            if not said or "\n" in said or len(values) == _MAX_TOGETHER:
                yield from _lines(values, number)
            if "\n" in said:
                yield Block(said, number, number)
            elif said:
                values.append(said)
        yield from _lines(values, number + 1)

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

    def _leave_out(self, line: str, number: int) -> None:
        self._damaged.append(number)
        if not self._first:
            try:
                self._decoder.decode(line)
            except (ValueError, RecursionError) as error:
                self._first = f"line {number} is not JSON ({error})"

    def _record(self, record: Mapping[str, Any], line: str, number: int) -> Iterator[Block]:
        metadata: dict[str, Any] = {"record": number}
        if isinstance(record.get("id"), (str, int)):
            metadata["record_id"] = record["id"]
        text = _first_said(record, _TEXT_FIELDS)
        title = _first_said(record, _TITLE_FIELDS) if text is not None else None
        told = {"id"} if "record_id" in metadata else set()
        rest = "\n".join(
            f"{key}: {said}"
            for key, value in record.items()
            if key not in (text, title, *told) and (said := self._told(value, line, number))
        )
        texts = [_tidy(record[text])] if text is not None else []
        blocks = [
            Block(said, number, number, "prose", (), metadata) for said in (*texts, _tidy(rest)) if said
        ]
        heading = _tidy(record[title]) if title is not None else ""
        if not heading:
            yield from blocks
            return
        outline = Outline()
        yield from outline.title(
            0, " ".join(heading.split()), Block(heading, number, number, "prose", (), metadata)
        )
        yield from map(outline.below, blocks)
        yield from outline.end()

    def _told(self, value: Any, line: str, number: int) -> str:
        """A value in words; the line as it stands where it is nested too deep to be told."""
        if isinstance(value, str):
            return value.strip()
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


def _lines(values: list[str], number: int) -> Iterator[Block]:
    """Values on lines that follow each other, before a line; none are left."""
    if values:
        yield Block("\n".join(values), number - len(values), number - 1, "code" if values[1:] else "prose")
        values.clear()


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
    said = (name for name in names if isinstance(record.get(name), str) and record[name].strip())
    return next(said, None)


def _is_numeric(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > _MAX_NUMBERS
        and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value)
    )


def _tidy(text: str) -> str:
    """A text as it can be stored, lines separated by line feeds.

    JSON can spell half a surrogate pair, which no encoding can write down.
    """
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").strip()
