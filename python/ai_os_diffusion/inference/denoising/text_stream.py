"""A text that is written by diffusion, as pieces in its order."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from ai_os_diffusion.inference.generation.generation_stream import GenerationStream, StopStrings, Usage

if TYPE_CHECKING:
    from ai_os_diffusion.inference.denoising.canvas_plan import CanvasPlan
    from ai_os_diffusion.inference.denoising.diffuser import Diffuser
    from ai_os_diffusion.inference.denoising.diffusion_options import DiffusionOptions
    from ai_os_diffusion.inference.denoising.diffusion_text import Diffusion
    from ai_os_diffusion.inference.fast_tokenizer import DecodeStream

__all__ = ["TextStream"]

_REVISING = ("remdm",)
"""Samplers that take back what stands."""


class TextStream(GenerationStream):
    """Pieces of a text: each is told once all before it is written and stays.

    Args:
        diffuser: writes.
        plan: a text without gaps.
        options: how it is written.
        decoder: makes pieces of ids.
        stop: ends the text at a string.
    """

    def __init__(
        self,
        diffuser: Diffuser,
        plan: CanvasPlan,
        options: DiffusionOptions,
        decoder: DecodeStream,
        stop: StopStrings,
    ) -> None:
        self._passes = diffuser.stream(plan, options)
        self._told: list[str] = []
        self._tokens = 0
        self._has_stopped = False
        self._is_revised = options.sampler in _REVISING
        self._pieces = self._text(diffuser, plan, decoder, stop)

    def __next__(self) -> str:
        piece = next(self._pieces)
        self._told.append(piece)
        return piece

    @property
    def generation(self) -> Diffusion:
        """The text written so far; whole once the stream is read to its end."""
        found = self._passes.diffusion.begun("".join(self._told), self._tokens)
        if self._has_stopped:
            found.finish_reason = "stop"
            found.usage = Usage(found.prompt_tokens, self._tokens)
        return found

    def _text(
        self, diffuser: Diffuser, plan: CanvasPlan, decoder: DecodeStream, stop: StopStrings
    ) -> Generator[str, None, None]:
        settings, ((at, end),) = diffuser.settings, plan.gaps
        ids = np.concatenate(plan.blocks)
        steps = iter(self._passes)
        is_over = False
        while not is_over:
            step = next(steps, None)
            if step is not None:
                ids[step.positions] = step.ids
                if self._is_revised:
                    continue
            is_over = step is None
            while at < end and ids[at] != settings.mask_id:
                id, at = int(ids[at]), at + 1
                if id in diffuser.end_ids:
                    # The passes end by themselves with the step that wrote it.
                    end = at
                    continue
                if id == settings.null_id:
                    continue
                self._tokens += 1
                if piece := stop.feed(decoder.step(id)):
                    yield piece
                if stop.found:
                    self._has_stopped = True
                    return
        rest = stop.feed(decoder.finish())
        self._has_stopped = stop.found
        if rest := rest + stop.finish():
            yield rest
