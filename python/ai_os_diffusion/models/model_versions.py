"""Versions of a model: which one stands for its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ai_os_diffusion.models.folder import is_model_folder
from ai_os_diffusion.utils.errors import ModelDamagedError, ModelNotFoundError
from ai_os_diffusion.utils.files.atomic_file import replacing
from ai_os_diffusion.utils.files.clean_name import is_clean_name
from ai_os_diffusion.utils.files.regular_file import read_json

__all__ = ["ModelVersions"]

_FILE = ".versions.json"
_MOST_BYTES = 1 << 20


class ModelVersions:
    """What was made of models, each version a model folder of its own, and which of them is used.

    The model itself is the first version, and stays as it is. Which one is used is a line of one small file,
    which is replaced whole: a switch is done or not, and no model is touched by it.

    Args:
        folder: of the models.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / _FILE

    def names(self, model: str) -> list[str]:
        """The versions of a model that are here, the model itself first."""
        known = self._read().get(model, {}).get("versions", [])
        return [model, *(name for name in known if is_model_folder(self.folder / name))]

    def current(self, model: str) -> str:
        """The version that stands for a model's name: itself, where none was chosen or that is gone."""
        chosen = self._read().get(model, {}).get("current", model)
        return chosen if chosen in self.names(model) else model

    def next(self, model: str) -> str:
        """The name that a new version gets."""
        known = self._read().get(model, {}).get("versions", [])
        return f"{Path(model).name}.{len(known) + 1}"

    def add(self, model: str, version: str) -> None:
        """Let a new version stand for a model's name."""
        entries = self._read()
        known = [name for name in entries.get(model, {}).get("versions", []) if name != version]
        self._write({**entries, model: {"versions": [*known, version], "current": version}})

    def use(self, model: str, version: str) -> None:
        """Let a version that is here stand for a model's name; the model's own name goes back to itself.

        Raises:
            ModelNotFoundError: it is none of the versions.
        """
        here = self.names(model)
        if version not in here:
            raise ModelNotFoundError(f"{version!r} is no version of {model}; there are: {', '.join(here)}")
        entries = self._read()
        if model in entries or version != model:
            self._write({**entries, model: {**entries[model], "current": version}})

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        found = read_json(self._path, _MOST_BYTES, ModelDamagedError)
        for model, entry in found.items() if isinstance(found, dict) else [("", found)]:
            given = entry if isinstance(entry, dict) else {}
            known, current = given.get("versions"), given.get("current")
            names = [*(known if isinstance(known, list) else [None]), current]
            # The model itself may be a folder anywhere, and is current by what it is called.
            if not all(isinstance(one, str) for one in names) or not all(map(is_clean_name, names[:-1])):
                raise ModelDamagedError(
                    f"{self._path}: expected versions and the current one of each model, got {entry!r} of "
                    f"{model!r}; remove the file to use the models themselves"
                )
        return dict(found)

    def _write(self, entries: dict[str, Any]) -> None:
        with replacing(self._path) as draft:
            draft.write_text(json.dumps(entries, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
