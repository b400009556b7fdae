"""An example as positions: what each sees, what each is trained to write."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ai_os_diffusion.training.settings import NoiseSettings
from ai_os_diffusion.training.text_encoder import SpecialIds

__all__ = ["IGNORED", "PositionMaker", "Positions", "visible"]

IGNORED = -100

_GOLDEN = 0.6180339887498949
"""Steps of this part of a circle never come near where they were: times of the blocks of one text."""


@dataclass
class Positions:
    """Positions of one example, in parallel lists.

    Attributes:
        ids: what stands there.
        labels: what is to be written there, or next; `IGNORED` where nothing is learned.
        weights: of the losses.
        positions: places in the text.
        level: clean positions of a lower level are seen; blocks are seen by those behind them.
        noisy: 0 for clean positions; each masked copy of a block has a number of its own.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    level: list[int] = field(default_factory=list)
    noisy: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, i: int, label: int, weight: float, position: int, level: int, noisy: int) -> None:
        """Add one position."""
        self.ids.append(i)
        self.labels.append(label)
        self.weights.append(weight)
        self.positions.append(position)
        self.level.append(level)
        self.noisy.append(noisy)

    def clean(self, ids: Sequence[int], first: int, level: int) -> None:
        """Add ids that are seen and not trained on."""
        for offset, i in enumerate(ids):
            self.add(i, IGNORED, 0.0, first + offset, level, 0)


class PositionMaker:
    """Lays examples out for an objective.

    Args:
        special: ids of the model.
        settings: of the noise.
    """

    def __init__(self, special: SpecialIds, settings: NoiseSettings) -> None:
        self._special, self._noise, self._scheduler = special, settings, settings.scheduler

    def diffused(
        self, prompt: list[int], ids: list[int], written: list[bool], block: int, rng: random.Random
    ) -> Positions:
        """A prompt, the clean blocks before the last, and masked copies of each block.

        So the keys of the prompt and of finished blocks are those that decoding keeps.
        """
        out = Positions()
        out.clean(prompt, 0, 0)
        base = len(prompt)
        starts = range(0, len(ids), block)
        for number, start in enumerate(starts[:-1]):
            out.clean(ids[start : start + block], base + start, number + 1)
        levels = [number + 1 for number in range(len(starts))]
        self._masked(out, base, ids, written, starts, block, levels, rng)
        return out

    def both(
        self, prompt: list[int], ids: list[int], written: list[bool], block: int, rng: random.Random
    ) -> Positions:
        """The clean text, each position seeing those before it, and masked copies of each block behind it.

        One reading of a prompt serves both ways of writing; as DiffusionGemma is built.
        """
        out = self.causal(prompt, ids, written)
        out.weights = [self._noise.causal_weight * weight for weight in out.weights]
        base = len(prompt)
        starts = range(0, len(ids), block)
        self._masked(out, base, ids, written, starts, block, [base + start for start in starts], rng)
        return out

    def causal(self, prompt: list[int], ids: list[int], written: list[bool]) -> Positions:
        """The text for the next-token objective: each position sees what is before it."""
        length = len(ids)
        while length and ids[length - 1] == self._special.null:
            length -= 1
        whole, learned = prompt + ids[:length], [False] * len(prompt) + written[:length]
        out = Positions()
        for k, i in enumerate(whole):
            if k + 1 < len(whole) and learned[k + 1]:
                out.add(i, whole[k + 1], 1.0, k, k, 0)
            else:
                out.add(i, IGNORED, 0.0, k, k, 0)
        return out

    def _masked(
        self,
        out: Positions,
        base: int,
        ids: list[int],
        written: list[bool],
        starts: range,
        block: int,
        levels: list[int],
        rng: random.Random,
    ) -> None:
        """Add masked copies of each block.

        A short canvas is copied several times, at times spread evenly (antithetic sampling): the prompt, most
        of the work, is computed once for all of them. A masked position weighs what it does in the negative
        ELBO, 1/t for the linear schedule (MDLM, arXiv:2406.07524). Behind a NULL that is seen it weighs
        `null_weight` of that: only NULL follows there. A weight of NULL as such would make it less likely.
        """
        copies = self._noise.copies if base and len(starts) <= 2 else 1
        offset, noisy, least = rng.random(), itertools.count(1), self._noise.least_time
        for number, start in enumerate(starts):
            span = range(start, min(len(ids), start + block))
            free = [k for k in span if written[k]]
            for copy in range(copies if free else 0):
                time = least + (1 - least) * ((offset + copy / copies + number * _GOLDEN) % 1)
                rate, loss_weight = (
                    float(of(time)) for of in (self._scheduler.mask_rate, self._scheduler.loss_weight)
                )
                masked = {k for k in free if rng.random() < rate} or {rng.choice(free)}
                own = next(noisy)
                for k in span:
                    if k in masked:
                        weight = loss_weight / copies
                        if k - 1 in span and k - 1 not in masked and ids[k - 1] == self._special.null:
                            weight *= self._noise.null_weight
                        out.add(self._special.mask, ids[k], weight, base + k, levels[number], own)
                    else:
                        out.add(ids[k], IGNORED, 0.0, base + k, levels[number], own)


def visible(document: Any, level: Any, noisy: Any, query: Any, key: Any) -> Any:
    """Whether position `query` sees `key`; of arrays of NumPy or torch, and indices into them.

    Within a document: clean positions of lower levels; a clean one those of its own level too; one of a copy
    those of the copy that are of no higher level, which in a masked copy of a block are all. So a prompt and
    finished blocks never see what follows, and their keys and values can be kept.
    """
    same = document[query] == document[key]
    is_before = level[key] < level[query]
    is_own = (level[key] == level[query]) & (noisy[query] == 0)
    is_copy = (noisy[query] > 0) & (noisy[key] == noisy[query]) & (level[key] <= level[query])
    return same & (((noisy[key] == 0) & (is_before | is_own)) | is_copy)
