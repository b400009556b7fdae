"""How a control is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ai_os_diffusion.evolution.learning.learning_config import LearningConfig, Ranges
from ai_os_diffusion.models.cards.card import MOST_SIDE_SHARE
from ai_os_diffusion.models.cards.description import CONTROL, MAX_RANK
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["ControlConfig"]


@dataclass(frozen=True, kw_only=True)
class ControlConfig(LearningConfig):
    """Settings of the training of a control: side blocks that lend a structure to whatever is asked.

    Behind some of the base's blocks the stream gets `x + up(gelu(down(norm(x))))`, a bottleneck adapter
    (arXiv:1902.00751) whose `up` begins as zeros (arXiv:2302.05543). Nothing of it is left out in training,
    which is short: a structure is soon learned.

    Attributes:
        width: numbers of the bottleneck.
        blocks: behind so many of the base's blocks, evenly spread, the last among them; all where it has
            fewer.
    """

    rate: float = 3e-3
    batch_size: int = 8
    warm_up: int = 5
    width: int = 64
    blocks: int = 6

    scaling: ClassVar[float] = 1.0
    dropout: ClassVar[float] = 0.0
    use_dora: ClassVar[bool] = False
    """Of factors, of which there are none."""

    ranges: ClassVar[Ranges] = {**LearningConfig.ranges, "width": (1, MAX_RANK), "blocks": (1, 4096)}

    def targets(self, layout: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The blocks of a network that get side blocks: their `name`, and the `hidden` width of the stream.

        Args:
            layout: of the network, as the native layer describes it.

        Raises:
            TrainingError: it is no decoder with norms before its layers, or they would be too large for it.
        """
        family, words = layout["family"], layout["words"]
        if not family["is_decoder"] or family["norm_place"] != "before":
            raise TrainingError(
                f"a control is for decoders with norms before their layers, and {family['name']!r} is none"
            )
        names = [block["name"] for block in layout["blocks"]]
        count = min(self.blocks, len(names))
        chosen = [names[(number + 1) * len(names) // count - 1] for number in range(count)]
        numbers, most = 2 * self.width * words["cols"] * count, _parameters(layout) // MOST_SIDE_SHARE
        if numbers > most:
            raise TrainingError(
                f"{count} side blocks of width {self.width} have {numbers:,} numbers, expected at most "
                f"{most:,}, one in {MOST_SIDE_SHARE} of the model's; take fewer blocks, or narrower ones"
            )
        return [{"name": name, "hidden": words["cols"]} for name in chosen]

    def numbers(self, targets: Iterable[Mapping[str, Any]]) -> int:
        """How many numbers are trained of some of `targets`."""
        return sum(2 * self.width * block["hidden"] for block in targets)

    @property
    def described(self) -> dict[str, Any]:
        """What a card that is learned so says of itself."""
        return {"kind": CONTROL, "rank": 0, "scaling": self.scaling, "side_width": self.width}

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {"method": "control", **super().to_dict()}


def _parameters(layout: Mapping[str, Any]) -> int:
    """Numbers of a network's matrices."""
    tables = [layout[part] for part in ("words", "head") if layout[part] is not None]
    found = sum(table["rows"] * table["cols"] for table in tables)
    for block in layout["blocks"]:
        layers = [*block["qkv"], block["output"], *block["wide"], block["down"]]
        found += sum(layer["outputs"] * layer["inputs"] for layer in layers)
    return int(found)
