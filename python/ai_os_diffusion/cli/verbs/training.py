"""`aios train-diffusion` and `aios train-reader`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import Device, Json, Quiet, Settings
from ai_os_diffusion.cli.terminal.interruption import deferred
from ai_os_diffusion.cli.terminal.output import note, show_json_line, show_row, size_text
from ai_os_diffusion.cli.terminal.progress import ProgressBar

if TYPE_CHECKING:
    from ai_os_diffusion.training import TrainingResult
    from ai_os_diffusion.training.settings import OptimizerSettings

__all__ = ["app"]

app = new_app()

Config = Annotated[
    Path,
    typer.Option("--config", parser=values.path, help="The recipe, a TOML file (docs/guides/training.md)."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        parser=values.path,
        help="Folder of the run, by default named as the recipe; one that was begun goes on.",
    ),
]
ComputeOn = Annotated[
    Device, typer.Option("--device", help="Where to compute; auto takes a GPU if there is one.")
]
Changed = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A line of TOML that wins over the recipe; repeatable."),
]


@app.command("train-diffusion")
def train_diffusion(
    ctx: typer.Context,
    config: Config,
    out: Out = None,
    device: ComputeOn = Device.AUTO,
    changed: Changed = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a card with which a model writes by diffusion, on examples of your own.

    The run is saved as it goes, and on Ctrl-C; the same command goes on with it.
    """
    from ai_os_diffusion.training import Recipe
    from ai_os_diffusion.training import train_diffusion as train

    settings: Settings = ctx.obj
    recipe, folder = Recipe.read(config, changed or ()), (out or Path(config.stem)).absolute()

    def run(tell: Callable[[dict[str, Any]], object], is_stopped: Callable[[], bool]) -> TrainingResult:
        models = settings.config().models_dir
        return train(recipe, folder, models_dir=models, device=device.value, tell=tell, is_stopped=is_stopped)

    _follow(run, folder, recipe.optimizer, quiet=quiet, as_json=as_json)


@app.command("train-reader")
def train_reader(
    ctx: typer.Context,
    config: Config,
    out: Out = None,
    device: ComputeOn = Device.AUTO,
    changed: Changed = None,
    pack: Annotated[
        Path | None,
        typer.Option(
            "--pack",
            parser=values.path,
            help="Tokenise the questions into this .npz, for data.files on a machine that trains, and end.",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a card with which an encoder finds answers in passages, on questions of your own.

    The run is saved as it goes, and on Ctrl-C; the same command goes on with it.
    """
    from ai_os_diffusion.training.reader import ReaderRecipe, pack_reader
    from ai_os_diffusion.training.reader import train_reader as train

    settings: Settings = ctx.obj
    models, recipe = settings.config().models_dir, ReaderRecipe.read(config, changed or ())
    if pack is not None:
        count = pack_reader(recipe, pack, models_dir=models)
        size = pack.stat().st_size
        if as_json:
            show_json_line({"packed": pack, "questions": count, "size_bytes": size})
        else:
            show_row((pack, size_text(size), f"{count} questions"))
        return
    folder = (out or Path(config.stem)).absolute()

    def run(tell: Callable[[dict[str, Any]], object], is_stopped: Callable[[], bool]) -> TrainingResult:
        return train(recipe, folder, models_dir=models, device=device.value, tell=tell, is_stopped=is_stopped)

    _follow(run, folder, recipe.optimizer, quiet=quiet, as_json=as_json)


def _follow(
    run: Callable[[Callable[[dict[str, Any]], object], Callable[[], bool]], TrainingResult],
    folder: Path,
    optimizer: OptimizerSettings,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Show how a run goes on, and what it came to."""
    length = optimizer.steps or optimizer.seconds
    with deferred() as stop, ProgressBar(unit="steps", quiet=quiet) as bar:

        def tell(line: dict[str, Any]) -> None:
            if as_json:
                show_json_line(line)
            told = [
                f"{key.replace('_', ' ')} {line[key]:.4g}"
                for key in ("loss", "validation_loss")
                if key in line
            ]
            bar("training", round(line["progress"] * length), length, ", ".join(told))

        result = run(tell, lambda: stop.asked)
    if not result.is_first:
        return
    if not result.is_done:
        note(f"saved at step {result.step} in {folder}; the same command goes on from there", quiet=quiet)
        raise KeyboardInterrupt
    size = result.card.stat().st_size
    loss = result.last.get("loss")
    if as_json:
        show_json_line({"card": result.card, "step": result.step, "size_bytes": size, "loss": loss})
    else:
        show_row((result.card, size_text(size), f"{result.step} steps", f"loss {loss:.4g}"))
