"""Where every training of a skill begins, how its rate goes on, and what its loss is at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.evolution.learning.control_config import ControlConfig
from ai_os_diffusion.evolution.learning.learning_config import LearningConfig
from ai_os_diffusion.evolution.lora_config import LoRAConfig
from ai_os_diffusion.models.cards.magnitudes import WeightOf, row_norms
from ai_os_diffusion.models.cards.names import MAGNITUDE, SIDE_DOWN, SIDE_UP, A, B

__all__ = ["Config", "begun", "mean_loss", "new_factors", "rate_of"]

Config = LoRAConfig | ControlConfig
"""How a card is learned, whatever it is made of."""

Numbers = NDArray[np.float32]

_LEAST_RATE = 0.02
"""Part of the rate that is left at the end."""


def new_factors(
    targets: Iterable[Mapping[str, Any]], config: LoRAConfig, weight_of: WeightOf
) -> dict[str, Numbers]:
    """Factors that change nothing yet, by their names: the first random, the second zero; and magnitudes.

    Args:
        targets: layers, as `LoRAConfig.targets` names them.
        config: rank and seed, and whether there are magnitudes.
        weight_of: the weights of a layer, whose rows are as long as the magnitudes are at first.

    Raises:
        CardError: a row of a layer has no length, and is to have a magnitude.
    """
    rng = np.random.default_rng(config.seed)
    found: dict[str, Numbers] = {}
    for layer in targets:
        inputs, outputs = layer["inputs"], layer["outputs"]
        a = rng.standard_normal((config.rank, inputs), np.float32) / np.float32(math.sqrt(inputs))
        found[layer["name"] + A] = a
        found[layer["name"] + B] = np.zeros((outputs, config.rank), np.float32)
        if config.use_dora:
            found[layer["name"] + MAGNITUDE] = row_norms(weight_of(layer["name"]), layer["name"])
    return found


def begun(targets: Iterable[Mapping[str, Any]], config: Config, weight_of: WeightOf) -> dict[str, Numbers]:
    """What is trained, by its names, as it changes nothing yet: factors, or side blocks.

    Args:
        targets: as the configuration names them.
        config: what, and its seed.
        weight_of: the weights of a layer, as `new_factors` takes them.

    Raises:
        CardError: as of `new_factors`.
    """
    if isinstance(config, LoRAConfig):
        return new_factors(targets, config, weight_of)
    return _new_sides(targets, config)


def _new_sides(targets: Iterable[Mapping[str, Any]], config: ControlConfig) -> dict[str, Numbers]:
    """Matrices of side blocks: the first random, the second zero."""
    rng = np.random.default_rng(config.seed)
    found: dict[str, Numbers] = {}
    for block in targets:
        hidden = block["hidden"]
        down = rng.standard_normal((config.width, hidden), np.float32) / np.float32(math.sqrt(hidden))
        found[block["name"] + SIDE_DOWN] = down
        found[block["name"] + SIDE_UP] = np.zeros((hidden, config.width), np.float32)
    return found


def rate_of(config: LearningConfig, step: int, steps: int) -> float:
    """The learning rate of a step, from 0: up along a line, then down along a cosine."""
    warm = min(1.0, (step + 1) / config.warm_up) if config.warm_up else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return config.rate * warm * (_LEAST_RATE + (1 - _LEAST_RATE) * cosine)


def mean_loss(records: Sequence[Mapping[str, Any]], steps: int) -> float:
    """Of the last steps; 0 where none was taken."""
    recent: list[float] = [record["loss"] for record in records[-steps:]]
    return round(sum(recent) / max(len(recent), 1), 5)
