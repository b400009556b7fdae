"""Texts as positions: one behind the other, their common beginning once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.training.positions import Positions

__all__ = ["Packed", "Text"]


Ids = NDArray[np.int32]
Batch = tuple[Ids, Ids, Ids, Ids, Ids]


@dataclass(frozen=True)
class Text:
    """Ids, and from which on they are learned."""

    ids: tuple[int, ...]
    learned: int


@dataclass(frozen=True)
class Packed:
    """Positions of a pass, as `training.positions.visible` reads them.

    Attributes:
        ids: int32[n].
        positions: int32[n], places in the text.
        level: int32[n]; of texts that are read from left to right the places.
        copy: int32[n], 0 for the beginning that all share, else the number of the text.
        document: int32[n].
        labels: int32[n], the next token.
        weights: float32[n], 1 where the next token is learned.
    """

    ids: NDArray[np.int32]
    positions: NDArray[np.int32]
    level: NDArray[np.int32]
    copy: NDArray[np.int32]
    document: NDArray[np.int32]
    labels: NDArray[np.int32]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, texts: Sequence[Text]) -> Packed:
        """Lay texts out: what all begin with is computed once, and each sees it and itself."""
        shared = min(
            min(text.learned for text in texts) - 1,
            _common([text.ids for text in texts]) if len(texts) > 1 else 0,
        )
        shared = max(shared, 0)
        ids = list(texts[0].ids[:shared])
        positions, copy = list(range(shared)), [0] * shared
        labels, weights = [0] * shared, [0.0] * shared
        for number, text in enumerate(texts, 1):
            own = range(shared, len(text.ids) - 1)
            ids += (text.ids[at] for at in own)
            labels += (text.ids[at + 1] for at in own)
            weights += (float(at + 1 >= text.learned) for at in own)
            positions += own
            copy += [number] * len(own)
        return cls(
            np.array(ids, np.int32),
            np.array(positions, np.int32),
            np.array(positions, np.int32),
            np.array(copy, np.int32),
            np.zeros(len(ids), np.int32),
            np.array(labels, np.int32),
            np.array(weights, np.float32),
        )

    @classmethod
    def of_documents(cls, documents: Sequence[Positions]) -> Packed:
        """Lay texts out that were laid out alone, one behind the other."""

        def joined(name: str) -> list[Any]:
            return [value for document in documents for value in getattr(document, name)]

        lengths = [len(document) for document in documents]
        return cls(
            np.array(joined("ids"), np.int32),
            np.array(joined("positions"), np.int32),
            np.array(joined("level"), np.int32),
            np.array(joined("noisy"), np.int32),
            np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            # Where nothing is learned the label counts nothing.
            np.maximum(np.array(joined("labels"), np.int32), 0),
            np.array(joined("weights"), np.float32),
        )

    @property
    def batch(self) -> Batch:
        """Ids, places, levels, copies and documents."""
        return self.ids, self.positions, self.level, self.copy, self.document

    def __len__(self) -> int:
        return len(self.ids)


def _common(texts: Sequence[tuple[int, ...]]) -> int:
    """How many ids all texts begin with."""
    first, last = min(texts), max(texts)
    pairs = zip(first, last, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(first), len(last)))
