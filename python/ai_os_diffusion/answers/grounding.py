"""What a model writes about a question, held to the passages: the prompt, and the check of what came back.

Recalled text is data that somebody else wrote. It enters the prompt on a line of ours, and the tokenizer
takes all of it for text. Nothing that a model writes is shown before it is found in the passages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from ai_os_diffusion.answers.answer import Citation, Statement
from ai_os_diffusion.answers.candidates import Place, agree, words_of
from ai_os_diffusion.answers.recall import RecallHit
from ai_os_diffusion.ingestion import splitting

__all__ = ["ANSWER_ENDS", "grounded_prompt", "held_parts", "is_held", "says_the_same"]

# A model that only continues text answers as these do: in a sentence, with the words of the text.
_EXAMPLES = (
    (
        "The library on Elm Street opens at nine. Books may be kept for four weeks. "
        "Late books cost ten cents a day.",
        "how long can I keep a book?",
        "Books may be kept for four weeks.",
    ),
    (
        "Marie repaired the bicycle of Mr. Stone on Monday. It has a new chain and costs 85 dollars.",
        "who mended the bicycle?",
        "Marie repaired the bicycle.",
    ),
    (
        "Der Hausmeister heißt Herr Vogel. Die Mülltonnen stehen im Hof, der Schlüssel liegt beim Nachbarn.",
        "Wo liegt der Schlüssel?",
        "Der Schlüssel liegt beim Nachbarn.",
    ),
)
ANSWER_ENDS = ["\n"]
"""What ends an answer: the examples have one line each."""

_PART = re.compile(r";\s+")
_OPENING = "([{\"'“‘„‚«»‹›`*_"
_CLOSING = ")]}\"'”’“‘«»‹›`*_」』）"
_ENDING = ".!?…。！？"
_CLAUSE_END = ",;:，；：、"


def grounded_prompt(question: str, text: str) -> str:
    """A text whose continuation is the answer.

    Args:
        question: what is asked.
        text: what the model is given to answer from.
    """
    examples = "".join(
        f"Text: {given}\nQuestion: {asked}\nAnswer: {said}\n\n" for given, asked, said in _EXAMPLES
    )
    return f"{examples}Text: {_one_line(text)}\nQuestion: {_one_line(question)}\nAnswer:"


def is_held(written: str, statement: Statement, *, is_read: bool) -> bool:
    """Whether a model's sentence is one of the documents', and holds the answer.

    It must stand in a quote letter by letter, line breaks, case and its own last mark aside: from where a
    sentence begins, which is where what negates or limits it mostly stands, to where a sentence or a clause
    ends. A word left out, exchanged or moved makes other claims of the same words, and which ones do
    no list tells.

    Args:
        written: what the model wrote.
        statement: the answer in the passages, and its quotes.
        is_read: the statement was found by a reader, and has to be in the sentence; else it is what was
            nearest.
    """
    core = _folded(written).rstrip(_CLOSING + _ENDING + _CLAUSE_END)
    return bool(core) and any(_holds(one, core, is_read=is_read) for one in statement.citations)


def held_parts(written: str, hits: Sequence[RecallHit]) -> tuple[Citation, ...] | None:
    """Where a short answer stands in the passages, letter by letter but for case; None when it does not.

    A part of a word is none: neither "refundable" of "non-refundable" nor "5" of "-5" or "5%".

    Args:
        written: in one piece, or several between semicolons, each of which must stand somewhere.
        hits: passages, nearest first.
    """
    whole = _place(written, hits)
    places = [whole] if whole is not None else [_place(part, hits) for part in parts_of(written)]
    cited: dict[tuple[str, str], Citation] = {}
    for place in places:
        if place is None:
            return None
        citation = Citation.of(place)
        cited.setdefault((citation.memory_id, citation.quote), citation)
    return tuple(cited.values())


def says_the_same(written: str, statements: Sequence[Statement]) -> bool:
    """Whether a short answer, or a part of it, is one that was read, or a part of one, or holds one.

    Args:
        written: as for `held_parts`.
        statements: what a reader found.
    """
    read = [words_of(one.text) for one in statements]
    return any(agree(words_of(part), words) for part in (written, *parts_of(written)) for words in read)


def parts_of(written: str) -> list[str]:
    """What stands between semicolons."""
    return _PART.split(written)


def _holds(citation: Citation, core: str, *, is_read: bool) -> bool:
    """Whether a sentence of a quote begins so, up to the end of a clause, and the answer is in it."""
    quote = citation.quote
    spans = list(splitting.sentences(quote))
    ends = {len(_folded(quote[:end])) for _, end in spans}
    for start, _ in spans:
        if is_read and not start <= citation.start < citation.end:
            continue
        rest = _folded(quote[start:])
        if is_read and len(_folded(quote[start : citation.end])) > len(core):
            continue
        begun = len(_folded(quote[:start])) + bool(quote[:start].strip())
        if rest.startswith(core) and _is_clause_end(rest, len(core), begun, ends):
            return True
    return False


def _is_clause_end(text: str, at: int, begun: int, ends: set[int]) -> bool:
    """Whether a clause ends at a place: before the marks that end a sentence, or others that part clauses."""
    marks = len(text[at:]) - len(text[at:].lstrip(_CLOSING + _ENDING + _CLAUSE_END))
    behind = at + marks
    if behind == len(text) or begun + behind in ends:
        return True
    is_parted = marks > 0 and (text[behind].isspace() or _is_spaceless(text[behind - 1]))
    # A full stop within a sentence is an abbreviation's, or an ordinal's.
    return is_parted and not any(mark in _ENDING for mark in text[at:behind])


def _place(text: str, hits: Sequence[RecallHit]) -> Place | None:
    """The first place that a text stands at, between whole words."""
    words = text.strip().rstrip(_ENDING + _CLAUSE_END).split()
    if not words_of(text):
        return None
    pattern = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
    for hit in hits:
        for found in pattern.finditer(hit.text):
            if _is_whole(hit.text, *found.span()):
                return Place(hit, *found.span(), 0.0)
    return None


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether a place holds whole words, with nothing but brackets, quotes and ends of clauses at them."""
    before = text[:start].rstrip(_OPENING)
    behind = text[end:].lstrip(_CLOSING + _ENDING + _CLAUSE_END)
    return (not before or before[-1].isspace() or _is_spaceless(before[-1])) and (
        not behind or behind[0].isspace() or _is_spaceless(text[end])
    )


def _is_spaceless(letter: str) -> bool:
    """Whether words are not parted by spaces in the script of a character: wide ones."""
    return unicodedata.east_asian_width(letter) in "WF"


def _folded(text: str) -> str:
    return _one_line(text).casefold()


def _one_line(text: str) -> str:
    """The text without line breaks, which are the prompt's structure."""
    return " ".join(text.split())
