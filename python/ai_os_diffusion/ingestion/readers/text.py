"""Plain text and reStructuredText: paragraphs, and titles that are underlined."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ai_os_diffusion.ingestion.document import Block, Remark
from ai_os_diffusion.ingestion.readers.outline import Outline

__all__ = ["TextReader", "paragraphs"]

# Beyond so many, which only a text of tiny paragraphs has, several come together.
_MAX_PARAGRAPHS = 8192
_CHARS_TOGETHER = 4096

_NOT_BREAK = re.compile(r"[^\n]")
_RULE = re.compile(r"([=\-~^*+#\"'`:._])\1{2,}")


class TextReader:
    """Splits plain text at blank lines.

    A line underlined with a run of one punctuation character at least as long as itself is a title;
    levels follow the order in which the characters first appear, as in reStructuredText.
    """

    def __init__(self, name: str) -> None:
        """Begin.

        Args:
            name: file name; unused, a plain text has no title of its own.
        """
        del name
        self._outline = Outline()
        # Marks that underline titles, outermost first.
        self._levels: list[str] = []

    def read(self, text: str, first_line: int = 1) -> Iterator[Block]:
        """As `PieceReader.read`."""
        outline, levels = self._outline, self._levels
        for block in paragraphs(text, first_line):
            lines = block.text.split("\n", 3)
            title = _title(lines) if len(lines) > 1 else None
            if title is None:
                yield outline.below(block)
                continue
            heading, rule, used = title
            if rule not in levels:
                levels.append(rule)
            written = Block("\n".join(lines[:used]), block.line, block.line + used - 1)
            yield from outline.title(levels.index(rule), heading, written)
            if len(lines) > used:
                yield outline.below(Block("\n".join(lines[used:]), block.line + used, block.end_line))

    def end(self) -> Iterator[Block]:
        """Yields a title that has nothing below."""
        return self._outline.end()

    def take_remarks(self) -> list[Remark]:
        """None: all of a plain text is text."""
        return []


def paragraphs(text: str, first_line: int = 1) -> Iterator[Block]:
    """Yield runs of lines that are not blank, in order; very many come several together.

    Args:
        text: lines separated by line feeds.
        first_line: number of the text's first line.
    """
    text = "\n".join(map(str.rstrip, text.split("\n"))).rstrip()
    line, at, found, size = first_line, 0, 0, len(text)
    while at < size:
        if text[at] == "\n":
            begin = _NOT_BREAK.search(text, at)
            assert begin is not None
            line += begin.start() - at
            at = begin.start()
        end = text.find("\n\n", at if found < _MAX_PARAGRAPHS else at + _CHARS_TOGETHER)
        paragraph = text[at : end if end >= 0 else size].rstrip("\n")
        last = line + paragraph.count("\n")
        yield Block(paragraph, line, last)
        found, line, at = found + 1, last, at + len(paragraph)


def _title(lines: list[str]) -> tuple[str, str, int] | None:
    """The title a paragraph begins with, the mark of its level, and the lines it takes."""
    over = len(lines) >= 3 and _underlines(lines[0], lines[1]) and lines[0] == lines[2]
    if over:
        return lines[1].strip(), "over" + lines[0][0], 3
    if len(lines) >= 2 and _underlines(lines[1], lines[0]):
        return lines[0].strip(), lines[1][0], 2
    return None


def _underlines(rule: str, title: str) -> bool:
    return bool(_RULE.fullmatch(rule)) and len(rule) >= len(title.strip()) and not _RULE.fullmatch(title)
