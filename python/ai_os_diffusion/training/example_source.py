"""Where examples are drawn from: files of rows, or what a recipe's own program draws."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ai_os_diffusion.training.example import Example
from ai_os_diffusion.utils.errors import TrainingError

if TYPE_CHECKING:
    from ai_os_diffusion.training.settings import DataSettings

__all__ = ["ExampleSource", "open_source"]


class ExampleSource(Protocol):
    """Draws examples without end.

    Attributes:
        kinds: the share of the positions of a batch that each kind of example takes.
    """

    @property
    def kinds(self) -> Mapping[str, float]:
        """As above."""
        ...

    def draw(self, kind: str, rng: random.Random) -> Example:
        """An example of a kind; the same for the same state of `rng`.

        Raises:
            TrainingError: there is no such kind.
        """
        ...


def open_source(settings: DataSettings) -> ExampleSource:
    """Open what a recipe draws from.

    Raises:
        TrainingError: a file is missing or damaged, or a program has no such source.
    """
    if settings.program is None:
        from ai_os_diffusion.training.example_files import ExampleFiles

        return ExampleFiles(settings.files, settings.kinds, text_chars=settings.text_chars)
    file, _, name = settings.program.rpartition(":")
    source = getattr(_module(Path(file)), name, None)
    if source is None:
        raise TrainingError(f"{file}: has no {name!r}, which data.program names")
    drawn: ExampleSource = source(**settings.arguments)
    return _Mixed(settings.kinds, drawn.draw) if settings.kinds else drawn


@dataclass(frozen=True)
class _Mixed:
    """A source whose kinds are drawn as often as a recipe says, also kinds that it leaves out by itself."""

    kinds: Mapping[str, float]
    draw: Callable[[str, random.Random], Example]


def _module(file: Path) -> object:
    """A program of the user's, which may import what lies beside it."""
    if not file.is_file():
        raise TrainingError(f"{file}: not found; data.program is FILE.py:NAME")
    name = f"aios_recipe_{file.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        if str(file.parent) not in sys.path:
            sys.path.insert(0, str(file.parent))
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
