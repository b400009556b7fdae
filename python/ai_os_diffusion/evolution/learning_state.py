"""How far a learning is: with it, it goes on as if it had never been broken off."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.errors import TrainingError
from ai_os_diffusion.utils.files.atomic_file import replacing
from ai_os_diffusion.utils.files.file_lock import hold

__all__ = ["LearningState", "Saved"]

Moments = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]

_PARTS = ("values", "first", "second")
_LOOKS = "looks/"


@dataclass(frozen=True)
class Saved:
    """How far a learning was.

    Attributes:
        steps: that were taken.
        parameters: values and moments, by name.
        records: what the steps told, for the losses and their picture.
        looks: what `EarlyStopping` keeps; empty where it was not asked.
    """

    steps: int
    parameters: Mapping[str, Moments]
    records: list[dict[str, Any]]
    looks: Mapping[str, NDArray[Any]]


class LearningState:
    """A file beside the card in the making.

    Args:
        path: the file.
        about: what is learned on what; a state of anything else is not gone on from.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path, self._about = path, json.dumps(about, sort_keys=True)
        self._lock: IO[bytes] | None = None

    def hold(self) -> None:
        """Be the only one that learns this, until `release` or `remove`, or the end of the process.

        Raises:
            TrainingError: another process does.
        """
        path = self._lock_path
        file = path.open("ab")
        # Who held it may have removed the file between its opening and its locking here.
        if not (
            hold(file, waits=False)
            and path.exists()
            and os.path.samestat(os.fstat(file.fileno()), path.stat())
        ):
            file.close()
            raise TrainingError(
                f"{self.path.name.removeprefix('.').removesuffix('.learning')!r} is being learned by another "
                "process; wait until it has ended, or give another name"
            )
        self._lock = file

    def release(self) -> None:
        """Let others go on with it."""
        if self._lock is not None:
            self._lock_path.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")

    def save(self, saved: Saved) -> None:
        """Write it, whole or not at all."""
        arrays: dict[str, Any] = {
            f"{part}/{name}": array
            for name, moments in saved.parameters.items()
            for part, array in zip(_PARTS, moments, strict=True)
        }
        arrays |= {_LOOKS + name: array for name, array in saved.looks.items()}
        with replacing(self.path) as draft, draft.open("wb") as file:
            np.savez(
                file,
                about=np.array(self._about),
                steps=np.array(saved.steps),
                records=np.array(json.dumps(saved.records)),
                **arrays,
            )

    def load(self) -> Saved | None:
        """How far it was; None where nothing, or something else, was begun.

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
                looks = {name.removeprefix(_LOOKS): found[name] for name in found if name.startswith(_LOOKS)}
                return Saved(int(found["steps"]), state, json.loads(str(found["records"])), looks)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise TrainingError(
                f"{self.path}: no state of a learning: {error}; remove it to begin anew"
            ) from error

    def remove(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)
        self.release()
