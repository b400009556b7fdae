"""The files of a model folder, open."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.inference.weight_loader import WeightLoader, WeightMap
from ai_os_diffusion.models.contents import CARD_FILE
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.utils.files.atomic_folder import read_consistently

if TYPE_CHECKING:
    from ai_os_diffusion.models.cards import Card

__all__ = ["OpenedModel"]


@dataclass(frozen=True)
class OpenedModel:
    """What a model folder holds.

    Attributes:
        metadata: sizes and settings.
        weights: tensors by name.
        tokenizer: text to ids.
        card: the model's own; None without one.
    """

    metadata: ModelMetadata
    weights: WeightMap
    tokenizer: FastTokenizer
    card: Card | None

    @classmethod
    def of_folder(cls, folder: Path, num_threads: int) -> OpenedModel:
        """Open a folder: all files of one model, also while another takes its place.

        Args:
            folder: of the model.
            num_threads: threads of the tokenizer; 0 is one for each physical core.

        Raises:
            ModelLoadError: a file is missing or unfit.
            WeightError: the weights or the card are damaged.
            TokenizerError: the tokenizer cannot be used.
        """
        return read_consistently(folder, partial(cls._open, folder, num_threads))

    @classmethod
    def _open(cls, folder: Path, num_threads: int) -> OpenedModel:
        metadata = ModelMetadata.from_folder(folder)
        weights = WeightLoader(folder / "weights.parquet").load_weights()
        card = None
        if (folder / CARD_FILE).is_file():
            from ai_os_diffusion.models.cards import Card  # Only whoever uses cards pays for it.

            card = Card(folder / CARD_FILE)
        return cls(metadata, weights, FastTokenizer(folder, num_threads=num_threads), card)
