"""Rebuilds `tokenizer.json` from the vocabulary inside a GGUF file."""

from __future__ import annotations

import json
import math
from typing import Any

from ai_os_diffusion.models.convert.byte_pairs import STEPS, byte_pair_tokenizer
from ai_os_diffusion.models.convert.gguf.vocabulary import GgufVocabulary
from ai_os_diffusion.models.untrusted_values import shown
from ai_os_diffusion.utils.errors import TokenizerError

__all__ = ["rebuild_tokenizer"]

_CONTROL, _USER_DEFINED = 3, 4
_NORMAL = 1

_SAME = {
    "llama-bpe": "llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano dbrx smaug-bpe",
    "qwen2": "deepseek-r1-qwen kormo f2llmv2 megrez",
    "gpt-2": "phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert exaone4",
    "smollm": "codeshell exaone minerva-7b mellum2",
}
"""Further names that llama.cpp has for the same steps."""

_PRE_TOKENIZERS = {name: name for name in STEPS} | {
    name: same for same, names in _SAME.items() for name in names.split()
}
_MERGING_WHOLE_WORDS = ("dbrx", "smaug-bpe")
_MAX_PIECE = 128
"""Characters of a SentencePiece token: every place to part one is looked at."""


def rebuild_tokenizer(vocabulary: GgufVocabulary) -> dict[str, bytes]:
    """Write `tokenizer.json` and `tokenizer_config.json`.

    Raises:
        TokenizerError: the vocabulary is missing, inconsistent, or of a kind that cannot be rebuilt.
    """
    values, tokens = vocabulary.values, vocabulary.tokens
    if not tokens:
        raise TokenizerError(
            f"{values.place}: no vocabulary in its metadata; put the model's tokenizer.json beside it"
        )
    kinds = values.items("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
    if len(kinds) != len(tokens):
        raise TokenizerError(f"{values.place}: {len(tokens)} tokens but {len(kinds)} token types")
    if len(set(tokens)) != len(tokens):
        raise TokenizerError(f"{values.place}: a token occurs twice in its vocabulary")
    if vocabulary.model == "gpt2":
        tokenizer = _byte_pairs(vocabulary)
    elif vocabulary.model == "llama":
        tokenizer = _sentence_pieces(vocabulary)
    else:
        raise TokenizerError(
            f"{values.place}: tokenizer {shown(vocabulary.model)} cannot be rebuilt; expected gpt2 or llama, "
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
    tokenizer["post_processor"] = _post_processor(vocabulary)
    return {
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, indent=1).encode(),
        "tokenizer_config.json": json.dumps(
            _configuration(vocabulary), ensure_ascii=False, indent=2
        ).encode(),
    }


def _byte_pairs(vocabulary: GgufVocabulary) -> dict[str, Any]:
    """GPT-2's byte-level pairs."""
    place, pre = vocabulary.values.place, vocabulary.pre
    if pre not in _PRE_TOKENIZERS:
        raise TokenizerError(
            f"{place}: pre-tokenizer {shown(pre)} cannot be rebuilt; expected one of "
            f"{', '.join(_PRE_TOKENIZERS)}, or put the model's tokenizer.json beside it"
        )
    steps = _PRE_TOKENIZERS[pre]
    merges = [merge.split(" ", 1) for merge in vocabulary.values.texts("tokenizer.ggml.merges")]
    if not merges or any(len(merge) != 2 for merge in merges):
        raise TokenizerError(f"{place}: no merges in its metadata, or one that is not two texts and a space")
    # Llama 3 takes whole words that are in the vocabulary without merging.
    ignores = steps == "llama-bpe" and pre not in _MERGING_WHOLE_WORDS
    tokens = {token: i for i, token in enumerate(vocabulary.tokens)}
    return byte_pair_tokenizer(steps, tokens, merges, ignore_merges=ignores)


def _sentence_pieces(vocabulary: GgufVocabulary) -> dict[str, Any]:
    """SentencePiece pairs with byte fallback, whose merges follow from the pieces' scores."""
    values, tokens = vocabulary.values, vocabulary.tokens
    scores = values.items("tokenizer.ggml.scores")
    if len(scores) != len(tokens) or not all(
        type(score) in (int, float) and math.isfinite(score) for score in scores
    ):
        raise TokenizerError(
            f"{values.place}: no scores, which SentencePiece needs, or one that is no number"
        )
    if any(len(token) > _MAX_PIECE for token in tokens):
        raise TokenizerError(f"{values.place}: a token has more than {_MAX_PIECE} characters")
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
        [{"type": "Prepend", "prepend": "▁"}] if values.flag("tokenizer.ggml.add_space_prefix", True) else []
    )
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
            "unk_token": vocabulary.token_of("unknown"),
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": ids,
            "merges": [[left, right] for _, left, right in merges],
        },
    }


def _post_processor(vocabulary: GgufVocabulary) -> dict[str, Any]:
    """Put the begin and end tokens around a text where the model wants them."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    begin = vocabulary.token_of("bos") if vocabulary.begins else None
    end = vocabulary.token_of("eos") if vocabulary.closes else None
    if begin is None and end is None:
        return byte_level

    def template(letter: str, type_id: int) -> list[dict[str, Any]]:
        around = [
            [{"SpecialToken": {"id": name, "type_id": type_id}}] if name else [] for name in (begin, end)
        ]
        return [*around[0], {"Sequence": {"id": letter, "type_id": type_id}}, *around[1]]

    specials = {
        name: {"id": name, "ids": [vocabulary.tokens.index(name)], "tokens": [name]}
        for name in (begin, end)
        if name
    }
    return {
        "type": "TemplateProcessing",
        "single": template("A", 0),
        "pair": template("A", 0) + template("B", 1),
        "special_tokens": specials,
    }


def _configuration(vocabulary: GgufVocabulary) -> dict[str, Any]:
    roles = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    named = {key: vocabulary.token_of(role) for key, role in roles.items()}
    return {
        **{key: token for key, token in named.items() if token is not None},
        "add_bos_token": vocabulary.begins,
        "chat_template": vocabulary.values.maybe_text("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
    }
