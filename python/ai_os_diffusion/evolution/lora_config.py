"""How a skill is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ai_os_diffusion.evolution.learning.learning_config import LearningConfig, Ranges
from ai_os_diffusion.models.cards.description import MAX_RANK
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["LoRAConfig"]

_ALL = "all-linear"
_QKV = ("query", "key", "value")
_DENSE = "dense"


@dataclass(frozen=True)
class LoRAConfig(LearningConfig):
    """Settings of the training of a skill: low-rank factors.

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
        use_dora: factors turn the rows of weights, whose lengths are learned apart, as magnitudes
            (arXiv:2402.09353): W' = m ⊙ (W + scaling · B A) / ‖W + scaling · B A‖, a norm for each row.

    Raises:
        TrainingError: a value is out of range, or nothing is trained.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: Sequence[str] = (*_QKV, _DENSE)
    selected: float = 1.0
    use_rslora: bool = True
    use_dora: bool = False

    ranges: ClassVar[Ranges] = {
        **LearningConfig.ranges,
        "rank": (1, MAX_RANK),
        "selected": (1e-6, 1),
        "alpha": (1e-6, 1e6),
        "dropout": (0, 0.99),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("use_rslora", "use_dora"):
            if not isinstance(getattr(self, name), bool):
                raise TrainingError(f"{name} is {getattr(self, name)!r}, expected True or False")
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

    def numbers(self, targets: Iterable[Mapping[str, Any]]) -> int:
        """How many numbers are trained, at most, where `targets` are all layers that may get factors."""
        layers = list(targets)
        factors = int(self.selected * sum(self.rank * (one["inputs"] + one["outputs"]) for one in layers))
        return factors + (sum(one["outputs"] for one in layers) if self.use_dora else 0)

    @property
    def described(self) -> dict[str, Any]:
        """What a card that is learned so says of itself."""
        return {"kind": "skill", "rank": self.rank, "scaling": self.scaling}

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
        return {**super().to_dict(), "target_modules": list(self.target_modules)}
