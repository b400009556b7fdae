"""`aios train-diffusion`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import Device, Json, Quiet, Settings
from ai_os_diffusion.cli.terminal.interruption import deferred
from ai_os_diffusion.cli.terminal.output import note, show_json_line, show_row, size_text
from ai_os_diffusion.cli.terminal.progress import ProgressBar

__all__ = ["app"]

app = new_app()


@app.command("train-diffusion")
def train_diffusion(
    ctx: typer.Context,
    config: Annotated[
        Path,
        typer.Option(
            "--config", parser=values.path, help="The recipe, a TOML file (docs/guides/training.md)."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=values.path,
            help="Folder of the run, by default named as the recipe; one that was begun goes on.",
        ),
    ] = None,
    device: Annotated[
        Device, typer.Option("--device", help="Where to compute; auto takes a GPU if there is one.")
    ] = Device.AUTO,
    changed: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A line of TOML that wins over the recipe; repeatable."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a card with which a model writes by diffusion, on examples of your own.

    The run is saved as it goes, and on Ctrl-C; the same command goes on with it.
    """
    from ai_os_diffusion.training import Recipe
    from ai_os_diffusion.training import train_diffusion as train

    settings: Settings = ctx.obj
    recipe = Recipe.read(config, changed or ())
    folder = (out or Path(config.stem)).absolute()
    length = recipe.optimizer.steps or recipe.optimizer.seconds
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

        result = train(
            recipe,
            folder,
            models_dir=settings.config().models_dir,
            device=device.value,
            tell=tell,
            is_stopped=lambda: stop.asked,
        )
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
