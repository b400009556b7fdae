"""Ingestor: the bytes of a document in, its passages out. It neither embeds nor stores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import PurePath

from ai_os_diffusion.contracts import Chunk, TokenCounter
from ai_os_diffusion.ingestion.chunker import Chunker
from ai_os_diffusion.ingestion.decoding import decode
from ai_os_diffusion.ingestion.document import Block, Document, Remark, spans
from ai_os_diffusion.ingestion.kinds import kind_of
from ai_os_diffusion.ingestion.readers.code import read_code, read_python
from ai_os_diffusion.ingestion.readers.html import read_html
from ai_os_diffusion.ingestion.readers.jsonl import read_jsonl
from ai_os_diffusion.ingestion.readers.markdown import read_markdown
from ai_os_diffusion.ingestion.readers.pdf import read_pdf
from ai_os_diffusion.ingestion.readers.text import read_text
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["Ingestor", "read_document"]

_TEXT_READERS: Mapping[str, Callable[[str, str], list[Block]]] = {
    "text": read_text,
    "markdown": read_markdown,
    "html": read_html,
    "code": read_code,
    "python": read_python,
}
# Raised when a reader or the chunker changes what it makes of the same bytes.
_RECIPE = 2


def read_document(source: str, data: bytes, kind: str | None = None) -> Document:
    """Read a document of any known kind.

    Args:
        source: its path or address; the name's extension helps to tell the kind.
        data: its content.
        kind: the reader to use; by default it is told from name and content.

    Raises:
        IngestError: the bytes are binary, or not what their kind expects.
    """
    name = PurePath(source).name
    kind = kind or kind_of(name, data)
    if kind is None:
        raise IngestError("binary file")
    if kind == "pdf":
        return Document(source, kind, tuple(read_pdf(data)))
    text, encoding = decode(data)
    if kind == "jsonl":
        blocks, refused = read_jsonl(text)
        remarks = (Remark("damaged", "not JSON", lines=spans(refused)),) if refused else ()
        return Document(source, kind, tuple(blocks), encoding, remarks)
    return Document(source, kind, tuple(_TEXT_READERS[kind](text, name)), encoding)


class Ingestor:
    """Cuts documents to the measure of an encoder."""

    def __init__(self, counter: TokenCounter, *, max_tokens: int = 200, overlap: int = 0) -> None:
        """Set the measure.

        Args:
            counter: counts tokens as the encoder will.
            max_tokens: most tokens of a passage, a bit below the encoder's window.
            overlap: tokens that a passage repeats from the one before.
        """
        self._chunker = Chunker(counter, max_tokens=max_tokens, overlap=overlap)
        self._recipe = f"{_RECIPE} {max_tokens} {overlap}".encode()

    def digest(self, data: bytes) -> str:
        """Name a state of a document: its bytes, and everything that decides what becomes of them."""
        return hashlib.blake2b(data, digest_size=16, key=hashlib.blake2b(self._recipe).digest()).hexdigest()

    def passages(self, source: str, data: bytes) -> tuple[Document, list[Chunk]]:
        """Read a document and cut it.

        Raises:
            IngestError: it cannot be read.
        """
        document = read_document(source, data)
        return document, self._chunker.chunk(document)
