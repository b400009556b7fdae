"""When two texts say the same value: words as SQuAD compares them, dates, numbers, lists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["dates", "holds", "is_declined", "is_empty", "numbers", "same_value", "words"]

_DECLINED = re.compile(
    r"\b(?:not(?: \w+)? (?:stated?|say|said|mention(?:ed)?|given?|specif(?:y|ied)|known?|provided?)"
    r"|unknown|no (?:answer|information))\b"
)
"""How texts say that nothing was told: "not stated", "does not explicitly say"."""

_TOKEN = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+")
_DROPPED = frozenset("a an the mr mrs ms dr prof".split())
_EMPTY = frozenset(["", "null", "none", "n a"])

_MONTHS = "january february march april may june july august september october november december".split()
_NAMED = "|".join(f"{name[:3]}(?:{name[3:]}|t)?\\.?" for name in _MONTHS)
_DATES = (
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})\b"),
    re.compile(
        rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th|\.)?(?: of)? (?P<m>{_NAMED})\b,?(?: (?P<y>\d{{4}}))?",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b(?P<m>{_NAMED}) (?P<d>\d{{1,2}})(?:st|nd|rd|th)?\b(?!\d*[.:]\d)(?:,? (?P<y>\d{{4}}))?",
        re.IGNORECASE,
    ),
)
_COUNTED = "no one two three four five six seven eight nine ten eleven twelve".split()


def words(text: str) -> list[str]:
    """Words and numbers in lower case, without marks, articles and titles; 9:30 is 9.30, 2,400.00 is 2400."""
    found = (_canonical(word) for word in _TOKEN.findall(text.lower()))
    return [word for word in found if word not in _DROPPED]


def holds(text: str, value: str) -> bool:
    """Whether the words of a value stand in a text, one behind the other."""
    return f" {' '.join(words(value))} " in f" {' '.join(words(text))} "


def is_declined(text: str) -> bool:
    """Whether a text says that it has no answer, or says nothing."""
    told = " ".join(words(text))
    return not told or _DECLINED.search(told) is not None


def dates(text: str) -> list[tuple[int | None, int, int]]:
    """Dates in a text as (year or None, month, day), those written the same way in their order."""
    found = []
    for pattern in _DATES:
        for match in pattern.finditer(text):
            month, year = match["m"], match["y"]
            is_number = month.isdigit()
            number = int(month) if is_number else _month(month)
            found.append((int(year) if year else None, number, int(match["d"])))
    return found


def numbers(text: str) -> list[float]:
    """Numbers in a text, in figures or as words up to twelve."""
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.lower())
    found = re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?|[a-z]+", plain)
    found += re.findall(r"\d+(?:\.\d+)?", plain)
    return [
        float(_COUNTED.index(word)) if word in _COUNTED else float(word)
        for word in found
        if word in _COUNTED or not word.isalpha()
    ]


def same_value(kind: str, said: Any, expected: Any) -> bool:
    """Whether what was written for a field is its value.

    Args:
        kind: "str", "int", "float", "bool", "date" or "list[str]".
        said: a value of JSON; a number or date may be a text that begins with it.
        expected: the value; None where nothing is to be written.
    """
    if expected is None:
        return is_empty(said)
    return not is_empty(said) and _SAME[kind](said, expected)


def is_empty(said: Any) -> bool:
    """Whether nothing was written for a field, or that there is nothing."""
    if isinstance(said, str):
        told = " ".join(words(said))
        return told in _EMPTY or _DECLINED.fullmatch(told) is not None
    return said is None or (isinstance(said, Sequence) and all(map(is_empty, said)))


def _same_text(said: Any, expected: str) -> bool:
    return isinstance(said, str | int | float) and words(str(said)) == words(expected)


def _same_number(said: Any, expected: float) -> bool:
    if isinstance(said, str):
        said = next(iter(numbers(said)), None)
    return not isinstance(said, bool) and isinstance(said, int | float) and abs(said - expected) < 1e-6


def _same_truth(said: Any, expected: bool) -> bool:
    if isinstance(said, str):
        said = {"yes": True, "true": True, "no": False, "false": False}.get(" ".join(words(said)))
    return said is expected


def _same_date(said: Any, expected: str) -> bool:
    # "Friday" names no date that could be compared.
    return isinstance(said, str) and (
        dates(said)[:1] == dates(expected) if dates(expected) else _same_text(said, expected)
    )


def _same_list(said: Any, expected: Sequence[str]) -> bool:
    items = [said] if isinstance(said, str) else said
    if not isinstance(items, Sequence):
        return False
    told = Counter(" ".join(words(str(item))) for item in items if not is_empty(item))
    return told == Counter(" ".join(words(item)) for item in expected)


_SAME: Mapping[str, Callable[[Any, Any], bool]] = {
    "str": _same_text,
    "int": _same_number,
    "float": _same_number,
    "bool": _same_truth,
    "date": _same_date,
    "list[str]": _same_list,
}


def _canonical(word: str) -> str:
    if not word[0].isdigit():
        return word
    word = re.sub(r",(?=\d{3}\b)", "", word).replace(":", ".").replace(",", ".")
    whole, *behind = word.split(".")
    if len(behind) == 1 and not behind[0].strip("0"):
        behind = []
    elif len(behind) == 1:
        behind = [behind[0].rstrip("0")]
    return ".".join([whole.lstrip("0") or "0", *behind])


def _month(name: str) -> int:
    return next(number for number, month in enumerate(_MONTHS, 1) if month.startswith(name[:3].lower()))
