"""Answers from passages: the prompt that holds a small model to them, and the check of what it writes.

Recalled text is data that somebody else wrote. It enters the prompt on a line of ours, and the tokenizer
takes all of it for text. No sentence of the model is shown before one of the passages is found that holds
it; where there is none, the passages speak for themselves. Citations are computed from that, never asked
for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ai_os_diffusion.answers.answer import Answer, Citation
from ai_os_diffusion.answers.excerpts import Sentence, excerpts_of, worth_quoting
from ai_os_diffusion.answers.recall import RecallResult
from ai_os_diffusion.answers.support import keeps_question, support
from ai_os_diffusion.ingestion import splitting

if TYPE_CHECKING:
    from ai_os_diffusion.inference.generation.generation_stream import GenerationStream

__all__ = [
    "ANSWER_ENDS",
    "SUPPORTED",
    "AnswerCheck",
    "answer_sentences",
    "confidence",
    "grounded_prompt",
    "token_probability",
    "whole_sentences",
]

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
ANSWER_ENDS = ["\n\n", "\nText:", "\nQuestion:"]
# A sentence of the model is shown when a sentence of the passages holds this share of what it adds to the
# question, and when its tokens were this probable so far (geometric mean).
SUPPORTED = 0.8
_PROBABLE = 0.8


def grounded_prompt(question: str, sentences: Sequence[Sentence]) -> str:
    """A text whose continuation is the answer.

    Args:
        question: what is asked.
        sentences: what the model is given, nearest first; the nearest passage stands next to the question.
    """
    given = " ".join(_one_line(excerpt.text) for excerpt in reversed(excerpts_of(sentences)))
    examples = "".join(
        f"Text: {text}\nQuestion: {asked}\nAnswer: {said}\n\n" for text, asked, said in _EXAMPLES
    )
    return f"{examples}Text: {given}\nQuestion: {_one_line(question)}\nAnswer:"


def whole_sentences(pieces: Iterable[str]) -> Iterator[str]:
    """The sentences of a text that is being written, each when it has ended.

    One has ended when the first word of the next is whole: that word may show it to go on ("15. Mai").

    Args:
        pieces: the text as it is written.
    """
    held = ""
    for piece in pieces:
        held += piece
        while len(spans := list(splitting.sentences(held))) > 1:
            (start, end), (following, _) = spans[:2]
            if len(spans) == 2 and not any(letter.isspace() for letter in held[following:]):
                break
            yield held[start:end].strip()
            held = held[following:]
    yield from (held[start:end].strip() for start, end in splitting.sentences(held))


def answer_sentences(
    found: RecallResult, sentences: Sequence[Sentence], stream: GenerationStream
) -> Iterator[str | Answer]:
    """What may be shown of the text that a model writes; if nothing, the passages' own words.

    Args:
        found: what was recalled.
        sentences: the nearest of it, at least one, nearest first.
        stream: continues the `grounded_prompt` of some of them.

    Yields:
        Sentences, then the `Answer` that they are joined to.
    """
    check = AnswerCheck(found.question, sentences)
    shown: list[str] = []
    for sentence in whole_sentences(stream):
        written = stream.generation
        is_cut = written.finish_reason == "length" and sentence[-1] not in ".!?…"
        if not is_cut and check.admits(sentence, token_probability(written.logprobs)):
            shown.append(sentence)
            yield sentence if len(shown) == 1 else f" {sentence}"
    if not shown:
        shown = check.quote()
        yield " ".join(shown)
    is_quote = {*shown} <= {sentence.text for sentence in sentences}
    probability = 1.0 if is_quote else token_probability(stream.generation.logprobs)
    yield Answer(
        found.question,
        " ".join(shown),
        is_quote,
        check.citations,
        check.confidence(probability),
        False,
        excerpts_of(sentences),
        found.nearest,
        found.threshold,
        "quote" if is_quote else "ar",
    )


class AnswerCheck:
    """Lets the sentences of an answer through that the passages hold, and remembers where.

    Args:
        question: what was asked.
        sentences: of the passages, nearest first; at least one.
    """

    def __init__(self, question: str, sentences: Sequence[Sentence]) -> None:
        self._question = question
        self._sentences = sentences
        self._admitted: set[str] = set()
        self._citations: dict[int, Citation] = {}

    def admits(self, statement: str, probability: float) -> bool:
        """Whether a sentence of the model may be shown.

        It must be probable, new, and held by a sentence of a passage; the first must speak of what was asked.

        Args:
            statement: what it wrote.
            probability: mean probability of its tokens.
        """
        if probability < _PROBABLE or statement in self._admitted:
            return False
        held, index = max(
            (support(statement, sentence.text, self._question, " ".join(sentence.hit.headings)), -index)
            for index, sentence in enumerate(self._sentences)
        )
        source = self._sentences[-index].text
        answers = bool(self._admitted) or keeps_question(statement, source, self._question)
        if held < SUPPORTED or not answers:
            return False
        self._admitted.add(statement)
        self._cite(-index, held)
        return True

    def quote(self) -> list[str]:
        """The nearest sentences themselves, as an answer in place of the model's."""
        quoted = worth_quoting(self._sentences)
        for index in range(len(quoted)):
            self._cite(index, 1.0)
        return [sentence.text for sentence in quoted]

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Where the sentences stand that were admitted, or quoted."""
        return tuple(self._citations.values())

    def confidence(self, probability: float) -> float:
        """The `confidence` of what was admitted, or quoted."""
        score = max(self._sentences[index].score for index in self._citations)
        return confidence(score, min(citation.support for citation in self.citations), probability)

    def _cite(self, index: int, held: float) -> None:
        known = self._citations.get(index)
        if known is None or known.support < held:
            self._citations[index] = Citation.of(self._sentences[index], held)


def confidence(score: float, support: float, probability: float) -> float:
    """How much to trust an answer: similarity of its sentence times support times probability.

    It is a score to rank answers by, not a calibrated probability of being right.

    Args:
        score: of the nearest cited sentence.
        support: share of the answer that the cited sentences hold.
        probability: mean probability of the answer's tokens; 1 for a quote, of which the model wrote nothing.

    Returns:
        From 0 to 1.
    """
    return min(max(score, 0.0), 1.0) * support * min(max(probability, 0.0), 1.0)


def token_probability(logprobs: Sequence[float]) -> float:
    """Geometric mean of the probabilities of an answer's tokens.

    Args:
        logprobs: natural logarithms.
    """
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0


def _one_line(text: str) -> str:
    """The text without line breaks, which are the prompt's structure."""
    return " ".join(text.split())
