"""What a question names, and whether it stands in passages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_os_diffusion.answers.recall import RecallHit

__all__ = ["names_of", "says_title", "unknown_names"]

# A word with what holds identifiers together: "queue-worker", "os.path", "DEFAULT_MAX".
_TERM = re.compile(r"\w+(?:[.'’_-]\w+)*")

# Of a title: neither numbers nor single letters, as of the section of a manual.
_WORD = re.compile(r"[^\W\d_]{2,}")


def names_of(question: str) -> list[str]:
    """Words of a question that name something: with a digit, a mark within, or a capital.

    The first word has its capital from where it stands, and counts for other reasons alone. A language that
    writes all nouns with capitals has more names; that they stand nowhere is true of them too. A single
    letter stands in nearly every text by chance, and "I" names nothing.
    """
    named = []
    for number, found in enumerate(_TERM.finditer(question)):
        word = found.group()
        inner = word if number else word[1:]
        is_marked = any(letter.isdigit() or letter in "._-" for letter in word)
        if len(word) > 1 and (is_marked or any(map(str.isupper, inner))):
            named.append(word)
    return named


def unknown_names(names: Sequence[str], hits: Sequence[RecallHit]) -> list[str]:
    """The names that stand in none of the passages, nor above them, nor in the names of their documents."""
    said = "\n".join("\n".join((hit.text, *hit.headings, hit.source, hit.part)).casefold() for hit in hits)
    return [name for name in dict.fromkeys(names) if name.casefold() not in said]


def says_title(question: str, headings: object) -> bool:
    """Whether a question says the name or title of a document: all words of its outermost title.

    Args:
        question: what was asked.
        headings: what a memory's metadata has under this name; its first is the title, if it is a text.
    """
    if not isinstance(headings, list | tuple) or not headings or not isinstance(headings[0], str):
        return False
    title = set(_WORD.findall(headings[0].casefold()))
    return bool(title) and title <= set(_WORD.findall(question.casefold()))
