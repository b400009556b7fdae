"""What a model writes about a question, held to the passages: the prompt, and the check of what came back.

Recalled text is data that somebody else wrote. It enters the prompt on a line of ours, and the tokenizer
takes all of it for text. Nothing that a model writes is shown before it is found in the passages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ai_os_diffusion.answers.answer import Citation, Statement
from ai_os_diffusion.answers.candidates import Place, agree, words_of
from ai_os_diffusion.answers.recall import RecallHit

__all__ = ["ANSWER_ENDS", "grounded_prompt", "held_parts", "is_held"]

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
_WORD = re.compile(r"\w+")


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


def is_held(written: str, statement: Statement, question: str, *, is_read: bool) -> bool:
    """Whether a model's words say what a passage says, and nothing else.

    They must hold the answer that a reader found, and every one of them must stand in the quote, above it or
    in the question: a name, a number or a negation that is the model's own does not. Words that the question
    has alone answer nothing.

    Args:
        written: what the model wrote.
        statement: the answer in the passages, and its quotes.
        question: what was asked.
        is_read: the statement was found by a reader; else it is what was nearest.
    """
    words, asked = words_of(written), set(words_of(question))
    said = [word for one in statement.citations for word in words_of(" ".join((one.quote, *one.headings)))]
    if not set(words) <= {*said, *asked} or set(words) <= asked:
        return False
    answer = words_of(statement.text)
    return not is_read or (len(answer) <= len(words) and agree(answer, words))


def held_parts(written: str, hits: Sequence[RecallHit]) -> tuple[Citation, ...] | None:
    """Where a short answer stands in the passages, word by word; None when it does not.

    Args:
        written: in one piece, or several between semicolons, each of which must stand somewhere.
        hits: passages, nearest first.
    """
    whole = _place(written, hits)
    places = [whole] if whole is not None else [_place(part, hits) for part in _PART.split(written)]
    cited: dict[tuple[str, str], Citation] = {}
    for place in places:
        if place is None:
            return None
        citation = Citation.of(place)
        cited.setdefault((citation.memory_id, citation.quote), citation)
    return tuple(cited.values())


def _place(text: str, hits: Sequence[RecallHit]) -> Place | None:
    """The first place whose words are those of a text."""
    words = words_of(text)
    if not words:
        return None
    for hit in hits:
        found = list(_WORD.finditer(hit.text))
        said = [word.group().casefold() for word in found]
        for at in range(len(said) - len(words) + 1):
            if said[at : at + len(words)] == words:
                return Place(hit, found[at].start(), found[at + len(words) - 1].end(), 0.0)
    return None


def _one_line(text: str) -> str:
    """The text without line breaks, which are the prompt's structure."""
    return " ".join(text.split())
