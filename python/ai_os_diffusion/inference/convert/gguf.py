"""A GGUF file: llama.cpp's names, row order and metadata to Hugging Face's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.convert.gguf_blocks import dequantize_blocks, split_blocks
from ai_os_diffusion.inference.convert.gguf_container import GgufFile, GgufTensor
from ai_os_diffusion.inference.convert.gguf_tokenizer import rebuild_tokenizer
from ai_os_diffusion.inference.convert.source import Codes, Description, SourceTensor
from ai_os_diffusion.utils.errors import ModelLoadError, TokenizerError

__all__ = ["GgufSource"]

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_DECODERS = ("llama", "qwen2", "qwen3")
_ROPE_FACTORS = "rope_freqs.weight"
_PLAIN = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class GgufSource:
    """One GGUF file."""

    dropped: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        """Parse the header.

        Raises:
            WeightError: the file is damaged.
            ModelLoadError: its architecture cannot be run, or a tensor has no place in it.
        """
        self._file = GgufFile(path)
        self.paths = [path]
        self._architecture = str(self._file.metadata.get("general.architecture"))
        if self._architecture not in _DECODERS:
            raise ModelLoadError(
                f"{path}: architecture {self._architecture!r} cannot be run; expected {', '.join(_DECODERS)}"
            )
        self._metadata = self._translate()
        self.tensors = [self._tensor(tensor) for tensor in self._file.tensors if tensor.name != _ROPE_FACTORS]

    def describe(self) -> Description:
        """Translate metadata; rebuild the tokenizer, or take the one beside the file where that cannot be."""
        metadata = dict(self._metadata)
        try:
            files = rebuild_tokenizer(self._file.path, self._file.metadata)
        except TokenizerError:
            files = _tokenizer_beside(self._file.path)
            if not files:
                raise
        licence = self._file.metadata.get("general.license")
        if licence:
            metadata["source"] = {"license": str(licence)}
        return Description(metadata, files)

    def _tensor(self, tensor: GgufTensor) -> SourceTensor:
        name = _canonical(self._file.path, tensor.name)
        order = self._row_order(tensor)
        kind = tensor.type

        def read() -> NDArray[Any]:
            blocks = self._file.read_blocks(tensor)
            values: NDArray[Any]
            if kind.name in ("F16", "BF16"):
                values = blocks.view(np.float16 if kind.name == "F16" else np.uint16).reshape(tensor.shape)
            else:
                values = dequantize_blocks(kind, blocks).reshape(tensor.shape)
            return values if order is None else values[order]

        read_codes = None
        if kind.split is not None and len(tensor.shape) == 2:
            read_codes = partial(self._read_codes, tensor, order)
        dtype = _PLAIN.get(kind.name, "float32")
        bits = kind.bits if read_codes else 0
        return SourceTensor(name, tensor.shape, dtype, read, kind.name, bits, kind.block, read_codes)

    def _read_codes(self, tensor: GgufTensor, order: NDArray[np.intp] | None) -> Codes:
        codes = split_blocks(tensor.type, self._file.read_blocks(tensor), tensor.shape)
        if order is None:
            return codes
        minimums = None if codes.zero_points is None else codes.zero_points[order]
        return Codes(codes.codes[order], codes.scales[order], minimums, codes.bits, codes.group_size)

    def _row_order(self, tensor: GgufTensor) -> NDArray[np.intp] | None:
        """Undo llama.cpp's order of query and key rows.

        For Llama it interleaves the two halves of each head, so that rotary pairs lie side by side.
        """
        part = tensor.name.split(".")[-2]
        if self._architecture != "llama" or part not in ("attn_q", "attn_k"):
            return None
        heads = self._metadata["num_heads" if part == "attn_q" else "num_kv_heads"]
        rows = np.arange(tensor.shape[0]).reshape(heads, -1, 2)
        return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(-1)

    def _translate(self) -> dict[str, Any]:
        values, architecture = self._file.metadata, self._architecture

        def get(key: str, default: Any = None) -> Any:
            value = values.get(f"{architecture}.{key}", default)
            if value is None:
                raise ModelLoadError(f"{self._file.path}: {architecture}.{key} is missing from its metadata")
            return value

        shapes = {tensor.name: tensor.shape for tensor in self._file.tensors}
        heads = int(get("attention.head_count"))
        hidden = int(get("embedding_length"))
        head_dim = int(get("attention.key_length", get("rope.dimension_count", hidden // heads)))
        context = int(get("context_length"))
        eos = [values.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")]
        return {
            "model_type": "decoder",
            "architecture": architecture,
            "hidden_size": hidden,
            "num_layers": int(get("block_count")),
            "num_heads": heads,
            "num_kv_heads": int(get("attention.head_count_kv", heads)),
            "head_dim": head_dim,
            "intermediate_size": int(get("feed_forward_length")),
            # A file without tokens has its tokenizer beside it.
            "vocab_size": len(values.get("tokenizer.ggml.tokens", ()))
            or shapes.get("token_embd.weight", (0,))[0],
            "max_position_embeddings": context,
            "max_seq_length": context,
            "norm_eps": _shortest(get("attention.layer_norm_rms_epsilon")),
            "hidden_act": "silu",
            "rope_theta": _shortest(get("rope.freq_base", 10000.0)),
            "rope_scaling": self._rope_scaling(head_dim),
            "tied_embeddings": "output.weight" not in shapes,
            "type_vocab_size": 0,
            "attention_bias": "blk.0.attn_q.bias" in shapes,
            "pooling": None,
            "normalize": False,
            "prompts": {"query": "", "document": ""},
            "bos_token_id": values.get("tokenizer.ggml.bos_token_id"),
            "eos_token_ids": list(dict.fromkeys(token for token in eos if token is not None)),
            "pad_token_id": values.get("tokenizer.ggml.padding_token_id"),
            "mask_token_id": values.get("tokenizer.ggml.mask_token_id"),
            "chat_template": values.get("tokenizer.chat_template"),
        }

    def _rope_scaling(self, head_dim: int) -> dict[str, Any] | None:
        values, architecture = self._file.metadata, self._architecture
        kind = values.get(f"{architecture}.rope.scaling.type", "none")
        if kind not in ("none", "linear"):
            raise ModelLoadError(
                f"{self._file.path}: rope scaling {kind!r}; expected none, linear or Llama 3 factors"
            )
        factors = [tensor for tensor in self._file.tensors if tensor.name == _ROPE_FACTORS]
        if factors:
            stored = dequantize_blocks(factors[0].type, self._file.read_blocks(factors[0])).reshape(-1)
            return self._llama3_scaling(stored, head_dim)
        if kind == "linear":
            return {"rope_type": "linear", "factor": float(values[f"{architecture}.rope.scaling.factor"])}
        return None

    def _llama3_scaling(self, stored: NDArray[np.float32], head_dim: int) -> dict[str, Any]:
        """The parameters whose formula gives the stored factors. Source: Llama 3.1's `rope_type: llama3`."""
        base = float(self._file.metadata.get(f"{self._architecture}.rope.freq_base", 10000.0))
        factor = float(stored.max())
        scaling = {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        wavelength = 2 * np.pi * base ** (np.arange(0, head_dim, 2) / head_dim)
        smooth = np.clip((8192 / wavelength - 1.0) / (4.0 - 1.0), 0.0, 1.0)
        expected = 1.0 / ((1 - smooth) / factor + smooth)
        if stored.shape != expected.shape or not np.allclose(stored, expected, rtol=1e-3):
            raise ModelLoadError(
                f"{self._file.path}: {_ROPE_FACTORS} holds factors other than those of Llama 3.1"
            )
        return scaling


def _shortest(value: float) -> float:
    """Float32 values as their shortest decimal: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _tokenizer_beside(path: Path) -> dict[str, bytes]:
    """The tokenizer that stands in the folder of a GGUF file; nothing without a tokenizer.json."""
    if not path.with_name("tokenizer.json").is_file():
        return {}
    found = (path.with_name(name) for name in ("tokenizer.json", "tokenizer_config.json"))
    return {file.name: file.read_bytes() for file in found if file.is_file()}


def _canonical(path: Path, name: str) -> str:
    """Hugging Face's name."""
    layer = re.fullmatch(r"blk\.(\d+)\.([a-z_]+)\.(weight|bias)", name)
    if layer and layer.group(2) in _LAYER_NAMES:
        return f"model.layers.{layer.group(1)}.{_LAYER_NAMES[layer.group(2)]}.{layer.group(3)}"
    stem, _, kind = name.rpartition(".")
    if stem in _NAMES and kind in ("weight", "bias"):
        return f"{_NAMES[stem]}.{kind}"
    raise ModelLoadError(f"{path}: tensor {name!r} has no place in a Llama or Qwen decoder")
