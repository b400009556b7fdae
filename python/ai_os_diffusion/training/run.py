"""A run of training from beginning to end."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_os_diffusion.models.local_models import resolve_model
from ai_os_diffusion.training.card_file import data_digest
from ai_os_diffusion.training.example_files import ExampleFiles
from ai_os_diffusion.training.recipe import Recipe
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["TrainingResult", "check_packages", "train_diffusion"]

_NEEDED = ("torch", "accelerate", "matplotlib")


@dataclass(frozen=True)
class TrainingResult:
    """What a run has come to.

    Attributes:
        card: the file.
        step: steps that were taken.
        is_done: whether it is at its end; if not, the same call goes on.
        last: the last line of the log with a loss.
        is_first: of several processes that train together, this is the one that tells.
    """

    card: Path
    step: int
    is_done: bool
    last: dict[str, Any]
    is_first: bool


def check_packages() -> None:
    """Refuse to begin without what training needs.

    Raises:
        TrainingError: a package is missing.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise TrainingError(f"training needs {', '.join(missing)}: pip install 'ai-os-diffusion[train]'")


def train_diffusion(
    recipe: Recipe,
    out: Path,
    *,
    models_dir: Path | None = None,
    device: str = "auto",
    tell: Callable[[dict[str, Any]], object] = lambda _line: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Train a card, or go on with a run.

    Args:
        recipe: what is trained on what.
        out: folder of the run; one that holds a state goes on from there.
        models_dir: where a base that is named is looked for.
        device: "auto", "cpu" or "cuda".
        tell: is told every line of the log, with the part of the run that is done as `progress`.
        is_stopped: is asked after every step whether to break off.

    Returns:
        Where the card is, and how far it is.

    Raises:
        TrainingError: packages are missing; data, or the state of a run, is not as it has to be.
        ConfigurationError: a token that the recipe needs is not named.
        ModelNotFoundError: there is no such base.
        ModelLoadError: it cannot be trained.
    """
    check_packages()
    base = resolve_model(recipe.base, models_dir=models_dir)
    if recipe.data.files:
        # Read for its errors, before anything takes long: workers read their own.
        ExampleFiles(recipe.data.files, recipe.data.kinds)
    out.mkdir(parents=True, exist_ok=True)
    from ai_os_diffusion.training.torch.trainer import Trainer

    trainer = Trainer(
        recipe,
        base,
        out,
        device=device,
        data_sha256=data_digest(recipe),
        tell=tell,
        is_stopped=is_stopped,
    )
    card, is_done = trainer.run()
    return TrainingResult(card.path, trainer.step, is_done, trainer.last, trainer.is_first)
