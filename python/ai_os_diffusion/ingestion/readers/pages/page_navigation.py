"""What helps to find one's way through printed pages: running titles, tables of contents, bookmarks."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

__all__ = ["titles_of", "without_navigation"]

# A title may be broken into so many lines.
_TITLE_LINES = 3
# A line at the edge of so many pages, and of one in so many, belongs to none of them; books have two kinds.
_LEAST_PAGES, _ONE_PAGE_IN = 3, 4
_NUMBER = re.compile(r"\d+|\b[ivxlc]+\b", re.IGNORECASE)
_LEADERS = re.compile(r"(?:\.[ \t]?){4,}[ \t]*\w+[ \t]*$")


def without_navigation(pages: Sequence[str]) -> tuple[list[str], list[int]]:
    """Texts of pages without running titles and lines with leaders to page numbers, and which pages had them.

    A line that goes is empty then, so that the others keep their numbers. A running title is what stands
    first or last on many pages, numbers aside.
    """
    edges = Counter(edge for page in pages for edge in {_same(line) for line in _edges(page)})
    least = max(_LEAST_PAGES, len(pages) / _ONE_PAGE_IN)
    running = {edge for edge, count in edges.items() if count >= least}
    kept: list[str] = []
    turned: list[int] = []
    for index, page in enumerate(pages):
        edge = {line for line in _edges(page) if _same(line) in running}
        lines = page.split("\n")
        left = ["" if line in edge or _LEADERS.search(line) else line for line in lines]
        kept.append("\n".join(left))
        if left != lines:
            turned.append(index)
    return kept, turned


def _edges(page: str) -> set[str]:
    """The first and the last line that say something."""
    lines = [line for line in page.split("\n") if line.strip()]
    return {lines[0], lines[-1]} if lines else set()


def _same(line: str) -> str:
    return _NUMBER.sub("0", " ".join(line.split()))


def titles_of(lines: Sequence[str], marks: Sequence[tuple[int, str]]) -> Iterator[tuple[int, int, int]]:
    """Level, first line, and the line behind the last, of titles that stand on a page as bookmarks call them.

    Args:
        lines: of the page.
        marks: level and title of each bookmark to it, in order.

    What is found nowhere is passed by: its section goes on below the title before.
    """
    begun = 0
    for level, name in marks:
        wanted = _letters(name)
        for line in range(begun, len(lines)):
            end = next(
                (
                    end
                    for end in range(line + 1, min(line + 1 + _TITLE_LINES, len(lines) + 1))
                    if _is_title(_letters(" ".join(lines[line:end])), wanted)
                ),
                None,
            )
            if end is not None:
                yield level, line, end
                begun = end
                break


def _is_title(letters: str, wanted: str) -> bool:
    """Whether a line is a title, with a number before it or not."""
    number = letters.removesuffix(wanted)
    return len(number) < len(letters) and not any(map(str.isalpha, number))


def _letters(text: str) -> str:
    """The letters and digits of a text, by which it is compared."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
