"""Text that a decoder writes: the loop, its stop conditions and its result."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.utils.errors import SamplingError

if TYPE_CHECKING:
    from ai_os_diffusion.inference.fast_tokenizer import DecodeStream, FastTokenizer
    from ai_os_diffusion.inference.inference_core import GenerationSession

__all__ = ["Generation", "GenerationRequest", "GenerationStream", "StopStrings", "Timings", "Usage"]


class Usage(NamedTuple):
    """Tokens of a generation."""

    prompt_tokens: int
    completion_tokens: int


class Timings(NamedTuple):
    """Seconds of a generation."""

    prefill_s: float
    decode_s: float


class Generation(str):
    """A generated text, which is a `str`, and how it came about.

    Attributes:
        tokens: ids of the text; the token that ended it is left out.
        finish_reason: "stop" (an end token or a stop string), "length" (`max_tokens` or the window), or
            "abandoned" (the stream was not read to its end).
        usage: tokens read and written; the end token counts as written.
        timings: seconds for reading the prompt and for writing.
        logprobs: natural log-probability of each of `tokens` under the model's own distribution,
            before temperature and filters.
        seed: repeats the text when passed again.
        attempts: texts that were drawn until one satisfied the constraints; 1 without any.
    """

    tokens: list[int]
    finish_reason: str
    usage: Usage
    timings: Timings
    logprobs: list[float]
    seed: int
    attempts: int = 1

    @property
    def text(self) -> str:
        """The text as a plain `str`."""
        return str.__str__(self)


class StopStrings:
    """Passes text on until a stop string appears, and never lets a part of one through.

    Args:
        stops: strings that end the text; none may be empty.

    Raises:
        SamplingError: a stop string is empty or not a `str`.
    """

    def __init__(self, stops: str | Sequence[str] | None) -> None:
        listed = [stops] if isinstance(stops, str) else list(stops or ())
        for stop in listed:
            if not isinstance(stop, str) or not stop:
                raise SamplingError(f"stop: expected non-empty strings, got {stop!r}")
        self._stops = listed
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Take more text; return what is certainly before any stop string."""
        if self.found:
            return ""
        self._held += text
        ends = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if ends:
            self.found = True
            cut = min(ends)
        else:
            cut = len(self._held) - self._pending()
        passed, self._held = self._held[:cut], "" if self.found else self._held[cut:]
        return passed

    def finish(self) -> str:
        """Return what was held back: no stop string came."""
        rest, self._held = self._held, ""
        return rest

    def _pending(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=0)
        for size in range(min(longest - 1, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0


@dataclass(frozen=True)
class GenerationRequest:
    """What is to be written.

    Attributes:
        prompt: ids, int32[n].
        sampler: chooses the tokens.
        max_tokens: tokens to write at most.
        stop: ends the text at a string.
        end_ids: end the text at a token.
        seed: of the sampler.
    """

    prompt: NDArray[np.int32]
    sampler: _native.Sampler
    max_tokens: int
    stop: StopStrings
    end_ids: Collection[int]
    seed: int


@dataclass
class _Record:
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    written: int = 0
    finish_reason: str = "abandoned"
    prefill_s: float = 0.0
    decode_s: float = 0.0


class GenerationStream(Iterator[str]):
    """Pieces of a text as they are written, each whole characters.

    Joined they are `generation`. Leaving the loop early is allowed: call `close`, or drop the stream.
    """

    def __init__(
        self, session: GenerationSession, tokenizer: FastTokenizer, request: GenerationRequest
    ) -> None:
        self._record = _Record()
        self._prompt_tokens = len(request.prompt)
        self._seed = request.seed
        self._pieces = self._write(session, tokenizer.decode_stream(), request)

    def __next__(self) -> str:
        piece = next(self._pieces)
        self._record.pieces.append(piece)
        return piece

    def close(self) -> None:
        """Stop writing."""
        self._pieces.close()

    @property
    def generation(self) -> Generation:
        """The text written so far; whole once the stream is read to its end."""
        record = self._record
        generation = Generation("".join(record.pieces))
        generation.tokens = list(record.tokens)
        generation.logprobs = list(record.logprobs)
        generation.finish_reason = record.finish_reason
        generation.usage = Usage(self._prompt_tokens, record.written)
        generation.timings = Timings(record.prefill_s, record.decode_s)
        generation.seed = self._seed
        return generation

    def _write(
        self, session: GenerationSession, decoder: DecodeStream, request: GenerationRequest
    ) -> Generator[str, None, None]:
        record, stop = self._record, request.stop
        start = time.perf_counter()
        session.prefill(request.prompt)
        began = time.perf_counter()
        record.prefill_s = began - start
        while True:
            id, logprob = session.sample(request.sampler)
            record.written += 1
            record.decode_s = time.perf_counter() - began
            if id in request.end_ids:
                record.finish_reason = "stop"
                break
            record.tokens.append(id)
            record.logprobs.append(logprob)
            if piece := stop.feed(decoder.step(id)):
                yield piece
            if stop.found:
                record.finish_reason = "stop"
                return
            if record.written >= request.max_tokens:
                record.finish_reason = "length"
                break
            session.push(id)
        rest = stop.feed(decoder.finish())
        if stop.found:
            record.finish_reason = "stop"
        if rest := rest + stop.finish():
            yield rest
