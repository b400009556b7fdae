"""HTML: what a browser shows, with its headings; what it hides and its menus are left out and named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, groupby
from operator import eq, itemgetter

from ai_os_diffusion.ingestion.document import Block, BlockKind, Remark, RemarkKind, spans
from ai_os_diffusion.ingestion.readers.outline import Outline

__all__ = ["read_html"]

_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_BREAKS = frozenset(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset "
    "figcaption figure footer form frameset header hgroup hr html legend li listing main menu "
    "nav ol optgroup option p plaintext pre search section select summary table tbody textarea tfoot "
    "thead tr ul xmp".split()
)
_AS_TYPED = frozenset("listing plaintext pre textarea xmp".split())
_CELLS = frozenset(("td", "th"))
# Between these and their neighbours a browser leaves a gap, though the words stand on one line.
_GAPS = frozenset("audio br button canvas iframe img input object rp rt svg video".split())
# In a drawing these stand at places of their own.
_LABELS = frozenset("desc text title".split())
_SAYS = {"img": "alt", "area": "alt", "input": "alt", "optgroup": "label", "track": "label"}
_LABELLED_INPUTS = frozenset("button reset submit".split())
_TYPED_INPUTS = frozenset("checkbox color file hidden image password radio range".split())
_NEVER_SHOWN = frozenset("datalist iframe noembed noframes script style template".split())
_NOT_TEXT = frozenset("script style".split())
_DRAWINGS = frozenset(("svg", "math"))
_NO_DISPLAY = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)\b", re.IGNORECASE)
_REASONS: Mapping[RemarkKind, str] = {
    "hidden": "marked as not shown",
    "navigation": "menus of the page",
}
_LIMITS = {
    "depth": "elements nested more than 512 deep; their text was taken, without its structure",
    "nodes": "formatting that multiplies without end; the text after it was taken, without its structure",
    "attributes": "a tag with more than 1,024 attributes; the rest of them was passed by",
}

# A text that is longer, or of more lines, is several blocks.
_MAX_CHARS = 1 << 18
_MAX_PIECES = 8192
# Beyond so many, which only a page of tiny paragraphs has, several come together.
_MAX_BLOCKS = 200_000
_CHARS_TOGETHER = 4096
# Lines of a text that are taken at once where they all belong to one block.
_TOGETHER = 1024

_Event = tuple[int, str, int, "dict[str, str] | None"]


def read_html(text: str, name: str) -> tuple[list[Block], list[Remark]]:
    """Read the blocks of an HTML page.

    The page is parsed as browsers do. Taken is what a browser shows, with the texts that stand for
    pictures; scripts and styles are no text. Menus (`nav`, `role="navigation"`) are left out unless
    nothing else is there; so is what the markup hides. Both are named.

    Args:
        text: the whole document, lines separated by line feeds.
        name: file name; unused, the `title` element is the title.

    Raises:
        IngestError: the parser failed.
    """
    from ai_os_diffusion._native import HtmlTree

    del name
    for skips_menus in (True, False):
        tree = HtmlTree(text)
        page = _Page(skips_menus=skips_menus)
        blocks = page.read(tree)
        if blocks or not page.left_out["navigation"]:
            break
    remarks = [
        Remark(kind, _REASONS[kind], lines=spans(lines)) for kind, lines in page.left_out.items() if lines
    ]
    # What is deeper than a browser shows is all there, so only where it begins is told.
    remarks += [Remark("limit", _LIMITS[limit], lines=((line, line),)) for limit, line in tree.limits]
    return blocks, remarks


class _Page:
    """Gathers blocks while the tree is walked once."""

    def __init__(self, *, skips_menus: bool) -> None:
        self.left_out: dict[RemarkKind, set[int]] = {"hidden": set(), "navigation": set()}
        self._skips_menus = skips_menus
        self._outline = Outline()
        self._title = ""
        self._pieces: list[tuple[int, str]] = []
        self._chars = 0
        self._ended = 0
        self._most = 2 * _MAX_PIECES
        self._heading = 0
        self._kind: BlockKind = "prose"
        self._drawing = 0
        # Of each table that is open, what its header says; and which cells the row has that is open.
        self._headers: list[str] = []
        self._row_cells: set[str] = set()

    def read(self, events: Iterator[_Event]) -> list[Block]:
        """Blocks of a page, in its order."""
        blocks: list[Block] = []
        open_tags: list[str] = []
        for event, value, line, attributes in events:
            if event == 0:
                blocks += self._text(line, value)
            elif event < 0:
                blocks += self._close(open_tags.pop())
            elif value == "title" and not self._drawing:
                blocks += self._take_title(_inside(events), line)
            elif (reason := self._why_not(value, attributes)) is not None:
                self._leave_out(reason, _inside(events), is_text=value not in _NOT_TEXT)
            else:
                open_tags.append(value)
                blocks += self._open(value, attributes, line)
        blocks += self._end_block(alone=True)
        blocks += self._outline.end()
        return blocks

    def _text(self, line: int, text: str) -> Sequence[Block]:
        """Gather text; very much of it is several blocks, which end between words."""
        # Beyond the bound of nodes many lines come in one piece.
        parts = [text] if text.find("\n", 0, -1) < 0 else text.split("\n")
        blocks: list[Block] = []
        for first in range(0, len(parts), _TOGETHER):
            some = parts[first : first + _TOGETHER]
            if len(some) > 1 and self._has_room(some):
                lines = [(number, part) for number, part in enumerate(some, line + first) if part]
                self._pieces += lines
                self._chars += sum(map(len, some))
                continue
            for number, part in enumerate(some, line + first):
                if len(self._pieces) >= _MAX_PIECES or self._chars >= _MAX_CHARS:
                    above, before = self._pieces[-1]
                    if number > above or before[-1:].isspace() or part[:1].isspace():
                        blocks += self._end_block(goes_on=True)
                if part and (self._pieces or self._kind == "code" or not part.isspace()):
                    self._add(number, part)
        return blocks

    def _has_room(self, parts: Sequence[str]) -> bool:
        """Whether a block takes all of these without a look at each."""
        return bool(
            (self._pieces or self._kind == "code")
            and len(self._pieces) + len(parts) <= _MAX_PIECES
            and self._chars + sum(map(len, parts)) < _MAX_CHARS
        )

    def _open(self, tag: str, attributes: Mapping[str, str] | None, line: int) -> Sequence[Block]:
        blocks: Sequence[Block] = ()
        if tag in _HEADINGS:
            blocks = self._end_block(alone=True)
            self._heading = _HEADINGS[tag]
        elif tag in _BREAKS:
            blocks = self._end_block()
            if tag in _AS_TYPED:
                self._kind = "code"
            elif tag == "tr":
                self._kind, self._row_cells = "row", set()
            elif tag == "table":
                self._headers.append("")
        elif tag in _CELLS:
            self._row_cells.add(tag)
            self._add(line, " | " if self._pieces else "")
        elif tag in _GAPS or (self._drawing and tag in _LABELS):
            self._add(line, " ")
        if tag in _DRAWINGS:
            self._drawing += 1
        said = _said(tag, attributes) if attributes else ""
        if said:
            self._add(line, f" {said} ")
        return blocks

    def _close(self, tag: str) -> Sequence[Block]:
        blocks: Sequence[Block] = ()
        if tag in _HEADINGS or tag in _BREAKS:
            blocks = self._end_block()
            if tag == "table":
                self._headers.pop()
        elif self._pieces and (tag in _CELLS or tag in _GAPS or (self._drawing and tag in _LABELS)):
            self._add(self._pieces[-1][0], " ")
        if tag in _DRAWINGS:
            self._drawing -= 1
        return blocks

    def _take_title(self, inside: Iterator[_Event], line: int) -> Sequence[Block]:
        title = " ".join("".join(value for event, value, _, _ in inside if event == 0).split())
        if title and not self._title:
            self._title = title
            return self._outline.title(0, title, Block(title, line, line))
        if title != self._title:
            self._add(line, f" {title} ")
        return ()

    def _why_not(self, tag: str, attributes: Mapping[str, str] | None) -> RemarkKind | None:
        if tag in _NEVER_SHOWN:
            return "hidden"
        if tag == "nav" and self._skips_menus and not attributes:
            return "navigation"
        if not attributes:
            return "hidden" if tag == "dialog" else None
        if "hidden" in attributes or (tag == "dialog" and "open" not in attributes):
            return "hidden"
        if "style" in attributes and _NO_DISPLAY.search(attributes["style"]):
            return "hidden"
        if self._skips_menus and (tag == "nav" or attributes.get("role") == "navigation"):
            return "navigation"
        if "headerlink" in attributes.get("class", "").split():
            return "navigation"
        return None

    def _leave_out(self, reason: RemarkKind, inside: Iterator[_Event], *, is_text: bool) -> None:
        """Pass by an element; what is code for the browser is missed by nobody."""
        depth = 0
        for event, value, line, attributes in inside:
            depth += event if depth or value in _NOT_TEXT else 0
            is_word = value.strip() if event == 0 else event == 1 and _said(value, attributes or {})
            if is_word and is_text and not depth:
                self.left_out[reason].add(line)

    def _add(self, line: int, text: str) -> None:
        self._pieces.append((line, text))
        self._chars += len(text)
        if len(self._pieces) > self._most:
            # A line of very many elements is one piece.
            lines = groupby(self._pieces, key=_number)
            self._pieces = [(number, "".join([text for _, text in pieces])) for number, pieces in lines]
            self._most = 2 * max(len(self._pieces), _MAX_PIECES)

    def _in_table(self, block: Block) -> Block:
        """A row with what its table's header says: the first row that has cells of headers alone."""
        if not self._headers:
            return block
        if self._row_cells == {"th"} and not self._headers[-1]:
            self._headers[-1] = block.text
            return block
        return block._replace(columns=self._headers[-1])

    def _end_block(self, *, goes_on: bool = False, alone: bool = False) -> Sequence[Block]:
        """Turn the pieces gathered so far into a block.

        Args:
            goes_on: the next one goes on with it.
            alone: what follows may not come together with it.
        """
        is_together = self._ended >= _MAX_BLOCKS and self._chars < _CHARS_TOGETHER
        if is_together and self._pieces and not (goes_on or alone or self._heading):
            self._add(self._pieces[-1][0], " ")
            return ()
        pieces, kind, level = self._pieces, self._kind, self._heading
        if not goes_on:
            self._kind, self._heading = "prose", 0
        elif level:
            return ()
        if not pieces:
            return ()
        self._pieces, self._chars, self._ended = [], 0, self._ended + 1
        block = _joined(pieces, kind)
        if block is None:
            return ()
        if not level:
            return (self._outline.below(self._in_table(block) if kind == "row" else block),)
        heading = " ".join(block.text.split())
        # A page's title mostly repeats its first heading; what the title says needs no saying again.
        is_said = level == 1 and heading in self._title
        return self._outline.title(level, "" if is_said else heading, block)


