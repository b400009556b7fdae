"""Tiny diffusion checkpoints of random weights, as their projects save them, and their networks in NumPy.

Configurations have the keys of the published ones, tensors their names. The networks are written from their
papers: Llama (arXiv:2302.13971), Qwen2 (arXiv:2407.10671: biases on query, key and value) and Qwen3
(arXiv:2505.09388: norms of each head), in float64, with what a token sees as a matrix.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from support.loopback_hub import safetensors

HIDDEN, WIDE, LAYERS, HEADS, KV_HEADS, HEAD_DIM, WINDOW = 32, 48, 2, 4, 2, 8, 160
EOS, MASK, VOCAB = 256, 260, 264

_LLADA = {
    "activation_type": "silu",
    "alibi": False,
    "alibi_bias_max": 8.0,
    "architectures": ["LLaDAModelLM"],
    "attention_dropout": 0.0,
    "attention_layer_norm": False,
    "attention_layer_norm_with_affine": True,
    "auto_map": {
        "AutoConfig": "configuration_llada.LLaDAConfig",
        "AutoModelForCausalLM": "modeling_llada.LLaDAModelLM",
        "AutoModel": "modeling_llada.LLaDAModelLM",
    },
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "d_model": HIDDEN,
    "embedding_dropout": 0.0,
    "embedding_size": VOCAB,
    "eos_token_id": EOS,
    "flash_attention": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "init_cutoff_factor": None,
    "init_device": "meta",
    "init_fn": "mitchell",
    "init_std": 0.02,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "mask_token_id": MASK,
    "max_sequence_length": WINDOW,
    "mlp_hidden_size": WIDE,
    "mlp_ratio": 4,
    "model_type": "llada",
    "multi_query_attention": None,
    "n_heads": HEADS,
    "n_kv_heads": HEADS,
    "n_layers": LAYERS,
    "pad_token_id": EOS,
    "precision": "amp_bf16",
    "residual_dropout": 0.0,
    "rms_norm_eps": 1e-05,
    "rope": True,
    "rope_full_precision": True,
    "rope_theta": 500000.0,
    "scale_logits": False,
    "transformers_version": "4.46.3",
    "use_cache": False,
    "vocab_size": VOCAB,
    "weight_tying": False,
}
_QWEN = {
    "attention_dropout": 0.0,
    "bos_token_id": EOS,
    "eos_token_id": EOS,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": WIDE,
    "max_position_embeddings": WINDOW,
    "max_window_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": KV_HEADS,
    "pad_token_id": EOS,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.46.2",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": VOCAB,
}


@dataclass(frozen=True)
class Checkpoint:
    """A kind of checkpoints: its configuration, its network, and the spelling of its mask token."""

    config: dict[str, Any]
    mask: str
    is_qwen3: bool = False
    has_bias: bool = False
    is_tied: bool = False
    says_mask: bool = False

    @property
    def kv_heads(self) -> int:
        return HEADS if self.is_llada else KV_HEADS

    @property
    def is_llada(self) -> bool:
        return self.config["model_type"] == "llada"

    @property
    def theta(self) -> float:
        return self.config["rope_theta"]

    @property
    def eps(self) -> float:
        return self.config["rms_norm_eps"]


CHECKPOINTS = {
    "llada": Checkpoint(_LLADA, "<|mdm_mask|>"),
    "dream": Checkpoint(
        {
            **_QWEN,
            "architectures": ["DreamModel"],
            "auto_map": {
                "AutoConfig": "configuration_dream.DreamConfig",
                "AutoModel": "modeling_dream.DreamModel",
            },
            "mask_token_id": MASK,
            "model_type": "Dream",
            "tie_word_embeddings": False,
            "use_mrope": False,
        },
        "<|mask|>",
        has_bias=True,
        says_mask=True,
    ),
    "a2d": Checkpoint(
        {
            **_QWEN,
            "architectures": ["A2DQwen3LMHeadModel"],
            "attention_bias": False,
            "auto_map": {
                "AutoConfig": "modeling_qwen3.A2DQwen3Config",
                "AutoModel": "modeling_qwen3.A2DQwen3Model",
                "AutoModelForMaskedLM": "modeling_qwen3.A2DQwen3LMHeadModel",
            },
            "head_dim": HEAD_DIM,
            "layer_types": ["full_attention"] * LAYERS,
            "model_type": "a2d-qwen3",
            "tie_word_embeddings": True,
        },
        "<|mask|>",
        is_qwen3=True,
        is_tied=True,
        says_mask=True,
    ),
    "sdar": Checkpoint(
        {
            **_QWEN,
            "architectures": ["SDARForCausalLM"],
            "attention_bias": False,
            "auto_map": {
                "AutoConfig": "configuration_sdar.SDARConfig",
                "AutoModelForCausalLM": "modeling_sdar.SDARForCausalLM",
            },
            "block_size": 4,
            "debug": False,
            "ep_size": 1,
            "fuse_cross_entropy": True,
            "head_dim": HEAD_DIM,
            "mask_token_id": MASK,
            "micro_forward": False,
            "model_type": "sdar",
            "skip_checkpoint": False,
            "tie_word_embeddings": False,
        },
        "<|MASK|>",
        is_qwen3=True,
        says_mask=True,
    ),
    "fast_dllm_v2": Checkpoint(
        {
            **_QWEN,
            "architectures": ["Fast_dLLM_QwenForCausalLM"],
            "auto_map": {
                "AutoConfig": "configuration.Fast_dLLM_QwenConfig",
                "AutoModel": "modeling.Fast_dLLM_QwenModel",
                "AutoModelForCausalLM": "modeling.Fast_dLLM_QwenForCausalLM",
            },
            "bd_size": 32,
            "layer_types": ["full_attention"] * LAYERS,
            "model_type": "Fast_dLLM_Qwen",
            "tie_word_embeddings": True,
        },
        "|<MASK>|",
        has_bias=True,
        is_tied=True,
    ),
}

_LLADA_NAMES = {
    "words": "model.transformer.wte",
    "norm": "model.transformer.ln_f",
    "head": "model.transformer.ff_out",
    "layer": "model.transformer.blocks",
    "n1": "attn_norm",
    "n2": "ff_norm",
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "o": "attn_out",
    "gate": "ff_proj",
    "up": "up_proj",
    "down": "ff_out",
}
_QWEN_NAMES = {
    "words": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "layer": "model.layers",
    "n1": "input_layernorm",
    "n2": "post_attention_layernorm",
    **{part: f"self_attn.{part}_proj" for part in "qkvo"},
    "qn": "self_attn.q_norm",
    "kn": "self_attn.k_norm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


class NumpyNetwork:
    """The network of a checkpoint, by the names of its own tensors."""

    def __init__(self, checkpoint: Checkpoint, seed: int = 0) -> None:
        self.of = checkpoint
        self._names = _LLADA_NAMES if checkpoint.is_llada else _QWEN_NAMES
        random = np.random.default_rng(seed)
        self.tensors: dict[str, np.ndarray] = {}

        def add(name: str, *shape: int, scale: float = 0.4) -> None:
            values = random.normal(size=shape, scale=scale) + (len(shape) == 1 and name.endswith("weight"))
            self.tensors[name] = values.astype(np.float32)

        names, wide = self._names, checkpoint.kv_heads * HEAD_DIM
        add(f"{names['words']}.weight", VOCAB, HIDDEN, scale=1.0)
        for index in range(LAYERS):
            block = f"{names['layer']}.{index}"
            for part, rows, columns in (
                ("q", HEADS * HEAD_DIM, HIDDEN),
                ("k", wide, HIDDEN),
                ("v", wide, HIDDEN),
                ("o", HIDDEN, HEADS * HEAD_DIM),
                ("gate", WIDE, HIDDEN),
                ("up", WIDE, HIDDEN),
                ("down", HIDDEN, WIDE),
            ):
                add(f"{block}.{names[part]}.weight", rows, columns)
                if checkpoint.has_bias and part in "qkv":
                    add(f"{block}.{names[part]}.bias", rows)
            for norm in ("n1", "n2"):
                add(f"{block}.{names[norm]}.weight", HIDDEN)
            for norm in ("qn", "kn") if checkpoint.is_qwen3 else ():
                add(f"{block}.{names[norm]}.weight", HEAD_DIM)
        add(f"{names['norm']}.weight", HIDDEN)
        if not checkpoint.is_tied:
            add(f"{names['head']}.weight", VOCAB, HIDDEN)

    def _tensor(self, part: str, block: str = "", kind: str = "weight") -> np.ndarray:
        return self.tensors[f"{block}{self._names[part]}.{kind}"].astype(np.float64)

    def _norm(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.of.eps) * weight

    def _turned(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Rotary positions, [n, heads, dim]: the first half of a head against the second."""
        half = HEAD_DIM // 2
        angles = positions[:, None] / self.of.theta ** (np.arange(half) / half)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        first, second = x[..., :half], x[..., half:]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

    def __call__(self, ids, positions=None, sees=None, kept=None):
        """Logits [n, vocab], and keys and values of each layer.

        Args:
            ids: [n].
            positions: [n]; 0 to n - 1 unless given.
            sees: bool[n, n]; all see all unless given.
            kept: keys and values of other tokens, by layer, which all see.
        """
        ids = np.asarray(ids)
        positions = np.arange(len(ids)) if positions is None else np.asarray(positions)
        sees = np.ones((len(ids), len(ids)), bool) if sees is None else sees
        x, left = self._tensor("words")[ids], []
        for index in range(LAYERS):
            block, before = f"{self._names['layer']}.{index}.", kept and kept[index]
            x, keys = self._block(block, x, positions, sees, before)
            left.append(keys)
        head = self._tensor("words" if self.of.is_tied else "head")
        return self._norm(x, self._tensor("norm")) @ head.T, left

    def _block(self, block, x, positions, sees, kept):
        normed = self._norm(x, self._tensor("n1", block))
        q, k, v = (
            (
                normed @ self._tensor(part, block).T
                + (self._tensor(part, block, "bias") if self.of.has_bias else 0)
            ).reshape(len(x), -1, HEAD_DIM)
            for part in "qkv"
        )
        if self.of.is_qwen3:
            q, k = self._norm(q, self._tensor("qn", block)), self._norm(k, self._tensor("kn", block))
        q, k = self._turned(q, positions), self._turned(k, positions)
        own = k, v
        if kept is not None:
            k, v = (np.concatenate([old, new]) for old, new in zip(kept, own, strict=True))
            sees = np.concatenate([np.ones((len(x), len(kept[0])), bool), sees], 1)
        group = HEADS // self.of.kv_heads
        k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(HEAD_DIM)
        scores = np.where(sees, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        seen = np.einsum("hqk,khd->qhd", weights, v).reshape(len(x), -1)
        x = x + seen @ self._tensor("o", block).T
        normed = self._norm(x, self._tensor("n2", block))
        gate = normed @ self._tensor("gate", block).T
        wide = gate / (1 + np.exp(-gate)) * (normed @ self._tensor("up", block).T)
        return x + wide @ self._tensor("down", block).T, own


def byte_tokenizer(mask: str) -> tuple[dict[str, Any], list[str]]:
    """A tokenizer.json of bytes, and the special tokens behind them."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in kept}
    others = [byte for byte in range(256) if byte not in kept]
    table.update({byte: chr(256 + index) for index, byte in enumerate(others)})
    specials = ["<|endoftext|>", "<|im_start|>", "<|unused1|>", "<|unused2|>", mask]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    added = [
        {
            "id": 256 + index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, token in enumerate(specials)
    ]
    vocab = {table[byte]: index for index, byte in enumerate(range(256))}
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }, specials


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_checkpoint(
    folder: Path,
    kind: str,
    *,
    seed: int = 0,
    config: dict[str, Any] | None = None,
    without: tuple[str, ...] = (),
    mask: str | None = None,
) -> NumpyNetwork:
    """Save a checkpoint as its project does; returns its network.

    Args:
        folder: where.
        kind: of `CHECKPOINTS`.
        seed: of the weights.
        config: in place of what the configuration says.
        without: keys that it lacks.
        mask: what the mask token is spelled.
    """
    checkpoint = CHECKPOINTS[kind]
    network = NumpyNetwork(checkpoint, seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, specials = byte_tokenizer(checkpoint.mask if mask is None else mask)
    settings = {
        "add_prefix_space": False,
        "chat_template": CHAT_TEMPLATE,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "PreTrainedTokenizerFast" if checkpoint.is_llada else "Qwen2Tokenizer",
        **({"mask_token": specials[-1]} if checkpoint.says_mask and mask is None else {}),
    }
    said = {**checkpoint.config, **(config or {})}
    said = {key: value for key, value in said.items() if key not in without}
    for name, value in (
        ("config.json", said),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", settings),
        ("generation_config.json", {"eos_token_id": EOS, "pad_token_id": EOS}),
    ):
        (folder / name).write_text(json.dumps(value))
    (folder / "model.safetensors").write_bytes(safetensors(network.tensors))
    return network
