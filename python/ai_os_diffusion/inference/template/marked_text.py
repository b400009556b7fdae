"""Texts that know which of their characters the template wrote.

A plain `str` is foreign: what loses its marks on the way counts as a user's text, never as the template's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "MarkedText",
    "changed",
    "cut",
    "is_trusted",
    "joined",
    "replaced",
    "split",
    "split_lines",
    "stripped",
    "trust",
    "trusted",
]

Range = tuple[int, int]


class MarkedText(str):
    """A text with the ranges, in order and apart, that come from the template."""

    __slots__ = ("trusted",)
    trusted: tuple[Range, ...]

    def __new__(cls, text: str, trusted: Iterable[Range]) -> MarkedText:
        """Mark ranges of a text."""
        marked = super().__new__(cls, text)
        marked.trusted = tuple(trusted)
        return marked


def trust(text: str) -> str:
    """The text as one that the template wrote."""
    return MarkedText(text, ((0, len(text)),)) if text else text


def is_trusted(text: str) -> bool:
    """Whether the template wrote all of it."""
    return trusted(text) == ((0, len(text)),)


def trusted(text: str) -> tuple[Range, ...]:
    """The ranges of a text that the template wrote."""
    return text.trusted if isinstance(text, MarkedText) else ()


def _plain(text: str) -> str:
    return str.__str__(text)


def joined(parts: Sequence[str], separator: str = "") -> str:
    """As `str.join`; neighbouring ranges of the template become one."""
    if separator:
        parts = [part for item in parts for part in (separator, item)][1:]
    ranges: list[Range] = []
    length = 0
    for part in parts:
        for start, end in trusted(part):
            if ranges and ranges[-1][1] == length + start:
                ranges[-1] = (ranges[-1][0], length + end)
            else:
                ranges.append((length + start, length + end))
        length += len(part)
    text = "".join(parts)
    return MarkedText(text, ranges) if ranges else text


def cut(text: str, start: int, end: int) -> str:
    """The characters from `start` to `end`, which lie within the text."""
    piece = _plain(text)[start:end]
    ranges = trusted(text)
    first = bisect_right(ranges, start, key=lambda part: part[1])
    after = bisect_left(ranges, end, key=lambda part: part[0])
    kept = (
        [(max(a, start) - start, min(b, end) - start) for a, b in ranges[first:after]] if start < end else []
    )
    return MarkedText(piece, kept) if kept else piece


def changed(text: str, change: Callable[[str], str]) -> str:
    """A text whose characters were changed one by one, as `str.upper` does.

    Where one became several and the template wrote only a part, its part cannot be told any more.
    """
    result, ranges = change(_plain(text)), trusted(text)
    if is_trusted(text):
        return trust(result)
    return MarkedText(result, ranges) if ranges and len(result) == len(text) else result


def stripped(text: str, characters: str | None = None, *, left: bool = True, right: bool = True) -> str:
    """As `str.strip`."""
    plain = _plain(text)
    start = len(plain) - len(plain.lstrip(characters)) if left else 0
    end = len(plain.rstrip(characters)) if right else len(plain)
    return cut(text, start, max(start, end))


def split(text: str, parts: Sequence[str], gap: int | None) -> list[str]:
    """The parts that a method of `str` cut a text into, with their marks.

    Args:
        text: what was cut.
        parts: all of it, in order.
        gap: characters between two parts; None is any amount of white space, also before the first.
    """
    at, pieces = 0, []
    for part in parts:
        if gap is None:
            # No part begins with white space, save a first one that begins the text.
            at = _plain(text).index(part, at)
        pieces.append(cut(text, at, at + len(part)))
        at += len(part) + (gap or 0)
    return pieces


def split_lines(text: str, keepends: bool = False) -> list[str]:
    """As `str.splitlines`."""
    at, pieces = 0, []
    for shown, whole in zip(_plain(text).splitlines(keepends), _plain(text).splitlines(True), strict=True):
        pieces.append(cut(text, at, at + len(shown)))
        at += len(whole)
    return pieces


def replaced(text: str, old: str, new: str, count: int = -1) -> str:
    """As `str.replace`, for an `old` that is not empty."""
    plain, pieces, at = _plain(text), [], 0
    while count != 0 and (found := plain.find(old, at)) >= 0:
        pieces += [cut(text, at, found), new]
        at = found + len(old)
        count -= 1
    return joined([*pieces, cut(text, at, len(text))])
