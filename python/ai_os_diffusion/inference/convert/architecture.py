"""Hugging Face configurations to `metadata.json`, and the tensor names of each architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["ARCHITECTURES", "canonical_name", "is_embedding", "metadata_from_config"]

ARCHITECTURES = ("bert", "llama", "qwen2", "qwen3")
"""Architectures that can be run."""

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}

_UNUSED = re.compile(
    r"(^|\.)(pooler|cls|lm_head_bias|predictions|seq_relationship|classifier)\."
    r"|rotary_emb\.inv_freq$|\.attention\.bias$|position_ids$"
)
"""Heads of training tasks, and buffers that follow from the configuration."""


def canonical_name(architecture: str, name: str) -> str | None:
    """The name under which inference looks for a tensor; None if it has no use for it."""
    if architecture == "bert":
        name = name.removeprefix("bert.")
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    elif not name.startswith(("model.", "lm_head.")):
        # Saved from the bare model, without its head.
        name = "model." + name
    return None if _UNUSED.search(name) else name


def is_embedding(name: str) -> bool:
    """Whether a tensor is looked up by row; a tied one is also the output matrix."""
    return name.endswith(("_embeddings.weight", "embed_tokens.weight"))


def metadata_from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a `config.json`.

    Raises:
        ModelLoadError: the architecture or its activation cannot be run, or a dimension is missing.
    """
    architecture = config.get("model_type")
    if architecture not in ARCHITECTURES:
        raise ModelLoadError(
            f"config.json: model_type {architecture!r} cannot be run; expected {', '.join(ARCHITECTURES)}"
        )
    try:
        return _translate(str(architecture), config)
    except KeyError as error:
        raise ModelLoadError(
            f"config.json: {error.args[0]!r} is missing, which {architecture} needs"
        ) from error
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelLoadError(
            f"config.json: a dimension of {architecture} is not a number: {error}"
        ) from error


def _translate(architecture: str, config: Mapping[str, Any]) -> dict[str, Any]:
    encoder = architecture == "bert"
    activation = config.get("hidden_act", "gelu" if encoder else "silu")
    if activation not in _ACTIVATIONS:
        raise ModelLoadError(
            f"config.json: hidden_act {activation!r}; expected one of {', '.join(_ACTIVATIONS)}"
        )
    position_type = config.get("position_embedding_type", "absolute")
    if position_type != "absolute":
        raise ModelLoadError(f"config.json: position_embedding_type {position_type!r}; expected 'absolute'")
    heads = int(config["num_attention_heads"])
    eos = config.get("eos_token_id")
    # Newer configurations hold the rotary base inside its parameters.
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or ({} if rope.get("rope_type", "default") == "default" else rope)
    return {
        "model_type": "encoder" if encoder else "decoder",
        "architecture": architecture,
        "hidden_size": int(config["hidden_size"]),
        "num_layers": int(config["num_hidden_layers"]),
        "num_heads": heads,
        "num_kv_heads": int(config.get("num_key_value_heads") or heads),
        "head_dim": int(config.get("head_dim") or int(config["hidden_size"]) // heads),
        "intermediate_size": int(config["intermediate_size"]),
        "vocab_size": int(config["vocab_size"]),
        "max_position_embeddings": int(config["max_position_embeddings"]),
        "max_seq_length": int(config["max_position_embeddings"]),
        "norm_eps": float(config["layer_norm_eps"] if encoder else config["rms_norm_eps"]),
        "hidden_act": _ACTIVATIONS[activation],
        "rope_theta": None
        if encoder
        else float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        "rope_scaling": dict(scaling) or None,
        # Left out, the default is tied for BERT and untied for the decoders.
        "tied_embeddings": bool(config.get("tie_word_embeddings", encoder)),
        "type_vocab_size": int(config.get("type_vocab_size", 2)) if encoder else 0,
        "attention_bias": bool(config.get("attention_bias", architecture in ("bert", "qwen2"))),
        "pooling": "mean" if encoder else None,
        "normalize": encoder,
        "prompts": {"query": "", "document": ""},
        "bos_token_id": config.get("bos_token_id"),
        "eos_token_ids": eos if isinstance(eos, list) else [] if eos is None else [eos],
        "pad_token_id": config.get("pad_token_id"),
        "mask_token_id": None,
        "chat_template": None,
    }
