"""Rotary settings of `config.json` and of GGUF files, in the form that `metadata.json` holds."""

from __future__ import annotations

from typing import Any

from ai_os_diffusion.models.untrusted_values import UntrustedValues
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["rope_of_config", "rope_of_gguf"]

_NUMBERS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings"),
}
"""Kinds of scaling to the numbers each needs."""

_OPTIONAL = {
    "yarn": ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"),
}
_DEFAULT_BASE = 10_000.0
_YARN_OF_LLAMA_CPP = {
    "rope.scaling.yarn_ext_factor": 1.0,
    "rope.scaling.yarn_attn_factor": 1.0,
    "rope.scaling.yarn_beta_fast": 32.0,
    "rope.scaling.yarn_beta_slow": 1.0,
    "rope.scaling.yarn_log_multiplier": 0.0,
}
"""What it computes with for these families, whatever the file says; -1 is "not said"."""


def rope_of_config(config: UntrustedValues, positions: int) -> tuple[float, dict[str, Any] | None]:
    """The base of the rotary frequencies, and how they are changed; None if they are not.

    Transformers before version 5 keeps the change in `rope_scaling` and the base beside it; later versions
    keep both in `rope_parameters`.

    Raises:
        ModelLoadError: the change is of an unknown kind, or lacks a number.
    """
    rope = config.section("rope_scaling" if config.get("rope_scaling") else "rope_parameters")
    base = rope.number("rope_theta", config.number("rope_theta", _DEFAULT_BASE, low=1e-3), low=1e-3)
    for holder in (config, rope):
        if holder.number("partial_rotary_factor", 1.0) != 1.0:
            raise holder.refusal("partial_rotary_factor", "1.0: part of each head would keep its position")
    kind = rope.text("rope_type", rope.text("type", "default"))
    if kind not in _NUMBERS:
        raise ModelLoadError(
            f"{rope.place}: rope_type is {kind!r}, expected one of {', '.join(_NUMBERS)}: "
            "positions would be scaled another way"
        )
    if kind == "default":
        return base, None
    scaling: dict[str, Any] = {"rope_type": kind}
    if kind in ("llama3", "yarn"):
        own = rope.integer("original_max_position_embeddings", positions, high=1 << 40)
        # Where the model says it too, it counts, as in transformers.
        scaling["original_max_position_embeddings"] = config.integer(
            "original_max_position_embeddings", own, high=1 << 40
        )
    for key in _NUMBERS[kind]:
        if key not in scaling:
            scaling[key] = rope.number(key, low=1e-6)
    for key in _OPTIONAL.get(kind, ()):
        if key in rope:
            scaling[key] = rope.number(key)
    if kind == "yarn" and "truncate" in rope:
        scaling["truncate"] = rope.flag("truncate")
    known = {*_NUMBERS[kind], *_OPTIONAL.get(kind, ())}
    known |= {"rope_type", "type", "rope_theta", "partial_rotary_factor", "truncate", "finetuned"}
    known |= {"original_max_position_embeddings"}
    unknown = [key for key in rope if key not in known and rope.get(key)]
    if unknown:
        raise rope.refusal(unknown[0], "no such key: it may change how positions are scaled")
    return base, scaling


def rope_of_gguf(
    values: UntrustedValues, positions: int, head_dim: int
) -> tuple[float, dict[str, Any] | None]:
    """As `rope_of_config`, of metadata whose keys begin behind the architecture.

    llama.cpp scales linearly where no kind is given; files of 2023 call the factor `scale_linear`.

    Raises:
        ModelLoadError: as `rope_of_config`.
    """
    base = values.number("rope.freq_base", _DEFAULT_BASE, low=1e-3)
    if values.integer("rope.dimension_count", head_dim, low=0) != head_dim:
        raise values.refusal("rope.dimension_count", f"{head_dim}: part of each head would keep its position")
    if values.number("rope.scaling.attn_factor", 1.0) not in (0.0, 1.0):
        raise values.refusal("rope.scaling.attn_factor", "1: attention scores would be scaled")
    kind = values.text("rope.scaling.type", "linear")
    factor = values.number("rope.scaling.factor", values.number("rope.scale_linear", 0.0)) or 1.0
    if kind == "yarn":
        return base, _yarn_of_gguf(values, factor, positions)
    if kind not in ("none", "linear"):
        raise values.refusal("rope.scaling.type", "none, linear or yarn")
    return base, None if kind == "none" or factor == 1.0 else {"rope_type": "linear", "factor": factor}


def _yarn_of_gguf(values: UntrustedValues, factor: float, positions: int) -> dict[str, Any]:
    for key, usual in _YARN_OF_LLAMA_CPP.items():
        if values.number(key, usual, low=-1.0) not in (usual, -1.0):
            raise values.refusal(key, f"{usual:g}, which is what llama.cpp computes with")
    original = values.integer("rope.scaling.original_context_length", positions, low=0, high=1 << 40)
    return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original or positions}
