"""A card with another description, its tensors as they are."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.cards.card import Card, Tensor
from ai_os_diffusion.models.cards.description import CardDescription
from ai_os_diffusion.models.convert.source import Codes

__all__ = ["redescribed"]


def redescribed(card: Card, out: str | os.PathLike[str], description: CardDescription) -> Card:
    """Write a card again under another description; nothing is rounded again.

    Args:
        card: a card.
        out: the file to write.
        description: what it says of itself from now on.

    Raises:
        CardError: the description contradicts the tensors.
    """
    return Card.write(out, description, ((name, _stored(card, name)) for name in card))


def _stored(card: Card, name: str) -> Tensor:
    """A tensor as the file holds it."""
    file, info = card.native, card.native.info(name)
    if info["quant_type"] is None:
        return file.plain(name)
    rows = info["shape"][0]

    def by_row(values: NDArray[Any]) -> NDArray[Any]:
        if values.ndim == 2:
            return np.ascontiguousarray(values)
        # Stored in panels, [panels, groups, rows of a panel].
        return np.ascontiguousarray(values.transpose(0, 2, 1).reshape(-1, values.shape[1])[:rows])

    zeros = file.zero_points(name)
    return Codes(
        file.unpacked_codes(name),
        by_row(file.scales(name)),
        None if zeros is None else by_row(zeros),
        int(info["quant_type"].removeprefix("int")),
        info["group_size"],
    )
