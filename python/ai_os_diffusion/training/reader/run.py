"""A run of a reader's training from beginning to end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ai_os_diffusion.models.local_models import resolve_model
from ai_os_diffusion.training.card_file import files_digest
from ai_os_diffusion.training.reader.batches import open_questions
from ai_os_diffusion.training.reader.recipe import ReaderRecipe
from ai_os_diffusion.training.run import TrainingResult, check_packages

__all__ = ["pack_reader", "train_reader"]


def train_reader(
    recipe: ReaderRecipe,
    out: Path,
    *,
    models_dir: Path | None = None,
    device: str = "auto",
    tell: Callable[[dict[str, Any]], object] = lambda _line: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Train a reader card, or go on with a run.

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
        ModelNotFoundError: there is no such base.
        ModelLoadError: it cannot be trained.
    """
    check_packages()
    base = resolve_model(recipe.base, models_dir=models_dir)
    packed = open_questions(recipe, base)
    out.mkdir(parents=True, exist_ok=True)
    from ai_os_diffusion.training.reader.torch.trainer import ReaderTrainer

    trainer = ReaderTrainer(
        recipe,
        base,
        out,
        packed=packed,
        device=device,
        data_sha256=files_digest(recipe.data.files),
        tell=tell,
        is_stopped=is_stopped,
    )
    card, is_done = trainer.run()
    return TrainingResult(card.path, trainer.step, is_done, trainer.last, trainer.is_first)


def pack_reader(recipe: ReaderRecipe, path: Path, *, models_dir: Path | None = None) -> int:
    """Tokenise the questions of a recipe into one file, which `data.files` may name in place of the rows.

    Returns:
        How many questions there are.

    Raises:
        TrainingError: a file is not as it has to be.
        ModelNotFoundError: there is no such base.
    """
    packed = open_questions(recipe, resolve_model(recipe.base, models_dir=models_dir))
    packed.save(path)
    return len(packed)
