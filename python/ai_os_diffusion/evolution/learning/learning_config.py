"""How anything is learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["LearningConfig"]

_PRECISIONS = ("bfloat16", "float32")

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """Settings of a training, by the names of the field, whatever is trained.

    Attributes:
        rate: learning rate, at its highest.
        batch_size: questions of a step.
        warm_up: steps until the rate is at its highest; from there it goes down along a cosine.
        anchor: how much what the base says elsewhere counts, KL(base ‖ with card); 0 leaves it out.
        dropped_words: part of a question's words that are left out anew each time it is asked: what carries a
            fact to other wordings.
        paraphrases: most other wordings of each question that the base writes before; in each epoch a pair is
            asked in one, drawn among those and its own (`train_qa` needs `embed`).
        patience: epochs without a gain on other wordings (`validation` of `train_qa`) after which learning
            stops; the card is the best one. 0 learns to the end and keeps the last.
        precision: of the products with the base's weights: "bfloat16", or "float32", which is the reference
            and slower where the CPU multiplies bfloat16.
        seed: of all that is drawn.

    Raises:
        TrainingError: a value is out of range.
    """

    rate: float = 1e-3
    batch_size: int = 16
    warm_up: int = 20
    anchor: float = 5.0
    dropped_words: float = 0.15
    paraphrases: int = 0
    patience: int = 0
    precision: str = "bfloat16"
    seed: int = 0

    ranges: ClassVar[Ranges] = {
        "rate": (1e-9, 1),
        "batch_size": (1, 4096),
        "warm_up": (0, 1 << 31),
        "anchor": (0, 1e6),
        "dropped_words": (0, 0.9),
        "paraphrases": (0, 16),
        "patience": (0, 1 << 31),
        "seed": (0, (1 << 63) - 1),
    }

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            value, kind = getattr(self, name), type(getattr(type(self), name))
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or (kind is int and value != int(value)) or not low <= value <= high:
                what = "an integer" if kind is int else "a number"
                raise TrainingError(f"{name} is {value!r}, expected {what} from {low:g} to {high:g}")
            object.__setattr__(self, name, kind(value))
        if self.precision not in _PRECISIONS:
            raise TrainingError(f"precision is {self.precision!r}, expected {' or '.join(_PRECISIONS)}")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)
