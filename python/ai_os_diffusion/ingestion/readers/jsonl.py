"""JSON Lines: one record a line, told whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ai_os_diffusion.ingestion.document import Block, Remark, spans
from ai_os_diffusion.ingestion.readers.outline import Outline
from ai_os_diffusion.ingestion.readers.text import lines_of
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["read_jsonl"]

_TEXT_FIELDS = ("text", "content", "body", "passage", "document")
_TITLE_FIELDS = ("title", "heading", "name", "subject")
# No sentence is a row of numbers this long: an embedding, a signal.
_MAX_NUMBERS = 32


def read_jsonl(text: str, name: str) -> tuple[list[Block], list[Remark]]:
    """Read the records of a JSON Lines file; lines that are not JSON are left out and named.

    A record's passage is the first of its fields `text`, `content`, `body`, `passage` and `document` that
    says something, with its `title` as heading; its other fields are told below, one a line, as is a record
    without a text. Its `id` is kept as metadata. Records never share a passage.

    Args:
        text: the whole file, one JSON value a line; blank lines are passed by.
        name: file name; unused.

    Raises:
        IngestError: no line is JSON.
    """
    del name
    reading = _Reading()
    blocks = [block for number, line in enumerate(lines_of(text), 1) for block in reading.read(line, number)]
    if reading.damaged and not reading.readable:
        raise IngestError(
            f"{reading.first}, nor is another; expected one JSON value a line; "
            "rename the file to .txt to take it as text"
        )
    remarks = []
    if reading.damaged:
        remarks.append(Remark("damaged", "not JSON", lines=spans(reading.damaged)))
    if reading.numeric:
        reason = f"rows of more than {_MAX_NUMBERS} numbers"
        remarks.append(Remark("opaque", reason, lines=spans(reading.numeric)))
    return blocks, remarks


class _Reading:
    """Lines on their way to blocks."""

    def __init__(self) -> None:
        self.readable = 0
        self.damaged: list[int] = []
        self.first = ""
        self.numeric: list[int] = []
        self._decoder = json.JSONDecoder(object_pairs_hook=_fields)

    def read(self, line: str, number: int) -> Iterator[Block]:
        """The blocks of one line."""
        if not line.strip():
            return
        try:
            record = self._decoder.decode(line.strip())
        except (ValueError, RecursionError) as error:
            self.damaged.append(number)
            self.first = self.first or f"line {number} is not JSON ({error})"
            return
        self.readable += 1
        metadata: dict[str, Any] = {"record": number}
        if not isinstance(record, Mapping):
            yield from _block(self._told(record, line, number), number, metadata)
            return
        if isinstance(record.get("id"), (str, int)):
            metadata["record_id"] = record["id"]
        yield from self._record(record, line, number, metadata)

    def _record(
        self, record: Mapping[str, Any], line: str, number: int, metadata: dict[str, Any]
    ) -> Iterator[Block]:
        text = _first_said(record, _TEXT_FIELDS)
        title = _first_said(record, _TITLE_FIELDS) if text is not None else None
        outline = Outline()
        if title is not None:
            heading = " ".join(_storable(record[title]).split())
            for block in _block(record[title], number, metadata):
                yield from outline.title(0, heading, block)
        if text is not None:
            for block in _block(record[text], number, metadata):
                yield outline.below(block)
        told = {"id"} if "record_id" in metadata else set()
        rest = "\n".join(
            f"{key}: {said}"
            for key, value in record.items()
            if key not in (text, title, *told) and (said := self._told(value, line, number))
        )
        for block in _block(rest, number, metadata):
            yield outline.below(block)
        yield from outline.end()

    def _told(self, value: Any, line: str, number: int) -> str:
        """A value in words; the line as it stands where it is nested too deep to be told."""
        if value is None or (isinstance(value, (list, dict)) and not value):
            return ""
        if isinstance(value, str):
            return value.strip()
        try:
            written = json.dumps(value, ensure_ascii=False)
            if _is_numeric(value):
                self.numeric.append(number)
                return ""
        except RecursionError:
            return line.strip()
        return written


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


def _block(passage: str, number: int, metadata: Mapping[str, Any]) -> Iterator[Block]:
    text = _storable(passage.replace("\r\n", "\n").replace("\r", "\n")).strip()
    if text:
        yield Block(text, number, number, "prose", (), metadata)


def _storable(text: str) -> str:
    """JSON can spell half a surrogate pair, which no encoding can write down."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
