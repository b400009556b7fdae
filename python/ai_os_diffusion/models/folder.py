"""The folder of pulled models: one folder a model, complete or absent."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_os_diffusion.models.contents import MAX_DESCRIPTION_BYTES, MODEL_FILES
from ai_os_diffusion.models.metadata import is_outdated
from ai_os_diffusion.utils.errors import ModelDamagedError, ModelLoadError, ModelNotFoundError
from ai_os_diffusion.utils.files.atomic_folder import (
    make_folders,
    read_consistently,
    remove_folder,
    restore_folder,
)
from ai_os_diffusion.utils.files.clean_name import MAX_NAME_BYTES, is_clean_name
from ai_os_diffusion.utils.files.drafts import clear_drafts, draft_folder, interrupted
from ai_os_diffusion.utils.files.regular_file import read_json

if TYPE_CHECKING:
    from ai_os_diffusion.models.registry import Progress

__all__ = ["ModelsFolder", "PulledModel", "is_model_folder", "read_metadata"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
LOCK_POLL_S = 0.1


@dataclass(frozen=True)
class PulledModel:
    """A model on this machine.

    Attributes:
        name: folder name, what the engine is given.
        path: the folder.
        model_type: "encoder" or "decoder".
        architecture: name of its family, see `models.family`.
        quantization: summary of how the weights are stored, as convert wrote it.
        size_bytes: of all its files.
        source: where it came from, with licence and hashes.
        outdated: an earlier release's converter wrote it; it must be pulled again.
    """

    name: str
    path: Path
    model_type: str
    architecture: str
    quantization: dict[str, Any]
    size_bytes: int
    source: dict[str, Any]
    outdated: bool


class ModelsFolder:
    """Finds, lists and removes models under one root, and locks the name of one that is being made."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """The folder of a model, there or not.

        Raises:
            ModelNotFoundError: the name could leave the root or hide in it.
        """
        if not (NAME.fullmatch(name) and is_clean_name(name)):
            raise ModelNotFoundError(
                f"model name {name!r}: expected letters, digits and . _ - @, a letter or digit first, no dot "
                f"last, at most {MAX_NAME_BYTES} in all, and none that Windows gives to a device"
            )
        return self.root / name

    def find(self, name: str) -> Path:
        """The folder of a model, there or not, brought back if its replacement was broken off."""
        folder = self.path(name)
        restore_folder(folder)
        return folder

    def names(self) -> list[str]:
        """Names of the complete models."""
        if not self.root.is_dir():
            return []
        # With those that stepped aside for a moment.
        found = read_consistently(
            self.root, lambda: {entry.name for entry in self.root.iterdir()} | set(interrupted(self.root))
        )
        return sorted(name for name in found if NAME.fullmatch(name) and is_model_folder(self.root / name))

    def models(self) -> list[PulledModel]:
        """The complete models; one with damaged metadata is left out of no list, its fields are empty."""
        folders = [self.root / name for name in self.names()]
        return [read_consistently(folder, partial(_describe, folder)) for folder in folders]

    def remove(self, name: str) -> int:
        """Delete a model and return the bytes it held.

        Raises:
            ModelNotFoundError: there is no such model.
        """
        folder = self.path(name)
        with self.locked(name):
            if not folder.is_dir():
                pulled = ", ".join(self.names()) or "none"
                raise ModelNotFoundError(f"model {name!r} is not pulled; pulled are: {pulled}")
            size = _size(folder)
            remove_folder(folder)
        return size

    def clear(self) -> None:
        """Remove what processes that are gone left half done."""
        clear_drafts(self.root)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a folder for what is not a model yet; it vanishes with the block, or with the process."""
        with draft_folder(self.root) as draft:
            folder = draft / "scratch"
            folder.mkdir()
            yield folder

    @contextmanager
    def locked(self, name: str, progress: Progress | None = None) -> Iterator[None]:
        """Hold the lock of one model, waiting for another process that builds it."""
        import fcntl

        self._create_root()
        with (self.root / f".{name}.lock").open("w") as file:
            waited = 0
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    waited += 1
                    if progress is not None:
                        progress("waiting for another pull", waited, None)
                    time.sleep(LOCK_POLL_S)
            yield

    def need(self, size_bytes: int, what: str) -> None:
        """Refuse early what the disk cannot hold.

        Raises:
            ModelLoadError: fewer bytes are free.
        """
        self._create_root()
        free = shutil.disk_usage(self.root).free
        if free < size_bytes:
            raise ModelLoadError(
                f"{what}: needs about {size_bytes / 1e6:.0f} MB in {self.root}, free are "
                f"{free / 1e6:.0f} MB; make room, or set AIOS_MODELS_DIR to another disk"
            )

    def _create_root(self) -> None:
        try:
            make_folders(self.root)
        except OSError as error:
            raise ModelLoadError(
                f"models folder {self.root}: cannot be created: {error}; "
                "set AIOS_MODELS_DIR to a folder you can write"
            ) from error
        if not os.access(self.root, os.W_OK):
            raise ModelLoadError(
                f"models folder {self.root}: cannot be written; set AIOS_MODELS_DIR to a folder you can write"
            )


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a whole converted model; one that is being replaced does."""
    return read_consistently(folder, lambda: all((folder / name).is_file() for name in MODEL_FILES))


def read_metadata(folder: Path) -> dict[str, Any]:
    """metadata.json of a model folder; empty if it cannot be read."""
    try:
        metadata = read_json(folder / "metadata.json", MAX_DESCRIPTION_BYTES, ModelDamagedError)
    except (OSError, ModelDamagedError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def out_of_space(error: OSError) -> bool:
    """Whether an error says that the disk or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _describe(folder: Path) -> PulledModel:
    metadata = read_metadata(folder)
    return PulledModel(
        name=folder.name,
        path=folder,
        model_type=str(metadata.get("model_type", "")),
        architecture=str(metadata.get("architecture", "")),
        quantization=_mapping(metadata.get("quantization")),
        size_bytes=_size(folder),
        source=_mapping(metadata.get("source")),
        outdated=is_outdated(metadata),
    )


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
