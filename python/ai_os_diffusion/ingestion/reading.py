"""Reading: a document on its way from bytes to passages."""

from __future__ import annotations

import codecs
import hashlib
import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path, PurePath
from typing import IO

from ai_os_diffusion.contracts import Chunk
from ai_os_diffusion.ingestion.chunker import Chunker
from ai_os_diffusion.ingestion.decoding import declared_encoding, decode, is_binary
from ai_os_diffusion.ingestion.document import Block, Document, Remark, joined_spans, spans
from ai_os_diffusion.ingestion.fitting import MAX_SOURCE_CHARS, fit
from ai_os_diffusion.ingestion.kinds import TITLED, kind_of, title_of, why_no_kind
from ai_os_diffusion.ingestion.opaque import without_opaque
from ai_os_diffusion.ingestion.reader import piece_reader, read_parts
from ai_os_diffusion.ingestion.readers.code import MAX_PARSED_CHARS
from ai_os_diffusion.ingestion.readers.compressed import inner_name, is_gzip, unpacked
from ai_os_diffusion.ingestion.readers.piece_reader import PieceReader
from ai_os_diffusion.ingestion.readers.text_pieces import text_pieces
from ai_os_diffusion.utils.errors import IngestError
from ai_os_diffusion.utils.files.regular_file import open_regular

__all__ = ["Reading"]

# What a parser that needs all of a document is given. A page takes up to twelve times its size. Most of
# a long notebook are pictures.
_MAX_WHOLE_BYTES = {
    "html": 32_000_000,
    "python": MAX_PARSED_CHARS,
    **dict.fromkeys(("pdf", "epub", "docx", "odt", "mail", "notebook"), 64_000_000),
}
# What is read whole in any case: it is in memory once, and most files are shorter.
_SHORT_BYTES = 500_000
_BUFFER_BYTES = 1 << 20
_SAMPLE_BYTES = 1 << 16


class Reading:
    """A document that is being read, passage by passage, in bounded memory.

    Attributes:
        source: its path or name.
        state: digest of its bytes and of everything that decides what becomes of them.
        size_bytes: its size, unpacked.
        bytes_done: how much of it the passages that were yielded are, about.
        kind: the reader that takes it, once `chunks` began.
        encoding: of a text, the encoding found, once `chunks` began.
        remarks: what is not in the passages, complete once `chunks` ended.
    """

    def __init__(self, source: str, content: bytes | Path, key: bytes, chunker: Chunker) -> None:
        """Look at a document as far as to know its state.

        Args:
            source: its path or name.
            content: its bytes, or the file that holds them.
            key: of the digest.
            chunker: cuts it.

        Raises:
            IngestError: it cannot be read, or its name is too long to be cited.
        """
        if len(source) > MAX_SOURCE_CHARS:
            raise IngestError(f"its name has {len(source)} characters; expected at most {MAX_SOURCE_CHARS}")
        self.source = source
        self.bytes_done = 0
        self.kind = ""
        self.encoding: str | None = None
        self._chunker = chunker
        self._remarks: dict[tuple[str, str], Remark] = {}
        self._content = content
        self._long: _LongText | None = None
        hasher = hashlib.blake2b(digest_size=16, key=key)
        try:
            with self._open() as file:
                self._head = file.read(_SHORT_BYTES + 1)
                self.size_bytes = len(self._head)
                if self.size_bytes > _SHORT_BYTES:
                    self._long = _LongText(self._head, file, hasher)
                    self._head = self._long.head
                    self.size_bytes = self._long.size_bytes
                else:
                    hasher.update(self._head)
        except OSError as error:
            raise IngestError(f"unreadable: {error.strerror}") from error
        self.state = hasher.hexdigest()

    @property
    def remarks(self) -> list[Remark]:
        """What is not in the passages."""
        return list(self._remarks.values())

    def chunks(self) -> Iterator[Chunk]:
        """Read and cut it.

        Raises:
            IngestError: it cannot be read, to its end or at all; whatever a reader meets, it is this.
        """
        try:
            for document, share in self._documents():
                fitted = fit(_below_name(document))
                self.kind, self.encoding = document.kind, document.encoding
                self._remark(fitted.remarks)
                begun = self.bytes_done
                chunks = self._chunker.chunk(fitted)
                for number, chunk in enumerate(chunks, 1):
                    self.bytes_done = begun + share * number // len(chunks)
                    yield chunk
                self.bytes_done = begun + share
        except IngestError:
            raise
        except OSError as error:
            raise IngestError(f"unreadable: {error.strerror}") from error
        except MemoryError as error:
            raise IngestError("cannot be read: out of memory") from error
        except Exception as error:
            # A fault of a reader, or of a library below it, concerns this document alone.
            raise IngestError(f"cannot be read: {type(error).__name__}: {error}") from error

    def _documents(self) -> Iterator[tuple[Document, int]]:
        """The document, or, where it is long, pieces of it; and how many bytes each stands for."""
        if self._long is None:
            yield from self._whole(self._head, None)
            return
        name = inner_name(PurePath(self.source).name)
        kind = kind_of(name, self._head)
        reader = piece_reader(kind, name, self.size_bytes) if kind else None
        if kind and reader and not self._long.is_binary:
            yield from self._pieces(kind, reader, self._long.encoding(kind))
        elif kind is None or reader:
            raise IngestError(why_no_kind(name, self._head))
        elif self.size_bytes > _MAX_WHOLE_BYTES[kind]:
            limit = f"{_MAX_WHOLE_BYTES[kind] / 1e6:.0f} MB"
            raise IngestError(
                f"larger than {limit}, the most that is read of this format ({kind}); split it, or make it "
                "plain text, Markdown or JSON Lines, which may be of any size"
            )
        else:
            with self._open() as file:
                yield from self._whole(file.read(), kind)

    def _whole(self, data: bytes, kind: str | None) -> Iterator[tuple[Document, int]]:
        """The document by a parser that needs all of it, in parts where the parser gives it so."""
        held: Document | None = None
        for part in read_parts(self.source, data, kind):
            if held is not None:
                yield held, 0
            held = part
        assert held is not None
        yield held, self.size_bytes

    def _open(self) -> IO[bytes]:
        """The document, unpacked where it is compressed."""
        content = self._content
        file = io.BytesIO(content) if isinstance(content, bytes) else open_regular(content, None, IngestError)
        with ExitStack() as opened:
            opened.enter_context(file)
            head = file.read(2)
            size_bytes = file.seek(0, io.SEEK_END)
            file.seek(0)
            opened.pop_all()
        return unpacked(file, size_bytes) if is_gzip(PurePath(self.source).name, head) else file

    def _pieces(self, kind: str, reader: PieceReader, encoding: str) -> Iterator[tuple[Document, int]]:
        """The text piece by piece, each a document whose lines are counted from the file's beginning."""
        begun = 0
        with ExitStack() as opened:
            file = opened.enter_context(self._open())
            text = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline=None)
            opened.enter_context(text)
            for piece, line in text_pieces(text, whole_lines=kind == "jsonl"):
                blocks = list(reader.read(piece.replace("\0", "\ufffd"), line))
                remarks = [*reader.take_remarks(), *_replaced(piece, line, encoding)]
                done = file.tell()
                yield self._piece(kind, encoding, blocks, remarks), done - begun
                begun = done
            blocks = list(reader.end())
            yield self._piece(kind, encoding, blocks, reader.take_remarks()), 0

    def _piece(self, kind: str, encoding: str, blocks: list[Block], remarks: list[Remark]) -> Document:
        kept, opaque = without_opaque(blocks)
        found = encoding if kind != "mbox" else None
        return Document(self.source, kind, tuple(kept), found, (*remarks, *opaque))

    def _remark(self, remarks: tuple[Remark, ...]) -> None:
        """Note remarks, those of one kind and reason together."""
        for remark in remarks:
            key = remark.kind, remark.reason
            known = self._remarks.get(key)
            if known is not None:
                lines = joined_spans(known.lines, remark.lines)
                remark = replace(remark, lines=lines, pages=joined_spans(known.pages, remark.pages))
            self._remarks[key] = remark


