"""Markdown (CommonMark with tables): headings become context, fences and list items stay whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ai_os_diffusion.ingestion.document import Block, BlockKind, Remark
from ai_os_diffusion.ingestion.readers.outline import Outline
from ai_os_diffusion.ingestion.readers.text import paragraphs

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["read_markdown"]

_FRONT_MATTER_END = re.compile(r"^(?:---|\.\.\.)[ \t]*$", re.MULTILINE)
# Real front matter is far shorter; YAML takes its time.
_MAX_FRONT_MATTER_CHARS = 32_768
# The parser takes up to 60 µs a line, whatever stands on it.
_MAX_LINES = 250_000
_KINDS: dict[str, BlockKind] = {"fence": "code", "code_block": "code", "tr_open": "row", "html_block": "code"}
# Blocks whose parts are told apart: the parts are taken, the container is passed by.
_CONTAINERS = frozenset(("bullet_list_open", "ordered_list_open", "table_open", "thead_open", "tbody_open"))
# Inline markup is looked at in headings only, where its time is bounded by this.
_MAX_INLINE_CHARS = 2000
_MARKUP = re.compile(r"[\\`*_\[<&]")
_FOOTNOTE = re.compile(r"\s*\[\^[^\]\s]+\]:")


def read_markdown(text: str, name: str) -> tuple[list[Block], list[Remark]]:
    """Read the blocks of a Markdown document as they stand in the source.

    Headings are not blocks: they become the context of what is below them, except one with nothing
    below. Front matter (a YAML mapping between two rules at the very top) gives its `title`, and is a
    block that shares no passage with the text. Comments and targets of links are no text.

    Args:
        text: the whole document, lines separated by line feeds.
        name: file name; unused, the first heading is the title.
    """
    del name
    count = text.count("\n") + 1
    if count > _MAX_LINES:
        reason = f"more than {_MAX_LINES:,} lines; read as plain text, without the structure of Markdown"
        return list(paragraphs(text)), [Remark("limit", reason, lines=((1, count),))]
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    inline = MarkdownIt("commonmark")
    # What a passage shows is the source; telling its inline markup apart would only take time.
    parser.disable(["inline"])
    return list(_Reading(text, parser, inline).blocks()), []


class _Reading:
    """One document on its way to blocks."""

    def __init__(self, text: str, parser: MarkdownIt, inline: MarkdownIt) -> None:
        self._outline = Outline()
        self._inline = inline
        self._lines = text.split("\n")
        end, self._front = _front_matter(text)
        self._front_lines = text.count("\n", 0, end) + 1 if end else 0
        self._tokens = parser.parse("\n" * self._front_lines + text[end + 1 :] if end else text)

    def blocks(self) -> Iterator[Block]:
        """Blocks in the order of the source."""
        yield from self._front_blocks()
        taken = self._front_lines
        for index, token in enumerate(self._tokens):
            if token.map is None or token.nesting < 0 or token.map[0] < taken:
                continue
            if token.type in _CONTAINERS or token.type == "inline":
                continue
            yield from self._between(taken, token.map[0])
            taken = token.map[1]
            if token.type == "heading_open":
                block = self._slice(token.map, "prose")
                heading = self._plain(self._tokens[index + 1].content)
                if block is not None:
                    yield from self._outline.title(int(token.tag[1]), heading, block)
            elif token.type != "hr":
                yield from self._block(token)
        yield from self._between(taken, len(self._lines))
        yield from self._outline.end()

    def _front_blocks(self) -> Iterator[Block]:
        if not self._front:
            return
        block = self._slice([1, self._front_lines - 1], "code")
        title = self._front.get("title")
        if isinstance(title, str) and title.strip() and block is not None:
            line = Block(title.strip(), block.line, block.end_line)
            yield from self._outline.title(0, " ".join(title.split()), line)
        if block is not None:
            told = Block(block.text, block.line, block.end_line, "code", (), {"front_matter": True})
            yield self._outline.below(told)

    def _block(self, token: Token) -> Iterator[Block]:
        block = self._slice(token.map or [0, 0], _KINDS.get(token.type, "prose"))
        if block is None or (token.type == "html_block" and _is_comment(block.text)):
            return
        yield self._outline.below(block)

    def _between(self, first: int, end: int) -> Iterator[Block]:
        """Lines that are no block of CommonMark: definitions of links, and footnotes taken for them."""
        for number in range(first, end):
            if _FOOTNOTE.match(self._lines[number]):
                yield self._outline.below(Block(self._lines[number].strip(), number + 1, number + 1))

    def _slice(self, span: list[int], kind: BlockKind) -> Block | None:
        """The source lines [span[0], span[1]), blank ones at either end left out."""
        lines = self._lines
        first, end = span[0], min(span[1], len(lines))
        while first < end and not lines[first].strip():
            first += 1
        while end > first and not lines[end - 1].strip():
            end -= 1
        if first == end:
            return None
        text = "\n".join(line.rstrip() for line in lines[first:end])
        return Block(text, first + 1, end, kind)

    def _plain(self, heading: str) -> str:
        """A heading's text without its markup."""
        if len(heading) > _MAX_INLINE_CHARS or not _MARKUP.search(heading):
            return " ".join(heading.split())
        children = self._inline.parseInline(heading)[0].children or ()
        return " ".join("".join(map(_shown, children)).split())


def _shown(token: Token) -> str:
    if token.type in ("text", "code_inline", "image"):
        return token.content
    return " " if token.type in ("softbreak", "hardbreak") else ""


def _is_comment(html: str) -> bool:
    """Whether nothing but comments stands in a piece of HTML."""
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
