"""Plain text and reStructuredText: paragraphs, items, and titles that are underlined or stand out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ai_os_diffusion.ingestion.document import Block, Remark
from ai_os_diffusion.ingestion.readers.outline import Outline

__all__ = ["TextReader", "paragraphs"]

# Beyond so many, which only a text of tiny paragraphs has, several come together.
_MAX_PARAGRAPHS = 8192
_CHARS_TOGETHER = 4096

_NOT_BREAK = re.compile(r"[^\n]")
_RULE = re.compile(r"([=\-~^*+#\"'`:._])\1{2,}")
# Titles that are underlined stand above those that stand out by indentation.
_INDENTED = 1 << 10
# The mark or number of an item: two letters in a row are a word.
_MARKED = re.compile(r"\s*(?!\S*[^\W\d_]{2})\S+\s+(?=\S)")
# A hyphen that only typesetting puts, and the rest of the word on the next line.
_BROKEN_WORD = re.compile(r"(?<=\w)\u2010(\n[ \t]*)(\w\S*)[ \t]?")
_WHOLE_WORD = re.compile(r"\u2010(?=\w)")

# What leads over to what follows, and is no title of it.
_LEADING_OVER = tuple(":;,：；，、")


class _Unit(NamedTuple):
    """Lines that belong together.

    Attributes:
        begin: the first line.
        end: the one behind the last.
        is_below_title: the first line stands by itself above deeper ones.
    """

    begin: int
    end: int
    is_below_title: bool


class TextReader:
    """Splits plain text at blank lines, and where an item ends that hangs below its first line.

    A line underlined with a run of one punctuation character at least as long as itself is a title;
    levels follow the order in which the characters first appear, as in reStructuredText. So is a line
    above deeper ones where it stands farther out than the text of its section. Words that were broken
    at the end of a line by a hyphen of typesetting (U+2010) are whole.
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
        # Of titles that stand out: their indentation, and that of the text below.
        self._set_in: list[tuple[int, int]] = []
        # Indentations at which texts of sections stand.
        self._texts: set[int] = set()

    def read(self, text: str, first_line: int = 1) -> Iterator[Block]:
        """As `PieceReader.read`."""
        text = _with_whole_words(text)
        width = _width_of(text.split("\n"))
        item: Block | None = None
        for block in self._blocks(text, first_line, width):
            deeper = item is not None and _indent_of(block.text) > _indent_of(item.text)
            if item and deeper and block.headings == item.headings and _fits(item, block):
                gap = "\n" * (block.line - item.end_line)
                item = item._replace(text=item.text + gap + block.text, end_line=block.end_line)
                continue
            if item:
                yield item
            item = block
        if item:
            yield item

    def _blocks(self, text: str, first_line: int, width: int) -> Iterator[Block]:
        outline, levels = self._outline, self._levels
        for block in paragraphs(text, first_line):
            lines = block.text.split("\n")
            title = _title(lines[:3]) if len(lines) > 1 else None
            used = 0
            if title is not None:
                heading, rule, used = title
                if rule not in levels:
                    levels.append(rule)
                self._set_in.clear()
                written = Block("\n".join(lines[:used]), block.line, block.line + used - 1)
                yield from outline.title(levels.index(rule), heading, written)
            if "" in lines:
                yield outline.below(block)
            else:
                yield from self._below(lines[used:], block.line + used, width)

    def _below(self, lines: Sequence[str], first_line: int, width: int) -> Iterator[Block]:
        """Blocks of lines without a blank one, and the titles among them."""
        outline, set_in = self._outline, self._set_in
        waiting = [(lines, first_line, _units(lines, width))]
        while waiting:
            lines, first_line, rest = waiting[-1]
            unit = next(rest, None)
            if unit is None:
                waiting.pop()
                continue
            own, line = lines[unit.begin : unit.end], first_line + unit.begin
            indent = min(map(_indent_of, own))
            while set_in and set_in[-1][0] >= indent:
                set_in.pop()
            yield from outline.close(_INDENTED + indent)
            if unit.is_below_title and self._is_title(indent, _indent_of(own[1])):
                set_in.append((indent, _indent_of(own[1])))
                if len(own) < 3 or _indent_of(own[2]) <= _indent_of(own[1]):
                    self._texts.add(_indent_of(own[1]))
                title = Block(own[0], line, line)
                yield from outline.title(_INDENTED + indent, own[0].strip(), title)
                waiting.append((own[1:], line + 1, _units(own[1:], width)))
            else:
                yield outline.below(Block("\n".join(own), line, line + len(own) - 1))

    def _is_title(self, indent: int, deeper: int) -> bool:
        """Whether a line above a deeper one is a title: farther out than texts, or above such as others."""
        is_out = not self._set_in or indent < self._set_in[-1][1]
        return is_out or (deeper in self._texts and indent not in self._texts)

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


def _with_whole_words(text: str) -> str:
    """Words whole that typesetting broke; where the same hyphen stands within words it may be theirs."""
    if "\u2010\n" not in text or _WHOLE_WORD.search(text):
        return text
    return _BROKEN_WORD.sub(r"\2\1", text)


def _indent_of(line: str) -> int:
    """Columns before the first character."""
    line = line.expandtabs() if "\t" in line else line
    return len(line) - len(line.lstrip())


def _units(lines: Sequence[str], width: int) -> Iterator[_Unit]:
    """Take lines without a blank one apart where an item ends and the next begins.

    Args:
        lines: of one paragraph.
        width: at which the text is broken, in characters.
    """
    indents = [_indent_of(line) for line in lines]
    begin, count = 0, len(lines)
    while begin < count:
        indent, body = indents[begin], begin + 1
        while body < count and indents[body] <= indent:
            indent, body = min(indent, indents[body]), body + 1
        end = body
        while end < count and indents[end] > indent:
            end += 1
        stands = body < end and body == begin + 1 and not _hangs(lines[begin], indents[body])
        yield _Unit(begin, end, stands and _is_ended(lines[begin], lines[body], width))
        begin = end


def _width_of(lines: Sequence[str]) -> int:
    """Characters at which a text is broken; of many lines one in a hundred may be longer."""
    lengths = sorted(map(len, lines))
    return lengths[-1 - len(lengths) // 100]


def _hangs(line: str, indent: int) -> bool:
    """Whether lines at an indentation go on below the words of an item, behind its mark or number."""
    marked = _MARKED.match(line.expandtabs())
    return marked is not None and marked.end() == indent


def _is_ended(line: str, below: str, width: int) -> bool:
    """Whether a line was ended on purpose, and does not lead over to the next."""
    written = line.rstrip()
    return len(written) + 1 + len(below.split(None, 1)[0]) <= width and not written.endswith(_LEADING_OVER)


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


def _fits(item: Block, block: Block) -> bool:
    return len(item.text) + len(block.text) <= _CHARS_TOGETHER
