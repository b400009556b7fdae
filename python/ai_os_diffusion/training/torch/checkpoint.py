"""The state of a run: with it the run goes on as if it had never been broken off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ai_os_diffusion.utils.errors import TrainingError
from ai_os_diffusion.utils.files.atomic_file import replacing

if TYPE_CHECKING:
    from ai_os_diffusion.training.torch.loop import LoopRecipe

__all__ = ["Checkpoint"]

Tensor = Any

_VERSION = 2


@dataclass
class Checkpoint:
    """How far a run is.

    Attributes:
        step: steps that were taken.
        seconds: of training.
        trained: by the names of a card.
        optimizer: its state.
        second: other values by the names of `trained`: of a teacher, or running averages.
    """

    step: int
    seconds: float
    trained: dict[str, Tensor]
    optimizer: dict[str, Any]
    second: dict[str, Tensor] | None

    def save(self, path: Path, recipe: LoopRecipe, processes: int) -> None:
        """Write it, whole or not at all."""
        state = {**vars(self), "version": _VERSION, "recipe": recipe.fixed, "processes": processes}
        with replacing(path) as draft:
            torch.save(state, draft)

    @classmethod
    def load(cls, path: Path, recipe: LoopRecipe, processes: int, device: Any) -> Checkpoint | None:
        """Read it; None where no run has begun.

        Raises:
            TrainingError: it is damaged, or of another recipe.
        """
        if not path.exists():
            return None
        try:
            # Tensors and plain values alone: a state is no program.
            state = torch.load(path, map_location=device, weights_only=True)
            version, fixed, before = state.pop("version"), state.pop("recipe"), state.pop("processes")
        except Exception as error:  # torch names no class for what may be wrong with a file
            raise TrainingError(f"{path}: no state of a run: {error}; remove it to begin anew") from error
        if version != _VERSION:
            raise TrainingError(
                f"{path}: version {version!r}, expected {_VERSION}; finish it with its release"
            )
        differing = [key for key in {**recipe.fixed, **fixed} if recipe.fixed.get(key) != fixed.get(key)]
        if differing:
            key = differing[0]
            raise TrainingError(
                f"{path}: its run began with {key} = {fixed.get(key)}, the recipe says "
                f"{recipe.fixed.get(key)}; name another --out, or restore the recipe"
            )
        if before != processes:
            raise TrainingError(f"{path}: its run has {before} processes, now there are {processes}")
        return cls(**state)
