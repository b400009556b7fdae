"""What may be asked: a question is looked at before anything is searched for it."""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING

from ai_os_diffusion.utils.errors import ConfigurationError, QuestionError
from ai_os_diffusion.utils.visible_text import visible_line, without_controls

if TYPE_CHECKING:
    from ai_os_diffusion.runtime.encoder import Encoder

__all__ = ["asked", "check_length", "check_limits"]

_SHOWN = 40
"""Characters of a question that an error repeats."""


def asked(question: object) -> str:
    """A question as it is searched for: without control characters and escape sequences, which say nothing.

    Args:
        question: what came from the user.

    Raises:
        QuestionError: it is no `str`, or holds nothing but marks and spaces.
    """
    if not isinstance(question, str):
        raise QuestionError(f"the question is of type {type(question).__name__}, expected a str")
    text = without_controls(question)
    # Punctuation, separators and what has no glyph; symbols and emoji may stand in documents.
    if all(unicodedata.category(letter)[0] in "PZC" for letter in text):
        shown = f"holds no word: {visible_line(question[:_SHOWN])!r}" if question.strip() else "is empty"
        raise QuestionError(f"the question {shown}; expected some words")
    return text


def check_length(question: str, encoder: Encoder) -> None:
    """Refuse what would be compared by its beginning alone.

    Raises:
        QuestionError: the encoder takes fewer tokens.
    """
    if encoder.is_truncated([question], "query")[0]:
        (tokens,) = encoder.count([question])
        raise QuestionError(
            f"the question has {tokens} tokens, expected no more than the {encoder.max_seq_length} that the "
            f"encoder {encoder.name} takes, its ends included; ask in fewer words"
        )


def check_limits(top_k: int | None, min_similarity: float | None) -> None:
    """Refuse numbers that no search has.

    Raises:
        ConfigurationError: one is not as it has to be.
    """
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise ConfigurationError(f"top_k is {top_k!r}, expected a whole number of 1 or more")
    if min_similarity is None:
        return
    if not isinstance(min_similarity, int | float) or math.isnan(min_similarity):
        raise ConfigurationError(f"min_similarity is {min_similarity!r}, expected a cosine, -1 to 1")
