"""Counts in sentences for people."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, noun: str) -> str:
    """A count with its noun in the number that fits: "1 passage", "2 memories", "0 files".

    Args:
        count: how many.
        noun: in the singular; regular ones, which end in -s or, after a consonant and y, in -ies.
    """
    if count == 1:
        return f"{count} {noun}"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{count} {noun[:-1]}ies"
    return f"{count} {noun}s"
