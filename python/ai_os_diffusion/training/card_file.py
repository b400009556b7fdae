"""What a run has learned as a card, and as a model where all weights were trained."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.cards import Base, Card, CardDescription
from ai_os_diffusion.models.cards.names import ROWS
from ai_os_diffusion.models.contents import sha256_of
from ai_os_diffusion.models.convert.plain_model import write_plain_model
from ai_os_diffusion.models.diffusion_settings import DiffusionSettings
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.training.example_files import example_paths
from ai_os_diffusion.training.recipe import Recipe
from ai_os_diffusion.training.text_encoder import SpecialIds

__all__ = ["CardFile", "data_digest", "files_digest"]

Arrays = Mapping[str, NDArray[np.float32]]

_ATTENTION = {"diffusion": "prefix", "both": "causal"}


@dataclass(frozen=True)
class CardFile:
    """Where what is learned is written, and what is said of it.

    Attributes:
        recipe: of the run.
        base: folder of the model.
        special: its ids.
        scaling: of the factors.
        data_sha256: digest of the data, where there are files.
    """

    recipe: Recipe
    base: Path
    special: SpecialIds
    scaling: float
    data_sha256: str | None

    def write(self, out: Path, trained: Arrays, metrics: Mapping[str, Any], *, is_last: bool) -> Card:
        """Write `card.parquet`, and `model/` where all weights were trained; each whole or not at all.

        Args:
            out: folder of the run.
            trained: by the names of a card, or of a model.
            metrics: what was measured.
            is_last: of the run; before, factors are not rounded to 4 bits, which takes a minute where there
                are hundreds.
        """
        base, own = self.base, trained
        if self.recipe.method == "full":
            base = out / "model"
            own = {name: array for name, array in trained.items() if name.endswith(ROWS)}
            weights = {name: array for name, array in trained.items() if name not in own}
            write_plain_model(base, self.base, weights, self.recipe.name)
        description = CardDescription(
            name=self.recipe.name,
            kind="skill" if self.recipe.objective == "causal" else "diffusion",
            base=Base.of_folder(base),
            rank=0 if self.recipe.method == "full" else self.recipe.card.rank,
            scaling=self.scaling,
            row_ids=() if self.recipe.objective == "causal" else (self.special.mask, self.special.null),
            config=self._config(),
            licence=self.recipe.data.licence,
            metrics=metrics,
            data_sha256=self.data_sha256,
            created_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        )
        bits = self.recipe.card.bits or None
        if bits is not None and not is_last:
            bits = 8
        return Card.write(out / "card.parquet", description, own.items(), bits=bits)

    def check(self) -> None:
        """Refuse a card that an engine would refuse, before it is trained.

        Raises:
            ModelLoadError: what it would say of how it writes makes no sense.
        """
        if self.recipe.objective != "causal":
            vocab_size = ModelMetadata.from_folder(self.base).vocab_size
            DiffusionSettings.of(self._config(), "card", vocab_size)

    def _config(self) -> dict[str, Any]:
        card = self.recipe.card
        told = {"objective": self.recipe.objective, "data": self.recipe.data.described}
        if self.recipe.objective == "causal":
            return told
        return {
            "mask_id": self.special.mask,
            "null_id": self.special.null,
            "end_ids": list(self.special.end),
            "attention": _ATTENTION[self.recipe.objective],
            "shift": False,
            "block_length": card.block_length,
            "threshold": card.threshold,
            "chat_template": card.chat_template,
            "question": card.question,
            **card.config,
            **told,
        }


def data_digest(recipe: Recipe) -> str | None:
    """The sha256 over the digests of the files that are trained on; None where a program draws."""
    return None if recipe.data.program is not None else files_digest(recipe.data.files)


def files_digest(files: Sequence[Path]) -> str:
    """The sha256 over the digests of files, and of those in folders."""
    digests = (sha256_of(path) for path in example_paths(files))
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
