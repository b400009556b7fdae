"""What a reader made of a file, within what a memory can hold: titles and metadata of any size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ai_os_diffusion.ingestion.document import Block, Document, Remark, spans

__all__ = ["MAX_SOURCE_CHARS", "fit"]

# The longest path that Linux opens; it stands in the metadata of every passage.
MAX_SOURCE_CHARS = 4096
_MAX_HEADING_CHARS = 256
_MAX_HEADINGS = 16
_MAX_METADATA_CHARS = 2048
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def fit(document: Document) -> Document:
    """Cut what is too long to stand beside a passage, and remark on it.

    Args:
        document: as a reader made it.
    """
    fitted: dict[int, Block] = {}
    cut: list[int] = []
    above: tuple[str, ...] = ()
    titles, is_whole = above, True
    # Blocks that stand together share what is known of them.
    known: Mapping[str, Any] = {}
    metadata, is_cut = known, False
    for index, block in enumerate(document.blocks):
        if block.headings != above:
            above = block.headings
            titles = _fit_headings(above)
            is_whole = titles == above
            if not is_whole:
                cut.append(block.line)
        if block.metadata is not known:
            known = block.metadata
            metadata = _fit_metadata(known) if known else known
            is_cut = metadata is not known and metadata != known
        if is_cut:
            cut.append(block.line)
        columns = _cut(block.columns, _MAX_HEADING_CHARS) if block.columns else ""
        if is_cut or not is_whole or columns != block.columns:
            fitted[index] = block._replace(headings=titles, metadata=metadata, columns=columns)
    if not fitted:
        return document
    blocks = [fitted.get(index, block) for index, block in enumerate(document.blocks)]
    reason = f"a title is kept to {_MAX_HEADING_CHARS} characters, what else is known of a passage to 2 kB"
    # A header of a table is a passage too, and whole there.
    remarks = [Remark("limit", reason, lines=spans(cut))] if cut else []
    return replace(document, blocks=tuple(blocks), remarks=(*document.remarks, *remarks))


def _fit_headings(headings: tuple[str, ...]) -> tuple[str, ...]:
    """The innermost titles, each cut."""
    return tuple(_cut(heading, _MAX_HEADING_CHARS) for heading in headings[-_MAX_HEADINGS:])


def _fit_metadata(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """What fits of it: texts are cut, other values that JSON cannot hold or that are too long go."""
    for value in metadata.values():
        if not isinstance(value, int) or value.bit_length() >= 64:
            break
    else:
        return metadata
    fitted: dict[str, Any] = {}
    left = _MAX_METADATA_CHARS
    for name, value in metadata.items():
        if isinstance(value, str):
            value = _cut(value.encode("utf-8", "replace").decode(), max(left - len(name), 0))
        try:
            size = len(name) + len(_ENCODER.encode(value))
        except (TypeError, ValueError, RecursionError):
            continue
        if size <= left + 2:
            fitted[name] = value
            left -= size
    return fitted


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: max(most - 1, 0)]}…"
