"""HTML: the main text with its headings; scripts, styles, menus and link targets left out.

Read with the standard library's parser because it tells the line of every piece of text, which
faster ones (lexbor) do not; a citation without a line would not be one.
"""

from __future__ import annotations

from html.parser import HTMLParser

from ai_os_diffusion.ingestion.document import Block, BlockKind

__all__ = ["read_html"]

_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_BREAKS = frozenset(
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset "
    "figcaption figure footer form header hr html legend li main "
    "nav ol p pre section summary table tbody tfoot thead tr ul".split()
)
_NEVER = frozenset("script style noscript template svg math iframe object head textarea select".split())
_FURNITURE = frozenset("nav aside button dialog".split())
_FRAME = frozenset("header footer".split())
_MAIN = frozenset("main article".split())


def read_html(text: str, name: str) -> list[Block]:
    """Read the blocks of an HTML page.

    Where the page marks its main part (`main`, `article`, `role="main"`), only that is taken.
    Menus, side bars, page headers and footers are left out, unless nothing else is there.

    Args:
        text: the whole document, lines separated by line feeds.
        name: file name; unused, the `title` element is the title.
    """
    del name
    for skips_furniture in (True, False):
        page = _Page(skips_furniture)
        page.feed(text)
        page.close()
        page.end_block()
        main = [block for block, in_main in page.blocks if in_main]
        blocks = main or [block for block, _ in page.blocks]
        if blocks:
            return blocks
    return []


class _Page(HTMLParser):
    """Collects blocks while the parser walks the page once."""

    def __init__(self, skips_furniture: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[tuple[Block, bool]] = []
        self._skips_furniture = skips_furniture
        self._title = ""
        self._in_title = False
        self._path: list[tuple[int, str]] = []
        self._skipped: list[str] = []
        self._main_depth = 0
        self._main_tags: list[str] = []
        self._pieces: list[tuple[int, str]] = []
        self._heading: str | None = None
        self._kind: BlockKind = "prose"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and not self._title:
            self._in_title = True
        if self._skipped:
            if tag == self._skipped[-1]:
                self._skipped.append(tag)
            return
        values = dict(attrs)
        if self._is_skipped(tag, values):
            self._skipped.append(tag)
            return
        if tag in _MAIN or values.get("role") == "main":
            self.end_block()
            self._main_tags.append(tag)
        elif self._main_tags and tag == self._main_tags[-1]:
            self._main_depth += 1
        if tag in _HEADINGS:
            self.end_block()
            self._heading = tag
        elif tag in _BREAKS:
            self._break(tag)
        elif tag in ("td", "th") and self._pieces:
            self._add(" | ")
        elif tag in ("br", "img"):
            self._add(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if self._skipped:
            if tag == self._skipped[-1]:
                self._skipped.pop()
            elif tag in ("body", "html"):
                self._skipped.clear()
            return
        if tag in _HEADINGS and self._heading is not None:
            self._end_heading()
        elif tag in _BREAKS:
            self.end_block()
        elif tag in ("td", "th"):
            self._add(" ")
        if self._main_tags and tag == self._main_tags[-1]:
            if self._main_depth:
                self._main_depth -= 1
            else:
                self._main_tags.pop()

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self._title += data
        elif not self._skipped:
            self._add(data)

    def end_block(self) -> None:
        """Turn the pieces gathered so far into a block."""
        if self._heading is not None:
            self._end_heading()
        pieces, kind = self._pieces, self._kind
        self._pieces, self._kind = [], "prose"
        lines: dict[int, str] = {}
        for number, text in pieces:
            lines[number] = lines.get(number, "") + text
        kept = {n: text.rstrip() if kind == "code" else " ".join(text.split()) for n, text in lines.items()}
        numbers = [number for number, text in kept.items() if text.strip(" |")]
        if not numbers:
            return
        first, last = numbers[0], numbers[-1]
        if kind == "code":
            text = "\n".join(kept.get(number, "") for number in range(first, last + 1))
        elif kind == "row":
            text = " ".join(" ".join(kept[number] for number in numbers).strip(" |").split())
        else:
            text = "\n".join(kept[number] for number in numbers)
        self.blocks.append((Block(text, first, last, kind, self._headings()), bool(self._main_tags)))

    def _is_skipped(self, tag: str, values: dict[str, str | None]) -> bool:
        if tag in _NEVER:
            return True
        if "headerlink" in (values.get("class") or "").split():
            return True
        if not self._skips_furniture:
            return False
        return (
            tag in _FURNITURE or (tag in _FRAME and not self._main_tags) or values.get("role") == "navigation"
        )

    def _break(self, tag: str) -> None:
        self.end_block()
        if tag == "pre":
            self._kind = "code"
        elif tag == "tr":
            self._kind = "row"

    def _add(self, data: str) -> None:
        first = self.getpos()[0]
        self._pieces += ((first + i, piece) for i, piece in enumerate(data.split("\n")))

    def _end_heading(self) -> None:
        level = _HEADINGS[self._heading or "h1"]
        self._heading = None
        heading = " ".join("".join(text + " " for _, text in self._pieces).split())
        self._pieces = []
        self._path = [entry for entry in self._path if entry[0] < level]
        if heading:
            self._path.append((level, heading))

    def _headings(self) -> tuple[str, ...]:
        title = " ".join(self._title.split())
        path = tuple(text for _, text in self._path)
        return path if not title or (path and path[0] in title) else (title, *path)
