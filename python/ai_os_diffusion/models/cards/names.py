"""How the tensors of a card are named."""

from __future__ import annotations

__all__ = [
    "MAGNITUDE",
    "ROWS",
    "ROW_SCALE",
    "SIDE_DOWN",
    "SIDE_UP",
    "A",
    "B",
    "layer_of",
    "scaled_layer_of",
    "side_of",
]

A, B, ROWS = ".lora_A.weight", ".lora_B.weight", ".rows"
"""What the names of factors and of rows end with."""

MAGNITUDE, ROW_SCALE = ".lora_magnitude_vector", ".lora_row_scale"
"""What those of magnitudes end with, as in `peft`, and of what they make of the rows of the base."""

SIDE_DOWN, SIDE_UP = ".side_down.weight", ".side_up.weight"
"""What those of the matrices of a side block end with, behind the name of the block of the base."""


def layer_of(name: str) -> str | None:
    """The layer that a low-rank factor belongs to; None for other tensors."""
    return _owner(name, (A, B))


def scaled_layer_of(name: str) -> str | None:
    """The layer whose rows a magnitude, or what it makes of them, scales; None for other tensors."""
    return _owner(name, (MAGNITUDE, ROW_SCALE))


def side_of(name: str) -> str | None:
    """The block of the base that a side block stands behind; None for other tensors."""
    return _owner(name, (SIDE_DOWN, SIDE_UP))


def _owner(name: str, endings: tuple[str, str]) -> str | None:
    for ending in endings:
        if name.endswith(ending):
            return name.removesuffix(ending)
    return None
