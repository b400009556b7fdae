"""Rebuilds `tokenizer.json` from the vocabulary inside a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ai_os_diffusion.utils.errors import TokenizerError

__all__ = ["rebuild_tokenizer"]

_CONTROL, _USER_DEFINED = 3, 4
_NORMAL, _UNUSED, _BYTE = 1, 5, 6

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _split(pattern: str) -> list[dict[str, Any]]:
    """Split at a pattern's matches, then map bytes to characters."""
    return [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        _byte_level(use_regex=False),
    ]


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


_LLAMA3 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}"
_PRE_TOKENIZERS = {
    "default": [_byte_level(use_regex=True)],
    "gpt-2": [_byte_level(use_regex=True)],
    "smollm": [{"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)],
    "llama-bpe": _split(_LLAMA3),
    "qwen2": _split(_QWEN2),
}
"""By llama.cpp's name for them; each as the model's own tokenizer.json has it."""


def rebuild_tokenizer(path: Path, metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """Write `tokenizer.json` and `tokenizer_config.json`.

    Raises:
        TokenizerError: the vocabulary is missing, inconsistent, or of a kind that cannot be rebuilt.
    """
    model = metadata.get("tokenizer.ggml.model")
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise TokenizerError(
            f"{path}: no vocabulary in its metadata; put the model's tokenizer.json beside it"
        )
    kinds = metadata.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
    if len(kinds) != len(tokens):
        raise TokenizerError(f"{path}: {len(tokens)} tokens but {len(kinds)} token types")
    if model == "gpt2":
        tokenizer = _byte_pairs(path, metadata, tokens)
    elif model == "llama":
        tokenizer = _sentence_pieces(path, metadata, tokens)
    else:
        raise TokenizerError(
            f"{path}: tokenizer {model!r} cannot be rebuilt; expected gpt2 or llama, "
            "or the model's tokenizer.json beside it"
        )
    tokenizer["added_tokens"] = [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == _CONTROL,
        }
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    tokenizer["post_processor"] = _post_processor(metadata, tokens, default_bos=model == "llama")
    return {
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, indent=1).encode(),
        "tokenizer_config.json": json.dumps(
            _configuration(metadata, tokens), ensure_ascii=False, indent=2
        ).encode(),
    }


def _byte_pairs(path: Path, metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    """GPT-2's byte-level pairs."""
    pre = metadata.get("tokenizer.ggml.pre", "default")
    if pre not in _PRE_TOKENIZERS:
        raise TokenizerError(
            f"{path}: pre-tokenizer {pre!r} cannot be rebuilt; expected one of {', '.join(_PRE_TOKENIZERS)}, "
            "or put the model's tokenizer.json beside it"
        )
    merges = metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, list) or not all(isinstance(merge, str) for merge in merges):
        raise TokenizerError(f"{path}: no merges in its metadata")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _PRE_TOKENIZERS[pre]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            # Llama 3 takes whole words that are in the vocabulary without merging.
            "ignore_merges": pre == "llama-bpe",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in merges],
        },
    }


def _sentence_pieces(path: Path, metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    """SentencePiece pairs with byte fallback, whose merges follow from the pieces' scores."""
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise TokenizerError(f"{path}: its vocabulary has no scores, which SentencePiece needs")
    ids = {token: i for i, token in enumerate(tokens)}
    merges = []
    for token, score in zip(tokens, scores, strict=True):
        pairs = [
            (token[:at], token[at:]) for at in range(1, len(token)) if token[:at] in ids and token[at:] in ids
        ]
        merges += [
            (score, left, right)
            for left, right in sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        ]
    merges.sort(key=lambda merge: merge[0], reverse=True)
    prefix = (
        [{"type": "Prepend", "prepend": "▁"}] if metadata.get("tokenizer.ggml.add_space_prefix", True) else []
    )
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*prefix, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}],
        },
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": tokens[unknown] if 0 <= unknown < len(tokens) else None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": ids,
            "merges": [[left, right] for _, left, right in merges],
        },
    }


def _post_processor(
    metadata: Mapping[str, Any], tokens: Sequence[str], *, default_bos: bool
) -> dict[str, Any]:
    """Put the begin and end tokens around a text where the model wants them."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    begin = (
        _token(metadata, tokens, "bos") if metadata.get("tokenizer.ggml.add_bos_token", default_bos) else None
    )
    end = _token(metadata, tokens, "eos") if metadata.get("tokenizer.ggml.add_eos_token", False) else None
    if begin is None and end is None:
        return byte_level

    def template(letter: str, type_id: int) -> list[dict[str, Any]]:
        around = [
            [{"SpecialToken": {"id": name, "type_id": type_id}}] if name else [] for name in (begin, end)
        ]
        return [*around[0], {"Sequence": {"id": letter, "type_id": type_id}}, *around[1]]

    specials = {
        name: {"id": name, "ids": [tokens.index(name)], "tokens": [name]} for name in (begin, end) if name
    }
    return {
        "type": "TemplateProcessing",
        "single": template("A", 0),
        "pair": template("A", 0) + template("B", 1),
        "special_tokens": specials,
    }


def _token(metadata: Mapping[str, Any], tokens: Sequence[str], role: str) -> str | None:
    number = metadata.get(f"tokenizer.ggml.{role}_token_id")
    return tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else None


def _configuration(metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    roles = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    named = {key: _token(metadata, tokens, role) for key, role in roles.items()}
    return {
        **{key: token for key, token in named.items() if token is not None},
        "add_bos_token": bool(
            metadata.get("tokenizer.ggml.add_bos_token", metadata.get("tokenizer.ggml.model") == "llama")
        ),
        "chat_template": metadata.get("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
    }
