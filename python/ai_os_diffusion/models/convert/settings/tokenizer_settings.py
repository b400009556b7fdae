"""Applies what a tokenizer's configuration says and its tokenizer.json does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ai_os_diffusion.models.family import family_of
from ai_os_diffusion.models.untrusted_values import UntrustedValues, shown
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["added_ids", "apply_tokenizer_settings", "token_ids", "token_text"]

_BERT_DEFAULTS = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
_BERT_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def apply_tokenizer_settings(
    content: bytes,
    tokenizer: UntrustedValues,
    config: UntrustedValues,
    *,
    architecture: str,
    lowercases: bool,
) -> bytes:
    """The bytes of a tokenizer.json that cuts texts as the peers do.

    Transformers' tokenizer of BERT normalises as tokenizer_config.json says, whatever tokenizer.json has, and
    puts its tokens around every text; sentence-transformers may lower-case before that.

    Args:
        content: of the tokenizer.json.
        tokenizer: its values.
        config: those of tokenizer_config.json, with special_tokens_map.json below them.
        architecture: of the model.
        lowercases: texts are lower-cased first.

    Returns:
        The same bytes where nothing is to be changed.

    Raises:
        ModelLoadError: the configuration adds a token that tokenizer.json does not have.
    """
    _check_added(tokenizer, config)
    normalizer = tokenizer.get("normalizer")
    changed: dict[str, Any] = {"normalizer": normalizer, "post_processor": tokenizer.get("post_processor")}
    given = dict(changed)
    if _is_bert(config, architecture):
        if isinstance(normalizer, dict) and normalizer.get("type") == "BertNormalizer":
            changed["normalizer"] = {**normalizer, **_bert_options(config, normalizer)}
        changed["post_processor"] = given["post_processor"] or _bert_template(tokenizer, config)
    if lowercases:
        changed["normalizer"] = _with_lowercase(changed["normalizer"])
    if changed == given:
        return content
    # Escaped, for a text may hold half a surrogate pair, which JSON can write and UTF-8 cannot.
    return json.dumps({**tokenizer.values, **changed}).encode()


def added_ids(tokenizer: UntrustedValues) -> dict[str, int]:
    """Text to id of the tokens that a tokenizer.json adds to its model's vocabulary."""
    return {entry.text("content"): entry.integer("id", low=0) for entry in tokenizer.sections("added_tokens")}


def token_ids(tokenizer: UntrustedValues) -> dict[str, int]:
    """Text to id of every token that a tokenizer.json writes as such."""
    return {text: id for text, id in _vocabulary(tokenizer).items() if type(id) is int and id >= 0}


def token_text(values: UntrustedValues, key: str) -> str | None:
    """A special token, which is written as text or as an object that holds it."""
    value = values.get(key)
    return values.section(key).maybe_text("content") if isinstance(value, dict) else values.maybe_text(key)


def _is_bert(config: UntrustedValues, architecture: str) -> bool:
    name = config.text("tokenizer_class", family_of(architecture).config["tokenizer"] or "")
    return name.removesuffix("Fast") == "BertTokenizer"


def _bert_options(config: UntrustedValues, normalizer: Mapping[str, Any]) -> dict[str, bool | None]:
    """What of the configuration differs from the normaliser."""
    changed = {}
    for key, option in _BERT_NORMALIZER.items():
        default = _BERT_DEFAULTS[key]
        wanted = config.flag(key) if key in config else default
        if normalizer.get(option, default) != wanted:
            changed[option] = wanted
    return changed


def _bert_template(tokenizer: UntrustedValues, config: UntrustedValues) -> dict[str, Any] | None:
    """The tokens around a text, for a tokenizer.json that puts none there."""
    ids = _vocabulary(tokenizer)
    begin, end = (token_text(config, f"{role}_token") or f"[{role.upper()}]" for role in ("cls", "sep"))
    if begin not in ids or end not in ids:
        return None

    def special(token: str, type_id: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": type_id}}

    single = [special(begin, 0), {"Sequence": {"id": "A", "type_id": 0}}, special(end, 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}, special(end, 1)],
        "special_tokens": {
            token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in (begin, end)
        },
    }


def _vocabulary(tokenizer: UntrustedValues) -> dict[str, Any]:
    """Token to id; the model's own tokens only where they are written as such."""
    vocabulary = tokenizer.section("model").get("vocab")
    return {**(vocabulary if isinstance(vocabulary, dict) else {}), **added_ids(tokenizer)}


def _with_lowercase(normalizer: Any) -> Any:
    """Put lower-casing before the other steps, unless it is one of them."""
    is_sequence = isinstance(normalizer, dict) and normalizer.get("type") == "Sequence"
    steps = normalizer.get("normalizers", []) if is_sequence else [] if normalizer is None else [normalizer]
    if any(isinstance(step, dict) and step.get("type") == "Lowercase" for step in steps):
        return normalizer
    return {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *steps]}


def _check_added(tokenizer: UntrustedValues, config: UntrustedValues) -> None:
    """Transformers adds what the configuration names and the tokenizer lacks; the model has no row for it."""
    ids = _vocabulary(tokenizer)
    decoder = config.section("added_tokens_decoder").values
    wanted: list[tuple[str, Any, str | None]] = [
        ("added_tokens_decoder", entry, id) for id, entry in decoder.items()
    ]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        tokens = config.get(key, [])
        listed = tokens.values() if isinstance(tokens, dict) else config.items(key)
        wanted += [(key, token, None) for token in listed]
    for key, entry, id in wanted:
        text = entry.get("content") if isinstance(entry, dict) else entry
        found = ids.get(text) if isinstance(text, str) else None
        if found is None or id not in (None, str(found)):
            raise ModelLoadError(
                f"{config.place}: {key} adds the token {shown(text)} as id {id}, "
                f"which tokenizer.json has as id {found}; save the tokenizer again"
            )
