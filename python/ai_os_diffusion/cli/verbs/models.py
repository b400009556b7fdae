"""`aios pull`, `aios models`, `aios rm`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.completion import known_names, model_names
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import DryRun, Json, Quiet, Settings, Yes
from ai_os_diffusion.cli.terminal.output import (
    confirm,
    note,
    show_json,
    show_line,
    show_row,
    show_table,
    size_text,
)
from ai_os_diffusion.cli.terminal.progress import ProgressBar

if TYPE_CHECKING:
    from ai_os_diffusion.models.local_models import PulledModel

__all__ = ["app"]

app = new_app()


@app.command()
def pull(
    ctx: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            parser=values.name,
            help="minilm, smollm2, hf:ORG/NAME[@REVISION], a folder or a .gguf file.",
            autocompletion=known_names,
        ),
    ],
    quantize: Annotated[
        str | None,
        typer.Option("--quantize", help="int8, int4, int2 or none; by default what suits the model."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Open no connection.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Get a model: a known name, hf:ORG/NAME, a folder or a file.

    Files are checked by their hashes, converted, and there when whole; a model that is there is not
    fetched again.
    """
    from ai_os_diffusion.models.local_models import list_models
    from ai_os_diffusion.models.local_models import pull as pull_model

    settings: Settings = ctx.obj
    models_dir = settings.config().models_dir
    pulled = []
    for name in names:
        with ProgressBar(unit="bytes", quiet=quiet) as bar:
            folder = pull_model(
                name, quantize=quantize, models_dir=models_dir, progress=bar, offline=offline or None
            )
        pulled += [model for model in list_models(models_dir=models_dir) if model.path == folder]
    if as_json:
        show_json([_model_dict(model) for model in pulled])
        return
    for model in pulled:
        show_row((model.name, size_text(model.size_bytes), model.path))


@app.command()
def models(ctx: typer.Context, as_json: Json = False) -> None:
    """List the models that are here, and those known by name."""
    from ai_os_diffusion.models.local_models import list_models
    from ai_os_diffusion.models.registry import known_models

    settings: Settings = ctx.obj
    here = list_models(models_dir=settings.config().models_dir)
    names = {model.name for model in here}
    absent = [name for name in sorted(known_models()) if name not in names]
    if as_json:
        show_json({"models": [_model_dict(model) for model in here], "can_be_pulled": absent})
        return
    rows = [
        (model.name, model.model_type, model.architecture, _bits(model), size_text(model.size_bytes))
        for model in here
    ]
    if rows:
        show_table(["name", "type", "architecture", "weights", "size"], rows, right=["size"])
    for model in here:
        if model.outdated:
            note(f"{model.name}: written by an earlier release's converter; run: {_pull_again(model)}")
    for name in absent:
        note(f"not pulled: {name} (aios pull {name})")


@app.command()
def rm(
    ctx: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            parser=values.name,
            help="Names, as `aios models` shows them, or hf:ORG/NAME.",
            autocompletion=model_names,
        ),
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove models."""
    from ai_os_diffusion.models.local_models import list_models, remove_model
    from ai_os_diffusion.models.references import hub_folder
    from ai_os_diffusion.utils.errors import ModelNotFoundError

    settings: Settings = ctx.obj
    models_dir = settings.config().models_dir
    sizes = {model.name: model.size_bytes for model in list_models(models_dir=models_dir)}
    names = [hub_folder(name) if name.startswith("hf:") else name for name in names]
    for name in names:
        if name not in sizes:
            raise ModelNotFoundError(
                f"model {name!r} is not pulled; pulled are: {', '.join(sizes) or 'none'}"
            )
    if not dry_run:
        if not yes:
            confirm(f"Remove {', '.join(names)}?", as_json=as_json)
        for name in names:
            remove_model(name, models_dir=models_dir)
    freed = sum(sizes[name] for name in names)
    if as_json:
        show_json({"removed": names, "size_bytes": freed, "dry_run": dry_run})
    else:
        show_line(f"{'would free' if dry_run else 'freed'} {size_text(freed)}")


def _pull_again(model: PulledModel) -> str:
    """The command that makes a model anew."""
    from ai_os_diffusion.models.local_models import QUANTIZATIONS

    storage = model.name.rpartition("-")[2]
    option = f" --quantize {storage}" if storage in QUANTIZATIONS else ""
    return f"aios pull {model.source.get('name') or model.name}{option}"


def _bits(model: PulledModel) -> str:
    bits = model.quantization.get("bits_per_weight")
    return f"{bits:.2f} bits" if isinstance(bits, (int, float)) else "-"


def _model_dict(model: PulledModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": str(model.path),
        "model_type": model.model_type,
        "architecture": model.architecture,
        "size_bytes": model.size_bytes,
        "quantization": model.quantization,
        "source": model.source,
        "outdated": model.outdated,
    }
