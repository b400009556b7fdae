"""Prompts to text: settings checked, the prompt tokenised, a stream begun."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.contracts import Message
from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.inference.generation import GenerationRequest, GenerationStream, StopStrings
from ai_os_diffusion.inference.inference_core import InferenceCore
from ai_os_diffusion.utils.errors import InferenceError, SamplingError

__all__ = ["GenerationOptions", "TextWriter"]


class GenerationOptions(TypedDict, total=False):
    """Options of `ArrowEngine.generate` that do not change what it returns."""

    messages: Sequence[Message] | None
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    stop: str | Sequence[str] | None
    seed: int | None
    mode: str


class TextWriter:
    """What `ArrowEngine.generate` does.

    Args:
        core: the forward pass.
        tokenizer: the model's.
        name: of the model, for messages.
    """

    def __init__(self, core: InferenceCore, tokenizer: FastTokenizer, name: str) -> None:
        self._core, self._tokenizer, self._name = core, tokenizer, name

    def write(
        self,
        prompt: str | Sequence[Message] | None,
        messages: Sequence[Message] | None,
        *,
        max_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int,
        min_p: float,
        repetition_penalty: float,
        stop: str | Sequence[str] | None,
        seed: int | None,
    ) -> GenerationStream:
        """Begin a text; see `ArrowEngine.generate` for the arguments.

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
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise SamplingError(f"max_tokens is {max_tokens!r}, expected 1 or more")
        seed = int.from_bytes(os.urandom(4), "little") if seed is None else seed
        if not 0 <= seed < 1 << 64:
            raise SamplingError(f"seed is {seed}, expected 0 to {(1 << 64) - 1}")
        if not 0 <= top_k < 1 << 32:
            raise SamplingError(f"top_k is {top_k}, expected 0, which is all tokens, or more")
        sampler = _native.Sampler(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
        )
        stops = StopStrings(stop)
        ids = self._prompt_ids(prompt, messages)
        window = config.max_position_embeddings
        if not len(ids):
            raise InferenceError("the prompt is empty; expected some text")
        if len(ids) >= window:
            raise InferenceError(f"the prompt has {len(ids)} tokens, expected 1 to {window - 1}; shorten it")
        room = min(max_tokens, window - len(ids))
        request = GenerationRequest(ids, sampler, room, stops, self._end_ids, seed)
        return GenerationStream(self._core.session(len(ids) + room), self._tokenizer, request)

    @property
    def _end_ids(self) -> frozenset[int]:
        end = self._tokenizer.eos_id
        return frozenset(self._core.config.eos_token_ids or (() if end is None else (end,)))

    def _prompt_ids(
        self, prompt: str | Sequence[Message] | None, messages: Sequence[Message] | None
    ) -> NDArray[np.int32]:
        if (prompt is None) == (messages is None):
            raise InferenceError("expected either a prompt or messages")
        if isinstance(prompt, str):
            return self._tokenizer.encode(prompt, padding=False).flat_ids
        turns = messages if messages is not None else prompt
        if not isinstance(turns, Sequence) or not turns or isinstance(turns, str):
            raise InferenceError(f"expected a prompt as str, or a sequence of messages, got {turns!r}")
        return self._tokenizer.apply_chat_template(turns, tokenize=True)
