"""`aios convert`, `aios quantize`, `aios inspect`."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.completion import model_names
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import Json, Quiet, Settings
from ai_os_diffusion.cli.terminal.output import note, show_json, show_row, show_table, size_text
from ai_os_diffusion.cli.terminal.progress import ProgressBar
from ai_os_diffusion.utils.wording import counted

if TYPE_CHECKING:
    from ai_os_diffusion.models.convert import ConvertReport

__all__ = ["app"]

app = new_app()

# What `inspect` tells of metadata.json.
_TOLD = (
    "model_type",
    "architecture",
    "hidden_size",
    "num_layers",
    "num_heads",
    "vocab_size",
    "max_seq_length",
)


class Storage(str, Enum):
    """Types that weights can be stored in."""

    INT8 = "int8"
    INT4 = "int4"
    INT2 = "int2"
    FP16 = "fp16"
    BF16 = "bf16"
    FP32 = "fp32"


GroupSize = Annotated[
    int | None,
    typer.Option("--group-size", help="Columns that share a scale: 32, 64, 128, or 0 for a whole row."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the folder if it exists.")]


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(parser=values.path, help="A Hugging Face folder, a .gguf file, or a model folder."),
    ],
    out: Annotated[Path, typer.Argument(parser=values.path, help="Folder to write.")],
    quantize: Annotated[
        Storage | None,
        typer.Option(
            "--quantize",
            help="Store the weights so. By default as the source does; GGUF's Q5 and K types become int8, "
            "which is larger: name int4 to keep the size.",
        ),
    ] = None,
    group_size: GroupSize = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn a Hugging Face folder or a GGUF file into a model folder.

    The folder appears whole or not at all.
    """
    _convert(source, out, quantize, group_size, force=force, quiet=quiet, as_json=as_json)


@app.command()
def quantize(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            parser=values.name, help="A pulled name or a model folder.", autocompletion=model_names
        ),
    ],
    out: Annotated[Path, typer.Argument(parser=values.path, help="Folder to write.")],
    to: Annotated[Storage, typer.Option("--to", help="Store the weights so.")] = Storage.INT8,
    group_size: GroupSize = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Store a model's weights in fewer bits.

    Best from a model that holds its original numbers: quantising what is quantised already loses twice.
    """
    from ai_os_diffusion.models.local_models import resolve_model

    settings: Settings = ctx.obj
    source = resolve_model(model, models_dir=settings.config().models_dir)
    _convert(source, out, to, group_size, force=force, quiet=quiet, as_json=as_json)


@app.command()
def inspect(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            parser=values.name,
            help="A pulled name, a model folder or a weights.parquet.",
            autocompletion=model_names,
        ),
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything and compare it with its checksums and hashes.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what a model or a weight file holds: tensors, types, bits per weight."""
    from ai_os_diffusion.inference.weight_loader import inspect_model
    from ai_os_diffusion.utils.files.atomic_folder import read_consistently

    settings: Settings = ctx.obj
    path = Path(model)
    if not path.exists():
        from ai_os_diffusion.models.local_models import resolve_model

        path = resolve_model(model, models_dir=settings.config().models_dir)
    found = read_consistently(path if path.is_dir() else path.parent, lambda: inspect_model(path))
    if verify:
        from ai_os_diffusion.inference.weight_loader import WeightLoader
        from ai_os_diffusion.models.contents import verify_model

        with ProgressBar(unit="bytes", quiet=quiet) as bar:
            # By tensor first, for the name of a damaged one; then by file, which tells of an exchanged one.
            size = found["size_bytes"]
            WeightLoader(path).verify(lambda done: bar("weights", done, size))
            found["verified"] = verify_model(path, bar) if path.is_dir() else {path.name: None}
    if as_json:
        show_json(found)
        return
    metadata = found["metadata"]
    rows = [(name.replace("_", " "), metadata[name]) for name in _TOLD if metadata.get(name) is not None]
    rows += [(name.replace("_", " "), found[name]) for name in ("schema_version", "zero_copy", "num_params")]
    rows += [("size", size_text(found["size_bytes"])), ("bits per weight", found["bits_per_weight"])]
    show_table(["what", "value"], rows)
    show_table(
        ["tensor", "shape", "type", "bits per weight", "size"],
        [
            (
                tensor["name"],
                "x".join(map(str, tensor["shape"])),
                tensor["quant_type"] or tensor["dtype"],
                tensor["bits_per_weight"],
                size_text(tensor["size_bytes"]),
            )
            for tensor in found["tensors"]
        ],
        right=["shape", "bits per weight", "size"],
    )
    if verify:
        note(f"verified: {counted(len(found['verified']), 'file')} as written", quiet=quiet)


def _convert(
    source: Path,
    out: Path,
    storage: Storage | None,
    group_size: int | None,
    *,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    from ai_os_diffusion.models.convert import convert_model

    with ProgressBar(quiet=quiet) as bar:
        report = convert_model(
            source,
            out,
            quantize=storage.value if storage else None,
            group_size=group_size,
            overwrite=force,
            progress=lambda done, total: bar("converting", done, total),
        )
    if as_json:
        show_json(asdict(report))
    else:
        _tell(report, quiet=quiet)


def _tell(report: ConvertReport, *, quiet: bool) -> None:
    show_row(
        (
            report.path,
            size_text(report.size_bytes),
            f"{report.num_params / 1e6:.1f} M weights",
            f"{report.bits_per_weight:.2f} bits a weight",
        )
    )
    for remark in report.notes:
        note(remark, quiet=quiet)
