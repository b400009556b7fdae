"""Hugging Face configurations to `metadata.json`, and the tensor names of each architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ai_os_diffusion.models.convert.settings.rope import rope_of_config
from ai_os_diffusion.models.untrusted_values import MAX_LAYERS, MAX_TOKENS, UntrustedValues, shown
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["ARCHITECTURES", "canonical_name", "check_head", "is_embedding", "metadata_from_config"]

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

_QWEN3_HEAD_DIM = 128
"""Transformers' default; the other families divide the width by the heads."""

_BARE_OR_WRITING = ("Model", "ForMaskedLM", "ForPreTraining", "ForCausalLM", "LMHeadModel")
"""How transformers calls networks whose head is none, or scores tokens."""

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


def metadata_from_config(config: Mapping[str, Any], place: str = "config.json") -> dict[str, Any]:
    """Translate a `config.json`.

    Args:
        config: its values.
        place: names it in messages.

    Raises:
        ModelLoadError: the architecture, its activation or another of its settings cannot be run, or a
            dimension is missing or no number of a size that a model has.
    """
    values = UntrustedValues(place, config)
    architecture = values.get("model_type")
    if architecture not in ARCHITECTURES:
        raise ModelLoadError(
            f"{place}: model_type {shown(architecture)} cannot be run; expected {', '.join(ARCHITECTURES)}"
        )
    encoder = architecture == "bert"
    heads = values.integer("num_attention_heads")
    hidden = values.integer("hidden_size")
    positions = values.integer("max_position_embeddings", high=MAX_TOKENS)
    _check_attention(values, positions, encoder=encoder)
    theta, scaling = (None, None) if encoder else rope_of_config(values, positions)
    return {
        "model_type": "encoder" if encoder else "decoder",
        "architecture": architecture,
        "hidden_size": hidden,
        "num_layers": values.integer("num_hidden_layers", high=MAX_LAYERS),
        "num_heads": heads,
        "num_kv_heads": _kv_heads(values, heads),
        "head_dim": _head_dim(values, hidden, heads),
        "intermediate_size": values.integer("intermediate_size"),
        "vocab_size": values.integer("vocab_size", high=MAX_TOKENS),
        "max_position_embeddings": positions,
        "max_seq_length": positions,
        "norm_eps": values.number("layer_norm_eps" if encoder else "rms_norm_eps", high=1.0),
        "hidden_act": _activation(values, "gelu" if encoder else "silu"),
        "rope_theta": theta,
        "rope_scaling": scaling,
        # Left out, the default is tied for BERT and untied for the decoders.
        "tied_embeddings": values.flag("tie_word_embeddings", encoder),
        "type_vocab_size": values.integer("type_vocab_size", 2) if encoder else 0,
        "attention_bias": values.flag("attention_bias", architecture in ("bert", "qwen2")),
        "pooling": "mean" if encoder else None,
        "normalize": encoder,
        "prompts": {"query": "", "document": ""},
        "bos_token_id": _maybe_id(values, "bos_token_id"),
        "eos_token_ids": values.ids("eos_token_id"),
        "pad_token_id": _maybe_id(values, "pad_token_id"),
        "mask_token_id": None,
        "chat_template": None,
    }


def check_head(config: UntrustedValues) -> None:
    """Refuse a model whose head is what it is for.

    Raises:
        ModelLoadError: it classifies, tags or answers; the head is named.
    """
    for name in config.texts("architectures", high=MAX_LAYERS):
        if not name.endswith(_BARE_OR_WRITING):
            raise ModelLoadError(
                f"{config.place}: architectures is {shown(name)}, expected a bare model or one that writes "
                f"({', '.join(_BARE_OR_WRITING)}): the results of another head are not computed here"
            )


def _activation(values: UntrustedValues, default: str) -> str:
    activation = values.text("hidden_act", default)
    # A decoder's unit is gated by silu; an encoder's may be any.
    known = _ACTIVATIONS if default != "silu" else {"silu": "silu", "swish": "silu"}
    if activation not in known:
        raise values.refusal("hidden_act", f"one of {', '.join(known)}")
    return known[activation]


def _kv_heads(values: UntrustedValues, heads: int) -> int:
    if values.get("model_type") == "bert":
        return heads
    kv_heads = values.integer("num_key_value_heads", heads)
    if heads % kv_heads:
        raise values.fault("num_key_value_heads", f"a divisor of num_attention_heads = {heads}")
    return kv_heads


def _head_dim(values: UntrustedValues, hidden: int, heads: int) -> int:
    if values.get("model_type") == "bert":
        if hidden % heads:
            raise values.fault("num_attention_heads", f"a divisor of hidden_size = {hidden}")
        return hidden // heads
    default = _QWEN3_HEAD_DIM if values.get("model_type") == "qwen3" else max(hidden // heads, 1)
    head_dim = values.integer("head_dim", default)
    if head_dim % 2:
        raise values.fault("head_dim", "an even number: rotary positions turn pairs")
    return head_dim


def _maybe_id(values: UntrustedValues, key: str) -> int | None:
    """The id of a token; some configurations say -1 where there is none."""
    return None if values.get(key) == -1 else values.maybe_integer(key)


def _check_attention(values: UntrustedValues, positions: int, *, encoder: bool) -> None:
    """Which tokens a token sees must be what the family's network computes."""
    if values.text("position_embedding_type", "absolute") != "absolute":
        raise values.refusal("position_embedding_type", "'absolute'")
    if values.flag("is_causal", not encoder) == encoder:
        raise values.refusal(
            "is_causal", f"{not encoder}, as for every other {values.get('model_type')} model"
        )
    for kind in values.texts("layer_types", high=MAX_LAYERS):
        if kind != "full_attention":
            raise values.refusal("layer_types", "full_attention in every layer")
    layers = values.integer("num_hidden_layers", high=MAX_LAYERS)
    first = values.integer("max_window_layers", 0, low=0) if "layer_types" not in values else layers
    # Qwen's configurations hold a window that is switched off, and one may be wider than the model.
    slides = values.flag("use_sliding_window", "sliding_window" in values) and first < layers
    if slides and values.integer("sliding_window", positions, high=1 << 40) < positions:
        raise values.refusal("sliding_window", f"none, or at least max_position_embeddings = {positions}")
