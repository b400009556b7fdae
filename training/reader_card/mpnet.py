"""MPNet (arXiv:2004.09297) as a teacher of readers: its network, over windows that are padded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Teacher", "packed_weights"]

Tensor = Any
_BUCKETS, _FARTHEST = 32, 128
_FIRST_POSITION = 2
_EPS = 1e-5


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


class Teacher(nn.Module):
    """Start, end and relevance of windows.

    Args:
        weights: folder that `packed_weights` wrote.
        heads: of attention.
    """

    def __init__(self, weights: Path, heads: int = 12) -> None:
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
        self.register_buffer("bias_table", found.pop("encoder.relative_attention_bias.weight"))
        self.values = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(value) for name, value in found.items()}
        )
        width = self.words.shape[1]
        self.head = nn.Linear(width, 3)
        nn.init.normal_(self.head.weight, std=0.02)
        self.heads, self.layers = heads, sum(name.endswith("attn.q.weight") for name in found)

    def forward(self, ids: Tensor, is_token: Tensor) -> Tensor:
        """Ids of BERT int64[w, n], which are no padding, to float32[w, n, 3]."""
        n = ids.shape[1]
        positions = torch.arange(_FIRST_POSITION, n + _FIRST_POSITION, device=ids.device)
        x = (
            F.embedding(self.ids[ids], self.words)
            + self._of("embeddings.position_embeddings.weight")[positions]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        mask = self._bias(n, x.device)[None] + torch.where(is_token, 0.0, -1e4)[:, None, None]
        for layer in range(self.layers):
            x = self._layer(x, f"encoder.layer.{layer}", mask)
        return self.head(x).float()

    def _layer(self, x: Tensor, name: str, mask: Tensor) -> Tensor:
        q, k, v = (
            self._linear(x, f"{name}.attention.attn.{part}").unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in "qkv"
        )
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
        out = self._linear(seen.transpose(1, 2).flatten(2), f"{name}.attention.attn.o")
        x = self._norm(x + self._dropped(out), f"{name}.attention.LayerNorm")
        out = self._linear(F.gelu(self._linear(x, f"{name}.intermediate.dense")), f"{name}.output.dense")
        return self._norm(x + self._dropped(out), f"{name}.output.LayerNorm")

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.1, self.training)

    def _of(self, name: str) -> Tensor:
        return self.values[name.replace(".", "/")]

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._of(f"{name}.weight"), self._of(f"{name}.bias"))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self._of(f"{name}.weight"), self._of(f"{name}.bias"), _EPS)

    def _bias(self, n: int, device: Any) -> Tensor:
        """[heads, n, n]: of relative places, in buckets that grow with the distance (as in T5)."""
        at = torch.arange(n, device=device)
        away = at[:, None] - at[None]
        half, distance = _BUCKETS // 2, away.abs()
        exact = half // 2
        far = exact + (
            (distance.clamp(min=1).float() / exact).log() / math.log(_FARTHEST / exact) * (half - exact)
        ).long().clamp(max=half - exact - 1)
        bucket = torch.where(distance < exact, distance, far) + half * (away < 0)
        return F.embedding(bucket, self.bias_table).permute(2, 0, 1)


def bert_vocabulary(tokenizer: Path) -> list[str]:
    """Tokens of a `tokenizer.json` by id."""
    vocabulary = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)
