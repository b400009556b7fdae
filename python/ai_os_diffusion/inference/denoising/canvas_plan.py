"""What is to be written for a call: prompt, blocks, and how the result is read from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.diffusion import Candidates, Recalled

__all__ = ["CanvasPlan"]

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class CanvasPlan:
    """A canvas behind a prompt.

    Attributes:
        prompt: int32[n].
        blocks: as in `DiffusionRequest`.
        gaps: first and last + 1 of the positions that are read as one text, counted over all blocks.
        result: text and value by what stands in the gaps.
        stops: whether an end token ends the text.
        allowed: as in `DiffusionRequest`.
        unguided: as in `DiffusionRequest`.
        candidates: as in `DiffusionRequest`.
        context: of an answer, the passages of its prompt as one text; None without any.
        fill_evidence: of what is filled from a context, what else bears on its being right, by the index of
            the gap and what stands in it.
        may_be_empty: for each gap whether nothing need stand in it; empty for none.
        memories: what the prompt was told from memory.
        measures: find out by a pass how long its gaps are before they are written.
        by_token: write one token a pass unless told otherwise: given text behind a gap is no answer's end.
        is_valid: whether what stands in the gaps is what was asked for.
        fallback: what is written where it is not.
    """

    prompt: Ids
    blocks: tuple[Ids, ...]
    gaps: tuple[tuple[int, int], ...]
    result: Callable[[list[str]], tuple[str, Any]]
    stops: bool
    allowed: Mapping[tuple[int, int], Ids] = field(default_factory=dict)
    unguided: Ids | None = None
    candidates: Mapping[int, Candidates] = field(default_factory=dict)
    context: str | None = None
    fill_evidence: Callable[[int, str], dict[str, float]] | None = None
    may_be_empty: tuple[bool, ...] = ()
    memories: tuple[Recalled, ...] = ()
    measures: bool = False
    by_token: bool = False
    is_valid: Callable[[list[str]], bool] = lambda fills: True  # noqa: ARG005
    fallback: CanvasPlan | None = None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, those among them that begin the first block."""
        return len(self.prompt) + (self.gaps[0][0] if self.stops else 0)
