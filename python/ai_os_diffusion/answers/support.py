"""Whether a text holds what a sentence says, by the words they share.

Words cannot prove that a sentence follows from another; they show when it does not: a number, a name or an
identifier that the text has not, words of its own, a negation dropped.
"""

from __future__ import annotations

import re

__all__ = ["keeps_question", "support", "term_overlap"]

# A number with its marks ("8:10", "1.2", "24–10"), or a word, also "os.path", "queue-worker", "Anna's".
_WORD = re.compile(r"\d[\d.,:/–-]*\d|\w+(?:[.'’_-]\w+)*")
_POSSESSIVE = re.compile(r"['’]s$")
_MEMBERS = re.compile(r"\.")
_PARTS = re.compile(r"[.'’_\-–,:/]")
_STOP_WORDS = frozenset(
    # English
    "a an and are as at be been but by can could did do does for from had has have how i if in into is it "
    "its may might must of on one or should so such than that the their them then there these they this "
    "those to was were what when where which while who whom whose why will with would you your "
    # German
    "aber als am an auch auf aus bei bin bist das dass dem den der des die du ein eine einem einen einer "
    "eines er es für hat haben habt ich ihr im in ist mein mit man nach oder sein sich sie sind so und uns "
    "unser vom von vor wann war waren warum was welche welchem welchen welcher welches wenn wer wem wen wie "
    "wir wird wo zu zum zur".split()
)
_NEGATIONS = frozenset(
    "kein keine keinen never nicht nie niemals no none nor not nothing ohne without".split()
)
_NEGATED = re.compile(r"n['’]t$")


def term_overlap(question: str, text: str) -> float:
    """Share of a question's content words that stand in a text; 0 when it has none."""
    asked = _content_words(question)
    return len(asked & _content_words(text)) / len(asked) if asked else 0.0


def support(statement: str, text: str, question: str, headings: str = "") -> float:
    """Share of a statement that a text holds; 0 when it contradicts the text.

    It does so when a number, a name or an identifier of the statement is not there, or when only one of the
    two negates. Words of the question prove nothing: the share of what the statement adds to them counts
    where it is smaller, and a statement that adds nothing is not supported.

    Args:
        statement: a sentence of an answer.
        text: a sentence of a passage.
        question: what was asked.
        headings: titles above the sentence, where names may stand.

    Returns:
        From 0 to 1.
    """
    held = _all_words(text)
    asked = _content_words(question)
    said = _content_words(statement)
    new = said - asked
    if not new or _negates(statement) != _negates(text):
        return 0.0
    stems = {_stem(word) for word in held}
    titles = {_stem(word) for word in _all_words(headings)}
    names = _names(statement, asked)
    if not _codes(statement) <= held or not names <= stems | titles:
        return 0.0
    known = stems | titles
    return min(len(words & known) / len(words) for words in (new, said))


def keeps_question(statement: str, text: str, question: str) -> bool:
    """Whether a statement has the words of the question that the text has; without them it answers another.

    Args:
        statement: a sentence of an answer.
        text: the sentence of a passage that supports it.
        question: what was asked.
    """
    return _content_words(question) & _content_words(text) <= _content_words(statement)


def _codes(text: str) -> set[str]:
    """Numbers and identifiers: they must be there letter by letter, in the sentence itself."""
    return {
        _plain(word)
        for word in _WORD.findall(text)
        if any(letter.isdigit() or letter in "._" for letter in word)
    }


def _names(text: str, asked: set[str]) -> set[str]:
    """Content words with a capital; that of the first word is a name's only where it was asked about."""
    words = _WORD.findall(text)
    capital = [_stem(_plain(word)) for word in words if word[0].isupper() and _plain(word) not in _STOP_WORDS]
    first = _stem(_plain(words[0])) if words else ""
    return {word for word in capital if word != first or word in asked}


def _all_words(text: str) -> set[str]:
    """Words in lower case, whole and in parts."""
    words = {_plain(word) for word in _WORD.findall(text)}
    pieces = {part for word in words for part in _MEMBERS.split(word)}
    return words | pieces | {part for word in pieces for part in _PARTS.split(word) if part}


def _content_words(text: str) -> set[str]:
    """Words that carry meaning, lower case, plural endings cut."""
    words = (_plain(word) for word in _WORD.findall(text))
    return {_stem(word) for word in words if word not in _STOP_WORDS}


def _plain(word: str) -> str:
    """Lower case, without a possessive ending."""
    return _POSSESSIVE.sub("", word.lower())


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") else word


def _negates(text: str) -> bool:
    words = {word.lower() for word in _WORD.findall(text)}
    return bool(words & _NEGATIONS) or any(_NEGATED.search(word) for word in words)
