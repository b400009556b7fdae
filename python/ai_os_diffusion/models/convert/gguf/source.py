"""A GGUF file: llama.cpp's names, row order and metadata to Hugging Face's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.convert.gguf.blocks import dequantize_blocks, split_blocks
from ai_os_diffusion.models.convert.gguf.container import GgufFile, GgufTensor
from ai_os_diffusion.models.convert.gguf.known_gguf_settings import GGUF_ARCHITECTURE, GGUF_GENERAL
from ai_os_diffusion.models.convert.gguf.tokenizer import rebuild_tokenizer
from ai_os_diffusion.models.convert.gguf.vocabulary import GgufVocabulary
from ai_os_diffusion.models.convert.settings.rope import rope_of_gguf
from ai_os_diffusion.models.convert.settings.settings_check import check_settings
from ai_os_diffusion.models.convert.source import Codes, Description, SourceTensor
from ai_os_diffusion.models.family import families
from ai_os_diffusion.models.untrusted_values import (
    MAX_LAYERS,
    MAX_TOKENIZER_BYTES,
    MAX_TOKENS,
    UntrustedValues,
    shown,
)
from ai_os_diffusion.utils.errors import ModelDamagedError, ModelLoadError, TokenizerError, WeightError
from ai_os_diffusion.utils.files.regular_file import read_regular

__all__ = ["GgufSource"]

_ROPE_FACTORS = "rope_freqs.weight"
_POOLINGS = (None, "mean", "cls", "last")
"""By llama.cpp's number; 4 is the score of a classifier."""

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
        general = UntrustedValues(str(path), self._file.metadata)
        self._architecture = general.text("general.architecture", "")
        known = {family.gguf["architecture"]: family for family in families().values() if family.gguf}
        if self._architecture not in known:
            raise ModelLoadError(
                f"{path}: architecture {shown(self._architecture)} cannot be run; expected {', '.join(known)}"
            )
        self._family = known[self._architecture]
        if general.text("general.type", "model") != "model":
            raise general.refusal("general.type", "'model'")
        prefix = f"{self._architecture}."
        own = {
            key[len(prefix) :]: value for key, value in self._file.metadata.items() if key.startswith(prefix)
        }
        others = {key: value for key, value in self._file.metadata.items() if not key.startswith(prefix)}
        self._general = UntrustedValues(str(path), others)
        self._own = UntrustedValues(str(path), own, prefix=prefix)
        self._remarks = [
            *check_settings(self._general, GGUF_GENERAL),
            *check_settings(self._own, GGUF_ARCHITECTURE),
        ]
        self._vocabulary = GgufVocabulary(self._general)
        self._metadata = self._translate()
        self.tensors = [self._tensor(tensor) for tensor in self._file.tensors if tensor.name != _ROPE_FACTORS]

    def describe(self) -> Description:
        """Translate metadata; rebuild the tokenizer, or take the one beside the file where that cannot be."""
        metadata = dict(self._metadata)
        try:
            files = rebuild_tokenizer(self._vocabulary)
        except TokenizerError:
            files = _tokenizer_beside(self._file.path)
            if not files:
                raise
        licence = self._general.maybe_text("general.license")
        if licence:
            metadata["source"] = {"license": licence}
        return Description(metadata, files, self._remarks)

    def _tensor(self, tensor: GgufTensor) -> SourceTensor:
        name = self._canonical(tensor.name)
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

    @property
    def _names(self) -> Mapping[str, Any]:
        return self._family.gguf or {}

    def _canonical(self, name: str) -> str:
        """Hugging Face's name."""
        layer = re.fullmatch(r"blk\.(\d+)\.([a-z_]+)\.(weight|bias)", name)
        inner, outer = dict(self._names["layer_names"]), dict(self._names["names"])
        if layer and layer.group(2) in inner:
            return f"{self._family.layer}.{layer.group(1)}.{inner[layer.group(2)]}.{layer.group(3)}"
        stem, _, kind = name.rpartition(".")
        if stem in outer and kind in ("weight", "bias"):
            return f"{outer[stem]}.{kind}"
        raise ModelLoadError(
            f"{self._file.path}: tensor {name!r} has no place in a network of {self._family.name}"
        )

    def _row_order(self, tensor: GgufTensor) -> NDArray[np.intp] | None:
        """Undo llama.cpp's order of query and key rows.

        For Llama it interleaves the two halves of each head, so that rotary pairs lie side by side.
        """
        part = tensor.name.rpartition(".")[0].rpartition(".")[2]
        if not self._names["is_interleaved"] or part not in ("attn_q", "attn_k"):
            return None
        heads = self._metadata["num_heads" if part == "attn_q" else "num_kv_heads"]
        if not tensor.shape or tensor.shape[0] != heads * self._metadata["head_dim"]:
            raise WeightError(
                f"{self._file.path}: tensor {tensor.name!r}: expected {heads} heads of "
                f"{self._metadata['head_dim']} rows, got the shape {tensor.shape}"
            )
        rows = np.arange(tensor.shape[0]).reshape(heads, -1, 2)
        return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(-1)

    def _translate(self) -> dict[str, Any]:
        own = self._own
        shapes = {tensor.name: tensor.shape for tensor in self._file.tensors}
        heads, hidden = own.integer("attention.head_count"), own.integer("embedding_length")
        head_dim = own.integer(
            "attention.key_length", own.integer("rope.dimension_count", max(hidden // heads, 1))
        )
        context = own.integer("context_length", high=MAX_TOKENS)
        kv_heads = own.integer("attention.head_count_kv", heads)
        vocab_size = len(self._vocabulary.tokens) or next(iter(shapes.get("token_embd.weight", ())), 0)
        self._check(head_dim, hidden, context, vocab_size, heads, kv_heads)
        base, scaling = rope_of_gguf(own, context, head_dim)
        pooling = own.integer("pooling_type", 0, low=0, high=255)
        if pooling >= len(_POOLINGS):
            raise own.refusal("pooling_type", "0 to 3: none, mean, first token, last token")
        return {
            "model_type": "decoder",
            "architecture": self._family.name,
            "hidden_size": hidden,
            "num_layers": own.integer("block_count", high=MAX_LAYERS),
            "num_heads": heads,
            "num_kv_heads": kv_heads,
            "head_dim": head_dim,
            "intermediate_size": own.integer("feed_forward_length"),
            # A file without tokens has its tokenizer beside it.
            "vocab_size": vocab_size,
            "max_position_embeddings": context,
            "max_seq_length": context,
            "norm_eps": _shortest(own.number("attention.layer_norm_rms_epsilon", high=1.0)),
            "hidden_act": self._family.config["activation"][1],
            "rope_theta": _shortest(base),
            "rope_scaling": self._rope_scaling(base, scaling, head_dim),
            "tied_embeddings": "output.weight" not in shapes,
            "type_vocab_size": 0,
            "attention_bias": "blk.0.attn_q.bias" in shapes,
            "pooling": _POOLINGS[pooling],
            # llama.cpp's programs for embeddings scale what they pool.
            "normalize": pooling != 0,
            "prompts": {"query": "", "document": ""},
            "bos_token_id": self._vocabulary.id_of("bos"),
            "eos_token_ids": self._vocabulary.ends,
            "pad_token_id": self._vocabulary.id_of("padding"),
            "mask_token_id": self._vocabulary.id_of("mask"),
            "chat_template": self._general.maybe_text("tokenizer.chat_template"),
        }

    def _check(
        self, head_dim: int, hidden: int, context: int, vocab_size: int, heads: int, kv_heads: int
    ) -> None:
        """Sizes that must agree for the family's network to be the file's."""
        own = self._own
        if heads % kv_heads:
            raise own.fault("attention.head_count_kv", f"a divisor of attention.head_count = {heads}")
        if head_dim % 2:
            raise own.fault("attention.key_length", "an even number: rotary positions turn pairs")
        if own.integer("attention.value_length", head_dim, low=0) != head_dim:
            raise own.refusal("attention.value_length", f"{head_dim}, as long as keys are")
        if own.integer("embedding_length_out", hidden, low=0) not in (0, hidden):
            raise own.refusal("embedding_length_out", f"{hidden}: vectors would be projected")
        if 0 < own.integer("attention.sliding_window", 0, low=0, high=1 << 40) < context:
            raise own.refusal("attention.sliding_window", f"none, or at least context_length = {context}")
        if own.integer("vocab_size", vocab_size, low=0, high=MAX_TOKENS) < vocab_size:
            raise own.fault("vocab_size", f"{vocab_size}, as many as there are tokens")

    def _rope_scaling(
        self, base: float, scaling: dict[str, Any] | None, head_dim: int
    ) -> dict[str, Any] | None:
        factors = [tensor for tensor in self._file.tensors if tensor.name == _ROPE_FACTORS]
        if not factors:
            return scaling
        if self._architecture != "llama":
            raise ModelLoadError(
                f"{self._file.path}: {_ROPE_FACTORS} takes no part in what {self._architecture} computes"
            )
        stored = self._file.read_blocks(factors[0])
        if factors[0].shape != (head_dim // 2,):
            raise ModelLoadError(
                f"{self._file.path}: {_ROPE_FACTORS} has the shape {factors[0].shape}, "
                f"expected ({head_dim // 2},)"
            )
        divisors = dequantize_blocks(factors[0].type, stored).reshape(-1)
        if (divisors == 1.0).all():
            return scaling
        if scaling is not None:
            raise ModelLoadError(
                f"{self._file.path}: {_ROPE_FACTORS} and rope.scaling.type = {scaling['rope_type']!r}; "
                "expected one of them: positions would be scaled twice"
            )
        return self._llama3_scaling(divisors, base, head_dim)

    def _llama3_scaling(self, stored: NDArray[np.float32], base: float, head_dim: int) -> dict[str, Any]:
        """The parameters whose formula gives the stored factors. Source: Llama 3.1's `rope_type: llama3`."""
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
        if (
            not np.isfinite(stored).all()
            or stored.min() < 1e-6
            or not np.allclose(stored, 1.0 / ((1 - smooth) / factor + smooth), rtol=1e-3)
        ):
            raise ModelLoadError(
                f"{self._file.path}: {_ROPE_FACTORS} holds factors other than those of Llama 3.1"
            )
        return scaling


def _shortest(value: float) -> float:
    """Float32 values as their shortest decimal: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _tokenizer_beside(path: Path) -> dict[str, bytes]:
    """The tokenizer that stands in the folder of a GGUF file; nothing without a tokenizer.json."""
    if not path.with_name("tokenizer.json").exists():
        return {}
    found = (path.with_name(name) for name in ("tokenizer.json", "tokenizer_config.json"))
    return {
        file.name: read_regular(file, MAX_TOKENIZER_BYTES, ModelDamagedError)
        for file in found
        if file.exists()
    }
