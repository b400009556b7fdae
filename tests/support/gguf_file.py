"""GGUF files byte by byte, for what no writer would write; and a tiny decoder of llama.cpp's settings."""

from __future__ import annotations

import struct
from collections.abc import Mapping

Value = tuple[int, bytes]


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def texts(*values: str) -> Value:
    return 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(text, values))


def numbers(code: str, kind: int, *values: float) -> Value:
    return 9, struct.pack("<IQ", kind, len(values)) + struct.pack(f"<{len(values)}{code}", *values)


def gguf(values: Mapping[str, Value], tensors: Mapping[str, tuple[int, ...]]) -> bytes:
    pairs = b"".join(text(key) + struct.pack("<I", kind) + data for key, (kind, data) in values.items())
    directory, data = b"", b""
    for name, shape in tensors.items():
        axes = b"".join(struct.pack("<Q", axis) for axis in reversed(shape))
        directory += text(name) + struct.pack("<I", len(shape)) + axes + struct.pack("<IQ", 0, len(data))
        count = 1
        for axis in shape:
            count *= axis
        data += struct.pack(f"<{count}f", *[0.01 * (i % 7 - 3) for i in range(count)])
        data += bytes(-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + pairs + directory
    return head + bytes(-len(head) % 32) + data


TOKENS = ["<s>", "</s>", "<unk>", "a", "b", "ab", "Ġ", "Ġa"]
GGUF: dict[str, Value] = {
    "general.architecture": (8, text("llama")),
    "general.alignment": (4, struct.pack("<I", 32)),
    "general.license": (8, text("mit")),
    "llama.embedding_length": (4, struct.pack("<I", 32)),
    "llama.block_count": (4, struct.pack("<I", 1)),
    "llama.attention.head_count": (4, struct.pack("<I", 4)),
    "llama.attention.head_count_kv": (4, struct.pack("<I", 2)),
    "llama.attention.key_length": (4, struct.pack("<I", 8)),
    "llama.attention.value_length": (4, struct.pack("<I", 8)),
    "llama.context_length": (4, struct.pack("<I", 64)),
    "llama.feed_forward_length": (4, struct.pack("<I", 64)),
    "llama.attention.layer_norm_rms_epsilon": (6, struct.pack("<f", 1e-5)),
    "llama.rope.freq_base": (6, struct.pack("<f", 1e4)),
    "llama.rope.dimension_count": (4, struct.pack("<I", 8)),
    "llama.rope.scaling.type": (8, text("yarn")),
    "llama.rope.scaling.factor": (6, struct.pack("<f", 2.0)),
    "llama.rope.scaling.original_context_length": (4, struct.pack("<I", 32)),
    "llama.vocab_size": (4, struct.pack("<I", len(TOKENS))),
    "tokenizer.ggml.model": (8, text("gpt2")),
    "tokenizer.ggml.pre": (8, text("default")),
    "tokenizer.ggml.tokens": texts(*TOKENS),
    "tokenizer.ggml.token_type": numbers("i", 5, 3, 3, 3, 1, 1, 1, 1, 1),
    "tokenizer.ggml.scores": numbers("f", 6, *[-1.0] * len(TOKENS)),
    "tokenizer.ggml.merges": texts("a b", "Ġ a"),
    "tokenizer.ggml.bos_token_id": (4, struct.pack("<I", 0)),
    "tokenizer.ggml.eos_token_id": (4, struct.pack("<I", 1)),
    "tokenizer.ggml.unknown_token_id": (4, struct.pack("<I", 2)),
    "tokenizer.ggml.padding_token_id": (4, struct.pack("<I", 2)),
    "tokenizer.ggml.add_bos_token": (7, b"\1"),
    "tokenizer.ggml.add_space_prefix": (7, b"\1"),
    "tokenizer.chat_template": (8, text("{{ messages }}")),
}
TENSORS = {
    "token_embd.weight": (len(TOKENS), 32),
    "output_norm.weight": (32,),
    "blk.0.attn_norm.weight": (32,),
    "blk.0.ffn_norm.weight": (32,),
    "blk.0.attn_q.weight": (32, 32),
    "blk.0.attn_k.weight": (16, 32),
    "blk.0.attn_v.weight": (16, 32),
    "blk.0.attn_output.weight": (32, 32),
    "blk.0.ffn_gate.weight": (64, 32),
    "blk.0.ffn_up.weight": (64, 32),
    "blk.0.ffn_down.weight": (32, 64),
}