def _inside(events: Iterator[_Event]) -> Iterator[_Event]:
    """Events up to the end of the element just begun."""
    depth = 1
    for event in events:
        depth += event[0]
        if not depth:
            return
        yield event


def _said(tag: str, attributes: Mapping[str, str]) -> str:
    """What an element shows that is written in an attribute."""
    if tag == "input":
        kind = attributes.get("type", "text").lower()
        if kind in _LABELLED_INPUTS:
            return attributes.get("value", "")
        if kind not in _TYPED_INPUTS:
            return attributes.get("value") or attributes.get("placeholder", "")
        return attributes.get("alt", "") if kind == "image" else ""
    if tag == "textarea":
        return attributes.get("placeholder", "")
    return attributes.get(_SAYS.get(tag, ""), "")


def _joined(pieces: list[tuple[int, str]], kind: BlockKind) -> Block | None:
    """Pieces of lines as one block, or None when nothing is written in them."""
    if len(pieces) == 1 and kind == "prose":
        number, text = pieces[0]
        text = " ".join(text.split())
        return Block(text, number, number) if text else None
    # Text is moved out of tables, before what was written above it.
    pieces.sort(key=_number)
    numbers, texts = [number for number, _ in pieces], [text for _, text in pieces]
    if any(map(eq, numbers, numbers[1:])):
        lines = {number: [text for _, text in line] for number, line in groupby(pieces, key=_number)}
        numbers, texts = list(lines), list(map("".join, lines.values()))
    texts = list(map(str.rstrip, texts) if kind == "code" else map(" ".join, map(str.split, texts)))
    said = [bool(text.strip(" |")) for text in texts] if kind == "row" else texts
    if not any(said):
        return None
    kept, written = list(compress(numbers, said)), list(compress(texts, said))
    first, last = kept[0], kept[-1]
    if kind == "code":
        line_of = dict(zip(kept, written, strict=True))
        text = "\n".join([line_of.get(number, "") for number in range(first, last + 1)])
    elif kind == "row":
        text = " ".join(" ".join(written).strip(" |").split())
    else:
        text = "\n".join(written)
    return Block(text, first, last, kind)


_number = itemgetter(0)
