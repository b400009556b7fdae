"""The titles above each place of a document, none of which is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import compress

from ai_os_diffusion.ingestion.document import Block, Heading

__all__ = ["Outline"]

# What stands above every passage is short; a longer title is text, and its beginning stands above.
_MAX_TITLE_CHARS = 160


class Outline:
    """Puts the titles of a document above its blocks.

    Titles become the context of what is below them. A title with nothing below, or one too long to be
    repeated over every passage, is a block itself, so that it can be found.
    """

    def __init__(self) -> None:
        self.headings: tuple[str, ...] = ()
        """Titles above what comes next, outermost first."""
        self._levels: list[int] = []
        # The innermost title, as long as nothing is below it; those around it are context of its block.
        self._bare: Block | None = None

    def title(self, level: int, heading: str, block: Block) -> Sequence[Block]:
        """Begin a section.

        Args:
            level: sections of a higher level are within it.
            heading: the title in one line; an empty one only ends the sections of its level.
            block: the title as it stands in the source: what is found if it must be a block itself.

        Returns:
            Titles that must be blocks.
        """
        must = self.close(level)
        if not heading:
            return must
        block = self._placed(block)
        if len(heading) > _MAX_TITLE_CHARS:
            must = (*must, block)
            heading = heading[:_MAX_TITLE_CHARS].rsplit(None, 1)[0]
            self._bare = None
        else:
            self._bare = block
        self._levels.append(level)
        lines = enumerate(block.text.split("\n"), block.line)
        known = (Heading.at(number, heading) for number, line in lines if heading in line)
        self.headings = (*self.headings, next(known, heading))
        return must

    def titles(self, level: int, headings: Sequence[str], blocks: Iterable[Block]) -> list[Block]:
        """Begin one section after another of a level, with nothing between their titles.

        Args:
            level: as in `title`; it is closed.
            headings: as in `title`, one at least.
            blocks: as in `title`, below the titles so far.

        Returns:
            Titles that must be blocks: at least all but the last.
        """
        must = list(compress(blocks, headings))
        if must:
            must += self.title(level, next(filter(None, reversed(headings))), must.pop())
        if not headings[-1]:
            must += self.close(level)
        return must

    def close(self, level: int) -> Sequence[Block]:
        """End the sections of a level and those within them; returns a title that must be a block."""
        levels, bare = self._levels, self._bare
        if not levels or levels[-1] < level:
            return ()
        while levels and levels[-1] >= level:
            levels.pop()
        self.headings = self.headings[: len(levels)]
        self._bare = None
        return (bare,) if bare is not None else ()

    def below(self, block: Block) -> Block:
        """A block below the titles so far."""
        self.fill()
        return self._placed(block)

    def fill(self) -> None:
        """Note that something stands below the titles so far."""
        self._bare = None

    def end(self) -> Iterator[Block]:
        """End the document; yields a title that has nothing below."""
        if self._bare is not None:
            yield self._bare
            self._bare = None

    def _placed(self, block: Block) -> Block:
        if block.headings == self.headings:
            return block
        text, line, end_line, kind, _, metadata, columns = block
        return Block(text, line, end_line, kind, self.headings, metadata, columns)
