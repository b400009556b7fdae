"""What a card is trained on: text that is given, and text that is to be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ai_os_diffusion.models.untrusted_values import MAX_TEXT, UntrustedValues
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["Example", "Piece"]

_FORMS = ("text", "answer", "pieces")
_KEYS = ("prompt", "kind", "weight", "room", "block", "ends", *_FORMS)
_MAX_POSITIONS = 4096


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the canvas: text that stands there, or text to be written."""

    text: str
    written: bool = True


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt that is seen whole and a canvas of pieces behind it.

    Attributes:
        kind: of examples that are drawn as often as the recipe says.
        prompt: the user's turn; empty where there is only a canvas.
        pieces: the canvas in order.
        room: least number of positions of a written piece that stands among given ones; what its text does
            not fill is NULL.
        ends: whether the canvas ends the turn.
        block: positions that are written together; None for the recipe's. A canvas without a prompt, or with
            given pieces, is one block.
    """

    kind: str
    prompt: str
    pieces: tuple[Piece, ...]
    room: int = 16
    ends: bool = True
    block: int | None = None

    @property
    def answer(self) -> str:
        """The written text of an example with one written piece."""
        return next(piece.text for piece in self.pieces if piece.written)

    @property
    def has_gaps(self) -> bool:
        """Whether given pieces stand among the written ones."""
        return not all(piece.written for piece in self.pieces)

    @classmethod
    def of(cls, row: Mapping[str, Any], place: str) -> tuple[Example, float]:
        """Read a row of a file.

        Args:
            row: `text` alone; `prompt` and `answer`; or `pieces`, objects of `text` and `written`, with or
                without a prompt; `kind`, `weight`, `room`, `block`, `ends` where they differ from the rule.
            place: names it in errors.

        Returns:
            The example, and how often it is drawn beside the others of its kind.

        Raises:
            TrainingError: a key is unknown or missing, or a value is of another type or out of range.
        """
        values = UntrustedValues(place, row, TrainingError)
        if strange := [key for key in row if key not in _KEYS]:
            raise TrainingError(f"{place}: key {strange[0]!r} is not known; known: {', '.join(_KEYS)}")
        given = [form for form in _FORMS if form in values]
        if len(given) != 1:
            raise TrainingError(
                f"{place}: expected one of {', '.join(_FORMS)}, got {' and '.join(given) or 'none of them'}"
            )
        form, prompt = given[0], values.text("prompt", "")
        if form == "answer" and not prompt:
            raise TrainingError(f"{place}: an answer needs the prompt that it answers; text has none")
        if form == "text" and prompt:
            raise TrainingError(f"{place}: text stands alone; what follows a prompt is its answer")
        example = cls(
            kind=values.text("kind", "gaps" if form == "pieces" else form, high=100),
            prompt=prompt,
            pieces=_pieces(values, form),
            room=values.integer("room", 8 if form == "pieces" else 0, low=0, high=_MAX_POSITIONS),
            ends=values.flag("ends", bool(prompt)),
            block=values.integer("block", high=_MAX_POSITIONS) if "block" in values else None,
        )
        return example, values.number("weight", 1.0, low=1e-9, high=1e9)


def _pieces(values: UntrustedValues, form: str) -> tuple[Piece, ...]:
    if form != "pieces":
        text = values.text(form, high=MAX_TEXT)
        if not text.strip():
            raise values.fault(form, "a text that is not empty")
        return (Piece(text),)
    pieces = tuple(Piece(piece.text("text"), piece.flag("written", False)) for piece in values.sections(form))
    if not any(piece.written for piece in pieces):
        raise values.fault(form, "at least one piece that is written")
    return pieces
