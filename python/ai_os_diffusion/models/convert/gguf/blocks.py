"""How GGUF stores values: blocks of 32 or 256 weights with their scales.

Each function takes uint8[blocks, bytes of a block] and returns float32[blocks, weights of a block].
Source: the block structs of ggml, https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.models.convert.source import Codes, bfloat16_to_float32

__all__ = ["BLOCK_TYPES", "BlockType", "dequantize_blocks", "split_blocks"]

Blocks = NDArray[np.uint8]
Floats = NDArray[np.float32]
Split = Callable[[Blocks], tuple[NDArray[np.uint8], NDArray[np.float16], "NDArray[np.float16] | None"]]

_CHUNK_BLOCKS = 1 << 15


@dataclass(frozen=True, slots=True)
class BlockType:
    """A storage type.

    Attributes:
        name: ggml's name.
        block: weights of a block.
        size_bytes: bytes of a block.
        dequantize: blocks to values.
        bits: width of the codes that carry over to our panels without loss; 0 if they do not.
        split: blocks to (codes, scales, minimums) where they do.
    """

    name: str
    block: int
    size_bytes: int
    dequantize: Callable[[Blocks], Floats]
    bits: int = 0
    split: Split | None = None


def dequantize_blocks(kind: BlockType, blocks: Blocks) -> Floats:
    """Values of any number of blocks, a slice at a time so that temporaries stay small."""
    out = np.empty((len(blocks), kind.block), np.float32)
    for start in range(0, len(blocks), _CHUNK_BLOCKS):
        part = slice(start, start + _CHUNK_BLOCKS)
        out[part] = kind.dequantize(blocks[part])
    return out


def split_blocks(kind: BlockType, blocks: Blocks, shape: tuple[int, ...]) -> Codes:
    """Codes, scales and minimums of a matrix, for types with `bits`."""
    if kind.split is None:
        raise ValueError(f"{kind.name} has no codes of its own")
    codes, scales, minimums = kind.split(blocks)
    if minimums is not None:
        minimums = minimums.reshape(shape[0], -1)
    return Codes(codes.reshape(shape), scales.reshape(shape[0], -1), minimums, kind.bits, kind.block)


def _half(blocks: Blocks, at: int) -> NDArray[np.float16]:
    """The float16 at a byte offset of each block: [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16)


def _single(blocks: Blocks, at: int) -> Floats:
    return _half(blocks, at).astype(np.float32)


def _nibbles(packed: Blocks) -> Blocks:
    """Low nibbles, then high nibbles, of each row."""
    return np.concatenate([packed & np.uint8(0x0F), packed >> np.uint8(4)], axis=-1)


def _fifth_bits(blocks: Blocks, at: int) -> Blocks:
    """The 32 bits at a byte offset, each moved to the place of a code's fifth bit."""
    return np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little") << np.uint8(4)


def _f32(blocks: Blocks) -> Floats:
    return blocks.view(np.float32)


def _f16(blocks: Blocks) -> Floats:
    return blocks.view(np.float16).astype(np.float32)


def _bf16(blocks: Blocks) -> Floats:
    return bfloat16_to_float32(blocks.view(np.uint16))


def _split_q8_0(blocks: Blocks) -> tuple[Blocks, NDArray[np.float16], None]:
    return blocks[:, 2:] ^ np.uint8(0x80), _half(blocks, 0), None


def _split_q4_0(blocks: Blocks) -> tuple[Blocks, NDArray[np.float16], None]:
    return _nibbles(blocks[:, 2:]), _half(blocks, 0), None


def _split_q4_1(blocks: Blocks) -> tuple[Blocks, NDArray[np.float16], NDArray[np.float16]]:
    return _nibbles(blocks[:, 4:]), _half(blocks, 0), _half(blocks, 2)


def _q8_0(blocks: Blocks) -> Floats:
    return _single(blocks, 0) * blocks[:, 2:].view(np.int8)


def _q4_0(blocks: Blocks) -> Floats:
    return _single(blocks, 0) * (_nibbles(blocks[:, 2:]).view(np.int8) - np.int8(8))


def _q4_1(blocks: Blocks) -> Floats:
    return _single(blocks, 0) * _nibbles(blocks[:, 4:]) + _single(blocks, 2)


def _q5_0(blocks: Blocks) -> Floats:
    codes = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2)
    return _single(blocks, 0) * (codes.view(np.int8) - np.int8(16))


def _q5_1(blocks: Blocks) -> Floats:
    codes = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)
    return _single(blocks, 0) * codes + _single(blocks, 2)


def _k_scales(packed: Blocks) -> tuple[Blocks, Blocks]:
    """Eight scales and eight minimums of six bits each, from twelve bytes."""
    low, high, rest = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([low & 63, (rest & 0x0F) | (low >> 6) << 4], axis=1)
    minimums = np.concatenate([high & 63, (rest >> 4) | (high >> 6) << 4], axis=1)
    return scales, minimums


def _k_groups(blocks: Blocks, codes: Blocks) -> Floats:
    """Values of eight groups of 32 codes [blocks, 8, 32], after the super-scales of Q4_K and Q5_K."""
    scales, minimums = _k_scales(blocks[:, 4:16])
    scale = (_single(blocks, 0) * scales)[:, :, None]
    minimum = (_single(blocks, 2) * minimums)[:, :, None]
    return (scale * codes - minimum).reshape(len(blocks), 256)


def _q4_k(blocks: Blocks) -> Floats:
    return _k_groups(blocks, _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32))


def _q5_k(blocks: Blocks) -> Floats:
    low = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    # Byte i holds the fifth bits of weight i of the eight groups.
    fifth = (blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & np.uint8(1)) << np.uint8(4)
    return _k_groups(blocks, low | fifth)


def _q6_k(blocks: Blocks) -> Floats:
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & 3) << 4
    codes = ((low | high).view(np.int8) - np.int8(32)).reshape(-1, 16, 16)
    scales = _single(blocks, 208) * blocks[:, 192:208].view(np.int8)
    return (scales[:, :, None] * codes).reshape(len(blocks), 256)


BLOCK_TYPES = {
    0: BlockType("F32", 1, 4, _f32),
    1: BlockType("F16", 1, 2, _f16),
    2: BlockType("Q4_0", 32, 18, _q4_0, 4, _split_q4_0),
    3: BlockType("Q4_1", 32, 20, _q4_1, 4, _split_q4_1),
    6: BlockType("Q5_0", 32, 22, _q5_0),
    7: BlockType("Q5_1", 32, 24, _q5_1),
    8: BlockType("Q8_0", 32, 34, _q8_0, 8, _split_q8_0),
    12: BlockType("Q4_K", 256, 144, _q4_k),
    13: BlockType("Q5_K", 256, 176, _q5_k),
    14: BlockType("Q6_K", 256, 210, _q6_k),
    30: BlockType("BF16", 1, 2, _bf16),
}
"""By ggml's number."""
