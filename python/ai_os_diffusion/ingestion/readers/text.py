"""Plain text and reStructuredText: paragraphs, and titles that are underlined."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ai_os_diffusion.ingestion.document import Block

__all__ = ["paragraphs", "read_text"]

_RULE = re.compile(r"([=\-~^*+#\"'`:._])\1{2,}")


def read_text(text: str, name: str) -> list[Block]:
    """Split plain text at blank lines.

    A line underlined with a run of one punctuation character at least as long as itself is a title;
    levels follow the order in which the characters first appear, as in reStructuredText.

    Args:
        text: the whole document, lines separated by line feeds.
        name: file name; unused, a plain text has no title of its own.
    """
    del name
    blocks: list[Block] = []
    levels: list[str] = []
    headings: tuple[str, ...] = ()
    for block in paragraphs(text):
        title = _title(block.text.split("\n"))
        if title is None:
            blocks.append(Block(block.text, block.line, block.end_line, headings=headings))
            continue
        heading, rule, used = title
        if rule not in levels:
            levels.append(rule)
        headings = (*headings[: levels.index(rule)], heading)
        rest = block.text.split("\n")[used:]
        if rest:
            blocks.append(Block("\n".join(rest), block.line + used, block.end_line, headings=headings))
    return blocks


def paragraphs(text: str, first_line: int = 1) -> Iterator[Block]:
    """Yield runs of lines that are not blank, in order.

    Args:
        text: lines separated by line feeds.
        first_line: number of the text's first line.
    """
    run: list[str] = []
    number = first_line
    for number, line in enumerate(text.split("\n"), first_line):
        if line.strip():
            run.append(line.rstrip())
        elif run:
            yield Block("\n".join(run), number - len(run), number - 1)
            run = []
    if run:
        yield Block("\n".join(run), number - len(run) + 1, number)


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
