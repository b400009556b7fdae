"""The vocabulary of a GGUF file, with the defaults that llama.cpp has for what is not said.

Source: llama_vocab::impl::load of https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence

from ai_os_diffusion.models.untrusted_values import MAX_TOKENS, UntrustedValues
from ai_os_diffusion.utils.lazy_property import lazy_property

__all__ = ["GgufVocabulary"]

_MAX_VOCABULARY = 1 << 20

_DEFAULT_IDS = {
    "llama": {"bos": 1, "eos": 2, "unknown": 0},
    "gpt2": {"bos": 11, "eos": 11},
}
"""Special tokens by the vocabulary's kind, for files that name none."""

_BEGINNING = frozenset(
    "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano tekken chameleon".split()
)
"""Pre-tokenizers whose texts begin with the token for it, unless the file says otherwise."""

_ENDS = frozenset(
    "<|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> "
    "<|eom_id|> <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> <turn|> <|tool_response> "
    "<｜end▁of▁sentence｜> [e~[".split()
)
"""Tokens that end a text wherever a vocabulary has them."""


class GgufVocabulary:
    """Tokens and special tokens.

    Args:
        values: the metadata.
    """

    def __init__(self, values: UntrustedValues) -> None:
        self.values = values
        self.model = values.text("tokenizer.ggml.model", "")
        # A file without it is of 2023; llama.cpp splits its texts in a way of its own.
        self.pre = values.text("tokenizer.ggml.pre", "default")

    @lazy_property
    def tokens(self) -> Sequence[str]:
        """By id; empty if the file has none."""
        tokens = self.values.texts("tokenizer.ggml.tokens", high=_MAX_VOCABULARY)
        return [token or f"[EMPTY_{id}]" for id, token in enumerate(tokens)]

    def id_of(self, role: str) -> int | None:
        """The id of `bos`, `eos`, `unknown`, ...; one outside the vocabulary counts as not said."""
        key = f"tokenizer.ggml.{role}_token_id"
        said = self.values.maybe_integer(key, high=(1 << 32) - 1)
        if not self.tokens:
            return None if said is None or said >= MAX_TOKENS else said
        usual = _DEFAULT_IDS.get(self.model, {}).get(role)
        return next((id for id in (said, usual) if id is not None and id < len(self.tokens)), None)

    def token_of(self, role: str) -> str | None:
        """The text of a special token."""
        id = self.id_of(role)
        return None if id is None or not self.tokens else self.tokens[id]

    @property
    def ends(self) -> list[int]:
        """Ids that end a generated text."""
        said = [id for role in ("eos", "eot", "eom") if (id := self.id_of(role)) is not None]
        known = [id for id, token in enumerate(self.tokens) if token in _ENDS]
        return list(dict.fromkeys([*said, *known]))

    @property
    def begins(self) -> bool:
        """Whether every text begins with the token for it."""
        usual = self.model == "llama" or (self.model == "gpt2" and self.pre in _BEGINNING)
        return self.values.flag("tokenizer.ggml.add_bos_token", usual)

    @property
    def closes(self) -> bool:
        """Whether every text ends with the token for it."""
        return self.values.flag("tokenizer.ggml.add_eos_token", False)
