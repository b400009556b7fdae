"""Hugging Face configurations to `metadata.json`, and names of tensors, as each family has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ai_os_diffusion.models.convert.settings.diffusion_checkpoints import diffusion_checkpoint
from ai_os_diffusion.models.convert.settings.rope import rope_of_config
from ai_os_diffusion.models.convert.settings.windows import check_no_windows, windows_of_config
from ai_os_diffusion.models.family import Family, families, family_of
from ai_os_diffusion.models.untrusted_values import MAX_LAYERS, MAX_TOKENS, UntrustedValues, shown
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["canonical_name", "metadata_from_config"]

_ALIASES = {"gelu_pytorch_tanh": "gelu_new", "swish": "silu"}
"""Activations that transformers has under two names."""

_UNUSED = re.compile(
    r"(^|\.)(pooler|cls|lm_head_bias|predictions|seq_relationship|classifier)\."
    r"|rotary_emb\.inv_freq$|\.attention\.bias$|position_ids$"
)
"""Heads of training tasks, and buffers that follow from the configuration."""


def canonical_name(family: Family, name: str, *, classifies: bool = False) -> str | None:
    """The name under which inference looks for a tensor; None if it has no use for it.

    Args:
        family: of the model.
        name: in the checkpoint.
        classifies: the model's head for whole texts is computed.
    """
    wrapper: str = family.checkpoint["wrapper"]
    if family.checkpoint["is_wrapped"]:
        if not name.startswith((wrapper, f"{family.head}.")):
            # Saved from the bare model, without its head.
            name = wrapper + name
    else:
        name = name.removeprefix(wrapper)
    for old, new in family.checkpoint["renamed"]:
        name = name.replace(old, new)
    if classifies and name.rpartition(".")[0] in _head_parts(family):
        return name
    return None if _UNUSED.search(name) or name.startswith(tuple(family.checkpoint["unused"])) else name


def _head_parts(family: Family) -> list[str]:
    head = family.classifier or {}
    return [
        part if isinstance(part, str) else part["name"]
        for key, part in head.items()
        if key in _PARTS and part
    ]


_PARTS = ("dense", "norm", "output")


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
    checkpoint = diffusion_checkpoint(values)
    if checkpoint is None:
        family = _family(values)
        _check_attention(values, family)
    else:
        family, values = family_of(checkpoint.architecture), checkpoint.named(values)
    keys = family.config
    heads = values.integer("num_attention_heads")
    hidden = values.integer("hidden_size")
    layers = values.integer("num_hidden_layers", high=MAX_LAYERS)
    rows = values.integer("max_position_embeddings", high=MAX_TOKENS)
    offset = _position_offset(values, family, rows)
    positions = rows - offset
    windows: dict[str, Any] = {}
    theta, scaling = None, None
    if keys["has_windows"]:
        theta, windows = windows_of_config(values, layers)
    else:
        check_no_windows(values, layers, positions)
        if family.positions is None:
            theta, scaling = rope_of_config(values, positions)
    return {
        "model_type": "decoder" if family.is_decoder else "encoder",
        "architecture": family.name,
        "hidden_size": hidden,
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": _kv_heads(values, family, heads),
        "head_dim": _head_dim(values, family, hidden, heads),
        "intermediate_size": values.integer("intermediate_size"),
        "vocab_size": values.integer("vocab_size", high=MAX_TOKENS),
        "max_position_embeddings": positions,
        "max_seq_length": positions,
        "norm_eps": values.number(keys["norm_eps"], high=1.0),
        "hidden_act": _activation(values, family),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tied_embeddings": values.flag("tie_word_embeddings", keys["is_tied"]),
        "type_vocab_size": values.integer("type_vocab_size", 2) if family.types else 0,
        "attention_bias": values.flag("attention_bias", keys["attention_bias"]),
        **({"position_offset": offset} if offset else {}),
        **windows,
        "pooling": None if family.is_decoder else "mean",
        "normalize": not family.is_decoder,
        "prompts": {"query": "", "document": ""},
        "bos_token_id": _maybe_id(values, "bos_token_id"),
        "eos_token_ids": values.ids("eos_token_id"),
        "pad_token_id": _maybe_id(values, "pad_token_id"),
        "mask_token_id": None,
        "chat_template": None,
    }


def _family(values: UntrustedValues) -> Family:
    kind = values.get("model_type")
    for family in families().values():
        if kind in family.model_types:
            return family
    known = ", ".join(kind for family in families().values() for kind in family.model_types)
    raise ModelLoadError(f"{values.place}: model_type {shown(kind)} cannot be run; expected {known}")


def _position_offset(values: UntrustedValues, family: Family, rows: int) -> int:
    """The row of the first token; transformers numbers positions from behind that of padding."""
    if not family.config["is_padded"]:
        return 0
    offset = values.integer("pad_token_id", 1, low=0, high=MAX_TOKENS) + 1
    if offset >= rows:
        raise values.fault("max_position_embeddings", f"more than pad_token_id + 1 = {offset}")
    return offset


def _activation(values: UntrustedValues, family: Family) -> str:
    key, default, known = family.config["activation"]
    activation = values.text(key, default)
    activation = _ALIASES.get(activation, activation)
    if activation not in known:
        aliases = [alias for alias, name in _ALIASES.items() if name in known]
        raise values.refusal(key, f"one of {', '.join([*known, *aliases])}")
    return activation


def _kv_heads(values: UntrustedValues, family: Family, heads: int) -> int:
    if not family.is_decoder:
        return heads
    kv_heads = values.integer("num_key_value_heads", heads)
    if heads % kv_heads:
        raise values.fault("num_key_value_heads", f"a divisor of num_attention_heads = {heads}")
    return kv_heads


def _head_dim(values: UntrustedValues, family: Family, hidden: int, heads: int) -> int:
    head_dim = max(hidden // heads, 1)
    if family.is_decoder:
        head_dim = values.integer("head_dim", family.config["head_dim"] or head_dim)
    elif hidden % heads:
        raise values.fault("num_attention_heads", f"a divisor of hidden_size = {hidden}")
    if family.positions is None and head_dim % 2:
        key = "head_dim" if family.is_decoder else "num_attention_heads"
        raise values.fault(key, "heads of an even width: rotary positions turn pairs")
    return head_dim


def _maybe_id(values: UntrustedValues, key: str) -> int | None:
    """The id of a token; some configurations say -1 where there is none."""
    return None if values.get(key) == -1 else values.maybe_integer(key)


def _check_attention(values: UntrustedValues, family: Family) -> None:
    """Which tokens a token sees must be what the family's network computes."""
    if values.text("position_embedding_type", "absolute") != "absolute":
        raise values.refusal("position_embedding_type", "'absolute'")
    if values.flag("is_causal", family.is_decoder) != family.is_decoder:
        raise values.refusal(
            "is_causal", f"{family.is_decoder}, as for every other {values.get('model_type')} model"
        )
