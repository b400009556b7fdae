"""Bytes written as letters: data URIs by their syntax, base64 and the like by their form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from ai_os_diffusion.ingestion.document import Block, Remark, spans

__all__ = ["without_opaque"]

# RFC 2397; a medium or a parameter tells it from a word before a comma. What may repeat is bounded: within it
# another may begin.
_DATA_URI = re.compile(
    r"\bdata:(?:[\w.+\-]{1,99}/[\w.+\-]{1,99}(?:;[\w.+\-]{1,99}(?:=[^;,\s]{0,99})?){0,8}|(?:;[\w.+\-=]{1,99})+)"
    r",[^\s\"'<>()\[\]{}\\]+",
    re.IGNORECASE,
)
# The longest hash, name or word people write is shorter than this.
_LONGEST_WORD = 128
# Letters and digits, but not of scripts that write without spaces (line-break classes ID and SA of UAX #14).
_SPACELESS = "\u0e00-\u109f\u1780-\u17ff\u1950-\u1aaf\u2e80-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff"
_LETTER = rf"[^\W_{_SPACELESS}]"
# A word no script that has words would write so long.
_NON_WORD = re.compile(rf"(?<!{_LETTER}){_LETTER}{{{_LONGEST_WORD + 1},}}")
# More marks than any ruler or drawing has, without a letter or digit among them.
_MARKS = re.compile(r"(?<![\W_])\s*((?:[^\w\s]|_)[\W_]{4096,}(?<=\S))")
# Runs of the letters of base64, base64url and hexadecimal, as lines of one length or as parts of a string.
_LETTERS = r"[0-9A-Za-z+/_\-]"
_RUNS = re.compile(
    rf"(?<!{_LETTERS}){_LETTERS}{{16,}}(?:(?:\\[nr]|[\s\"',])+{_LETTERS}{{16,}})*(?:={{1,2}})?"
)
# Base64 of compressed bytes changes between lower case, upper case and digits at 62 % of its letters,
# hexadecimal at 47 %; names change where a part ends, at less than 30 %.
_MIN_CHANGES = 0.4
_SAMPLE_CHARS = 4096
_CLASSES = str.maketrans(
    dict.fromkeys("abcdefghijklmnopqrstuvwxyz", "a")
    | dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "A")
    | dict.fromkeys("0123456789", "0")
    | dict.fromkeys("+/_-\n\r\t \"',\\=", "")
)
_REASON = "data written as letters (data URIs, base64, words longer than 128 letters, marks)"


def without_opaque(blocks: Iterable[Block]) -> tuple[list[Block], list[Remark]]:
    """Leave out of blocks what nobody reads; lines keep their numbers.

    Args:
        blocks: what a reader made of a file.

    Returns:
        The blocks, those left empty dropped, and a remark that names the lines or pages.
    """
    kept: list[Block] = []
    lines: list[int] = []
    pages: list[int] = []
    for block in blocks:
        # What is short and names no data, as most lines and records are, is not looked into.
        is_plain = len(block.text) <= _LONGEST_WORD and ":" not in block.text
        found = list(_opaque(block.text)) if not is_plain and _may_be_opaque(block.text) else []
        if not found:
            kept.append(block)
            continue
        if "page" in block.metadata:
            pages.append(block.metadata["page"])
        else:
            lines += _lines_of(block, found)
        text = _without(block.text, found)
        kept.append(block._replace(text=text))
    if not lines and not pages:
        return kept, []
    return list(_said(kept)), [Remark("opaque", _REASON, lines=spans(lines), pages=spans(pages))]


def _said(blocks: list[Block]) -> Iterator[Block]:
    """Blocks that say something; in place of one that does not its titles, if no other has them."""
    paths = {block.headings for block in blocks if block.text.strip()}
    below = {path[:depth] for path in paths for depth in range(1, len(path) + 1)}
    for block in blocks:
        *above, title = block.headings or ("",)
        if block.text.strip():
            yield block
        elif title and block.headings not in below:
            below.add(block.headings)
            yield Block(title, block.line, block.end_line, "prose", tuple(above), block.metadata)


def _may_be_opaque(text: str) -> bool:
    """Whether a text is long enough to hold data, or names some."""
    return len(text) > _LONGEST_WORD or "data:" in text.lower()


def _opaque(text: str) -> Iterator[tuple[int, int]]:
    """Spans of a text that are data, in order and apart from each other."""
    found = [match.span() for match in _DATA_URI.finditer(text)]
    found += [match.span() for match in _NON_WORD.finditer(text)]
    found += [match.span(1) for match in _MARKS.finditer(text)]
    found += [match.span() for match in _RUNS.finditer(text) if _is_data(match.group())]
    end = 0
    for start, stop in sorted(found):
        if stop > end:
            yield max(start, end), stop
            end = stop


def _is_data(run: str) -> bool:
    letters = run[:_SAMPLE_CHARS].translate(_CLASSES)
    if len(run) <= _LONGEST_WORD:
        return False
    changes = sum(one != other for one, other in pairwise(letters))
    return changes > _MIN_CHANGES * len(letters)


def _without(text: str, found: list[tuple[int, int]]) -> str:
    kept, end = [], 0
    for start, stop in found:
        kept += [text[end:start], "\n" * text.count("\n", start, stop)]
        end = stop
    return "".join([*kept, text[end:]])


def _lines_of(block: Block, found: list[tuple[int, int]]) -> Iterator[int]:
    if not block.is_aligned:
        yield from range(block.line, block.end_line + 1)
        return
    line, end = block.line, 0
    for start, stop in found:
        line += block.text.count("\n", end, start)
        last = line + block.text.count("\n", start, stop)
        yield from range(line, last + 1)
        line, end = last, stop
