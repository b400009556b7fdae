"""How far a learning is: with it, it goes on as if it had never been broken off."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.errors import TrainingError
from ai_os_diffusion.utils.files.atomic_file import replacing

__all__ = ["LearningState"]

Moments = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]

_PARTS = ("values", "first", "second")


class LearningState:
    """A file beside the card in the making.

    Args:
        path: the file.
        about: what is learned on what; a state of anything else is not gone on from.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path, self._about = path, json.dumps(about, sort_keys=True)

    def save(self, steps: int, state: Mapping[str, Moments], losses: list[float]) -> None:
        """Write it, whole or not at all."""
        arrays: dict[str, Any] = {
            f"{part}/{name}": array
            for name, moments in state.items()
            for part, array in zip(_PARTS, moments, strict=True)
        }
        with replacing(self.path) as draft, draft.open("wb") as file:
            np.savez(
                file,
                about=np.array(self._about),
                steps=np.array(steps),
                losses=np.array(losses, np.float64),
                **arrays,
            )

    def load(self) -> tuple[int, dict[str, Moments], list[float]] | None:
        """Steps, parameters and losses; None where nothing, or something else, was begun.

        Raises:
            TrainingError: the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as found:
                if str(found["about"]) != self._about:
                    return None
                names = [name.partition("/")[2] for name in found if name.startswith("values/")]
                state: dict[str, Moments] = {}
                for name in names:
                    values, first, second = (found[f"{part}/{name}"] for part in _PARTS)
                    state[name] = (values, first, second)
                return int(found["steps"]), state, found["losses"].tolist()
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise TrainingError(
                f"{self.path}: no state of a learning: {error}; remove it to begin anew"
            ) from error

    def remove(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)
