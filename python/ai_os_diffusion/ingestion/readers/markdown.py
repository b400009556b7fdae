"""Markdown (CommonMark with tables): headings become context, fences and list items stay whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import filterfalse, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.ingestion.document import Block, BlockKind, Remark
from ai_os_diffusion.ingestion.readers.outline import Outline

__all__ = ["MarkdownReader"]

_FRONT_MATTER_END = re.compile(r"^(?:---|\.\.\.)[ \t]*$", re.MULTILINE)
# Real front matter is far shorter; YAML takes its time.
_MAX_FRONT_MATTER_CHARS = 32_768
# The parser is given so much at once: its tree takes two hundred times that. A block that is longer is cut.
_MAX_PIECE_CHARS = 1 << 20
_MAX_SPACES = 4096
# Blocks of a piece that are told apart. Beyond them, which only tiny ones reach, neighbours come together.
_MAX_BLOCKS = 8192
# As `blocks_of_markdown` numbers them; 1 to 6 are headings.
_KINDS: dict[int, BlockKind] = {0: "prose", 7: "code", 8: "row", 9: "code", 10: "prose"}
_ROW, _HTML = 8, 9
_CUT = f"blocks of more than {_MAX_PIECE_CHARS:,} characters; the rest of each was read as if it began there"


class MarkdownReader:
    """Reads the blocks of a Markdown document as they stand in the source.

    Headings are not blocks: they become the context of what is below them, except one with nothing
    below. Front matter (a YAML mapping between two rules at the very top) gives its `title`, and is a
    block that shares no passage with the text. Comments and targets of links are no text.
    """

    def __init__(self, name: str, outline: Outline | None = None) -> None:
        """Begin.

        Args:
            name: file name; unused, the first heading is the title.
            outline: titles above a text that is part of a document; who gives it also ends it.
        """
        del name
        self._is_part = outline is not None
        self._outline = outline or Outline()
        self._cut: list[int] = []
        # What waits for more of its block, and white space that may end its last line.
        self._held, self._spaces = "", ""
        self._line = 0
        self._wanted = 0

    def read(self, text: str, first_line: int = 1) -> Iterator[Block]:
        """As `PieceReader.read`."""
        blocks: list[Block] = []
        if not self._line:
            self._line = first_line
            end, front = _front_matter(text)
            if end:
                blocks += self._front_blocks(text[:end], front)
                self._line += text.count("\n", 0, end) + 1
                text = text[end + 1 :]
        # The last line may go on in the next piece, behind its white space, of which a page is enough.
        *lines, last = (self._spaces + text).split("\n")
        written = last.rstrip()
        self._held += "\n".join([*map(str.rstrip, lines), written])
        self._spaces = last[len(written) :][:_MAX_SPACES]
        while len(self._held) >= _MAX_PIECE_CHARS:
            blocks += self._piece(self._held[:_MAX_PIECE_CHARS], is_whole=False)
        if len(self._held) > self._wanted:
            blocks += self._piece(self._held, is_whole=False)
        return iter(blocks)

    def end(self) -> Iterator[Block]:
        """Yields the last block, and a title that has nothing below."""
        yield from self._piece(self._held, is_whole=True)
        if not self._is_part:
            yield from self._outline.end()

    def take_remarks(self) -> list[Remark]:
        """Where a block was cut."""
        cut, self._cut = self._cut, []
        return [Remark("limit", _CUT, lines=tuple((line, line) for line in cut))] if cut else []

    def _piece(self, text: str, *, is_whole: bool) -> list[Block]:
        """The blocks of a piece with which what is held begins; they are held no longer."""
        places, titles, end = _parsed(text, is_whole)
        if not end and len(text) >= _MAX_PIECE_CHARS:
            text = text[: text.rfind("\n") + 1 or text.rfind(" ") + 1] or text
            self._cut.append(self._line + text.count("\n"))
            places, titles, end = _parsed(text, True)
        blocks: list[Block] = []
        outline, headings, used = self._outline, titles.split("\n"), 0
        places[:, 3:] += self._line
        kinds, starts, stops, lines, last_lines = places.T.tolist()
        texts = [text[start:stop] for start, stop in zip(starts, stops, strict=True)]
        # In runs of one kind: where blocks are tiny and very many, nearly all follow another of theirs.
        for first, end_of_run in pairwise([*np.flatnonzero(np.diff(places[:, 0], prepend=-1)), len(texts)]):
            kind, run = kinds[first], slice(first, end_of_run)
            if kind not in _KINDS:
                blocks += outline.close(kind)
            told = Block.below_each_other(
                texts[run], lines[run], last_lines[run], _KINDS.get(kind, "prose"), outline.headings
            )
            if kind not in _KINDS:
                begun, used = used, used + end_of_run - first
                blocks += outline.titles(kind, headings[begun:used], told)
                continue
            shown = list(filterfalse(_is_comment, told) if kind == _HTML else told)
            if kind == _ROW:
                shown = list(_below_headers(shown))
            if shown:
                outline.fill()
                blocks += shown
        self._line += text.count("\n", 0, end)
        self._held = self._held[end:]
        # However long a block is, it is looked through about twice.
        self._wanted = 2 * (len(text) - end)
        return blocks

    def _front_blocks(self, written: str, front: dict[Any, Any]) -> Iterator[Block]:
        lines = [line.rstrip() for line in written.split("\n")[1:-1]]
        end_line = len(lines) + 1
        while not lines[-1]:
            lines.pop()
            end_line -= 1
        title = front.get("title")
        if isinstance(title, str) and title.strip():
            yield from self._outline.title(0, " ".join(title.split()), Block(title.strip(), 2, end_line))
        told = Block("\n".join(lines), 2, end_line, "code", (), {"front_matter": True})
        yield self._outline.below(told)


def _parsed(text: str, is_whole: bool) -> tuple[NDArray[np.int64], str, int]:
    """What `blocks_of_markdown` says; a line that goes on is not parsed, as no block ends above it."""
    from ai_os_diffusion._native import blocks_of_markdown

    if not is_whole and "\n" not in text:
        return np.zeros((0, 5), np.int64), "", 0
    return blocks_of_markdown(text, is_whole, _MAX_BLOCKS)


def _below_headers(rows: Iterable[Block]) -> Iterator[Block]:
    """Rows of tables, those below a header with what it says; between them is the line of dashes."""
    header, next_line = "", 0
    for row in rows:
        if row.line == next_line:
            yield row._replace(columns=header)
            next_line = row.end_line + 1
        else:
            yield row
            # Of very many rows several are one block.
            header = row.text.partition("\n")[0].strip(" \t|")
            is_alone = row.line == row.end_line
            next_line = row.end_line + 1 + is_alone


def _is_comment(block: Block) -> bool:
    """Whether nothing but comments stands in a block of HTML."""
    html = block.text
    at, end = 0, len(html.rstrip())
    while at < end:
        if not html.startswith("<!--", at):
            return False
        close = html.find("-->", at + 4)
        at = end if close < 0 else close + 3
        while at < end and html[at].isspace():
            at += 1
    return True


def _front_matter(text: str) -> tuple[int, dict[Any, Any]]:
    """The end of the front matter's last line, and what it says; nothing unless it is a closed YAML mapping.

    A rule at the top of a text is followed by a blank line or by words that are no mapping.
    """
    first = text.find("\n")
    if first < 0 or text[:first].rstrip() != "---":
        return 0, {}
    end = _FRONT_MATTER_END.search(text, first + 1, first + 1 + _MAX_FRONT_MATTER_CHARS)
    if end is None or not text[first + 1 : end.start()].split("\n", 1)[0].strip():
        return 0, {}
    import yaml

    try:
        found = yaml.safe_load(text[first + 1 : end.start()])
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
        return 0, {}
    if not isinstance(found, dict) or not found:
        return 0, {}
    return end.end(), found
