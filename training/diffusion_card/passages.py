"""Parts of examples: prompts, answers, passages cut around them, gaps."""

from __future__ import annotations

import random
import re

from open_data import SENTENCE_END

NOT_STATED = "not stated"

NAME_OR_NUMBER = re.compile(
    r"\b(?:[A-Z][\w'-]+(?:\s+(?:of|the|and|de|von)?\s*[A-Z][\w'-]+)*"
    r"|\d[\d,.]*(?:\s+(?:percent|million|billion|[a-z]+s))?)\b"
)


def ask(context: str, question: str) -> str:
    """The prompt of a question about passages."""
    return f"{context}\n\nQuestion: {question}\nAnswer:"


def ask_back(context: str, answer: str) -> str:
    """The prompt for a question about a passage that has an answer."""
    return f"{context}\n\nAnswer: {answer}\nQuestion:"


def answer_of(rng: random.Random, row: dict) -> str:
    """One of the answers to a question, without a stop behind it."""
    text = rng.choice(row["answers"])["text"].strip()
    return text.rstrip(".,;") or text


def shape(value: str) -> tuple[bool, bool]:
    """Whether a value has digits, and whether it is a name."""
    return any(map(str.isdigit, value)), value[:1].isupper()


def join(rng: random.Random, passages: list[str]) -> str:
    """Passages as one context, numbered in a third of the cases."""
    if len(passages) > 1 and rng.random() < 0.35:
        passages = [f"[{number}] {passage}" for number, passage in enumerate(passages, 1)]
    return "\n\n".join(passages)


def crop(rng: random.Random, row: dict, most: int) -> str:
    """The whole context, or sentences around its answer: about `most` characters at the most."""
    context, answer = row["context"], row["answers"][0]
    if len(context) <= most and rng.random() < 0.6:
        return context
    cuts = [0, *(match.end() for match in SENTENCE_END.finditer(context)), len(context)]
    first = max(i for i, cut in enumerate(cuts[:-1]) if cut <= answer["start"])
    last = next(
        i for i, cut in enumerate(cuts) if cut >= min(len(context), answer["start"] + len(answer["text"]))
    )
    budget = rng.randint(min(300, most), most)
    while True:
        grown = [(first - 1, last)] * (first > 0) + [(first, last + 1)] * (last + 1 < len(cuts))
        grown = [(a, b) for a, b in grown if cuts[b] - cuts[a] <= budget]
        if not grown:
            return context[cuts[first] : cuts[last]].strip()
        first, last = rng.choice(grown)


def span(rng: random.Random, sentence: str) -> str | None:
    """Something in a sentence that a question could be about, where it has any."""
    gap = gap_in(rng, sentence)
    answer = sentence[slice(*gap)].strip(" .,;:()\"'") if gap else ""
    return answer if 2 <= len(answer) <= 80 else None


def gap_in(rng: random.Random, sentence: str) -> tuple[int, int] | None:
    """Where a name, a number or one to four words stand."""
    if rng.random() < 0.65:
        found = [match.span() for match in NAME_OR_NUMBER.finditer(sentence)]
        return rng.choice(found) if found else None
    words = [match.span() for match in re.finditer(r"\S+", sentence)]
    if len(words) <= 8:
        return None
    first = rng.randrange(len(words) - 4)
    return words[first][0], words[first + rng.randint(1, 4) - 1][1]
