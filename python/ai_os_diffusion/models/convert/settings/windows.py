"""Layers whose tokens see a window alone, as configurations describe them."""

from __future__ import annotations

from typing import Any

from ai_os_diffusion.models.untrusted_values import MAX_LAYERS, MAX_TOKENS, UntrustedValues
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["check_no_windows", "windows_of_config"]

_FULL, _SLIDING = "full_attention", "sliding_attention"
_THETAS = {_FULL: 160_000.0, _SLIDING: 10_000.0}
_OLD_KEYS = {_FULL: "global_rope_theta", _SLIDING: "local_rope_theta"}
"""Names before version 5 of transformers."""


def check_no_windows(values: UntrustedValues, layers: int, positions: int) -> None:
    """Refuse windows of a family that has none.

    Args:
        values: of config.json.
        layers: of the network.
        positions: most tokens that the network takes.

    Raises:
        ModelLoadError: a layer would see less than the network has positions.
    """
    for kind in values.texts("layer_types", high=MAX_LAYERS):
        if kind != _FULL:
            raise values.refusal("layer_types", f"{_FULL} in every layer")
    first = values.integer("max_window_layers", 0, low=0) if "layer_types" not in values else layers
    # Qwen's configurations hold a window that is switched off, and one may be wider than the model.
    slides = values.flag("use_sliding_window", "sliding_window" in values) and first < layers
    if slides and values.integer("sliding_window", positions, high=1 << 40) < positions:
        raise values.refusal("sliding_window", f"none, or at least max_position_embeddings = {positions}")


def windows_of_config(values: UntrustedValues, layers: int) -> tuple[float, dict[str, Any]]:
    """The base of the rotary frequencies, and the entries of `metadata.json` about windows.

    Args:
        values: of config.json.
        layers: of the network.

    Raises:
        ModelLoadError: a layer sees tokens in another way, or positions are scaled.
    """
    kinds = values.texts("layer_types", high=MAX_LAYERS)
    if not kinds:
        every = values.integer("global_attn_every_n_layers", 3)
        kinds = [_SLIDING if index % every else _FULL for index in range(layers)]
    if len(kinds) != layers or not set(kinds) <= set(_THETAS):
        raise values.refusal("layer_types", f"{_FULL} or {_SLIDING} for each of {layers} layers")
    windowed = [index for index, kind in enumerate(kinds) if kind == _SLIDING]
    theta, own = (_theta(values, kind) for kind in (_FULL, _SLIDING))
    if not windowed:
        return theta, {}
    # Half of the window lies on either side of a token.
    reach = values.integer("local_attention", 128, high=MAX_TOKENS) // 2
    return theta, {"window_reach": reach, "windowed_layers": windowed, "window_rope_theta": own}


def _theta(values: UntrustedValues, kind: str) -> float:
    if values.get("rope_scaling"):
        raise values.refusal("rope_scaling", "none: positions would be scaled")
    old = values.number(_OLD_KEYS[kind], _THETAS[kind], low=1e-3)
    rope = values.section("rope_parameters").section(kind)
    if rope.text("rope_type", "default") != "default":
        raise rope.refusal("rope_type", "'default': positions would be scaled")
    unknown = [key for key in rope if key not in ("rope_type", "rope_theta") and rope.get(key)]
    if unknown:
        raise ModelLoadError(
            f"{rope.named(unknown[0])}, expected no such key: it may change how positions are scaled"
        )
    return rope.number("rope_theta", old, low=1e-3)
