"""A text with gaps as the positions of a canvas, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["GAP", "GappedText", "anything_but"]

GAP = "{}"


def anything_but(null_id: int, vocab_size: int) -> NDArray[np.int32]:
    """All tokens that are something: what a position is held to that may not stay empty."""
    return np.delete(np.arange(vocab_size, dtype=np.int32), null_id)


@dataclass(frozen=True)
class GappedText:
    """Given pieces of a text with a gap between every two of them.

    Attributes:
        pieces: the given text, as it stands; gaps lie between them.
        ids: int32[n], the canvas.
        gaps: first and last + 1 position of each gap.
    """

    pieces: tuple[str, ...]
    ids: NDArray[np.int32]
    gaps: tuple[tuple[int, int], ...]

    @classmethod
    def parse(
        cls, text: str, encode: Callable[[str], NDArray[np.int32]], mask_id: int, room: int
    ) -> GappedText:
        """Make a canvas of a text in which `{}` stands for each gap.

        White space before a gap is left to what fills it: tokens begin with the space before a word.

        Raises:
            SamplingError: there is no gap, two follow each other, or `room` is below 1.
        """
        if not isinstance(text, str) or GAP not in text:
            raise SamplingError(f"infill is {text!r}, expected a text with {GAP} where something is missing")
        if isinstance(room, bool) or not isinstance(room, int) or room < 1:
            raise SamplingError(f"max_fill is {room!r}, expected 1 or more tokens")
        pieces = text.split(GAP)
        if any(not piece.strip() for piece in pieces[1:-1]):
            raise SamplingError(f"infill: two gaps ({GAP}) follow each other; one fills them both")
        read = [*map(str.rstrip, pieces[:-1]), pieces[-1]]
        return cls.of(read, pieces, encode, mask_id, [room] * (len(pieces) - 1))

    @classmethod
    def of(
        cls,
        read: Sequence[str],
        pieces: Sequence[str],
        encode: Callable[[str], NDArray[np.int32]],
        mask_id: int,
        rooms: Sequence[int],
    ) -> GappedText:
        """Make a canvas of pieces.

        Args:
            read: the pieces as the model reads them.
            pieces: as they stand in the text.
            encode: makes ids of a piece.
            mask_id: the token of an open position.
            rooms: positions of each gap.
        """
        parts: list[NDArray[np.int32]] = []
        gaps: list[tuple[int, int]] = []
        at = 0
        for index, piece in enumerate(read):
            ids = encode(piece) if piece else np.zeros(0, np.int32)
            parts.append(ids)
            at += len(ids)
            if index < len(rooms):
                parts.append(np.full(rooms[index], mask_id, np.int32))
                gaps.append((at, at + rooms[index]))
                at += rooms[index]
        return cls(tuple(pieces), np.concatenate(parts), tuple(gaps))

    def filled(self, fills: Sequence[str]) -> str:
        """The text with its gaps filled; the given pieces stay to the letter."""
        parts = [self.pieces[0]]
        for fill, piece in zip(fills, self.pieces[1:], strict=True):
            # The space before a gap stands already.
            parts.append(fill.lstrip() if not parts[-1] or parts[-1][-1].isspace() else fill)
            parts.append(piece)
        return "".join(parts)
