"""MPNet (arXiv:2004.09297) as a teacher of readers: its network, over packed windows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

__all__ = ["Teacher", "packed_weights"]

Tensor = Any
_BUCKETS, _FARTHEST = 32, 128
_FIRST_POSITION = 2
_EPS = 1e-5
_BLOCKS = {
    "BLOCK_M": 64,
    "BLOCK_N": 64,
    "BLOCK_M1": 32,
    "BLOCK_N1": 64,
    "BLOCK_M2": 64,
    "BLOCK_N2": 32,
    "num_stages": 1,
}
"""Of attention: with biases beside the scores, those that torch chooses do not fit on an H200."""


def packed_weights(source: Path, bert_vocabulary: list[str], out: Path) -> None:
    """Codes of 8 bits with a scale a row, and for each token of BERT its own id: half a gigabyte in a tenth.

    Args:
        source: folder of a checkpoint with `model.safetensors` and `vocab.txt`.
        bert_vocabulary: tokens by id.
        out: folder; a file of NumPy for every few layers, so that each is small.
    """
    from safetensors.numpy import load_file

    own = {token: i for i, token in enumerate((source / "vocab.txt").read_text(encoding="utf-8").split("\n"))}
    special = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[UNK]": "[UNK]", "[MASK]": "<mask>"}
    ids = [own.get(special.get(token, token), own["[UNK]"]) for token in bert_vocabulary]
    parts: dict[str, dict[str, Any]] = {"first": {"ids": np.array(ids, np.int32)}}
    for name, value in load_file(source / "model.safetensors").items():
        if name.startswith("pooler") or "position_ids" in name:
            continue
        layer = int(name.split(".")[2]) if name.startswith("encoder.layer") else -1
        part = parts.setdefault("first" if layer < 0 else "second" if layer < 6 else "third", {})
        if value.ndim == 2 and value.size > 1 << 16:
            scale = np.maximum(np.abs(value).max(1, keepdims=True), 1e-9) / 127
            part[name] = np.rint(value / scale).astype(np.int8)
            part[f"{name}.scale"] = scale.astype(np.float32)
        else:
            part[name] = value.astype(np.float32)
    out.mkdir(exist_ok=True)
    for part, arrays in parts.items():
        np.savez(out / f"{part}.npz", **arrays)


class _Layer(nn.Module):
    """Attention and a feed-forward layer, with a norm behind each."""

    def __init__(self, values: Mapping[str, Tensor], heads: int, dtype: Any) -> None:
        super().__init__()

        def linear(name: str) -> nn.Linear:
            outputs, inputs = values[f"{name}.weight"].shape
            return _filled(nn.Linear(inputs, outputs), values, name)

        def norm(name: str) -> nn.LayerNorm:
            return _filled(nn.LayerNorm(values[f"{name}.weight"].shape, eps=_EPS), values, name)

        self.heads, self.dtype = heads, dtype
        self.q, self.k, self.v, self.o = (linear(f"attention.attn.{part}") for part in "qkvo")
        self.wide, self.narrow = linear("intermediate.dense"), linear("output.dense")
        self.behind_attention, self.behind = norm("attention.LayerNorm"), norm("output.LayerNorm")

    def forward(self, x: Tensor, mask: Any, biases: Tensor | None) -> Tensor:
        """float32[rows, n, width] to the same; `biases` are those of distances, where the mask has none."""
        q, k, v = (
            self._product(x, layer).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        if biases is None:
            seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            middle = biases.shape[1] // 2

            def biased(score: Tensor, _row: Tensor, head: Tensor, at: Tensor, other: Tensor) -> Tensor:
                return score + biases[head, (other - at + middle).clamp(0, 2 * middle)]

            seen = flex_attention(q, k, v, score_mod=biased, block_mask=mask, kernel_options=_BLOCKS)
        x = self.behind_attention(x + self._dropped(self._product(seen.transpose(1, 2).flatten(2), self.o)))
        wide = F.gelu(self._product(x, self.wide))
        return self.behind(x + self._dropped(self._product(wide, self.narrow)))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.1, self.training).float()

    def _product(self, x: Tensor, layer: nn.Linear) -> Tensor:
        return F.linear(x.to(self.dtype), layer.weight.to(self.dtype), layer.bias.to(self.dtype))


def _filled(layer: Any, values: Mapping[str, Tensor], name: str) -> Any:
    layer.load_state_dict({part: values[f"{name}.{part}"] for part in ("weight", "bias")})
    return layer


class Teacher(nn.Module):
    """Start, end and relevance of windows that are packed into rows.

    Args:
        weights: folder that `packed_weights` wrote.
        device: on a GPU layers are compiled and attention skips what nobody sees.
        heads: of attention.
    """

    def __init__(self, weights: Path, device: Any, heads: int = 12) -> None:
        super().__init__()
        found: dict[str, Tensor] = {}
        for path in sorted(weights.glob("*.npz")):
            with np.load(path) as arrays:
                for name in arrays.files:
                    if not name.endswith(".scale"):
                        array = arrays[name]
                        if array.dtype == np.int8:
                            array = array * arrays[f"{name}.scale"]
                        found[name] = torch.from_numpy(array)
        self.register_buffer("ids", found.pop("ids").long())
        self.register_buffer("words", found.pop("embeddings.word_embeddings.weight"))
        self.places = nn.Parameter(found.pop("embeddings.position_embeddings.weight"))
        self.scale, self.shift = (
            nn.Parameter(found.pop(f"embeddings.LayerNorm.{part}")) for part in ("weight", "bias")
        )
        self.register_buffer(
            "biases", _of_distances(found.pop("encoder.relative_attention_bias.weight"), len(self.places))
        )
        layers: dict[int, dict[str, Tensor]] = {}
        for name, value in found.items():
            number, _, part = name.removeprefix("encoder.layer.").partition(".")
            layers.setdefault(int(number), {})[part] = value
        self._is_blocked = device.type == "cuda"
        dtype = torch.bfloat16 if self._is_blocked else torch.float32
        self.layers = nn.ModuleList(_Layer(layers[number], heads, dtype) for number in sorted(layers))
        self.head = nn.Linear(self.words.shape[1], 3)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.to(device)
        if self._is_blocked:
            # One program serves all layers, once for learning and once for scoring.
            torch._dynamo.config.recompile_limit = 4 * len(self.layers)
            self._make_mask = torch.compile(create_block_mask)
            for layer in self.layers:
                layer.compile(dynamic=False)

    def forward(self, ids: Tensor, positions: Tensor, document: Tensor) -> Tensor:
        """Ids of BERT, places in a window, and which window, int64[rows, n], to float32[rows · n, 3]."""
        x = F.embedding(self.ids[ids], self.words) + F.embedding(positions + _FIRST_POSITION, self.places)
        x = F.layer_norm(x, x.shape[-1:], self.scale, self.shift, _EPS)
        mask, biases = (
            (self._block_mask(document), self.biases) if self._is_blocked else (self._mask(document), None)
        )
        for layer in self.layers:
            x = layer(x, mask, biases)
        return F.linear(x, self.head.weight, self.head.bias).flatten(0, 1)

    def _block_mask(self, document: Tensor) -> Any:
        rows, n = document.shape

        def sees(row: Tensor, _head: Tensor, at: Tensor, other: Tensor) -> Tensor:
            return document[row, at] == document[row, other]

        return self._make_mask(sees, rows, None, n, n, device=str(document.device))

    def _mask(self, document: Tensor) -> Tensor:
        """float32[rows, heads, n, n]: the biases, and far below them what is not seen."""
        at = torch.arange(document.shape[1], device=document.device)
        last = self.biases.shape[1] - 1
        biases = self.biases[:, (at[None] - at[:, None] + last // 2).clamp(0, last)]
        is_seen = document[:, None, :, None] == document[:, None, None, :]
        return torch.where(is_seen, biases[None], -1e4)


def _of_distances(table: Tensor, most: int) -> Tensor:
    """[heads, 2 most + 1] of how far behind what is seen stands; buckets grow with the distance, as in T5."""
    away = -torch.arange(-most, most + 1)
    half, distance = _BUCKETS // 2, away.abs()
    exact = half // 2
    far = exact + (
        (distance.clamp(min=1).float() / exact).log() / math.log(_FARTHEST / exact) * (half - exact)
    ).long().clamp(max=half - exact - 1)
    bucket = torch.where(distance < exact, distance, far) + half * (away < 0)
    return table[bucket].T.contiguous()


def bert_vocabulary(tokenizer: Path) -> list[str]:
    """Tokens of a `tokenizer.json` by id."""
    vocabulary = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)
