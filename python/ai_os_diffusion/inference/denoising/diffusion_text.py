"""A text that was written by diffusion, and its stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.diffusion import Recalled, Trajectory
from ai_os_diffusion.inference.generation.generation_stream import Generation, Timings

__all__ = ["Diffusion", "DiffusionStep", "DiffusionStream", "DiffusionTimings", "Fill", "TokenAlternative"]


class DiffusionTimings(Timings):
    """Seconds of a text."""

    @property
    def read_s(self) -> float:
        """Until the first pass has predicted; it may be the one that reads the prompt."""
        return self.prefill_s

    @property
    def write_s(self) -> float:
        """The passes behind it."""
        return self.decode_s


class TokenAlternative(NamedTuple):
    """A token that was likely in the pass in which another, or itself, was committed."""

    token: str
    id: int
    probability: float


class Fill(str):
    """What was written into a gap or slot, which is a `str`, and how it came about.

    Attributes:
        trajectory: how it was written.
        evidence: of a value that a template was filled with from a text, what else bears on its being right,
            as `quoted`, how much of it stands there.
        uncertainty: of such a value the probability that it is wrong; None of another text, and where
            the model has no calibration.
    """

    trajectory: Trajectory = Trajectory(())
    evidence: Mapping[str, float] = MappingProxyType({})
    uncertainty: float | None = None


class Diffusion(Generation):
    """A text written by diffusion, which is a `str`, and how it came about.

    Attributes:
        tokens: ids that were written, without end and filling tokens.
        logprobs: natural logarithms of `confidences`.
        usage: tokens read and written; the end token counts as written.
        confidences: for each of `tokens` its probability when it was committed.
        entropies: for each of `tokens` the entropy, in nats, of the distribution it was taken from.
        alternatives: for each of `tokens` the most probable ones, as many as were asked for.
        fills: what was written into each gap or slot, as it was written; of a text without gaps the text.
        value: of a template, the object that the text spells; else None.
        steps: forward passes, the reading of the prompt not counted.
        log_confidence: sum of the logarithms of the confidences of all that was committed up to the end, the
            end token too: the surer, the nearer to 0.
        trajectory: how it was written, its end included, for an `UncertaintyEstimator` with further evidence.
        evidence: of an answer from a context, what else bears on its being right, by names that a calibration
            may know: `quoted`, how much of it stands there, and `declined`.
        uncertainty: of an answer from a context, the probability that it is wrong; None of another text, and
            where the model has no calibration.
        memories: what it was written from, nearest first, where memory was asked.
        finish_reason: "stop" (an end token), "length" (all positions were written) or "abandoned" (the stream
            was not read to its end).
        prompt_tokens: tokens that were read.
        seed: repeats the text when passed again.
        timings: seconds for reading the prompt and for writing.
    """

    confidences: list[float]
    entropies: list[float]
    alternatives: list[list[TokenAlternative]]
    fills: list[Fill]
    value: Any
    steps: int
    log_confidence: float
    trajectory: Trajectory
    evidence: dict[str, float]
    uncertainty: float | None
    memories: tuple[Recalled, ...]
    prompt_tokens: int
    timings: DiffusionTimings

    def begun(self, text: str, tokens: int) -> Diffusion:
        """As it was up to so many of its tokens, which say `text`."""
        found = Diffusion(text)
        found.__dict__.update(self.__dict__)
        for name in ("tokens", "logprobs", "confidences", "entropies", "alternatives"):
            setattr(found, name, getattr(self, name)[:tokens])
        found.fills = [Fill(text)]
        return found

    def to_dict(self) -> dict[str, Any]:
        """The text and what is known of it as JSON-able values."""
        tokens = [
            {"id": id, "confidence": round(sure, 6), "entropy": round(entropy, 6)}
            for id, sure, entropy in zip(self.tokens, self.confidences, self.entropies, strict=True)
        ]
        return {
            "text": self.text,
            "value": self.value,
            "fills": self.fills,
            "tokens": tokens,
            "alternatives": [[one._asdict() for one in place] for place in self.alternatives],
            "steps": self.steps,
            "uncertainty": _rounded(self.uncertainty),
            "fill_uncertainties": [_rounded(fill.uncertainty) for fill in self.fills],
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "seed": self.seed,
            "timings": {"read_s": self.timings.read_s, "write_s": self.timings.write_s},
        }


def _rounded(probability: float | None) -> float | None:
    return None if probability is None else round(probability, 6)


class DiffusionStep(NamedTuple):
    """What one pass changed.

    Attributes:
        step: number of the pass, from 1.
        positions: int64[n], places that changed, counted over all blocks.
        tokens: what stands there now, as text: None where a token was taken back, "" where one ends the text
            or fills what it leaves.
        ids: int32[n].
        confidences: float32[n].
        entropies: float32[n], nats.
        canvas: the whole text so far, token by token, as in `tokens`.
    """

    step: int
    positions: NDArray[np.int64]
    tokens: list[str | None]
    ids: NDArray[np.int32]
    confidences: NDArray[np.float32]
    entropies: NDArray[np.float32]
    canvas: list[str | None]

    def to_dict(self) -> dict[str, Any]:
        """What changed as JSON-able values."""
        return {
            "step": self.step,
            "positions": self.positions.tolist(),
            "tokens": self.tokens,
            "ids": self.ids.tolist(),
            "confidences": [round(value, 6) for value in self.confidences.tolist()],
            "entropies": [round(value, 6) for value in self.entropies.tolist()],
        }


class DiffusionStream(Iterator[DiffusionStep]):
    """The passes of a text as they happen. Leaving the loop early is allowed.

    Args:
        steps: the passes.
        written: what has been written so far, as a result.
    """

    def __init__(self, steps: Iterator[DiffusionStep], written: Any) -> None:
        self._steps, self._written = steps, written

    def __next__(self) -> DiffusionStep:
        return next(self._steps)

    @property
    def diffusion(self) -> Diffusion:
        """The text written so far; whole once the stream is read to its end."""
        result: Diffusion = self._written()
        return result
