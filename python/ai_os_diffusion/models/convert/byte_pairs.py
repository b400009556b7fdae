"""A tokenizer.json of byte-level pairs, put together from a vocabulary and its merges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ai_os_diffusion.models.untrusted_values import MAX_TOKENIZER_BYTES, UntrustedValues, read_values
from ai_os_diffusion.utils.errors import ModelDamagedError, TokenizerError
from ai_os_diffusion.utils.files.regular_file import read_regular

__all__ = ["STEPS", "byte_pair_tokenizer", "tokenizer_of_files"]

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _split(*patterns: str) -> list[dict[str, Any]]:
    """Split at the matches of one pattern after the other, then map bytes to characters."""
    steps: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in patterns
    ]
    return [*steps, _byte_level(use_regex=False)]


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


_LLAMA3 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
STEPS = {
    "default": _split(r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    "gpt-2": [_byte_level(use_regex=True)],
    "smollm": [{"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)],
    "llama-bpe": _split(_LLAMA3),
    "qwen2": _split(_QWEN2),
}
"""By llama.cpp's name for them; each as the model's own tokenizer.json has it, the default as llama.cpp."""

_CLASSES = {"Qwen2Tokenizer": "qwen2", "DreamTokenizer": "qwen2"}
"""Classes of tokenizers that are saved as vocabulary and merges alone, and their steps."""


def byte_pair_tokenizer(
    steps: str, tokens: Mapping[str, int], merges: Sequence[Sequence[str]], *, ignore_merges: bool = False
) -> dict[str, Any]:
    """The values of a tokenizer.json, without added tokens.

    Args:
        steps: how a text is cut first, by a name of `STEPS`.
        tokens: text to id.
        merges: pairs of texts, the first to be merged first.
        ignore_merges: whether whole words that are tokens are taken without merging.
    """
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": {"type": "NFC"} if steps == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": STEPS[steps]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": ignore_merges,
            "vocab": dict(tokens),
            "merges": [list(merge) for merge in merges],
        },
    }


def tokenizer_of_files(folder: Path, config: UntrustedValues) -> bytes | None:
    """A tokenizer.json from vocab.json and merges.txt; None where they, or their class, are not there.

    Args:
        folder: where they are.
        config: tokenizer_config.json, which names the class and the added tokens.

    Raises:
        TokenizerError: a file is no vocabulary, or holds no merges.
    """
    steps = _CLASSES.get(config.text("tokenizer_class", "").removesuffix("Fast"))
    files = folder / "vocab.json", folder / "merges.txt"
    if steps is None or not all(file.is_file() for file in files):
        return None
    tokens = read_values(files[0], MAX_TOKENIZER_BYTES)
    wrong = next((text for text in tokens if type(tokens.values[text]) is not int), None)
    if wrong is not None:
        raise TokenizerError(f"{tokens.named(wrong)}, expected the id of a token")
    lines = (
        read_regular(files[1], MAX_TOKENIZER_BYTES, ModelDamagedError).decode("utf-8", "replace").split("\n")
    )
    merges = [line.split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    if not merges or any(len(merge) != 2 for merge in merges):
        raise TokenizerError(f"{files[1]}: no merges, or one that is not two texts and a space")
    added = [
        {
            "id": int(id),
            **{
                key: entry.flag(key, False)
                for key in ("single_word", "lstrip", "rstrip", "normalized", "special")
            },
            "content": entry.text("content"),
        }
        for id, entry in _added(config)
    ]
    return json.dumps({**byte_pair_tokenizer(steps, tokens.values, merges), "added_tokens": added}).encode()


def _added(config: UntrustedValues) -> list[tuple[str, UntrustedValues]]:
    """Tokens behind the vocabulary, by their ids, which are texts there."""
    section = config.section("added_tokens_decoder")
    wrong = next((id for id in section if not (id.isascii() and id.isdecimal() and len(id) < 9)), None)
    if wrong is not None:
        raise TokenizerError(f"{section.place}: {wrong!r} is no id of a token")
    return sorted(((id, section.section(id)) for id in section), key=lambda pair: int(pair[0]))
