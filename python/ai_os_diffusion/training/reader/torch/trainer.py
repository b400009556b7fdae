"""A run that teaches an encoder to read."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ai_os_diffusion._native import WeightFile
from ai_os_diffusion.inference.torch.network import DeviceWeights
from ai_os_diffusion.models.cards import Base, Card, CardDescription
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.training.reader.batches import ReaderBatches
from ai_os_diffusion.training.reader.packed import PackedQuestions
from ai_os_diffusion.training.reader.recipe import ReaderRecipe
from ai_os_diffusion.training.reader.torch.loss import ReaderLoss
from ai_os_diffusion.training.reader.torch.network import HEAD, TrainedReader
from ai_os_diffusion.training.torch.attention import Attention
from ai_os_diffusion.training.torch.loop import Tell, TrainingLoop, copy_values

__all__ = ["ReaderTrainer"]

Tensor = Any


class ReaderTrainer(TrainingLoop):
    """A run.

    Args:
        recipe: what is trained.
        base: folder of the model.
        out: folder of the run.
        packed: the questions.
        device: "auto", "cpu" or "cuda".
        data_sha256: digest of the data.
        tell: is told every line of the log.
        is_stopped: whether the run is to be broken off.

    Raises:
        TrainingError: the state is of another recipe, or the card to begin with of another base or rank.
        DeviceError: the device is not there.
        ModelLoadError: the base cannot be trained.
        ModelNotFoundError: there is no card to begin with.
        CardError: it is none.
    """

    _is_captured = True

    def __init__(
        self,
        recipe: ReaderRecipe,
        base: Path,
        out: Path,
        *,
        packed: PackedQuestions,
        device: str,
        data_sha256: str,
        tell: Tell,
        is_stopped: Callable[[], bool],
    ) -> None:
        super().__init__(recipe, base, out, device=device, tell=tell, is_stopped=is_stopped)
        self._recipe, self._packed, self._data_sha256 = recipe, packed, data_sha256
        self.reader = TrainedReader(
            DeviceWeights(WeightFile(base / "weights.parquet"), self._device, self._dtype),
            ModelMetadata.from_folder(base),
            rank=recipe.card.rank,
            alpha=recipe.card.alpha,
        )
        if recipe.card.init is not None:
            self.reader.begin_with(Card(recipe.card.init), Base.of_folder(base).weights_sha256)
        self._averages: dict[str, Tensor] | None = None
        if recipe.card.average:
            self._averages = {name: value.detach().clone() for name, value in self.reader.trained().items()}
        self._begin(self.reader, self._loss_module, frozenset(self._tables))

    @property
    def _tables(self) -> list[str]:
        return [name for name in self.reader.trained() if name.endswith("token_type_embeddings.weight")]

    def _loss_module(self) -> torch.nn.Module:
        return ReaderLoss(self.reader, Attention.on(self._device, self.reader), self._recipe.loss)

    def _batches(self) -> ReaderBatches:
        return ReaderBatches(self._base, self._recipe, self._packed)

    @torch.no_grad()
    def _end_step(self) -> None:
        if self._averages is not None:
            # Early on the mean is of the steps that there were.
            decay = min(self._recipe.card.average, (1 + self.step) / (10 + self.step))
            values = list(self.reader.trained().values())
            torch._foreach_lerp_(list(self._averages.values()), values, 1 - decay)

    def _second(self) -> dict[str, Tensor] | None:
        return self._averages

    def _restore_second(self, values: Mapping[str, Tensor]) -> None:
        if self._averages is not None:
            copy_values(values, self._averages)

    def _kept(self) -> dict[str, Tensor]:
        return self._averages or self.reader.trained()

    def _write(self, trained: Mapping[str, NDArray[np.float32]], metrics: Mapping[str, Any]) -> Card:
        recipe = self._recipe
        windows = recipe.windows
        description = CardDescription(
            name=recipe.name,
            kind="reader",
            base=Base.of_folder(self._base),
            rank=recipe.card.rank,
            scaling=self.reader.scaling,
            heads=(HEAD,),
            config={
                "head": HEAD,
                "question_tokens": windows.question,
                "window_tokens": windows.passage,
                "overlap_tokens": windows.overlap,
                "span_tokens": windows.span,
                "data": recipe.data.described,
                **recipe.card.config,
            },
            licence=recipe.data.licence,
            metrics=metrics,
            data_sha256=self._data_sha256,
            created_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        )
        bits = recipe.card.bits or None
        if bits is not None and self._progress < 1:
            # Rounding factors of 4 bits together takes long.
            bits = 8
        return Card.write(self._out / "card.parquet", description, trained.items(), bits=bits)
