"""What a core asks of a network that predicts masked tokens, and what that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ask", "Denoiser", "DenoisingText", "Predictions", "Reading"]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a denoiser makes of n rows.

    Attributes:
        ids: int32[n], the token chosen for each row; never the mask.
        confidence: float32[n], its probability.
        entropy: float32[n], of the row's distribution, in nats.
        top_ids: int32[n, k], the most probable tokens, most probable first.
        top_confidence: float32[n, k], their probabilities.
        is_known: the rows were predicted before, and no pass was computed for them.
    """

    ids: NDArray[np.int32]
    confidence: NDArray[np.float32]
    entropy: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_confidence: NDArray[np.float32]
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as a denoiser is to begin it.

    Attributes:
        prompt: int32[n].
        room: tokens that may follow.
        temperature: 0 chooses the most probable token, above it draws.
        seed: of the draws.
        top_k: most probable tokens to tell with each prediction.
        unguided: a prompt that lacks what this one tells: predictions are led away from what it alone would
            give, as far as the denoiser is told to.
    """

    prompt: NDArray[np.int32]
    room: int
    temperature: float = 0.0
    seed: int = 0
    top_k: int = 0
    unguided: NDArray[np.int32] | None = None


class DenoisingText(Protocol):
    """A text as a denoiser has read it: the prompt and finished blocks. Belongs to one caller."""

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a denoiser about one text.

    Attributes:
        text: what was read before.
        ids: int32[length], the block behind it, open positions masked.
        rows: int64[n], positions of the block to predict.
        allowed: for some of `rows`, by index, the tokens that may be chosen; any other row may have all.
        length: positions of the block that are part of the text; None is all. What stands behind them need
            not be seen.
    """

    text: DenoisingText
    ids: NDArray[np.int32]
    rows: NDArray[np.int64]
    allowed: Mapping[int, NDArray[np.int32]] = field(default_factory=dict)
    length: int | None = None


class Denoiser(Protocol):
    """A network that predicts masked tokens from both sides.

    Attributes:
        mask_id: the token of an open position.
        null_id: the token that stands for nothing, where a model has one.
        end_ids: tokens that end a text.
        leaves_end: what stands behind an end that was written is left out. Not where an algorithm of others
            is kept to the letter.
        window: most tokens of a text with its block.
    """

    mask_id: int
    null_id: int | None
    end_ids: frozenset[int]
    leaves_end: bool
    window: int

    def read(self, asked: Sequence[Reading]) -> list[Any]:
        """Take the prompts of several texts, a `DenoisingText` each; read with their blocks at the latest."""
        ...

    def append(self, texts: Sequence[Any], blocks: Sequence[NDArray[np.int32]]) -> None:
        """Take a finished block behind each text, whose tokens see it and each other; read as prompts are."""
        ...

    def predict(self, asked: Sequence[Ask]) -> list[Predictions]:
        """Predict rows of the blocks of several texts, in one pass where that is possible."""
        ...
