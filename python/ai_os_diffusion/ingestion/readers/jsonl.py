"""JSON Lines: one record a line, one passage a record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ai_os_diffusion.ingestion.document import Block
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["read_jsonl"]

_TEXT_FIELDS = ("text", "content", "body", "passage", "document")
_TITLE_FIELDS = ("title", "heading", "name", "subject")


def read_jsonl(text: str) -> tuple[list[Block], list[int]]:
    """Read the records of a JSON Lines file; lines that are not JSON are left out and named.

    A record's passage is its field `text`, `content`, `body`, `passage` or `document`, whichever
    comes first, with its `title` as heading; a record without one is told field by field. Its `id` is
    kept. Records never share a passage.

    Args:
        text: the whole file, one JSON value a line; blank lines are passed by.

    Returns:
        The records, and the numbers of the lines that are not JSON.

    Raises:
        IngestError: no line is JSON.
    """
    blocks: list[Block] = []
    refused: list[int] = []
    readable, first = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            refused.append(number)
            first = first or f"line {number} is not JSON ({error})"
            continue
        readable += 1
        block = _block(record, number)
        if block is not None:
            blocks.append(block)
    if refused and not readable:
        raise IngestError(
            f"{first}, nor is another; expected one JSON value a line; "
            "rename the file to .txt to take it as text"
        )
    return blocks, refused


def _block(record: Any, number: int) -> Block | None:
    metadata: dict[str, Any] = {"record": number}
    headings: tuple[str, ...] = ()
    if isinstance(record, Mapping):
        if isinstance(record.get("id"), (str, int)):
            metadata["record_id"] = record["id"]
        field = next((name for name in _TEXT_FIELDS if isinstance(record.get(name), str)), None)
        if field is None:
            passage = "\n".join(
                f"{key}: {_told(value)}" for key, value in record.items() if value is not None
            )
        else:
            passage = record[field]
            titles = (record.get(name) for name in _TITLE_FIELDS)
            title = next((value for value in titles if isinstance(value, str) and value.strip()), "")
            headings = (" ".join(title.split()),) if title else ()
    else:
        passage = _told(record)
    passage = passage.replace("\r\n", "\n").replace("\r", "\n").strip()
    return Block(_storable(passage), number, number, "prose", headings, metadata) if passage else None


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _storable(text: str) -> str:
    """JSON can spell half a surrogate pair, which no encoding can write down."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
