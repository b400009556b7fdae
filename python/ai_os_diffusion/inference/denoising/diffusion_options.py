"""Settings of a text by diffusion, checked, and the sampler that they mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.diffusion import NoiseScheduler, samplers
from ai_os_diffusion.diffusion.samplers import Sampler
from ai_os_diffusion.inference.constraints.constraint_set import Drawing
from ai_os_diffusion.models.diffusion_settings import CACHES, DiffusionSettings
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["SAMPLERS", "DiffusionOptions"]

_IN_STEPS: dict[str, Callable[..., Any]] = {
    "low_confidence": samplers.low_confidence,
    "maskgit_plus": partial(samplers.dream, algorithm="maskgit_plus"),
    "topk_margin": partial(samplers.dream, algorithm="topk_margin"),
    "entropy": partial(samplers.dream, algorithm="entropy"),
    "origin": partial(samplers.dream, algorithm="origin"),
    "ancestral": partial(samplers.ancestral, scheduler=NoiseScheduler("linear")),
    "remdm": partial(samplers.remdm, scheduler=NoiseScheduler("linear")),
}
_ADAPTIVE = ("threshold", "factor", "entropy_bound")
SAMPLERS = (*_ADAPTIVE, *_IN_STEPS)
"""Names of samplers: those that take as many passes as it takes, and those that take `num_steps`."""

_MARGIN_TOP_K = 2


@dataclass(frozen=True)
class DiffusionOptions:
    """How a text is written; see `ArrowEngine.diffuse` for the meaning.

    Raises:
        SamplingError: a value is out of range, or two contradict each other.
    """

    num_steps: int | None = None
    max_tokens: int | None = None
    block_length: int | None = None
    temperature: float = 0.0
    seed: int | None = None
    sampler: str | None = None
    threshold: float | None = None
    guidance_scale: float = 1.0
    alternatives: int = 0
    extractive: bool = False
    may_decline: bool = True
    min_fill: int = 0
    max_uncertainty: float | None = None
    cache: str | None = None
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    constraints: Any = None
    energy: float | None = None
    attempts: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_steps", "max_tokens", "block_length"):
            value = getattr(self, name)
            if value is not None and not _is_whole(value, 1):
                raise SamplingError(f"{name} is {value!r}, expected a whole number of 1 or more")
        for name in ("alternatives", "min_fill"):
            if not _is_whole(getattr(self, name), 0):
                raise SamplingError(f"{name} is {getattr(self, name)!r}, expected 0 or more")
        if not _is_whole(self.top_k, 0) or self.top_k >= 1 << 32:
            raise SamplingError(f"top_k is {self.top_k!r}, expected 0, which is all tokens, or more")
        if self.cache is not None and self.cache not in CACHES:
            raise SamplingError(f"cache is {self.cache!r}, expected one of {', '.join(CACHES)}")
        if self.seed is not None and not (_is_whole(self.seed, 0) and self.seed < 1 << 64):
            raise SamplingError(f"seed is {self.seed!r}, expected 0 to {(1 << 64) - 1}")
        for name in ("temperature", "guidance_scale"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not isfinite(value) or value < 0:
                raise SamplingError(f"{name} is {value!r}, expected a number of 0 or more")
        if self.sampler is not None and self.sampler not in SAMPLERS:
            raise SamplingError(f"sampler is {self.sampler!r}, expected one of {', '.join(SAMPLERS)}")
        if self.threshold is not None and not (
            isinstance(self.threshold, int | float) and 0 <= self.threshold <= 1
        ):
            raise SamplingError(f"threshold is {self.threshold!r}, expected 0 to 1")
        if self.threshold is not None and self.sampler not in (None, "threshold"):
            raise SamplingError(f"threshold belongs to the sampler 'threshold', not to {self.sampler!r}")
        if self.max_uncertainty is not None and not (
            isinstance(self.max_uncertainty, int | float) and 0 <= self.max_uncertainty <= 1
        ):
            raise SamplingError(f"max_uncertainty is {self.max_uncertainty!r}, expected 0 to 1")
        if not self.may_decline and not self.extractive:
            raise SamplingError("may_decline belongs to extractive: elsewhere it is the model that declines")
        if self.extractive and (self.num_steps is not None or self.sampler in _IN_STEPS):
            raise SamplingError(
                "extractive decides how many tokens a pass can commit, and num_steps does too; "
                f"leave that out, or choose one of {', '.join(_ADAPTIVE)}"
            )
        if self.num_steps is not None and (self.sampler in _ADAPTIVE or self.threshold is not None):
            raise SamplingError(
                f"num_steps is {self.num_steps}, and {self.sampler or 'threshold'!r} takes as many "
                f"passes as it takes; leave one out, or choose one of {', '.join(_IN_STEPS)}"
            )

        if self.drawing is not None and self.extractive:
            raise SamplingError(
                "extractive holds an answer to its context, constraints to something else; give one"
            )

    @property
    def drawing(self) -> Drawing | None:
        """What the text has to satisfy.

        Raises:
            SamplingError: constraints contradict each other, or a setting of theirs is out of range.
        """
        return Drawing.of(self.constraints, self.energy, self.attempts)

    @property
    def own_seed(self) -> int:
        """The seed, or one drawn anew."""
        return int.from_bytes(os.urandom(4), "little") if self.seed is None else self.seed

    @property
    def filters(self) -> dict[str, Any]:
        """Which of the tokens may be drawn, as `_native.Sampler` takes it."""
        return {"top_p": self.top_p, "top_k": self.top_k, "min_p": self.min_p}

    @property
    def told(self) -> int:
        """Most probable tokens that a prediction has to tell."""
        return max(self.alternatives, _MARGIN_TOP_K if self.sampler == "topk_margin" else 0)

    def applied_to(self, settings: DiffusionSettings) -> DiffusionSettings:
        """The settings of a model, with those of them that a call chooses.

        Raises:
            SamplingError: the model cannot write so.
        """
        if self.cache not in (None, "none") and settings.attention != "full":
            raise SamplingError(
                f"cache is {self.cache!r}, and this model keeps what it has read in any case: its text is "
                f"blind to what follows (attention {settings.attention!r}); leave cache out"
            )
        if settings.attention == "block" and self.block_length not in (None, settings.block_length):
            raise SamplingError(
                f"block_length is {self.block_length}, and this model writes in blocks of "
                f"{settings.block_length}, counted from the beginning of the text; leave it out"
            )
        chosen = next((one for one in CACHES if one == self.cache), settings.cache)
        return replace(settings, cache=chosen)

    def behind_pass(self, left: int) -> DiffusionOptions:
        """What is left of the settings behind a pass that wrote nothing, with `left` open positions."""
        return self if self.num_steps is None else replace(self, num_steps=min(self.num_steps - 1, left))

    def sampler_of(
        self, settings: DiffusionSettings, blocks: Sequence[NDArray[np.int32]], *, by_token: bool
    ) -> Callable[[int], Sampler]:
        """The sampler for each block.

        Args:
            settings: of the model.
            blocks: what each begins as.
            by_token: commit one token a pass unless told otherwise.

        Raises:
            SamplingError: `num_steps` is more than there are open positions, or fewer than blocks.
        """
        is_open = [int((ids == settings.mask_id).sum()) for ids in blocks]
        adaptive = self._adaptive(settings, by_token=by_token)
        function: Callable[..., Any] = (
            _IN_STEPS[self.sampler or "low_confidence"] if adaptive is None else adaptive
        )
        total = sum(is_open) if self.num_steps is None else self.num_steps
        steps = _shared(total, is_open) if adaptive is None else [0] * len(blocks)

        def sampler(block: int) -> Sampler:
            has_border = settings.crosses_border and blocks[block][0] == settings.mask_id
            if adaptive is not None:
                return samplers.border_first(adaptive) if has_border else adaptive
            # Where all sees all, what predicts the first position is a pass, which predicts the others too.
            is_pass = settings.attention == "full"
            if not has_border or (is_pass and steps[block] == 1):
                return partial(function, num_steps=steps[block])
            return samplers.border_first(
                partial(function, num_steps=min(steps[block] - is_pass, is_open[block] - 1))
            )

        return sampler

    def _adaptive(self, settings: DiffusionSettings, *, by_token: bool) -> Sampler | None:
        """A sampler that takes as many passes as it takes; None for one in steps."""
        if self.sampler == "factor":
            return samplers.by_factor
        if self.sampler == "entropy_bound":
            return samplers.by_entropy_bound
        if self.sampler in _IN_STEPS or self.num_steps is not None:
            return None
        if by_token and self.sampler is None and self.threshold is None:
            return None
        threshold = settings.threshold if self.threshold is None else self.threshold
        return partial(samplers.by_threshold, threshold=threshold, within=settings.sub_block_length)


def _shared(num_steps: int, is_open: Sequence[int]) -> list[int]:
    """Steps of each block: equally many, the first ones one more, none more than it has open positions."""
    blocks = len(is_open)
    if num_steps > sum(is_open):
        raise SamplingError(
            f"num_steps is {num_steps}, expected at most {sum(is_open)}, the positions to be written"
        )
    if num_steps < blocks:
        raise SamplingError(
            f"num_steps is {num_steps}, and {blocks} blocks are written, each in a step at least; "
            "give more steps, or a greater block_length"
        )
    steps = [num_steps // blocks + (block < num_steps % blocks) for block in range(blocks)]
    left = sum(max(0, own - most) for own, most in zip(steps, is_open, strict=True))
    steps = [min(own, most) for own, most in zip(steps, is_open, strict=True)]
    for block, most in enumerate(is_open):
        more = min(left, most - steps[block])
        steps[block], left = steps[block] + more, left - more
    return steps


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
