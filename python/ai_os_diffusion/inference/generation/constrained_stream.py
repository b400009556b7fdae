"""A text that is drawn until it satisfies constraints, as a stream."""

from __future__ import annotations

from collections.abc import Callable, Generator

from ai_os_diffusion.inference.constraints.constraint_set import Drawing
from ai_os_diffusion.inference.generation.constrained_session import LostTextError
from ai_os_diffusion.inference.generation.generation_stream import Generation, GenerationStream

__all__ = ["ConstrainedStream"]


class ConstrainedStream(GenerationStream):
    """One piece, the whole text: of one that is drawn again nothing may have been shown.

    Args:
        drawing: constraints and attempts.
        begin: a text of an attempt, from 0, with a weight of energies.
    """

    def __init__(self, drawing: Drawing, begin: Callable[[int, float], GenerationStream]) -> None:
        self._drawing, self._begin = drawing, begin
        self._attempts = 0
        self._last: GenerationStream | None = None
        self._pieces = self._drawn()

    def __next__(self) -> str:
        return next(self._pieces)

    @property
    def generation(self) -> Generation:
        """The text; until it is read, as far as it was written."""
        if self._last is None:
            self._last = self._begin(0, self._drawing.energy)
        found = self._last.generation
        found.attempts = max(self._attempts, 1)
        return found

    def _drawn(self) -> Generator[str, None, None]:
        text = self._drawing.drawn(self._draw)
        if text:
            yield str(text)

    def _draw(self, attempt: int, energy: float) -> Generation:
        self._attempts = attempt + 1
        self._last = stream = self._begin(attempt, energy)
        try:
            for _ in stream:
                pass
        except LostTextError:
            stream.close()
        return self.generation
