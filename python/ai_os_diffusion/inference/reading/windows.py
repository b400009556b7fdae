"""A question and passages as the sequences that a reader sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.inference.reading.reader_settings import ReaderSettings
from ai_os_diffusion.utils.errors import InferenceError

__all__ = ["Window", "windows"]

_ENDS = 2
"""Special tokens before and behind a question."""


class Window(NamedTuple):
    """`[CLS] question [SEP] title passage [SEP]`, of the passage a part.

    Attributes:
        passage: index of the passage.
        ids: int32[length].
        question_length: tokens of the first text, its ends counted; they have token type 0, all others 1.
        first: index of the first token of the passage.
        places: int64[tokens, 2], begin and end of each of these tokens in characters of the passage.
    """

    passage: int
    ids: NDArray[np.int32]
    question_length: int
    first: int
    places: NDArray[np.int64]


def windows(
    tokenizer: FastTokenizer,
    question: str,
    passages: Sequence[str],
    titles: Sequence[str],
    settings: ReaderSettings,
    max_length: int,
) -> list[Window]:
    """Lay a question beside passages; a long one is read in parts that overlap.

    What they spell is text, and no special token. A passage without tokens has no window.

    Args:
        tokenizer: the encoder's.
        question: of a longer one the last `settings.question_tokens`.
        passages: what is read.
        titles: what stands above each, which is read with every part of it, and no part of an answer.
        settings: of the reader.
        max_length: tokens that the encoder takes.

    Raises:
        InferenceError: the encoder takes too few tokens for the question and anything else.
    """
    # What is asked stands at the end of a long question.
    first = tokenizer.encode(
        question,
        max_length=settings.question_tokens + _ENDS,
        truncation_side="left",
        padding=False,
        split_special_tokens=True,
    ).ids[0]
    room = max_length - len(first) - 1
    if room < 2:
        raise InferenceError(
            f"a question of {len(first)} tokens leaves no room for a passage among the {max_length} that the "
            "encoder takes; ask in fewer words"
        )
    told = tokenizer.encode(
        list(passages),
        add_special_tokens=False,
        padding=False,
        split_special_tokens=True,
        return_offsets=True,
    )
    above = tokenizer.encode(
        list(titles), add_special_tokens=False, padding=False, split_special_tokens=True
    ).ids
    assert told.offsets is not None
    found = []
    for index, (body, places, title) in enumerate(zip(told.ids, told.offsets, above, strict=True)):
        # The end of a long title is nearest to the passage; the passage gets half of the room at least.
        title = title[max(0, len(title) - room // 2) :]
        width = min(settings.window_tokens, room - len(title))
        step = width - min(settings.overlap_tokens, width // 2)
        for start in range(0, max(1, len(body) - (width - step)), step) if len(body) else ():
            part = slice(start, start + width)
            # The question's own end parts it from the passage, and ends the passage too.
            ids = np.concatenate([first, title, body[part], first[-1:]]).astype(np.int32, copy=False)
            found.append(Window(index, ids, len(first), len(first) + len(title), places[part]))
    return found
