"""How a skill is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ai_os_diffusion.models.cards.description import MAX_RANK
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["LoRAConfig"]

_ALL = "all-linear"
_QKV = ("query", "key", "value")
_DENSE = "dense"
_PRECISIONS = ("bfloat16", "float32")
_RANGES: Mapping[str, tuple[float, float]] = {
    "rank": (1, MAX_RANK),
    "selected": (1e-6, 1),
    "alpha": (1e-6, 1e6),
    "dropout": (0, 0.99),
    "rate": (1e-9, 1),
    "batch_size": (1, 4096),
    "warm_up": (0, 1 << 31),
    "anchor": (0, 1e6),
    "dropped_words": (0, 0.9),
    "paraphrases": (0, 16),
    "patience": (0, 1 << 31),
    "seed": (0, (1 << 63) - 1),
}


@dataclass(frozen=True)
class LoRAConfig:
    """Settings of a training, by the names of the field.

    Attributes:
        rank: rows of the low-rank factors.
        alpha: they are scaled by alpha / sqrt(rank), or by alpha / rank.
        dropout: part of the inputs of the factors that each step leaves out.
        target_modules: layers that get factors: "query", "key", "value"; "dense", any other linear layer of a
            block; "all-linear"; or the last part of a layer's name, as "q_proj".
        selected: part of the numbers that factors of all those layers would have. Below 1 the layers alone
            get factors whose weights the answers are most sensitive to, as many as fit: few, of a high rank.
            It is for answers, and not for encoders.
        use_rslora: scale by the root of the rank (arXiv:2312.03732).
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
        TrainingError: a value is out of range, or nothing is trained.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: Sequence[str] = (*_QKV, _DENSE)
    selected: float = 1.0
    use_rslora: bool = True
    rate: float = 1e-3
    batch_size: int = 16
    warm_up: int = 20
    anchor: float = 5.0
    dropped_words: float = 0.15
    paraphrases: int = 0
    patience: int = 0
    precision: str = "bfloat16"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value, kind = getattr(self, name), type(getattr(type(self), name))
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or (kind is int and value != int(value)) or not low <= value <= high:
                what = "an integer" if kind is int else "a number"
                raise TrainingError(f"{name} is {value!r}, expected {what} from {low:g} to {high:g}")
            object.__setattr__(self, name, kind(value))
        if self.precision not in _PRECISIONS:
            raise TrainingError(f"precision is {self.precision!r}, expected {' or '.join(_PRECISIONS)}")
        names = self.target_modules
        if isinstance(names, str) or not names or not all(isinstance(name, str) for name in names):
            raise TrainingError(
                f"target_modules is {names!r}, expected names of layers, as ['query', 'dense']"
            )
        object.__setattr__(self, "target_modules", tuple(names))

    @property
    def scaling(self) -> float:
        """A layer computes W x + scaling · B (A x)."""
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)

    def targets(self, layout: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The layers of a network that get factors.

        Args:
            layout: of the network, as the native layer describes it.

        Raises:
            TrainingError: a name of `target_modules` is none of its layers, or the rank exceeds them all.
        """
        found: dict[str, Mapping[str, Any]] = {}
        used: set[str] = set()
        for block in layout["blocks"]:
            dense = [block["output"], *block["wide"], block["down"]]
            named = [*zip(_QKV, block["qkv"], strict=False), *((_DENSE, layer) for layer in dense)]
            for kind, layer in named:
                names = {kind, _ALL, layer["name"].rpartition(".")[2]}
                if wanted := names.intersection(self.target_modules):
                    used |= wanted
                    found[layer["name"]] = layer
        strange = [name for name in self.target_modules if name not in used]
        if strange:
            first = layout["blocks"][0]
            layers = [*first["qkv"], first["output"], *first["wide"], first["down"]]
            known = [*_QKV, _DENSE, _ALL, *(layer["name"].rpartition(".")[2] for layer in layers)]
            raise TrainingError(
                f"target_modules: the model has no layers {strange[0]!r}; it has {', '.join(known)}"
            )
        most = max(min(layer["inputs"], layer["outputs"]) for layer in found.values())
        if self.rank > most:
            raise TrainingError(
                f"rank is {self.rank}, expected at most {most}: beyond, factors are larger than any layer"
            )
        return list(found.values())

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {**asdict(self), "target_modules": list(self.target_modules)}
