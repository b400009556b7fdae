"""The families of networks, as `crates/cpu_inference/src/models` describes them: one file there each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ai_os_diffusion import _native
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["Family", "ModelTensor", "families", "family_of", "tensors_of"]

Shape = tuple[int, ...]


class Family(NamedTuple):
    """What of a family the Python side asks; `family.rs` says what each entry means.

    Attributes:
        name: what metadata.json calls it.
        model_types: the `model_type`s of config.json that are computed so.
        is_decoder: it continues texts.
        words: name of its table of tokens.
        positions: name of its table of positions.
        types: name of its table of token types.
        layer: what stands before the number of a block.
        head: name of a decoder's scores of the vocabulary.
        classifier: its head for whole texts.
        config: how config.json says what differs between its models.
        checkpoint: how checkpoints name its tensors.
        gguf: how llama.cpp names them.
    """

    name: str
    model_types: tuple[str, ...]
    is_decoder: bool
    words: str
    positions: str | None
    types: str | None
    layer: str
    head: str | None
    classifier: Mapping[str, Any] | None
    config: Mapping[str, Any]
    checkpoint: Mapping[str, Any]
    gguf: Mapping[str, Any] | None


class ModelTensor(NamedTuple):
    """A tensor of a model.

    Attributes:
        name: its name.
        shape: its axes.
        kind: "words", "table", "head", "linear" or "vector".
        is_needed: the network cannot do without.
    """

    name: str
    shape: Shape
    kind: str
    is_needed: bool


@lru_cache(maxsize=1)
def families() -> Mapping[str, Family]:
    """Every family by its name."""
    described = json.loads(_native.families_json())
    fields = Family._fields
    found = [{key: value for key, value in family.items() if key in fields} for family in described]
    return {entry["name"]: Family(**{**entry, "model_types": tuple(entry["model_types"])}) for entry in found}


def family_of(architecture: str) -> Family:
    """The family of that name.

    Raises:
        ModelLoadError: there is none.
    """
    if architecture not in families():
        raise ModelLoadError(
            f"architecture {architecture!r} is not supported; supported: {', '.join(families())}"
        )
    return families()[architecture]


def tensors_of(metadata: Mapping[str, Any]) -> list[ModelTensor]:
    """The tensors of a model of this `metadata.json`.

    Raises:
        ModelLoadError: the metadata lacks a dimension, or one is out of range.
    """
    found = _native.tensors_of_model(json.dumps(metadata))
    return [ModelTensor(name, tuple(shape), kind, needed) for name, shape, kind, needed in found]
