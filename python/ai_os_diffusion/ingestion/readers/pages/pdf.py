"""PDF: the text of each page, read with pdfium (the engine of Chromium) in a process of its own."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ai_os_diffusion.ingestion.document import Block, Remark, RemarkKind, spans
from ai_os_diffusion.ingestion.readers.limited_process import LimitedProcess, ProcessEnded
from ai_os_diffusion.ingestion.readers.outline import Outline
from ai_os_diffusion.ingestion.readers.pages.page_navigation import titles_of, without_navigation
from ai_os_diffusion.ingestion.readers.text import paragraphs
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["read_pdf"]

# What reading may take beyond what the process has; seconds of processor time, which a machine that is busy
# or stopped does not spend. A page takes milliseconds and a few megabytes.
_PAGE_SECONDS = 4.0
_SECONDS_OF_KILLED_PAGES = 4.5
_DOCUMENT_SECONDS = 120.0
# What starting another process takes, so that a document cannot have one killed for each of its pages.
_START_SECONDS = 0.25
_MEMORY_BYTES = 320_000_000
_MEMORY_TIMES_SIZE = 3
# A process that once was larger is not kept.
_KEPT_BYTES = 200_000_000
# Text is compressed about four times in a PDF; far more is repeated by a program.
_SPARE_CHARS = 4_000_000
_CHARS_A_BYTE = 8
# Where so many pages in a row are damaged, their number is too.
_MAX_DAMAGED = 1000

_NO_TEXT = "no text layer (a scan?); run an OCR tool over the file first, for example ocrmypdf"
_NAVIGATION = "running titles, page numbers and lines of a table of contents are left out"
_UNKNOWN = "letters of fonts that do not tell which letters they are, each read as one U+FFFD"
_DAMAGED = "the page is damaged"
_KILLED = "reading the page takes over 4 seconds of computing or too much memory, as only hostile pages do"
_TOO_MUCH = "the text is far longer than a file of this size can hold"
_TOO_LONG = "reading the file takes too long"

_process = LimitedProcess(Path(__file__).with_name("pdf_worker.py"))


@dataclass(frozen=True, slots=True)
class _Page:
    """What came of pages `first` to `last`, 1-based: text, and a remark where something is amiss."""

    first: int
    last: int
    text: str = ""
    kind: RemarkKind | None = None
    reason: str = ""


def read_pdf(data: bytes) -> tuple[list[Block], list[Remark]]:
    """Read the paragraphs of a PDF; each knows its page and its lines on that page.

    The parser runs in a process of its own. Pages that show something but hold no text, that are damaged,
    or that take more time or memory than a page is given, are named; the others are read.

    Args:
        data: the file's bytes.

    Raises:
        IngestError: pypdfium2 is not installed, or no page can be read: the file is damaged, locked by a
            password or without a text layer.
    """
    if importlib.util.find_spec("pypdfium2") is None:
        raise IngestError("reading PDF needs pypdfium2: pip install 'ai-os-diffusion[docs]'")
    with _process.using():
        reading = _Reading(data)
        pages = list(reading.pages())
    places: dict[tuple[RemarkKind, str], list[int]] = {}
    for page in pages:
        if page.kind is not None:
            places.setdefault((page.kind, page.reason), []).extend(range(page.first, page.last + 1))
    remarks = [Remark(kind, reason, pages=spans(numbers)) for (kind, reason), numbers in places.items()]
    read, turned = without_navigation([page.text for page in pages])
    if turned:
        remarks.append(Remark("navigation", _NAVIGATION, pages=spans(pages[index].first for index in turned)))
    pages = [replace(page, text=text) for page, text in zip(pages, read, strict=True)]
    blocks = list(_blocks(pages, " ".join(reading.title.split()), reading.bookmarks))
    if not blocks:
        said = "; ".join(map(str, remarks)) or "none of its pages shows anything"
        raise IngestError(f"nothing can be read of the PDF: {said}")
    return blocks, remarks


class _Reading:
    """One PDF on its way through the process."""

    def __init__(self, data: bytes) -> None:
        self.title = ""
        self.bookmarks: list[tuple[int, str, int]] = []
        self._data = data
        self._count = 0
        self._seconds_left = _DOCUMENT_SECONDS
        self._seconds_left_of_killed = _SECONDS_OF_KILLED_PAGES
        # What the process had used when it last answered.
        self._used = 0.0

    def pages(self) -> Iterator[_Page]:
        """All pages in order.

        Raises:
            IngestError: the file cannot be opened.
        """
        next_page: int | None = 0
        while next_page is not None:
            next_page = yield from self._attempt(next_page)

    def _attempt(self, first: int) -> Generator[_Page, None, int | None]:
        """Pages from a 0-based one on; returns where to go on after a page that had to be killed."""
        self._ask(first)
        damaged = 0
        for index in range(first, self._count):
            try:
                answer = self._answer()
            except ProcessEnded as ended:
                spent = min(ended.cpu_seconds - self._used, _PAGE_SECONDS)
                self._seconds_left_of_killed -= spent
                self._seconds_left -= spent + _START_SECONDS
                yield _Page(index + 1, index + 1, kind="limit", reason=_KILLED)
                if min(self._seconds_left, self._seconds_left_of_killed) > 0:
                    return index + 1 if index + 1 < self._count else None
                yield from self._rest(index + 1, "limit", _TOO_LONG)
                return None
            page = self._page(index + 1, answer)
            damaged = damaged + 1 if page.kind == "damaged" else 0
            if damaged > _MAX_DAMAGED or self._seconds_left < 0:
                _process.kill()
                yield from self._rest(index, *(("damaged", _DAMAGED) if damaged else ("limit", _TOO_LONG)))
                return None
            yield page
        with contextlib.suppress(ProcessEnded):
            if self._answer()["done"] > _KEPT_BYTES:
                _process.kill()
        return None

    def _ask(self, first: int) -> None:
        request = {
            "size": len(self._data),
            "first": first,
            "memory_bytes": _MEMORY_BYTES + _MEMORY_TIMES_SIZE * len(self._data),
            "page_cpu_seconds": min(_PAGE_SECONDS, self._seconds_left_of_killed),
            "max_chars": _SPARE_CHARS + _CHARS_A_BYTE * len(self._data),
        }
        _process.ask(request, self._data)
        try:
            answer = _process.answer()
        except ProcessEnded as ended:
            raise IngestError(
                "opening the PDF takes too much time or memory, as only hostile files do"
            ) from ended
        if "error" in answer:
            raise IngestError(
                f"not a PDF that can be opened (damaged or locked by a password): {answer['error']}"
            )
        self.title, self._count, self._used = answer["title"], answer["pages"], answer["cpu_seconds"]
        if first == 0:
            self.bookmarks = [(level, title, page) for level, title, page in answer["bookmarks"]]

    def _answer(self) -> dict[str, Any]:
        """What the process says next; what it used for that is taken off what the document has."""
        answer = _process.answer()
        self._seconds_left -= answer["cpu_seconds"] - self._used
        self._used = answer["cpu_seconds"]
        return answer

    @staticmethod
    def _page(number: int, answer: dict[str, object]) -> _Page:
        if "limit" in answer:
            return _Page(number, number, kind="limit", reason=_TOO_MUCH)
        if "error" in answer:
            return _Page(number, number, kind="damaged", reason=_DAMAGED)
        text = str(answer["text"])
        if text.strip():
            kind: RemarkKind | None = "replaced" if answer["unknown"] else None
            return _Page(number, number, text, kind, _UNKNOWN)
        if answer["shows"]:
            return _Page(number, number, kind="no_text", reason=_NO_TEXT)
        return _Page(number, number)

    def _rest(self, first: int, kind: RemarkKind, reason: str) -> Iterator[_Page]:
        if first < self._count:
            yield _Page(first + 1, self._count, kind=kind, reason=reason)


def _blocks(pages: list[_Page], title: str, bookmarks: Sequence[tuple[int, str, int]]) -> Iterator[Block]:
    """The paragraphs of all pages, below the titles that bookmarks lead to.

    Args:
        pages: in order.
        title: of the file's properties.
        bookmarks: level, title and 0-based page of each.
    """
    outline = Outline()
    marks: dict[int, list[tuple[int, str]]] = {}
    for level, name, index in bookmarks:
        marks.setdefault(index + 1, []).append((level, name))
    if title:
        # The title of a file's properties is shown on no page: it is context, and no block itself.
        list(outline.title(0, title, Block(title, 1, 1)))
    for page in pages:
        about, lines = {"page": page.first}, page.text.split("\n")
        begun = 0
        for level, line, end in titles_of(lines, marks.get(page.first, ())):
            yield from _paragraphs(outline, lines[begun:line], begun + 1, about)
            heading = " ".join(" ".join(lines[line:end]).split())
            block = Block("\n".join(lines[line:end]), line + 1, end, "prose", (), about)
            yield from outline.title(level + 1, heading, block)
            begun = end
        yield from _paragraphs(outline, lines[begun:], begun + 1, about)
    yield from outline.end()


def _paragraphs(
    outline: Outline, lines: Sequence[str], first_line: int, about: Mapping[str, int]
) -> Iterator[Block]:
    for block in paragraphs("\n".join(lines), first_line):
        yield outline.below(Block(block.text, block.line, block.end_line, "prose", (), about))