def _below_name(document: Document) -> Document:
    """Put the name of a document above its blocks, unless its format has a title of its own and says one.

    A page of a manual says on its first line only whose options it lists, and a price list nowhere.
    """
    title = title_of(PurePath(document.source).name)
    known: dict[tuple[str, ...], tuple[str, ...]] = {}

    def below(headings: tuple[str, ...]) -> tuple[str, ...]:
        if headings and document.kind in TITLED:
            return headings
        return known.setdefault(headings, (title, *headings))

    blocks = (block._replace(headings=below(block.headings)) for block in document.blocks)
    return replace(document, blocks=tuple(blocks))


class _LongText:
    """What one way through a long file tells: digest, size, and the encoding if it is text."""

    def __init__(self, head: bytes, rest: IO[bytes], hasher: hashlib.blake2b) -> None:
        self.head = head[:_SAMPLE_BYTES]
        self.size_bytes = 0
        decoder = codecs.getincrementaldecoder("utf-8")()
        is_damaged = False
        before, stray = b"", b""
        part = head
        while part:
            hasher.update(part)
            self.size_bytes += len(part)
            is_damaged = is_damaged or is_binary(part)
            if not stray:
                try:
                    decoder.decode(part)
                except UnicodeDecodeError as error:
                    around = max(error.start - _SAMPLE_BYTES, 0)
                    stray = (before + part)[-len(part) + around :][: 2 * _SAMPLE_BYTES]
                before = part[-4:]
            part = rest.read(_BUFFER_BYTES)
        self._sample = stray
        self.is_binary = is_damaged

    def encoding(self, kind: str) -> str:
        """The encoding of the text.

        Args:
            kind: the reader it is for, which says where an encoding may be declared.

        Raises:
            IngestError: it is none.
        """
        if kind == "mbox":
            return "latin-1"
        # Whole characters of every encoding that has a mark.
        name = decode(self.head[: len(self.head) // 4 * 4]).encoding
        if not name.startswith(("utf-8-sig", "utf-16", "utf-32")):
            said = declared_encoding(self.head, kind)
            name = (said or decode(self._sample).encoding) if self._sample else "utf-8"
        try:
            return codecs.lookup(name).name
        except LookupError:
            # Python lacks some that browsers know; letters beyond ASCII are lost then, and told.
            return "ascii"


def _replaced(piece: str, first_line: int, encoding: str) -> list[Remark]:
    """What bytes were not of the encoding; each run of them is one U+FFFD."""
    if "\ufffd" not in piece and "\0" not in piece:
        return []
    lines = [
        number
        for number, line in enumerate(piece.split("\n"), first_line)
        if "\ufffd" in line or "\0" in line
    ]
    reason = f"bytes that are not {encoding}, each read as one U+FFFD"
    return [Remark("replaced", reason, lines=spans(lines))]
