"""What learning may cost elsewhere."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from ai_os_diffusion.utils.errors import ConfigurationError

__all__ = ["Tolerances"]


@dataclass(frozen=True)
class Tolerances:
    """How much what was learned may change of the rest before a gate rejects it.

    Attributes:
        lost: part of what other skills answer right that may be lost: one of a hundred, which fewer questions
            than that cannot show, so of those none.
        risen: part by which the perplexity of what was said to everyday questions may rise: about what
            rounding weights to 8 bits does, which nobody minds (1.008 times, docs/design/0909).
        diverged: KL(before ‖ after) in nats a token of that. What was said is one draw: a model that only
            becomes surer of it says it at a lower perplexity, and is another model all the same. Rounding
            weights to 8 bits is .004 and to 4 bits .36 nats (docs/design/0909); .05 is in between, and by
            Pinsker's inequality no event of a token is then more than √(.05 / 2) = .16 more or less likely.
        risen_beside: part by which the perplexity of a text that asks nothing may rise while a control is
            attached. It is used where somebody names it, and not unasked as skills are, so more may pass.

    Raises:
        ConfigurationError: one is no number of -1 or more.
    """

    lost: float = 0.01
    risen: float = 0.01
    diverged: float = 0.05
    risen_beside: float = 0.05

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            # Infinity lets anything pass; below 0 it must become better.
            if not is_number or math.isnan(value) or value < -1:
                raise ConfigurationError(f"{name} is {value!r}, expected a number of -1 or more")
