"""The paragraphs of a word processor's document, as blocks that know the number of their paragraph."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ai_os_diffusion.ingestion.document import Block, Remark, RemarkKind, spans
from ai_os_diffusion.ingestion.readers.outline import Outline

__all__ = ["Flow"]

# A row that says more is a page laid out as a table, whose paragraphs are blocks of their own.
_MAX_ROW_CHARS = 2000
_SPACES = re.compile(r"[ \t\xa0]+")


@dataclass(slots=True)
class _Paragraph:
    """What a paragraph says.

    Attributes:
        number: of the paragraph in the text, from 1.
        pieces: of its text.
        text: all of it, once it ended.
        level: of a title, else None.
        after: what is shown beside it: notes, comments, text boxes.
    """

    number: int
    pieces: list[str] = field(default_factory=list)
    text: str = ""
    level: int | None = None
    after: list[_Paragraph] = field(default_factory=list)


class Flow:
    """Gathers paragraphs, the rows of tables and what stands beside the text, in the order of reading.

    A block's line is the number of its paragraph in the text, those of tables counted. What stands within a
    paragraph and is none of its text (notes, text boxes) comes behind it, under its number. A table within
    a table is text of its cell.
    """

    def __init__(self, title: str = "") -> None:
        """Begin.

        Args:
            title: of the file's properties, which is shown nowhere: context, until the text has one.
        """
        self.blocks: list[Block] = []
        self.number = 0
        self._outline = Outline()
        if title:
            self._outline.title(0, title, Block(title, 1, 1))
            self._outline.fill()
        self._open: list[_Paragraph] = []
        self._rows = 0
        # What the header of the table says, and whether the row is one.
        self._header, self._is_header = "", False
        self._cells: list[list[_Paragraph]] = []
        self._beside_row: list[_Paragraph] = []
        self._left_out: dict[tuple[RemarkKind, str], list[int]] = {}

    def begin_paragraph(self) -> None:
        """A paragraph begins, in the text, a cell, or beside the paragraph that is open."""
        if not self._open:
            self.number += 1
        self._open.append(_Paragraph(self.number))

    def add(self, text: str) -> None:
        """Text of the paragraph that is open; what stands outside of all is the file's layout."""
        if self._open:
            self._open[-1].pieces.append(text)

    def add_alone(self, text: str) -> None:
        """Text of the paragraph that is open, or of one of its own where it stands on a page by itself."""
        if self._open:
            self.add(text)
        elif text.strip():
            self.begin_paragraph()
            self.add(text)
            self.end_paragraph()

    def add_beside(self, text: str) -> None:
        """A paragraph of its own behind the one that is open."""
        if self._open:
            self._open[-1].after.append(_Paragraph(self.number, text=text))

    def end_paragraph(self, level: int | None = None, *, is_item: bool = False) -> None:
        """The paragraph that is open ends.

        Args:
            level: of a title, else None.
            is_item: it begins an item of a list.
        """
        paragraph = self._open.pop()
        text = "\n".join(_SPACES.sub(" ", line).strip() for line in "".join(paragraph.pieces).split("\n"))
        paragraph.text = text.replace("\0", "").strip()
        paragraph.level = level
        paragraph.pieces = []
        if is_item and paragraph.text and level is None:
            paragraph.text = f"- {paragraph.text}"
        if self._open:
            paragraph.level = None
            self._open[-1].after += [paragraph, *paragraph.after]
        elif self._rows and self._cells:
            self._cells[-1].append(paragraph)
            self._beside_row += paragraph.after
        else:
            self._place([paragraph, *paragraph.after])

    def begin_table(self, *, has_header: bool = False) -> None:
        """A table begins.

        Args:
            has_header: its first row is one.
        """
        if not self._open and not self._rows:
            self._header, self._is_header = "", has_header

    def begin_header(self) -> None:
        """The row that is open, or the next one, says what the columns of its table are."""
        if not self._open and self._rows <= 1:
            self._is_header = True

    def begin_row(self) -> None:
        """A row of a table begins."""
        if not self._open:
            self._rows += 1
            if self._rows == 1:
                self._cells, self._beside_row = [], []

    def begin_cell(self) -> None:
        """A cell begins, in a row."""
        if not self._open and self._rows == 1:
            self._cells.append([])

    def end_row(self) -> None:
        """The row that began last ends."""
        if self._open:
            return
        self._rows -= 1
        if self._rows:
            return
        said = [" ".join(" ".join(paragraph.text for paragraph in cell).split()) for cell in self._cells]
        row = " | ".join(said).strip(" |")
        paragraphs = [paragraph for cell in self._cells for paragraph in cell]
        if len(self._cells) == 1 or len(row) > _MAX_ROW_CHARS:
            self._place(paragraphs)
        elif row:
            first, last = paragraphs[0].number, paragraphs[-1].number
            self.blocks.append(self._outline.below(Block(row, first, last, "row", columns=self._header)))
            if self._is_header:
                self._header = self._header or row
        self._is_header = False
        self._place(self._beside_row)

    def leave_out(self, kind: RemarkKind, reason: str) -> None:
        """Note that something of the paragraph is not in the blocks."""
        numbers = self._left_out.setdefault((kind, reason), [])
        if numbers[-1:] != [max(self.number, 1)]:
            numbers.append(max(self.number, 1))

    def end(self) -> tuple[list[Block], list[Remark]]:
        """End the text; its blocks, and what is not in them."""
        self.blocks += self._outline.end()
        remarks = [Remark(kind, why, lines=spans(found)) for (kind, why), found in self._left_out.items()]
        return self.blocks, remarks

    def _place(self, paragraphs: Iterable[_Paragraph]) -> None:
        for paragraph in paragraphs:
            if not paragraph.text:
                continue
            block = Block(paragraph.text, paragraph.number, paragraph.number)
            if paragraph.level is None:
                self.blocks.append(self._outline.below(block))
            else:
                self.blocks += self._outline.title(paragraph.level, " ".join(block.text.split()), block)
