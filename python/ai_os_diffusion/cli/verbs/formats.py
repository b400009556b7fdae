"""`aios convert`, `aios quantize`, `aios inspect`."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            parser=values.path,
            help="A Hugging Face folder, a .gguf file, or a model folder; with --base an adapter of PEFT, "
            "or a .safetensors file of low-rank factors.",
        ),
    ],
    out: Annotated[
        Path, typer.Argument(parser=values.path, help="Folder to write; with --base the file of a card.")
    ],
    quantize: Annotated[
        Storage | None,
        typer.Option(
            "--quantize",
            help="Store the weights so. By default as the source does; GGUF's Q5 and K types become int8, "
            "which is larger: name int4 to keep the size.",
        ),
    ] = None,
    group_size: GroupSize = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            parser=values.name,
            help="Write a card for this model: a pulled name or a model folder.",
            autocompletion=model_names,
        ),
    ] = None,
    about: Annotated[
        Path | None,
        typer.Option(
            "--about",
            parser=values.path,
            help="JSON of what the card says of itself: kind, row_ids, config, licence, metrics.",
        ),
    ] = None,
    fuse: Annotated[
        str | None,
        typer.Option(
            "--fuse",
            parser=values.name,
            help="Make a skill, by name or the file of its card, part of the weights of SOURCE, a pulled "
            "name or a model folder. What it changes is stored in float32, or as --quantize says.",
        ),
    ] = None,
    diffusion: Annotated[
        list[str] | None,
        typer.Option(
            "--diffusion",
            metavar="NAME=VALUE",
            help="How the model writes by diffusion, where its files do not say it: mask_id=5, "
            "attention=block, block_length=32, shift=true. May be given several times.",
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn a Hugging Face folder or a GGUF file into a model folder, or an adapter into a card.

    What is written appears whole or not at all.
    """
    if base is not None:
        if fuse is not None:
            raise typer.BadParameter("it makes a model, and --base a card; give one", param_hint="--fuse")
        if diffusion:
            raise typer.BadParameter("it is for models; a card says so in --about", param_hint="--diffusion")
        folder = resolved(ctx, base)
        _convert_card(
            source, out, folder, about, quantize, group_size, force=force, quiet=quiet, as_json=as_json
        )
        return
    if about is not None:
        raise typer.BadParameter("it describes a card; name its model with --base", param_hint="--about")
    settings = _settings(diffusion or [])
    card = None
    if fuse is not None:
        source, card = resolved(ctx, str(source)), _card_named(ctx, fuse)
    _convert(source, out, quantize, group_size, settings, card, force=force, quiet=quiet, as_json=as_json)


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
    _convert(resolved(ctx, model), out, to, group_size, {}, None, force=force, quiet=quiet, as_json=as_json)


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

    path = Path(model) if Path(model).exists() else resolved(ctx, model)
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
    if found["card"]:
        rows = [
            (name.replace("_", " "), _told(value)) for name, value in found["card"].items() if value
        ] + rows
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


def resolved(ctx: typer.Context, model: str) -> Path:
    """The folder of a pulled name, or a folder."""
    from ai_os_diffusion.models.local_models import resolve_model

    settings: Settings = ctx.obj
    return resolve_model(model, models_dir=settings.config().models_dir)


def _told(value: object) -> object:
    return value if isinstance(value, (str, int, float)) else json.dumps(value, ensure_ascii=False)


def _convert_card(
    source: Path,
    out: Path,
    base: Path,
    about: Path | None,
    storage: Storage | None,
    group_size: int | None,
    *,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    from ai_os_diffusion.models.cards import convert_card
    from ai_os_diffusion.models.untrusted_values import read_values
    from ai_os_diffusion.utils.errors import CardError

    bits = {None: None, Storage.INT8: 8, Storage.INT4: 4}
    if storage not in bits:
        raise typer.BadParameter("a card's factors are int8, int4, or as they are", param_hint="--quantize")
    card = convert_card(
        source,
        out,
        base=base,
        about=read_values(about, error=CardError).values if about else None,
        bits=bits[storage],
        group_size=32 if group_size is None else group_size,
        overwrite=force,
    )
    size = card.native.size_bytes
    if as_json:
        show_json({"path": card.path, "size_bytes": size, **asdict(card.description)})
        return
    about_it = card.description
    has_sides = about_it.side_width and not about_it.rank
    inner = f"side width {about_it.side_width}" if has_sides else f"rank {about_it.rank}"
    show_row((card.path, size_text(size), about_it.kind, inner))
    note(f"belongs to {about_it.base.name}", quiet=quiet)


def _card_named(ctx: typer.Context, given: str) -> Path:
    """The file of a card, by its path or as the name of a skill."""
    from ai_os_diffusion.evolution import find_skill

    if Path(given).is_file():
        return Path(given)
    settings: Settings = ctx.obj
    return find_skill(given, settings.config().skills_dir).path


def _settings(given: list[str]) -> dict[str, Any]:
    """Names and values of `name=value`; a value is JSON, or a text as it stands."""
    found: dict[str, Any] = {}
    for one in given:
        name, is_said, value = one.partition("=")
        if not name or not is_said:
            raise typer.BadParameter(f"expected NAME=VALUE, got {one!r}", param_hint="--diffusion")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _convert(
    source: Path,
    out: Path,
    storage: Storage | None,
    group_size: int | None,
    diffusion: dict[str, Any],
    fuse: Path | None,
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
            diffusion=diffusion,
            fuse=fuse,
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
