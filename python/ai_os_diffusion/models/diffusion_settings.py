"""How a model writes by diffusion: facts of its training, which stand in its metadata or in its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from ai_os_diffusion.models.untrusted_values import UntrustedValues
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["CACHES", "MAX_BLOCK", "Attention", "Cache", "DiffusionSettings"]

Attention = Literal["prefix", "causal", "full", "block"]
"""What a position sees.

- "prefix": its block and all before it, as the positions of the prompt see all of the prompt;
- "causal": its block and all before it; what was read or finished sees what is before it alone, as where the
  next token is predicted, so that one reading serves both;
- "full": all of the text, and what is still open behind it;
- "block": as "prefix", with the prompt in blocks too, all counted from the text's beginning.
"""

Cache = Literal["none", "prefix", "dual"]
"""Which keys and values stay as they are while a block is written, where all sees all ("full").

- "none": none; every pass reads the whole text;
- "prefix": those of the text before the block, as they were in the first pass of the block;
- "dual": those of what is open behind it too.

Source: Fast-dLLM, arXiv:2505.22618, sec. 3.2. Elsewhere finished text is blind to what follows it, and its
keys stay anyway.
"""

MAX_BLOCK = 4096
"""Positions of a block at most."""

_ATTENTIONS: tuple[Attention, ...] = ("prefix", "causal", "full", "block")
CACHES: tuple[Cache, ...] = ("none", "prefix", "dual")
"""All of them."""


@dataclass(frozen=True)
class DiffusionSettings:
    """What a denoiser has to know.

    Attributes:
        mask_id: the token of an open position.
        null_id: the token for nothing, which fills what a text leaves of its block; None where there is none.
        null_odds: by how much the odds of NULL are multiplied where the length of a gap is read off them:
            gaps of training are not as long as those that are asked for.
        end_ids: tokens that end a text; empty for those of the model.
        attention: what a position sees.
        shift: the state of a position predicts the next one, as in the model it was made from.
        block_length: positions that are written together.
        sub_block_length: positions of a block that are written before those behind them are; None for all.
        cache: of a model in which all sees all, which keys stay while a block is written.
        threshold: confidence at which several positions are committed in one pass.
        chat_template: of the prompts it was trained on; None for the model's own.
        question: how passages and a question about them stand in a user's turn: `{context}`, `{question}`.
        declines: what it writes where passages do not answer a question; None if it was not trained to.
        verdicts: what its answers begin with where a reason follows ("Yes: ").
        uncertainty: a `Calibration` of texts that it writes; None where none was fitted.
        fill_uncertainty: one of the values that it writes into a template.
    """

    mask_id: int
    null_id: int | None = None
    null_odds: float = 1.0
    end_ids: tuple[int, ...] = ()
    attention: Attention = "prefix"
    shift: bool = False
    block_length: int = 32
    sub_block_length: int | None = None
    cache: Cache = "none"
    threshold: float = 0.9
    chat_template: str | None = None
    question: str = "{context}\n\n{question}"
    declines: str | None = None
    verdicts: tuple[str, ...] = ()
    uncertainty: Mapping[str, Any] | None = None
    fill_uncertainty: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any], place: str, vocab_size: int) -> DiffusionSettings:
        """Read what a card or a model says.

        Args:
            config: by the names of the attributes; what else it holds is not for this.
            place: names it in errors.
            vocab_size: of the model.

        Raises:
            ModelLoadError: `mask_id` is missing, or a value is none.
        """
        values = UntrustedValues(place, config, ModelLoadError)
        if "mask_id" not in values:
            raise ModelLoadError(
                f"{place}: names no mask_id, the token of an open position: it does not write by diffusion"
            )
        said = values.text("attention", "prefix")
        attention = next((one for one in _ATTENTIONS if one == said), None)
        if attention is None:
            raise values.fault("attention", "'prefix', 'causal', 'full' or 'block'")
        kept = values.text("cache", "none")
        cache = next((one for one in CACHES if one == kept), None)
        if cache is None:
            raise values.fault("cache", "'none', 'prefix' or 'dual'")
        if cache != "none" and attention != "full":
            raise values.fault(
                "cache", f"'none' with attention {attention!r}: there finished keys stay anyway"
            )
        last = vocab_size - 1
        question = values.text("question", cls.question)
        if question.count("{question}") != 1 or question.count("{context}") != 1:
            raise values.fault("question", "a text with {context} and {question}, each once")
        return cls(
            mask_id=values.integer("mask_id", low=0, high=last),
            null_id=values.maybe_integer("null_id", high=last),
            null_odds=values.number("null_odds", cls.null_odds, low=1e-3, high=1e3),
            end_ids=tuple(values.ids("end_ids")) if "end_ids" in values else (),
            attention=attention,
            shift=values.flag("shift", False),
            block_length=values.integer("block_length", cls.block_length, high=MAX_BLOCK),
            sub_block_length=values.integer("sub_block_length", high=MAX_BLOCK)
            if "sub_block_length" in values
            else None,
            cache=cache,
            threshold=values.number("threshold", cls.threshold, high=1.0),
            chat_template=values.maybe_text("chat_template"),
            question=question,
            declines=values.maybe_text("declines"),
            verdicts=tuple(values.texts("verdicts")) if "verdicts" in values else (),
            uncertainty=_mapping(values, "uncertainty"),
            fill_uncertainty=_mapping(values, "fill_uncertainty"),
        )

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """What can be said of a model."""
        return tuple(one.name for one in fields(cls))

    @property
    def crosses_border(self) -> bool:
        """Whether the state that predicts a block's first position is no part of the block's passes.

        It is the last one before the block, whose keys and values stay while the block is written.
        """
        return self.shift and (self.attention != "full" or self.cache != "none")


def _mapping(values: UntrustedValues, key: str) -> Mapping[str, Any] | None:
    found = values.get(key)
    if found is not None and not isinstance(found, Mapping):
        raise values.fault(key, "an object")
    return found
