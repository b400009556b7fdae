"""Plain text and reStructuredText: paragraphs, and titles that are underlined."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ai_os_diffusion.ingestion.document import Block, Remark
from ai_os_diffusion.ingestion.readers.outline import Outline

__all__ = ["TextReader", "lines_of", "paragraphs", "read_text"]

# A paragraph takes some 200 bytes beside its text; beyond so many they are not told apart.
_MAX_PARAGRAPHS = 250_000
_LINES_TOGETHER = 1000

_RULE = re.compile(r"([=\-~^*+#\"'`:._])\1{2,}")


def read_text(text: str, name: str) -> tuple[list[Block], list[Remark]]:
    """Split plain text at blank lines.

    A line underlined with a run of one punctuation character at least as long as itself is a title;
    levels follow the order in which the characters first appear, as in reStructuredText.

    Args:
        text: the whole document, lines separated by line feeds.
        name: file name; unused, a plain text has no title of its own.
    """
    del name
    reader = TextReader()
    return [*reader.read(text), *reader.end()], []


class TextReader:
    """Reads a plain text, or one piece of it after another."""

    def __init__(self) -> None:
        self._outline = Outline()
        # Marks that underline titles, outermost first.
        self._levels: list[str] = []

    def read(self, text: str, first_line: int = 1) -> Iterator[Block]:
        """Yield the blocks of the next piece.

        Args:
            text: whole lines, separated by line feeds.
            first_line: number of the first one.
        """
        outline, levels = self._outline, self._levels
        for block in paragraphs(text, first_line):
            lines = block.text.split("\n", 3)
            title = _title(lines)
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
        """End the text; yields a title that has nothing below."""
        return self._outline.end()


def paragraphs(text: str, first_line: int = 1) -> Iterator[Block]:
    """Yield runs of lines that are not blank, in order; very many come several together.

    Args:
        text: lines separated by line feeds.
        first_line: number of the text's first line.
    """
    run: list[str] = []
    begun, found, blanks = first_line, 0, 0
    for number, line in enumerate(lines_of(text), first_line):
        if line.strip():
            if not run:
                begun, blanks = number, 0
            run += [""] * blanks
            run.append(line.rstrip())
            blanks = 0
        elif run and (found < _MAX_PARAGRAPHS or len(run) > _LINES_TOGETHER):
            yield Block("\n".join(run), begun, begun + len(run) - 1)
            run, found = [], found + 1
        else:
            blanks += 1
    if run:
        yield Block("\n".join(run), begun, begun + len(run) - 1)


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text one by one: a list of all may take fifty times the text."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


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
