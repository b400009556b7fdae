"""A document of any known kind: bytes in, blocks and what is not in them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import PurePath

from ai_os_diffusion.ingestion.decoding import decode
from ai_os_diffusion.ingestion.document import Block, Document, Remark, spans
from ai_os_diffusion.ingestion.kinds import kind_of, why_no_kind
from ai_os_diffusion.ingestion.opaque import without_opaque
from ai_os_diffusion.ingestion.readers.code import MAX_PARSED_CHARS, CodeReader, read_python
from ai_os_diffusion.ingestion.readers.compressed import inner_document
from ai_os_diffusion.ingestion.readers.html import read_html
from ai_os_diffusion.ingestion.readers.jsonl import JsonLinesReader
from ai_os_diffusion.ingestion.readers.mail.mbox import MboxReader
from ai_os_diffusion.ingestion.readers.mail.message import read_message
from ai_os_diffusion.ingestion.readers.markdown import MarkdownReader
from ai_os_diffusion.ingestion.readers.notebook import read_notebook
from ai_os_diffusion.ingestion.readers.packages.docx import read_docx
from ai_os_diffusion.ingestion.readers.packages.epub import read_epub
from ai_os_diffusion.ingestion.readers.packages.odt import read_odt
from ai_os_diffusion.ingestion.readers.pages.pdf import read_pdf
from ai_os_diffusion.ingestion.readers.piece_reader import PieceReader
from ai_os_diffusion.ingestion.readers.table import TableReader
from ai_os_diffusion.ingestion.readers.text import TextReader
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["piece_reader", "read_document", "read_parts"]

_PIECE_READERS: Mapping[str, Callable[[str], PieceReader]] = {
    "text": TextReader,
    "markdown": MarkdownReader,
    "jsonl": JsonLinesReader,
    "table": TableReader,
    "code": CodeReader,
    "mbox": lambda _: MboxReader(read_document),
}
_WHOLE_READERS: Mapping[str, Callable[[str, str], tuple[list[Block], list[Remark]]]] = {
    "html": read_html,
    "notebook": read_notebook,
    "python": read_python,
}
_BYTE_READERS: Mapping[str, Callable[[bytes], tuple[list[Block], list[Remark]]]] = {
    "pdf": read_pdf,
    "docx": read_docx,
    "odt": read_odt,
    "mail": lambda data: read_message(data, read_document),
}


def piece_reader(kind: str, name: str, size_bytes: int) -> PieceReader | None:
    """What reads a document of a kind in pieces, or None where its parser needs all of it.

    Args:
        kind: as `kind_of` names it.
        name: of the file.
        size_bytes: of the document.
    """
    if kind == "python" and size_bytes > MAX_PARSED_CHARS:
        kind = "code"
    reader = _PIECE_READERS.get(kind)
    return reader(name) if reader else None


def read_document(source: str, data: bytes) -> Document:
    """Read a document of any known kind.

    Every word that is shown to the reader of the file is in a block, or on a line or page that a remark of
    the document names. A kind told from the content alone is taken back when its reader cannot read it.

    Args:
        source: its path or address; the name's extension helps to tell the kind.
        data: its content, or that unpacked where it is a gzip file.

    Raises:
        IngestError: the bytes are binary, not what their kind expects, or unpack to too many.
    """
    parts = list(read_parts(source, data))
    blocks = chain.from_iterable(part.blocks for part in parts)
    remarks = _merged([remark for part in parts for remark in part.remarks])
    return replace(parts[0], blocks=tuple(blocks), remarks=remarks)


def read_parts(source: str, data: bytes, kind: str | None = None) -> Iterator[Document]:
    """Read a document in parts, such as the chapters of a book, so that not all of it is in memory.

    Args:
        source: as for `read_document`.
        data: as for `read_document`.
        kind: the reader to use; by default it is told from name and content.

    Raises:
        IngestError: as `read_document`; only before the first part.
    """
    name, data = inner_document(PurePath(source).name, data)
    if kind is not None:
        yield from _parts(source, name, data, kind)
        return
    kind = kind_of(name, data)
    if kind is None:
        raise IngestError(why_no_kind(name, data))
    parts = _parts(source, name, data, kind)
    try:
        first = next(parts)
    except IngestError:
        named = kind_of(name, data, sniff=False)
        if named in (None, kind):
            raise
        parts = _parts(source, name, data, named)
        first = next(parts)
    yield first
    yield from parts


def _parts(source: str, name: str, data: bytes, kind: str) -> Iterator[Document]:
    encoding: str | None = None
    parts: Iterable[tuple[list[Block], list[Remark]]]
    if kind == "epub":
        parts = read_epub(data)
    elif kind in _BYTE_READERS:
        parts = [_BYTE_READERS[kind](data)]
    else:
        decoded = decode(data, kind)
        encoding = decoded.encoding if kind != "mbox" else None
        reader = piece_reader(kind, name, len(data))
        if reader is None:
            blocks, remarks = _WHOLE_READERS[kind](decoded.text, name)
        else:
            blocks = [*reader.read(decoded.text), *reader.end()]
            remarks = reader.take_remarks()
        if decoded.replaced_lines:
            reason = f"bytes that are not {encoding}, each read as one U+FFFD"
            remarks = [*remarks, Remark("replaced", reason, lines=spans(decoded.replaced_lines))]
        parts = [(blocks, remarks)]
    for found, about in parts:
        kept, opaque = without_opaque(found)
        yield Document(source, kind, tuple(kept), encoding, _merged([*about, *opaque]))


def _merged(remarks: list[Remark]) -> tuple[Remark, ...]:
    """At most one remark for each kind and reason, as `Remark` promises."""
    merged: dict[tuple[str, str], Remark] = {}
    for remark in remarks:
        key = remark.kind, remark.reason
        other = merged.get(key)
        if other is not None:
            remark = Remark(
                remark.kind, remark.reason, (*other.lines, *remark.lines), (*other.pages, *remark.pages)
            )
        merged[key] = remark
    return tuple(merged.values())
