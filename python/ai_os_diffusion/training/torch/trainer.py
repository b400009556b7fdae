"""A run that teaches a decoder to write by diffusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ai_os_diffusion._native import WeightFile
from ai_os_diffusion.inference.torch.network import DeviceWeights
from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.training.batches import Batches, validation_batches
from ai_os_diffusion.training.card_file import CardFile
from ai_os_diffusion.training.recipe import Recipe
from ai_os_diffusion.training.samples import write_samples
from ai_os_diffusion.training.text_encoder import TextEncoder
from ai_os_diffusion.training.torch.attention import Attention
from ai_os_diffusion.training.torch.loop import Tell, TrainingLoop, copy_values
from ai_os_diffusion.training.torch.network import TrainedDecoder
from ai_os_diffusion.training.torch.objective import DistillationLoss, TokenLoss
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["Trainer", "load_card"]

Tensor = Any


class Trainer(TrainingLoop):
    """A run; beside what every run keeps it writes `samples.txt`.

    Args:
        recipe: what is trained.
        base: folder of the model.
        out: folder of the run.
        device: "auto", "cpu" or "cuda".
        data_sha256: digest of the data.
        tell: is told every line of the log.
        is_stopped: whether the run is to be broken off.

    Raises:
        TrainingError: the state is of another recipe.
        DeviceError: the device is not there.
        ModelLoadError: the base cannot be trained.
    """

    def __init__(
        self,
        recipe: Recipe,
        base: Path,
        out: Path,
        *,
        device: str,
        data_sha256: str | None,
        tell: Tell,
        is_stopped: Callable[[], bool],
    ) -> None:
        super().__init__(recipe, base, out, device=device, tell=tell, is_stopped=is_stopped)
        self._recipe = recipe
        self._encoder = TextEncoder(base, recipe.card, masks=recipe.objective != "causal")
        self.decoder = self._decoder()
        self._file = CardFile(recipe, base, self._encoder.special, self.decoder.scaling, data_sha256)
        self._file.check()
        if recipe.start is not None:
            load_card(self.decoder, Card(recipe.start), self._rows)
        self._teacher = self._decoder().requires_grad_(False) if recipe.distill is not None else None
        self._round = -1
        self._begin(self.decoder, self._losses, frozenset([self.decoder.rows_name]))

    def _losses(self) -> torch.nn.Module:
        attention = Attention.on(self._device, self.decoder)
        self.token_loss = TokenLoss(self.decoder, attention)
        if self._recipe.distill is None:
            return self.token_loss
        assert self._teacher is not None
        return DistillationLoss(self.decoder, self._teacher, attention, self._recipe.distill.steps)

    @property
    def _rows(self) -> tuple[int, ...]:
        special = self._encoder.special
        return () if self._recipe.objective == "causal" else (special.mask, special.null)

    def _decoder(self) -> TrainedDecoder:
        recipe = self._recipe
        return TrainedDecoder.begun(
            DeviceWeights(WeightFile(self._base / "weights.parquet"), self._device, self._dtype),
            ModelMetadata.from_folder(self._base),
            self._rows,
            rank=0 if recipe.method == "full" else recipe.card.rank,
            alpha=recipe.card.alpha,
            recompute=recipe.batch.recompute,
        )

    def _batches(self) -> Batches:
        return Batches(self._base, self._recipe)

    @property
    def _current_round(self) -> int:
        assert self._recipe.distill is not None
        return min(int(self._progress * self._recipe.distill.rounds), self._recipe.distill.rounds - 1)

    def _prepare_step(self) -> None:
        if self._teacher is not None and self._round != self._current_round:
            self._round = self._current_round
            copy_values(self.decoder.trained(), self._teacher.trained())

    def _second(self) -> dict[str, Tensor] | None:
        return None if self._teacher is None else self._teacher.trained()

    def _restore_second(self, values: Mapping[str, Tensor]) -> None:
        if self._teacher is not None:
            copy_values(values, self._teacher.trained())
            self._round = self._current_round

    @torch.no_grad()
    def _measured(self) -> dict[str, float]:
        if not self._recipe.data.validation:
            return {}
        found = [
            self.token_loss({name: torch.from_numpy(value).to(self._device) for name, value in batch.items()})
            for batch in validation_batches(self._base, self._recipe)
        ]
        if not found:
            raise TrainingError("no example of data.validation fits into batch.longest; raise it")
        return {"validation_loss": round(float(torch.stack(found).mean()), 5)}

    def _write(self, trained: Mapping[str, NDArray[np.float32]], metrics: Mapping[str, Any]) -> Card:
        card = self._file.write(self._out, trained, metrics, is_last=self._progress >= 1)
        write_samples(self._recipe, self._base, self._encoder, card, self._out, self.step)
        return card


def load_card(decoder: TrainedDecoder, card: Card, rows: tuple[int, ...]) -> None:
    """Go on from a card.

    Raises:
        TrainingError: it has other tensors than are trained, or of other shapes, or other rows.
    """
    trained, place = decoder.trained(), f"start: {card.path}"
    if card.description.row_ids != rows:
        raise TrainingError(
            f"{place}: has rows of the tokens {list(card.description.row_ids)}, trained are {list(rows)}"
        )
    if odd := sorted(set(card) ^ set(trained)):
        has = "has" if odd[0] in card else "lacks"
        raise TrainingError(f"{place}: {has} {odd[0]!r}; expected exactly what this run trains")
    with torch.no_grad():
        for name, value in trained.items():
            found = torch.from_numpy(card[name]).to(value)
            if found.shape != value.shape:
                raise TrainingError(
                    f"{place}: {name!r} is {list(found.shape)}, trained is {list(value.shape)}: "
                    "is card.rank that of the card?"
                )
            if name.endswith(".lora_B.weight"):
                found = found * (card.description.scaling / decoder.scaling)
            value.copy_(found)
