"""A document of any known kind: bytes in, blocks and what is not in them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from ai_os_diffusion.ingestion.readers.pdf import read_pdf
from ai_os_diffusion.ingestion.readers.piece_reader import PieceReader
from ai_os_diffusion.ingestion.readers.table import TableReader
from ai_os_diffusion.ingestion.readers.text import TextReader
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["piece_reader", "read_document"]

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
    "epub": read_epub,
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


def read_document(source: str, data: bytes, kind: str | None = None) -> Document:
    """Read a document of any known kind.

    Every word that is shown to the reader of the file is in a block, or on a line or page that a remark of
    the document names. A kind told from the content alone is taken back when its reader cannot read it.

    Args:
        source: its path or address; the name's extension helps to tell the kind.
        data: its content, or that unpacked where it is a gzip file.
        kind: the reader to use; by default it is told from name and content.

    Raises:
        IngestError: the bytes are binary, not what their kind expects, or unpack to too many.
    """
    name, data = inner_document(PurePath(source).name, data)
    if kind is not None:
        return _read(source, name, data, kind)
    kind = kind_of(name, data)
    if kind is None:
        raise IngestError(why_no_kind(name, data))
    try:
        return _read(source, name, data, kind)
    except IngestError:
        named = kind_of(name, data, sniff=False)
        if named in (None, kind):
            raise
        return _read(source, name, data, named)


def _read(source: str, name: str, data: bytes, kind: str) -> Document:
    encoding: str | None = None
    remarks: list[Remark] = []
    if kind in _BYTE_READERS:
        blocks, remarks = _BYTE_READERS[kind](data)
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
    blocks, opaque = without_opaque(blocks)
    return Document(source, kind, tuple(blocks), encoding, _merged([*remarks, *opaque]))


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
