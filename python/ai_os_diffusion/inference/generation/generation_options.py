"""The names that users of transformers' `generate` know, as what they mean here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np

from ai_os_diffusion.contracts import Message
from ai_os_diffusion.inference.constraints.constraint import Constraint
from ai_os_diffusion.inference.constraints.constraint_set import Drawing
from ai_os_diffusion.utils.errors import SamplingError

__all__ = [
    "DIFFUSION",
    "ConstraintOptions",
    "GenerationOptions",
    "ModeOptions",
    "TransformersOptions",
    "resolve_options",
]

DIFFUSION = ("num_steps", "block_length", "sampler", "threshold", "cache", "alternatives")
"""Names of arguments that mode "diffusion" takes."""

_MAX_TOKENS, _MOST_GUIDANCE = 256, 100.0

# Of these, only the value that changes nothing.
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1, None),
    "num_beam_groups": (1, None),
    "num_return_sequences": (1, None),
    "use_cache": (True, None),
    "length_penalty": (1.0, None),
    "early_stopping": (False, None),
    "no_repeat_ngram_size": (0, None),
    "encoder_repetition_penalty": (1.0, None),
    "typical_p": (1.0, None),
    "epsilon_cutoff": (0.0, None),
    "eta_cutoff": (0.0, None),
    "penalty_alpha": (None,),
    "diversity_penalty": (0.0, None),
    "min_length": (0, None),
    "min_new_tokens": (0, None),
}
# And what to do in place of these.
_INSTEAD: Mapping[str, str] = {
    "streamer": "pass stream=True and read the pieces",
    "generation_config": "pass its settings by name",
    "pad_token_id": "one text has no padding",
    "bos_token_id": "the tokenizer writes it",
    "output_scores": "read `logprobs` of the result",
    "output_logits": "read `logprobs` of the result, or call `engine.core.logits`",
    "output_attentions": "attention weights are never kept",
    "output_hidden_states": "call `engine.core.hidden_states`",
    "return_dict_in_generate": "the result is a str with `tokens`, `logprobs` and `finish_reason`",
    "logits_processor": "filter by temperature, top_p, top_k and min_p",
    "stopping_criteria": "pass stop strings, or leave the loop of a stream",
    "prefix_allowed_tokens_fn": "pass constraints=[Matches(...)]",
    "bad_words_ids": "pass constraints=[Banned(...)]",
    "suppress_tokens": "pass constraints=[Banned(...)]",
    "force_words_ids": "pass constraints=[Required(...)]",
    "max_time": "leave the loop of a stream",
    "assistant_model": "there is no speculative decoding",
    "past_key_values": "open a session with `engine.core.session`",
}


class TransformersOptions(TypedDict, total=False):
    """Arguments of transformers' `generate` that mean something here.

    Attributes:
        max_new_tokens: `max_tokens`.
        max_length: most tokens of prompt and text together.
        do_sample: False is greedy, whatever the temperature; True draws, by default at temperature 1.
        stop_strings: `stop`.
        eos_token_id: the token, or tokens, that end the text, in place of the model's.
        input_ids: ids of the prompt.
        inputs: the same.
        attention_mask: 1 for ids, 0 for padding.
        guidance_scale: above 1 leads further away from what would be written behind the negative prompt; 1,
            the default, not at all. It takes two passes a token.
        negative_prompt_ids: ids of that prompt, or a text or messages; by default the last token of the
            prompt, so that what leads is all that was asked.
    """

    max_new_tokens: int | None
    max_length: int | None
    do_sample: bool | None
    stop_strings: str | Sequence[str] | None
    eos_token_id: int | Sequence[int] | None
    input_ids: Any
    inputs: Any
    attention_mask: Any
    guidance_scale: float | None
    negative_prompt_ids: Any


class ConstraintOptions(TypedDict, total=False):
    """What a text has to satisfy.

    Attributes:
        constraints: one or several of `Banned`, `Required`, `Matches` and `FollowsSchema`. A text that
            violates one is drawn again, and when none satisfies them all, a `ConstraintError` says what is
            wrong with the nearest. A stream has the whole text as its one piece.
        energy: what a violation takes off the score of a token, in nats, by default 32; four times as much
            with each attempt that follows.
        attempts: texts to draw at most, by default 4. Where tokens are drawn, each has the next seed.
    """

    constraints: Constraint | Sequence[Constraint] | None
    energy: float | None
    attempts: int | None


class ModeOptions(TransformersOptions, ConstraintOptions, total=False):
    """Further arguments of `generate`: by the names of transformers, and those of mode "diffusion".

    Attributes:
        num_steps: see `DiffuseOptions` for this and the others.
        block_length: as there.
        sampler: as there.
        threshold: as there.
        cache: as there.
        alternatives: as there.
    """

    num_steps: int | None
    block_length: int | None
    sampler: str | None
    threshold: float | None
    cache: Literal["none", "prefix", "dual"] | None
    alternatives: int


class GenerationOptions(ModeOptions, total=False):
    """Options of `ArrowEngine.generate` that do not change what it returns."""

    messages: Sequence[Message] | None
    max_tokens: int | None
    temperature: float | None
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    stop: str | Sequence[str] | None
    seed: int | None
    mode: str


@dataclass(frozen=True)
class ResolvedOptions:
    """Arguments under one name each.

    Attributes:
        prompt: text, messages or ids, if not given otherwise.
        max_tokens: tokens to write at most.
        max_length: tokens of prompt and text at most.
        temperature: 0 is greedy.
        stop: ends the text at a string.
        end_ids: end the text at a token; None is the model's.
        attention_mask: of ids.
        drawing: what the text has to satisfy.
        guidance_scale: of a prompt against the negative one.
        negative_prompt: that; None is the last token of the prompt.
    """

    prompt: Any
    max_tokens: int
    max_length: int | None
    temperature: float
    stop: str | Sequence[str] | None
    end_ids: Collection[int] | None
    attention_mask: Any
    drawing: Drawing | None = None
    guidance_scale: float = 1.0
    negative_prompt: Any = None


def resolve_options(
    prompt: Any,
    max_tokens: int | None,
    temperature: float | None,
    stop: str | Sequence[str] | None,
    others: Mapping[str, Any],
) -> ResolvedOptions:
    """Bring what was given under two names together.

    Args:
        prompt: of `generate`.
        max_tokens: of `generate`.
        temperature: of `generate`.
        stop: of `generate`.
        others: arguments by the names of transformers.

    Raises:
        SamplingError: two names contradict each other, or an argument has no meaning here.
        TypeError: there is no such argument.
    """
    for name, value in others.items():
        if name in DIFFUSION:
            raise SamplingError(f"{name} belongs to mode='diffusion', and this is mode='ar'; leave it out")
        _check_meaning(name, value)
    given = others.get
    most = _one("max_tokens", max_tokens, "max_new_tokens", given("max_new_tokens"))
    length = given("max_length")
    if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 1):
        raise SamplingError(f"max_length is {length!r}, expected 1 or more")
    default = _MAX_TOKENS if length is None else length
    ids = _one("input_ids", given("input_ids"), "inputs", given("inputs"))
    return ResolvedOptions(
        _one("prompt", prompt, "input_ids", ids),
        default if most is None else most,
        length,
        _temperature(temperature, given("do_sample")),
        _one("stop", stop, "stop_strings", given("stop_strings")),
        _end_ids(given("eos_token_id")),
        given("attention_mask"),
        Drawing.of(given("constraints"), given("energy"), given("attempts")),
        _guidance_scale(given("guidance_scale"), given("negative_prompt_ids")),
        given("negative_prompt_ids"),
    )


def _check_meaning(name: str, value: Any) -> None:
    if name in TransformersOptions.__annotations__ or name in ConstraintOptions.__annotations__:
        return
    if name in _ONLY:
        if value not in _ONLY[name]:
            raise SamplingError(
                f"{name} is {value!r}, expected {_ONLY[name][0]!r}: nothing else is implemented"
            )
    elif name not in _INSTEAD:
        raise TypeError(f"generate() got an unexpected keyword argument {name!r}")
    elif value is not None and value is not False:
        raise SamplingError(f"{name} is not supported; {_INSTEAD[name]}")


def _guidance_scale(value: Any, negative_prompt: Any) -> float:
    if value is None or value == 1:
        if negative_prompt is not None:
            raise SamplingError("negative_prompt_ids belongs to guidance_scale; give one other than 1")
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_GUIDANCE:
        raise SamplingError(f"guidance_scale is {value!r}, expected 0 to {_MOST_GUIDANCE}")
    return float(value)


def _one(name: str, value: Any, alias: str, other: Any) -> Any:
    if value is None or other is None:
        return other if value is None else value
    if value is not other and (type(value) is not type(other) or not np.array_equal(value, other)):
        raise SamplingError(f"{name} and {alias} are one setting and were given two values")
    return value


def _temperature(temperature: float | None, do_sample: bool | None) -> float:
    if do_sample is None:
        return 0.0 if temperature is None else temperature
    if not do_sample:
        return 0.0
    if temperature == 0:
        raise SamplingError("do_sample=True and temperature=0 contradict each other; leave one out")
    return 1.0 if temperature is None else temperature


def _end_ids(given: Any) -> frozenset[int] | None:
    if given is None:
        return None
    listed = [given] if isinstance(given, int) else list(given)
    if not all(isinstance(id, int) and not isinstance(id, bool) and id >= 0 for id in listed):
        raise SamplingError(f"eos_token_id is {given!r}, expected a token id or several")
    return frozenset(listed)
