"""The spans of passages, as texts that an answer may be."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.diffusion import Candidates
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["span_candidates"]

Ids = NDArray[np.int32]

# Where a word begins, its opening marks left out.
_WORD = re.compile(r"(?<!\w)\w")
_CHARACTERS_OF_A_TOKEN = 16
"""More than nearly all have: what is encoded of a passage behind a word's beginning is enough for a block."""


def span_candidates(
    block: Ids,
    mask_id: int,
    passages: Sequence[str],
    encode: Callable[[Sequence[str]], Sequence[Ids]],
    end_id: int,
    fill_id: int,
    others: Sequence[str] = (),
) -> Candidates:
    """A block with every run of tokens of a passage that begins with a word.

    A span is encoded as an answer is, from its first letter on: tokens within a text hold the space before a
    word, and the first of an answer does not.

    Args:
        block: int32[n], given tokens first.
        mask_id: the token of an open position.
        passages: texts.
        encode: ids of texts.
        end_id: stands behind a span that is shorter.
        fill_id: stands behind that.
        others: further texts that an answer may be.

    Raises:
        SamplingError: there is no word.
    """
    given = block[block != mask_id]
    length = len(block) - len(given)
    starts = [
        passage[found.start() : found.start() + _CHARACTERS_OF_A_TOKEN * length]
        for passage in passages
        for found in _WORD.finditer(passage)
    ]
    if not starts:
        raise SamplingError("the context holds no word that an answer could be held to")
    runs = [ids[:length] for ids in encode(starts)]
    texts = [np.full((len(ids), length), fill_id, np.int32) for ids in runs]
    for text, ids in zip(texts, runs, strict=True):
        count = np.arange(1, len(ids) + 1)[:, None]
        place = np.arange(length)[None]
        padded = np.concatenate([ids, np.full(length - len(ids), fill_id, np.int32)])
        text[:] = np.where(place < count, padded, np.where(place == count, end_id, fill_id))
    for ids in encode(others) if others else ():
        kept = np.concatenate([ids[: length - 1], [end_id]]).astype(np.int32)
        texts.append(np.append(kept, np.full(length - len(kept), fill_id, np.int32))[None])
    written = np.concatenate(texts)
    return Candidates(np.concatenate([np.tile(given, (len(written), 1)), written], 1))
