"""A decoder that learns questions and answers, step by step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.anchor import AnchorTexts
from ai_os_diffusion.evolution.learning.early_stopping import EarlyStopping
from ai_os_diffusion.evolution.learning.learning_config import LearningConfig
from ai_os_diffusion.evolution.learning.trainer_choice import AnyTrainer
from ai_os_diffusion.evolution.learning_state import LearningState, Saved
from ai_os_diffusion.evolution.objectives.beginnings import mean_loss, rate_of
from ai_os_diffusion.evolution.objectives.masked_batches import MaskedBatches
from ai_os_diffusion.evolution.packed import Packed, Text
from ai_os_diffusion.evolution.question_batches import MOST_POSITIONS, QuestionBatches

__all__ = ["QuestionLearning"]

Anchored: TypeAlias = tuple[Mapping[int, Text], Packed, NDArray[np.int64]]

_RECORDED = ("tokens", "loss", "validation_loss")


class QuestionLearning:
    """A training from its first step to its last.

    Args:
        trainer: of the card, at its beginning.
        config: how.
        batches: what is asked in a step.
        epochs: how often each pair is asked.
        stopping: says when to stop before the end; None goes there.
        positions: most of a pass.

    Attributes:
        anchor: texts of the base; None leaves them out.
        steps: of the whole training.
        records: `tokens`, `loss` and `validation_loss` of the steps so far.
    """

    anchor: AnchorTexts | None = None

    def __init__(
        self,
        trainer: AnyTrainer,
        config: LearningConfig,
        batches: QuestionBatches | MaskedBatches,
        epochs: int,
        stopping: EarlyStopping | None,
        positions: int = MOST_POSITIONS,
    ) -> None:
        self._trainer, self._batches, self._config = trainer, batches, config
        self._stopping, self._positions = stopping, positions
        self.steps = epochs * self._batches.per_epoch
        self._base: dict[int, NDArray[np.float32]] = {}
        self.records: list[dict[str, Any]] = []
        self._begun = time.monotonic()

    @property
    def is_done(self) -> bool:
        """Whether all steps are taken, or the best is found."""
        reached = self._stopping is not None and self._stopping.is_reached
        return reached or self._trainer.steps >= self.steps

    @property
    def taken(self) -> int:
        """Steps that were taken."""
        return self._trainer.steps

    @property
    def recent_loss(self) -> float:
        """Of the questions of the last epoch."""
        return mean_loss(self.records, self._batches.per_epoch)

    def take_up(self, state: LearningState) -> None:
        """Go on where a state is."""
        found = state.load()
        if found is not None:
            self._trainer.restore(found.steps, dict(found.parameters))
            self.records = found.records
            if self._stopping is not None and found.looks:
                self._stopping.restore(found.looks)

    def save(self, state: LearningState) -> None:
        """Write how far it is."""
        looks = {} if self._stopping is None else self._stopping.state()
        state.save(Saved(self._trainer.steps, self._trainer.state(), self.records, looks))

    def trained(self) -> Mapping[str, NDArray[np.float32]]:
        """The factors: the best where that was looked for, else the last."""
        return (self._stopping.best if self._stopping else {}) or self._trainer.parameters()

    def step(self) -> dict[str, Any]:
        """Take a step; what it tells."""
        number = self._trainer.steps
        parts = list(self._batches.parts(number, self._positions))
        counted = sum(float(part.weights.sum()) for part in parts)
        # Of torch they are numbers on a device, which are waited for at the end of the step alone.
        loss, row = 0.0, 0
        for part in parts:
            weights = part.weights / np.float32(counted)
            loss += self._trainer.accumulate(
                part.batch, weights, labels=part.labels, first_row=row, seed=number
            )
            row += len(part)
        divergence = 0.0 if self.anchor is None else self._anchored(self.anchor[number], number, row)
        self._trainer.step(rate_of(self._config, number, self.steps))
        tokens = row + (self.records[-1]["tokens"] if self.records else 0)
        told = {
            "step": number + 1,
            "steps": self.steps,
            "epoch": number // self._batches.per_epoch + 1,
            "loss": float(loss),
            "anchor": float(divergence),
            "tokens": tokens,
            "seconds": time.monotonic() - self._begun,
        }
        if self._stopping is not None and (number + 1) % self._batches.per_epoch == 0:
            told |= self._stopping.look(self._trainer)
        self.records.append({key: told[key] for key in _RECORDED if key in told})
        return told

    def _anchored(self, texts: Mapping[int, Text], number: int, row: int) -> float:
        """Add up what draws the card back to the base; the mean divergence."""
        for index in texts.keys() - self._base.keys():
            alone, compared = self._batches.anchored({index: texts[index]})
            self._base[index] = self._trainer.base_states(alone.batch, compared)
        parts = list(self._anchored_parts(texts))
        share = self._config.anchor / sum(len(compared) for _, _, compared in parts)
        found = 0.0
        for own, packed, compared in parts:
            weights = np.zeros(len(packed), np.float32)
            weights[compared] = share
            states = np.concatenate([self._base[index] for index in own])
            found += self._trainer.accumulate(packed.batch, weights, base=states, first_row=row, seed=number)
            row += len(packed)
        return found / self._config.anchor

    def _anchored_parts(self, texts: Mapping[int, Text]) -> Iterator[Anchored]:
        """Texts of the base in as many passes as it takes, and the positions of each that are compared."""
        packed, compared = self._batches.anchored(texts)
        if len(packed) <= self._positions or len(texts) == 1:
            yield texts, packed, compared
            return
        numbers = list(texts)
        half = len(numbers) // 2
        for some in (numbers[:half], numbers[half:]):
            yield from self._anchored_parts({number: texts[number] for number in some})
