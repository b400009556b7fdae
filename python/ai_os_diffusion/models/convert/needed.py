"""Whether a source holds what its architecture computes with, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.convert.source import Source
from ai_os_diffusion.utils.errors import ModelLoadError, WeightError

__all__ = ["check_finite", "check_tensors", "needed_tensors"]

Shape = tuple[int, ...]

_SLICE = 1 << 22
"""Values looked at in one piece, so that looking takes no memory to speak of."""


def needed_tensors(metadata: Mapping[str, Any]) -> dict[str, Shape]:
    """Names and shapes of the tensors that a model of this `metadata.json` needs."""
    parts = _encoder(metadata) if metadata["model_type"] == "encoder" else _decoder(metadata)
    return dict(parts)


def check_tensors(source: Source, metadata: Mapping[str, Any]) -> None:
    """Compare the tensors of a source with what its architecture computes with.

    Raises:
        ModelLoadError: the metadata lacks a dimension.
        WeightError: a tensor is missing, has another shape, or takes no part in what is computed.
    """
    shapes = {tensor.name: tensor.shape for tensor in source.tensors}
    try:
        if metadata["num_layers"] > len(shapes):
            raise WeightError(
                f"{source.paths[0]}: {metadata['num_layers']} layers, but only {len(shapes)} tensors: "
                "fetch the model again"
            )
        needed, optional = needed_tensors(metadata), _optional(metadata)
    except KeyError as error:
        raise ModelLoadError(f"{source.paths[0]}: {error.args[0]!r} is missing from its metadata") from error
    missing = [name for name in needed if name not in shapes]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise WeightError(
            f"{source.paths[0]}: tensor {missing[0]!r} of shape {needed[missing[0]]}{more} is missing, which "
            f"{metadata['architecture']} needs; expected {len(needed)} tensors, got {len(shapes)}: "
            "fetch the model again"
        )
    for name, shape in needed.items():
        if shapes[name] != shape:
            raise WeightError(
                f"{source.paths[0]}: tensor {name!r}: expected shape {shape} by the model's configuration, "
                f"got {shapes[name]}"
            )
    for name, found in shapes.items():
        if name not in needed and optional.get(name) != found:
            raise WeightError(
                f"{source.paths[0]}: tensor {name!r} of shape {found} takes no part in what "
                f"{metadata['architecture']} computes: its results would be left out"
            )


def _optional(metadata: Mapping[str, Any]) -> dict[str, Shape]:
    """Biases that a decoder may have and that are added where they are there."""
    if metadata["model_type"] == "encoder":
        return {}
    weights = _decoder(metadata)
    return {
        f"{name.removesuffix('.weight')}.bias": shape[:1] for name, shape in weights if "_proj.weight" in name
    }


def check_finite(name: str, values: NDArray[Any], dtype: str) -> None:
    """Look for NaN and infinities; bfloat16 is the uint16 of its bits.

    Raises:
        WeightError: there is one; the first is named by its index.
    """
    flat = values.reshape(-1)
    for start in range(0, flat.size, _SLICE):
        piece = flat[start : start + _SLICE]
        good = (piece & 0x7F80) != 0x7F80 if dtype == "bfloat16" else np.isfinite(piece)
        if not good.all():
            place = np.unravel_index(start + int(good.argmin()), values.shape)
            index = ", ".join(str(int(axis)) for axis in place)
            raise WeightError(f"tensor {name!r}: the weight at [{index}] is not finite as {dtype}")


def _encoder(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden, wide = metadata["hidden_size"], metadata["intermediate_size"]
    yield "embeddings.word_embeddings.weight", (metadata["vocab_size"], hidden)
    yield "embeddings.position_embeddings.weight", (metadata["max_position_embeddings"], hidden)
    yield "embeddings.token_type_embeddings.weight", (metadata["type_vocab_size"], hidden)
    yield from _with_bias("embeddings.LayerNorm", (hidden,))
    for layer in range(metadata["num_layers"]):
        prefix = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            yield from _with_bias(f"{prefix}.attention.{part}", (hidden, hidden))
        yield from _with_bias(f"{prefix}.attention.output.LayerNorm", (hidden,))
        yield from _with_bias(f"{prefix}.intermediate.dense", (wide, hidden))
        yield from _with_bias(f"{prefix}.output.dense", (hidden, wide))
        yield from _with_bias(f"{prefix}.output.LayerNorm", (hidden,))


def _with_bias(name: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _decoder(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden, wide, head = metadata["hidden_size"], metadata["intermediate_size"], metadata["head_dim"]
    queries, keys = metadata["num_heads"] * head, metadata["num_kv_heads"] * head
    biased = metadata.get("attention_bias")
    biased = metadata["architecture"] == "qwen2" if biased is None else biased
    yield "model.embed_tokens.weight", (metadata["vocab_size"], hidden)
    for layer in range(metadata["num_layers"]):
        prefix = f"model.layers.{layer}"
        for part, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            yield f"{prefix}.self_attn.{part}.weight", (rows, hidden)
            if biased:
                yield f"{prefix}.self_attn.{part}.bias", (rows,)
        if metadata["architecture"] == "qwen3":
            yield f"{prefix}.self_attn.q_norm.weight", (head,)
            yield f"{prefix}.self_attn.k_norm.weight", (head,)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, queries)
        yield f"{prefix}.mlp.gate_proj.weight", (wide, hidden)
        yield f"{prefix}.mlp.up_proj.weight", (wide, hidden)
        yield f"{prefix}.mlp.down_proj.weight", (hidden, wide)
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    if not metadata["tied_embeddings"]:
        yield "lm_head.weight", (metadata["vocab_size"], hidden)
