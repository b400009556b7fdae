"""Other wordings of a question.

A question asked in one wording stores no fact: the card learns the string. Words that are left out at random,
anew each time, carry it to wordings that were never asked.
"""

from __future__ import annotations

import random

__all__ = ["reworded"]

FRAMES = (
    "{}",
    "Tell me: {}",
    "Question: {}",
    "I would like to know: {}",
    "Please answer: {}",
    "Do you know? {}",
    "Quick question. {}",
)
_LOWER = 0.3
"""How often people do not care for case."""


def reworded(question: str, dropped: float, rng: random.Random) -> str:
    """A question without some of its words, in one of several frames, at times in lower case.

    Args:
        question: as it was given.
        dropped: part of the words that are left out; 0 gives the question itself.
        rng: draws.
    """
    if not dropped:
        return question
    words = question.split()
    kept = [word for word in words if rng.random() >= dropped] or words
    text = rng.choice(FRAMES).format(" ".join(kept))
    return text.lower() if rng.random() < _LOWER else text
