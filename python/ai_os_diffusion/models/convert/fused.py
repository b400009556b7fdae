"""A model folder with a card in its weights, as a source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.cards.card import Card, check_against
from ai_os_diffusion.models.cards.description import DIFFUSION, Base
from ai_os_diffusion.models.cards.names import ROW_SCALE, ROWS, A, B
from ai_os_diffusion.models.convert.arrow import ArrowFolder
from ai_os_diffusion.models.convert.source import Description, SourceTensor, bfloat16_to_float32
from ai_os_diffusion.utils.errors import CardError

__all__ = ["FusedFolder"]


class FusedFolder:
    """What a model computes with a card that is always attached: `W + scaling · B A` in place of `W`.

    Rows are scaled where the card scales them. Tensors that a card changes are read in float32; whoever
    writes them decides how they are stored.

    Args:
        folder: of the model.
        card: of this model; a skill.

    Raises:
        CardError: it is of another model, or brings what no weights can hold: heads, side blocks, or another
            way to write.
        WeightError: the model's weights are damaged.
        ModelLoadError: a file of the model is missing or damaged.
    """

    dropped: Sequence[str] = ()

    def __init__(self, folder: Path, card: Card) -> None:
        self._base, self._card = ArrowFolder(folder), card
        about, base = card.description, Base.of_folder(folder)
        if about.base.weights_sha256 != base.weights_sha256:
            raise CardError(
                f"card {card.name!r} is of the base {about.base.name!r} ({about.base.weights_sha256[:12]}…), "
                f"and {folder} is {base.name!r} ({base.weights_sha256[:12]}…)"
            )
        if about.heads or about.kind == DIFFUSION or card.sides:
            brings = f"the heads {', '.join(about.heads)}" if about.heads else "another way to write"
            if card.sides:
                brings = f"side blocks behind {', '.join(card.sides)}"
            raise CardError(
                f"card {card.name!r} brings {brings}, which weights cannot hold; attach it as a card"
            )
        shapes = {tensor.name: tensor.shape for tensor in self._base.tensors}
        check_against(about, card.shapes, shapes, str(card.path))
        if tied := [layer for layer in card.layers if f"{layer}.weight" not in shapes]:
            raise CardError(
                f"card {card.name!r} changes {tied[0]}, which this model shares with its embedding: weights "
                "cannot hold that; attach it as a card"
            )
        self.tensors = [self._changed(tensor) for tensor in self._base.tensors]

    @property
    def paths(self) -> Sequence[Path]:
        """The files read, for their checksums."""
        return [*self._base.paths, self._card.path]

    def describe(self) -> Description:
        """As of the model; its weights are others, and cards of the model do not fit them any more."""
        described = self._base.describe()
        source = described.metadata.get("source", {})
        both = f"{self._card.description.base.weights_sha256} {self._card.sha256}"
        described.metadata["source"] = {
            **source,
            "weights_sha256": hashlib.sha256(both.encode()).hexdigest(),
            "fused": [*source.get("fused", []), self._card.name],
        }
        return described

    def _changed(self, tensor: SourceTensor) -> SourceTensor:
        layer, card = tensor.name.removesuffix(".weight"), self._card
        if not {tensor.name, layer + A, layer + ROWS} & card.shapes.keys():
            return tensor
        read = partial(self._read, tensor, layer)
        return replace(
            tensor, dtype="float32", read=read, stored="float32", bits=0, group_size=0, read_codes=None
        )

    def _read(self, tensor: SourceTensor, layer: str) -> NDArray[np.float32]:
        card = self._card
        if tensor.name in card.shapes:
            return np.ascontiguousarray(card[tensor.name], np.float32)
        values = tensor.read()
        found = bfloat16_to_float32(values) if tensor.dtype == "bfloat16" else values.astype(np.float32)
        if layer + A in card.shapes:
            found += np.float32(card.description.scaling) * (card[layer + B] @ card[layer + A])
        if layer + ROW_SCALE in card.shapes:
            found *= card[layer + ROW_SCALE][:, None]
        if layer + ROWS in card.shapes:
            found[list(card.description.row_ids)] = card[layer + ROWS]
        return found
