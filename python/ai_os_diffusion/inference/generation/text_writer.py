"""Prompts to text: settings checked, the prompt tokenised, a stream begun."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.contracts import Message
from ai_os_diffusion.inference.constraints.constraint_set import GROWTH
from ai_os_diffusion.inference.constraints.token_texts import TokenTexts
from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.inference.generation.constrained_session import ConstrainedSession
from ai_os_diffusion.inference.generation.constrained_stream import ConstrainedStream
from ai_os_diffusion.inference.generation.generation_options import ResolvedOptions
from ai_os_diffusion.inference.generation.generation_stream import (
    GenerationRequest,
    GenerationStream,
    StopStrings,
)
from ai_os_diffusion.inference.generation.guided_session import GuidedSession
from ai_os_diffusion.inference.inference_core import InferenceCore
from ai_os_diffusion.inference.ragged import as_ragged
from ai_os_diffusion.utils.errors import InferenceError, SamplingError

__all__ = ["PreparedText", "TextWriter"]

_CANDIDATES = 256
"""Most likely tokens that are looked at for a place in the first attempt."""


class PreparedText(NamedTuple):
    """What is to be continued.

    Attributes:
        ids: int32[n] of the prompt.
        room: tokens to write at most.
        stop: ends the text at a string.
        seed: of what is drawn.
    """

    ids: NDArray[np.int32]
    room: int
    stop: StopStrings
    seed: int


class TextWriter:
    """What `ArrowEngine.generate` does.

    Args:
        core: the forward pass.
        tokenizer: the model's.
        name: of the model, for messages.
        chat_template: of messages; None for the model's own.
    """

    def __init__(
        self, core: InferenceCore, tokenizer: FastTokenizer, name: str, chat_template: str | None = None
    ) -> None:
        self._core, self._tokenizer, self._name = core, tokenizer, name
        self._chat_template = chat_template

    def write(
        self,
        options: ResolvedOptions,
        messages: Sequence[Message] | None,
        *,
        seed: int | None,
        **filters: Any,
    ) -> GenerationStream:
        """Begin a text; see `ArrowEngine.generate` for the arguments.

        Args:
            options: arguments under one name each.
            messages: in place of a prompt.
            seed: None is drawn anew.
            **filters: top_p, top_k, min_p and repetition_penalty.

        Raises:
            InferenceError: the model is an encoder or writes by diffusion, or the prompt leaves no room in
                its window.
            SamplingError: a setting is out of range.
        """
        if self._core.config.diffusion is not None:
            raise InferenceError(
                f"{self._name} writes by diffusion, not one token after the other: call "
                "generate(..., mode='diffusion') or diffuse(...)"
            )
        prepared = self.prepare(options, messages, seed)
        if options.drawing is None:
            return self._begun(prepared, options, filters)
        texts = TokenTexts(self._tokenizer)
        return ConstrainedStream(
            options.drawing,
            lambda attempt, energy: self._begun(prepared, options, filters, (texts, attempt, energy)),
        )

    def _begun(
        self,
        prepared: PreparedText,
        options: ResolvedOptions,
        filters: Mapping[str, Any],
        attempt: tuple[TokenTexts, int, float] | None = None,
    ) -> GenerationStream:
        """Begin a text, or an attempt: texts of tokens, its number and its weight of energies."""
        if not 0 <= filters["top_k"] < 1 << 32:
            raise SamplingError(f"top_k is {filters['top_k']}, expected 0, which is all tokens, or more")
        seed = prepared.seed if attempt is None else (prepared.seed + attempt[1]) % (1 << 64)
        sampler = _native.Sampler(temperature=options.temperature, seed=seed, **filters)
        end_ids = self._end_ids if options.end_ids is None else options.end_ids
        # What holds text back for a stop string belongs to one text.
        stop = StopStrings(options.stop)
        request = GenerationRequest(prepared.ids, sampler, prepared.room, stop, end_ids, seed)
        session = self._session(prepared, options)
        if attempt is not None and options.drawing is not None:
            session = ConstrainedSession(
                session,
                options.drawing.constraints,
                attempt[0],
                self._tokenizer.special_ids,
                end_ids,
                prepared.room,
                energy=attempt[2],
                candidates=_CANDIDATES * GROWTH ** attempt[1],
            )
        return GenerationStream(session, self._tokenizer, request)

    def _session(self, prepared: PreparedText, options: ResolvedOptions) -> Any:
        """An empty session for the text, and where it is guided one more."""
        session = self._core.session(len(prepared.ids) + prepared.room)
        if options.guidance_scale == 1:
            return session
        negative = options.negative_prompt
        unguided = prepared.ids[-1:] if negative is None else self._prompt_ids(negative, None, None)
        window = self._core.config.max_position_embeddings
        if not 0 < len(unguided) <= window - prepared.room:
            raise SamplingError(
                f"the negative prompt has {len(unguided)} tokens, expected 1 to {window - prepared.room}: "
                f"{prepared.room} more are to fit into the model's window"
            )
        other = self._core.session(len(unguided) + prepared.room)
        return GuidedSession(session, other, unguided, options.guidance_scale)

    def prepare(
        self, options: ResolvedOptions, messages: Sequence[Message] | None, seed: int | None
    ) -> PreparedText:
        """Check what is said in any mode, and tokenise the prompt.

        Raises:
            InferenceError: the model is an encoder, or the prompt leaves no room in its window.
            SamplingError: a setting is out of range.
        """
        config = self._core.config
        if not config.is_decoder:
            raise InferenceError(
                f"{self._name} is an encoder ({config.architecture}) and writes no text; "
                "use a decoder, for instance 'smollm2'"
            )
        max_tokens = options.max_tokens
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise SamplingError(f"max_tokens is {max_tokens!r}, expected 1 or more")
        seed = int.from_bytes(os.urandom(4), "little") if seed is None else seed
        if not 0 <= seed < 1 << 64:
            raise SamplingError(f"seed is {seed}, expected 0 to {(1 << 64) - 1}")
        stops = StopStrings(options.stop)
        ids = self._prompt_ids(options.prompt, messages, options.attention_mask)
        window = config.max_position_embeddings
        if not len(ids):
            raise InferenceError("the prompt is empty; expected some text")
        if len(ids) >= window:
            raise InferenceError(f"the prompt has {len(ids)} tokens, expected 1 to {window - 1}; shorten it")
        room = min(max_tokens, window - len(ids))
        if options.max_length is not None:
            if options.max_length <= len(ids):
                raise SamplingError(
                    f"max_length is {options.max_length}, expected more than the {len(ids)} tokens of the "
                    "prompt; max_tokens does not count them"
                )
            room = min(room, options.max_length - len(ids))
        return PreparedText(ids, room, stops, seed)

    @property
    def _end_ids(self) -> frozenset[int]:
        end = self._tokenizer.eos_id
        return frozenset(self._core.config.eos_token_ids or (() if end is None else (end,)))

    def _prompt_ids(self, prompt: Any, messages: Sequence[Message] | None, mask: Any) -> NDArray[np.int32]:
        """Ids of what is to be continued. In text and in messages nothing is a special token."""
        if (prompt is None) == (messages is None):
            raise InferenceError("expected either a prompt or messages")
        if mask is not None and not _is_ids(prompt):
            raise SamplingError("attention_mask belongs to ids; a text has no padding, leave it out")
        if isinstance(prompt, str):
            return self._tokenizer.encode(prompt, padding=False, split_special_tokens=True).flat_ids
        turns = messages if messages is not None else prompt
        if _is_ids(turns):
            ids, bounds = as_ragged(turns, mask)
            if len(bounds) != 2:
                raise InferenceError(f"expected ids of one prompt, got {len(bounds) - 1}; call once for each")
            return ids
        if not isinstance(turns, Sequence) or not turns or isinstance(turns, str | bytes):
            raise InferenceError(f"expected a prompt as str, as ids, or as messages, got {turns!r}")
        return self._tokenizer.apply_chat_template(turns, tokenize=True, chat_template=self._chat_template)


def _is_ids(prompt: Any) -> bool:
    """Whether a prompt is an array or a list of numbers, or of rows of them."""
    if isinstance(prompt, Sequence) and not isinstance(prompt, str):
        return bool(prompt) and (isinstance(prompt[0], int) or _is_ids(prompt[0]))
    return hasattr(prompt, "__array__")
