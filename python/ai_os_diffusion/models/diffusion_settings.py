"""How a model writes by diffusion: facts of its training, which stand in its metadata or in its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ai_os_diffusion.models.untrusted_values import UntrustedValues
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["Attention", "DiffusionSettings"]

Attention = Literal["prefix", "causal", "full", "block"]
"""What a position sees.

- "prefix": its block and all before it, as the positions of the prompt see all of the prompt;
- "causal": its block and all before it; what was read or finished sees what is before it alone, as where the
  next token is predicted, so that one reading serves both;
- "full": all of the text, and what is still open behind it;
- "block": as "prefix", with the prompt in blocks too, all counted from the text's beginning.
"""

_ATTENTIONS: tuple[Attention, ...] = ("prefix", "causal", "full", "block")


@dataclass(frozen=True)
class DiffusionSettings:
    """What a denoiser has to know.

    Attributes:
        mask_id: the token of an open position.
        null_id: the token for nothing, which fills what a text leaves of its block; None where there is none.
        end_ids: tokens that end a text; empty for those of the model.
        attention: what a position sees.
        shift: the state of a position predicts the next one, as in the model it was made from.
        block_length: positions that are written together.
        threshold: confidence at which several positions are committed in one pass.
        chat_template: of the prompts it was trained on; None for the model's own.
        question: how passages and a question about them stand in a user's turn: `{context}`, `{question}`.
        declines: what it writes where passages do not answer a question; None if it was not trained to.
        verdicts: what its answers begin with where a reason follows ("Yes: ").
        uncertainty: a `Calibration` of texts that it writes; None where none was fitted.
    """

    mask_id: int
    null_id: int | None = None
    end_ids: tuple[int, ...] = ()
    attention: Attention = "prefix"
    shift: bool = False
    block_length: int = 32
    threshold: float = 0.9
    chat_template: str | None = None
    question: str = "{context}\n\n{question}"
    declines: str | None = None
    verdicts: tuple[str, ...] = ()
    uncertainty: Mapping[str, Any] | None = None

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
        last = vocab_size - 1
        question = values.text("question", cls.question)
        if question.count("{question}") != 1 or question.count("{context}") != 1:
            raise values.fault("question", "a text with {context} and {question}, each once")
        return cls(
            mask_id=values.integer("mask_id", low=0, high=last),
            null_id=values.maybe_integer("null_id", high=last),
            end_ids=tuple(values.ids("end_ids")) if "end_ids" in values else (),
            attention=attention,
            shift=values.flag("shift", False),
            block_length=values.integer("block_length", cls.block_length, high=4096),
            threshold=values.number("threshold", cls.threshold, high=1.0),
            chat_template=values.maybe_text("chat_template"),
            question=question,
            declines=values.maybe_text("declines"),
            verdicts=tuple(values.texts("verdicts")) if "verdicts" in values else (),
            uncertainty=_mapping(values, "uncertainty"),
        )


def _mapping(values: UntrustedValues, key: str) -> Mapping[str, Any] | None:
    found = values.get(key)
    if found is not None and not isinstance(found, Mapping):
        raise values.fault(key, "an object")
    return found
