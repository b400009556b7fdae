"""Markdown (CommonMark with tables): headings become context, fences and list items stay whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ai_os_diffusion.ingestion.document import Block, BlockKind

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["read_markdown"]

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)??(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"^title:[ \t]*(?P<quote>['\"]?)(?P<title>.+?)(?P=quote)[ \t]*$", re.MULTILINE)
_KINDS: dict[str, BlockKind] = {"fence": "code", "code_block": "code", "tr_open": "row", "html_block": "code"}
# Blocks whose parts are told apart: the parts are taken, the container is passed by.
_CONTAINERS = frozenset(("bullet_list_open", "ordered_list_open", "table_open", "thead_open", "tbody_open"))
_COMMENT = re.compile(r"\s*<!--.*?-->\s*", re.DOTALL)


def read_markdown(text: str, name: str) -> list[Block]:
    """Read the blocks of a Markdown document as they stand in the source.

    Headings are not blocks: they become the context of what is below them, except one with nothing
    below, which stays so that it can be found. Front matter gives its `title` and is left out.

    Args:
        text: the whole document, lines separated by line feeds.
        name: file name; unused, the first heading is the title.
    """
    from markdown_it import MarkdownIt

    del name
    title: tuple[str, ...] = ()
    front = _FRONT_MATTER.match(text)
    if front:
        found = _TITLE.search(front.group(0))
        title = (found["title"],) if found else ()
        text = "\n" * front.group(0).count("\n") + text[front.end() :]
    lines = text.split("\n")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return list(_blocks(tokens, lines, title))


def _blocks(tokens: list[Token], lines: list[str], title: tuple[str, ...]) -> Iterator[Block]:
    path: list[tuple[int, str]] = []
    bare: Block | None = None
    taken_to = 0
    for index, token in enumerate(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map is not None:
            if bare is not None and int(token.tag[1]) <= path[-1][0]:
                yield bare
            level = int(token.tag[1])
            above = [entry for entry in path if entry[0] < level]
            heading = _plain(tokens[index + 1])
            bare = _slice(lines, token.map, title + tuple(text for _, text in above)) if heading else None
            path = [*above, (level, heading)] if heading else above
            taken_to = token.map[1]
        elif token.map is not None and token.nesting >= 0 and token.map[0] >= taken_to:
            if token.type in _CONTAINERS or token.type == "inline":
                continue
            taken_to = token.map[1]
            kind = _KINDS.get(token.type, "prose")
            block = _slice(lines, token.map, title + tuple(text for _, text in path), kind)
            if block is None or (token.type == "html_block" and _COMMENT.fullmatch(block.text)):
                continue
            bare = None
            yield block
    if bare is not None:
        yield bare


def _slice(
    lines: list[str], span: list[int], headings: tuple[str, ...], kind: BlockKind = "prose"
) -> Block | None:
    """The source lines [span[0], span[1]), blank ones at either end left out."""
    first, end = span[0], min(span[1], len(lines))
    while first < end and not lines[first].strip():
        first += 1
    while end > first and not lines[end - 1].strip():
        end -= 1
    if first == end:
        return None
    text = "\n".join(line.rstrip() for line in lines[first:end])
    return Block(text, first + 1, end, kind, headings)


def _plain(inline: Token) -> str:
    """A heading's text without its markup."""
    words = "".join(
        child.content if child.type in ("text", "code_inline") else " "
        for child in inline.children or ()
        if child.type in ("text", "code_inline", "softbreak", "hardbreak")
    )
    return " ".join(words.split())
