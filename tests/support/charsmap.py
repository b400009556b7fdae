"""The table by which SentencePiece replaces characters: the Precompiled normaliser of a tokenizer.json."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping

_BLOCK = 256


def charsmap(replacements: Mapping[str, str]) -> str:
    """The table in base64: a double array over the bytes of what is replaced, then what replaces it.

    Each node has a block of its own, so that no two share a place; SentencePiece packs them closer. A unit is
    `label | leaf << 8 | offset << 10`, and the place of a child is that of its parent, xor offset, xor label.
    """
    texts = b""
    units = [0] * _BLOCK
    bases = {b"": 0}
    for source, target in replacements.items():
        key = source.encode()
        for end in range(1, len(key) + 1):
            place = bases[key[: end - 1]] ^ key[end - 1]
            if key[:end] not in bases:
                base = bases[key[:end]] = len(units)
                units += [0] * _BLOCK
                units[place] = key[end - 1] | (place ^ base) << 10
        units[place] |= 1 << 8
        units[bases[key]] = len(texts) | 1 << 31
        texts += target.encode() + b"\0"
    trie = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(trie)) + trie + texts).decode()


SOME = {
    "ﬁ": "fi",
    "Ⅷ": "VIII",
    "㎒": "MHz",
    "ａ": "a",
    "Ｂ": "B",
    "\u00a0": " ",
    "\u200b": " ",
    "…": "...",
    "e\u0301": "é",
}
"""Some of what NFKC does."""
