"""Embedding texts that are longer than a model's window."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.inference.ragged import Ragged

__all__ = ["embed_windows"]


def embed_windows(
    embed: Callable[[Ragged], NDArray[np.float32]],
    tokenizer: FastTokenizer,
    texts: Sequence[str],
    window: int,
) -> NDArray[np.float32]:
    """Average the vectors of each text's windows, weighted by their tokens.

    A window is as many tokens as fit between the special tokens that the tokenizer puts around a text.

    Args:
        embed: vectors, float32[n, dim], of a batch.
        tokenizer: the model's.
        texts: of any length.
        window: most tokens of a sequence, special ones counted.

    Returns:
        float32[n, dim], not normalised.
    """
    plain = tokenizer.encode(texts, add_special_tokens=False, padding=False, split_special_tokens=True)
    before, after = _surroundings(tokenizer)
    room = max(1, window - len(before) - len(after))
    pieces: list[NDArray[np.int32]] = []
    owners: list[int] = []
    for owner, ids in enumerate(plain.ids):
        for start in range(0, max(1, len(ids)), room):
            pieces.append(np.concatenate([before, ids[start : start + room], after]))
            owners.append(owner)
    sizes = np.array([len(piece) for piece in pieces], np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    vectors = embed((np.concatenate(pieces), offsets))
    sums = np.zeros((len(texts), vectors.shape[1]), np.float32)
    weights = np.zeros((len(texts), 1), np.float32)
    np.add.at(sums, owners, vectors * sizes[:, None])
    np.add.at(weights, owners, sizes[:, None])
    return np.asarray(sums / np.maximum(weights, 1), np.float32)


def _surroundings(tokenizer: FastTokenizer) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Ids that the tokenizer puts before and after a text."""
    text = "a"
    inner = tokenizer.encode(text, add_special_tokens=False).flat_ids
    whole = tokenizer.encode(text).flat_ids
    for start in range(len(whole) - len(inner) + 1):
        if np.array_equal(whole[start : start + len(inner)], inner):
            return whole[:start], whole[start + len(inner) :]
    return whole[:0], whole[:0]
