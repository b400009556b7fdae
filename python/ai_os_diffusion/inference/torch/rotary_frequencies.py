"""Rotary frequencies and how long-context models change them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["rotary_frequencies"]

Frequencies = NDArray[np.float64]


def rotary_frequencies(config: ModelMetadata) -> tuple[Frequencies, float]:
    """Radians per position of each pair of a head's dimensions, and the factor on cosine and sine.

    Returns:
        (float64[head_dim / 2], factor).

    Raises:
        ModelLoadError: the model's `rope_scaling` is of an unknown kind or lacks a number.

    Source: RoFormer, arXiv:2104.09864; Llama 3.1's and YaRN's (arXiv:2309.00071) changes.
    """
    theta, dim = config.rope_theta or 10_000.0, config.head_dim
    plain = theta ** -(np.arange(0, dim, 2) / dim)
    scaling = config.rope_scaling
    if scaling is None:
        return plain, 1.0
    kind = scaling.get("rope_type", scaling.get("type"))
    try:
        if kind == "default":
            return plain, 1.0
        if kind == "linear":
            return plain / scaling["factor"], 1.0
        if kind == "llama3":
            return _llama3(plain, scaling), 1.0
        if kind == "yarn":
            return _yarn(plain, scaling, config, theta)
    except KeyError as error:
        raise ModelLoadError(f"rope_scaling {dict(scaling)}: {error} is missing") from error
    raise ModelLoadError(f"rope_scaling {kind!r} is not supported; supported: default, linear, llama3, yarn")


def _llama3(plain: Frequencies, scaling: Mapping[str, Any]) -> Frequencies:
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * plain / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return np.asarray(plain * (kept + (1 - kept) / scaling["factor"]))


def _yarn(
    plain: Frequencies, scaling: Mapping[str, Any], config: ModelMetadata, theta: float
) -> tuple[Frequencies, float]:
    dim = config.head_dim
    original = scaling.get("original_max_position_embeddings") or config.max_position_embeddings
    factor = scaling.get("factor") or config.max_position_embeddings / original

    def magnitude(mscale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0

    attention = scaling.get("attention_factor")
    if attention is None:
        one, every = scaling.get("mscale"), scaling.get("mscale_all_dim")
        attention = magnitude(one) / magnitude(every) if one and every else magnitude(1.0)

    def dimension_of(turns: float) -> float:
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = dimension_of(scaling.get("beta_fast") or 32)
    high = dimension_of(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = np.clip((np.arange(len(plain)) - low) / max(high - low, 0.001), 0, 1)
    return plain * ((1 - ramp) + ramp / factor), attention
