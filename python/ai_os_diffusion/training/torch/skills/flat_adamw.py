"""AdamW over one array: a handful of operations a step, however many parameters there are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["FlatAdamW", "Moments"]

Tensor = Any
Floats = NDArray[np.float32]
Moments = tuple[Floats, Floats, Floats]

_EPS = 1e-8
_PARTS = ("values", "gradients", "first", "second")


class FlatAdamW:
    """Values, gradients and both moments of parameters, float32, each behind each other in one array.

    The rule is that of `crates/cpu_training/src/parameters.rs` (AdamW, arXiv:1711.05101): matrices decay
    alone, and gradients that are longer than `clip` together are scaled down.

    Args:
        parameters: where learning begins, by name.
        device: of torch.

    Attributes:
        values: views of the values, by name.
        steps: that were taken.
    """

    def __init__(self, parameters: Mapping[str, Floats], device: Any) -> None:
        self._shapes = {name: array.shape for name, array in parameters.items()}
        arrays = [np.ravel(array).astype(np.float32) for array in parameters.values()]
        whole = torch.from_numpy(np.concatenate(arrays) if arrays else np.zeros(0, np.float32))
        self._flat = {part: torch.zeros_like(whole, device=device) for part in _PARTS}
        self._flat["values"].copy_(whole)
        self.values = self._views("values")
        self.steps = 0

    def bind(self, parameters: Mapping[str, Tensor]) -> None:
        """Have gradients of parameters, which share their storage with `values`, added up here."""
        views = self._views("gradients")
        for name, parameter in parameters.items():
            parameter.grad = views[name]

    @property
    def gradients(self) -> Tensor:
        """float32[numbers]: the sum since the last step."""
        return self._flat["gradients"]

    def arrays(self, part: str) -> dict[str, Floats]:
        """What `part` names, "values", "first" or "second", by name and in the shapes of the parameters."""
        return self.named(self._flat[part])

    def named(self, numbers: Tensor) -> dict[str, Floats]:
        """float32[numbers] by name and in the shapes of the parameters."""
        whole = numbers.detach().cpu().numpy()
        found = np.split(whole, np.cumsum([math.prod(shape) for shape in self._shapes.values()])[:-1])
        return {
            name: array.reshape(shape).copy()
            for (name, shape), array in zip(self._shapes.items(), found, strict=True)
        }

    @torch.no_grad()
    def step(self, rate: float, *, betas: tuple[float, float], weight_decay: float, clip: float) -> float:
        """Take a step and clear the gradients; their length before it was cut.

        Raises:
            TrainingError: it is no number; no parameter is changed.
        """
        values, gradients, first, second = (self._flat[part] for part in _PARTS)
        length = float(torch.linalg.vector_norm(gradients, dtype=torch.float64))
        if not math.isfinite(length):
            gradients.zero_()
            raise TrainingError(
                "gradients are not finite; expected numbers: lower the learning rate, nothing was changed"
            )
        self.steps += 1
        if length > clip:
            gradients.mul_(clip / length)
        corrections = [1 - beta**self.steps for beta in betas]
        first.mul_(betas[0]).add_(gradients, alpha=1 - betas[0])
        second.mul_(betas[1]).addcmul_(gradients, gradients, value=1 - betas[1])
        if weight_decay:
            for name, view in self.values.items():
                if len(self._shapes[name]) > 1:
                    view.mul_(1 - rate * weight_decay)
        # The gradients are used up: their place takes the divisor.
        torch.sqrt(second, out=gradients).div_(math.sqrt(corrections[1])).add_(_EPS)
        values.addcdiv_(first, gradients, value=-rate / corrections[0])
        gradients.zero_()
        return length

    def state(self) -> dict[str, Moments]:
        """Values and both moments of each parameter, moments as float32[numbers]."""
        values, first, second = (self.arrays(part) for part in ("values", "first", "second"))
        return {name: (values[name], first[name].ravel(), second[name].ravel()) for name in values}

    def restore(self, steps: int, state: Mapping[str, Moments]) -> None:
        """Go on from a state.

        Raises:
            TrainingError: it is of other parameters.
        """
        if list(state) != list(self._shapes):
            raise TrainingError(f"state: expected {len(self._shapes)} parameters, got {len(state)} of others")
        for name, arrays in state.items():
            expected = math.prod(self._shapes[name])
            if any(array.size != expected for array in arrays):
                raise TrainingError(f"{name!r} cannot be trained: expected {list(self._shapes[name])}")
        for number, part in enumerate(("values", "first", "second")):
            own = [np.ravel(moments[number]).astype(np.float32) for moments in state.values()]
            if own:
                self._flat[part].copy_(torch.from_numpy(np.concatenate(own)))
        self.steps = steps

    def _views(self, part: str) -> dict[str, Tensor]:
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        parts = self._flat[part].split(sizes)
        return {
            name: view.view(shape) for (name, shape), view in zip(self._shapes.items(), parts, strict=True)
        }
