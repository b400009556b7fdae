"""The values that pass between layers, and the protocols they are asked for by.

Nothing here computes: a type in this file is known to every layer above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Ask",
    "Chunk",
    "Denoiser",
    "DenoisingText",
    "Hit",
    "Memory",
    "Message",
    "Metadata",
    "Predictions",
    "TokenCounter",
]

Metadata = Mapping[str, Any]
"""JSON-able values by name."""


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str


class Memory(TypedDict):
    """A stored memory, as `ArrowStorage` returns it. Times are seconds since the epoch."""

    memory_id: str
    content: str
    embedding: NDArray[np.float32]
    metadata: dict[str, Any]
    created_at: float
    updated_at: float


Hit = tuple[Memory, float]
"""A memory and its similarity to the query; higher is nearer."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document.

    Attributes:
        text: the passage itself.
        source: path or address of the document.
        line: 1-based line where the passage begins; for a PDF, of its page's text.
        end_line: 1-based line of its last character.
        headings: titles above the passage, outermost first.
        metadata: what else the reader knows (kind, page, symbol, ...).
    """

    text: str
    source: str
    line: int
    end_line: int
    headings: tuple[str, ...] = ()
    metadata: Metadata = field(default_factory=dict)


class TokenCounter(Protocol):
    """Counts the tokens of texts, special tokens left out."""

    def __call__(self, texts: Sequence[str], /) -> Sequence[int] | NDArray[np.int64]:
        """Count the tokens of each text."""
        ...


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a denoiser makes of n rows.

    Attributes:
        ids: int32[n], the token chosen for each row; never the mask.
        confidence: float32[n], its probability.
        entropy: float32[n], of the row's distribution, in nats.
        top_ids: int32[n, k], the most probable tokens, most probable first.
        top_confidence: float32[n, k], their probabilities.
    """

    ids: NDArray[np.int32]
    confidence: NDArray[np.float32]
    entropy: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_confidence: NDArray[np.float32]


class DenoisingText(Protocol):
    """A text as a denoiser has read it: the prompt and finished blocks. Belongs to one caller."""

    def append(self, ids: NDArray[np.int32]) -> None:
        """Read a finished block behind what was read; its tokens see it and each other."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a denoiser about one text.

    Attributes:
        text: what was read before.
        ids: int32[length], the block behind it, open positions masked.
        rows: int64[n], positions of the block to predict.
        allowed: for some of `rows`, by index, the tokens that may be chosen; any other row may have all.
    """

    text: DenoisingText
    ids: NDArray[np.int32]
    rows: NDArray[np.int64]
    allowed: Mapping[int, NDArray[np.int32]] = field(default_factory=dict)


class Denoiser(Protocol):
    """A network that predicts masked tokens from both sides.

    Attributes:
        mask_id: the token of an open position.
        null_id: the token that stands for nothing, where a model has one.
        end_ids: tokens that end a text.
        window: most tokens of a text with its block.
    """

    mask_id: int
    null_id: int | None
    end_ids: frozenset[int]
    window: int

    def read(
        self,
        prompt: NDArray[np.int32],
        *,
        room: int,
        temperature: float,
        seed: int,
        top_k: int,
        unguided: NDArray[np.int32] | None = None,
    ) -> DenoisingText:
        """Read a prompt.

        Args:
            prompt: int32[n].
            room: tokens that may follow.
            unguided: a prompt that lacks what this one tells: predictions are led away from what it alone
                would give, as far as the denoiser is told to.
            temperature: 0 chooses the most probable token, above it draws.
            seed: of the draws.
            top_k: most probable tokens to tell with each prediction.
        """
        ...

    def predict(self, asked: Sequence[Ask]) -> list[Predictions]:
        """Predict rows of the blocks of several texts, in one pass where that is possible."""
        ...
