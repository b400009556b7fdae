"""The layers whose weights some answers are most sensitive to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ai_os_diffusion.evolution.learning.trainer_choice import AnyTrainer
from ai_os_diffusion.evolution.packed import Packed
from ai_os_diffusion.models.cards.names import B

__all__ = ["layer_sensitivities", "most_sensitive"]

Layer = Mapping[str, Any]


def layer_sensitivities(
    trainer: AnyTrainer, samples: Iterable[Iterable[Packed]], layers: Sequence[Layer]
) -> dict[str, float]:
    """The mean square of the gradient of each layer's weights, the trace of its empirical Fisher information.

    It needs no gradient of weights. Where the second factor is zero, its own gradient is that of the weights,
    G, times the first factor turned, whose numbers are drawn with variance 1 / inputs: its square is that of
    G but for a constant, in the mean of what is drawn (Johnson and Lindenstrauss).

    Args:
        trainer: of factors of all layers that change nothing yet, all of one rank; nothing is left of it.
        samples: of each answer its passes.
        layers: their names and inputs.

    Returns:
        By name, to a factor that is the same for all.
    """
    found = dict.fromkeys((layer["name"] for layer in layers), 0.0)
    count = 0
    for parts in samples:
        for part in parts:
            weights = part.weights / np.float32(part.weights.sum())
            trainer.accumulate(part.batch, weights, labels=part.labels)
        gradients = trainer.gradients()
        for layer in layers:
            own = gradients[layer["name"] + B].astype(np.float64)
            found[layer["name"]] += float((own * own).sum()) * layer["inputs"]
        # Nothing moves at the rate 0, and gradients begin anew.
        trainer.step(0.0)
        count += 1
    return {name: total / count for name, total in found.items()}


def most_sensitive(layers: Sequence[Layer], sensitivities: Mapping[str, float], part: float) -> list[Layer]:
    """The layers that are trained: those that lose most for each number of their factors, as many as fit.

    Args:
        layers: with their inputs and outputs.
        sensitivities: by name.
        part: of the numbers that factors of all layers have; there is one layer at least.

    Returns:
        In the order of `layers`.
    """

    def size(layer: Layer) -> int:
        found: int = layer["inputs"] + layer["outputs"]
        return found

    left = part * sum(map(size, layers))
    chosen: set[str] = set()
    for layer in sorted(layers, key=lambda one: -sensitivities[one["name"]] / size(one)):
        if not chosen or size(layer) <= left:
            chosen.add(layer["name"])
            left -= size(layer)
    return [layer for layer in layers if layer["name"] in chosen]
