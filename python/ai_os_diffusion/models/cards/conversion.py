"""Cards from what others wrote: a safetensors file of factors, or an adapter of `peft`."""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion._native import WeightFile
from ai_os_diffusion.models.cards.card import EMBEDDING, HEAD, Card, Tensor, check_against, check_shapes
from ai_os_diffusion.models.cards.description import Base, CardDescription, description_json
from ai_os_diffusion.models.cards.names import (
    MAGNITUDE,
    ROW_SCALE,
    SIDE_DOWN,
    A,
    B,
    layer_of,
    scaled_layer_of,
    side_of,
)
from ai_os_diffusion.models.cards.peft import (
    PREFIX,
    WEIGHTS_FILE,
    AdapterSettings,
    read_adapter_settings,
)
from ai_os_diffusion.models.cards.rounding import values_of
from ai_os_diffusion.models.convert.safetensors import read_metadata, read_safetensors
from ai_os_diffusion.models.convert.source import Codes, SourceTensor
from ai_os_diffusion.models.family import family_of
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.models.untrusted_values import UntrustedValues
from ai_os_diffusion.utils.errors import CardError, ModelLoadError
from ai_os_diffusion.utils.logger import get_logger

__all__ = ["convert_card"]

_log = get_logger(__name__)

_SCALE = ".scale"

_COPY = ".base_layer."
"""In the names of the base's own weights that an adapter holds."""


def convert_card(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str],
    name: str | None = None,
    about: Mapping[str, Any] | None = None,
    bits: int | None = None,
    group_size: int = 32,
    overwrite: bool = False,
) -> Card:
    """Write the file of a card.

    Args:
        source: a folder with adapter_config.json and adapter_model.safetensors, or a safetensors file with
            `{layer}.lora_A.weight` and `{layer}.lora_B.weight`, as float32, float16, bfloat16, or int8 beside
            `{layer}.lora_A.scale`, a scale a row; `{layer}.lora_magnitude_vector` where rows have lengths of
            their own; side blocks as `{block}.side_down.weight` and `{block}.side_up.weight`; tensors of the
            base under their names, rows of its embedding under `{embedding}.rows`, heads under names of
            their own.
        out: the file to write.
        base: the folder of the model that it belongs to.
        name: by default that of `out`.
        about: what it says of itself, by the names of `CardDescription`; by default what the source says.
        bits: store the factors in 8 or 4 bits; None keeps what the source has.
        group_size: columns that share a scale then.
        overwrite: replace an existing file.

    Raises:
        ModelNotFoundError: there is no such source or base.
        ModelLoadError: a setting of the adapter changes results and is not applied, or `out` exists.
        WeightError: the file is damaged.
        CardError: it is none of this base: a layer or tensor is unknown or of another shape, a factor is
            missing, or holds NaN or infinities.
    """
    path, target, base_folder = Path(source), Path(out), Path(base)
    if target.exists() and not overwrite:
        raise ModelLoadError(f"{target}: exists already; pass overwrite=True (--force) to replace it")
    weights = WeightFile(base_folder / "weights.parquet")
    shapes = weights.shapes
    settings = read_adapter_settings(path) if path.is_dir() else None
    file = path / WEIGHTS_FILE if path.is_dir() else path
    there: Iterable[SourceTensor] = read_safetensors(file, integers=True)
    if settings is not None:
        there = _of_adapter(file, _without_unused(file, there, base_folder, shapes), settings)
    tensors = _named(file, there, shapes)
    if settings is not None and settings.is_scaled:
        for layer in (name.removesuffix(A) for name in tensors if name.endswith(A)):
            if layer + MAGNITUDE not in tensors:
                raise CardError(f"{file}: use_dora is set, and layer {layer!r} has no magnitude")
    found = {
        "name": target.stem,
        "kind": "skill",
        "rank": _rows(tensors, A),
        "side_width": _rows(tensors, SIDE_DOWN),
        "heads": _heads(tensors, shapes),
        "created_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        **(_said(file) if settings is None else {"scaling": settings.scaling}),
        **(about or {}),
        **({"name": name} if name else {}),
    }
    description = _description(found, Base.of_folder(base_folder), file)
    card_shapes = {name: tensor.shape for name, tensor in tensors.items() if not name.endswith(_SCALE)}
    scaled = {name: shape for name, shape in card_shapes.items() if name.endswith(MAGNITUDE)}
    card_shapes |= {name.removesuffix(MAGNITUDE) + ROW_SCALE: shape for name, shape in scaled.items()}
    check_shapes(description, card_shapes, str(file))
    check_against(description, card_shapes, shapes, str(file))
    if settings is not None and description.heads and settings.task == "SEQ_CLS":
        _check_pooler(file, base_folder, description.heads[0])
    values = _values(file, tensors, settings)

    def weight_of(layer: str) -> NDArray[np.float32]:
        own = f"{layer}.weight"
        return weights.dequantize(EMBEDDING if layer == HEAD and own not in shapes else own)

    return Card.write(
        target, description, values, bits=bits, group_size=group_size, weight_of=weight_of if scaled else None
    )


def _description(found: Mapping[str, Any], base: Base, file: Path) -> CardDescription:
    if "scaling" not in found:
        raise CardError(f"{file}: does not say what its factors are scaled by; give `scaling`")
    # Through JSON, so that what is given is checked as what is read.
    text = description_json({**found, "base": asdict(base)}, str(file))
    return CardDescription.from_json(text, str(file))


def _rows(tensors: Mapping[str, SourceTensor], part: str) -> int:
    """Rows of the largest matrix whose name ends so; 0 without any."""
    found = (tensor.shape[:1] for name, tensor in tensors.items() if name.endswith(part))
    return max((sum(rows) for rows in found), default=0)


def _said(file: Path) -> dict[str, Any]:
    """What the metadata of a safetensors file says, all of it texts."""
    texts = read_metadata(file)
    values: dict[str, Any] = {}
    for key, text in texts.items():
        try:
            values[key] = json.loads(text)
        except (ValueError, RecursionError):
            values[key] = text
    said = UntrustedValues(f"{file}: metadata", values, CardError)
    found: dict[str, Any] = {}
    if "scaling" in said:
        found["scaling"] = said.number("scaling", low=-1e6)
    elif "alpha" in said and "rank" in said:
        rank = said.integer("rank")
        found["scaling"] = said.number("alpha") / (math.sqrt(rank) if said.get("use_rslora") else rank)
    if "row_ids" in said:
        found["row_ids"] = said.ids("row_ids")
    told = {"scaling", "alpha", "rank", "use_rslora", "row_ids"}
    found["config"] = {key: value for key, value in values.items() if key not in told}
    return found


def _without_unused(
    file: Path, tensors: Iterable[SourceTensor], base: Path, shapes: Mapping[str, Any]
) -> Iterator[SourceTensor]:
    """What an adapter brings but factors of layers that the base was converted without.

    `peft` gives some to the pooler of an encoder, which its states do not go through.
    """
    unused = tuple(family_of(ModelMetadata.from_folder(base).architecture).checkpoint["unused"])
    left_out = set()
    for tensor in tensors:
        layer = _layer_of(tensor.name.removeprefix(PREFIX)) or ""
        # Inside another network it has one name more in front.
        names = (layer, layer.partition(".")[2])
        if f"{layer}.weight" not in shapes and any(name.startswith(unused) for name in names):
            left_out.add(layer)
            continue
        yield tensor
    for layer in sorted(left_out):
        _log.warning("%s: its factors of %r are left out: no state of the base goes through it", file, layer)


def _of_adapter(
    file: Path, tensors: Iterable[SourceTensor], settings: AdapterSettings
) -> Iterator[SourceTensor]:
    """What an adapter brings, without the prefix of its names."""
    for tensor in tensors:
        name = tensor.name.removeprefix(PREFIX)
        if _COPY in name:
            # `peft` adds the weights of an embedding or head that it has factors for; they stay as they were.
            continue
        is_known = layer_of(name) or (settings.is_scaled and scaled_layer_of(name))
        if not is_known and not settings.brings(name.rpartition(".")[0]):
            raise CardError(
                f"{file}: tensor {tensor.name!r} is no low-rank factor of a linear layer, and of no module "
                "in modules_to_save"
            )
        yield replace(tensor, name=name)


def _named(file: Path, tensors: Iterable[SourceTensor], base: Mapping[str, Any]) -> dict[str, SourceTensor]:
    """The tensors by their names in the base."""
    named: dict[str, SourceTensor] = {}
    for tensor in tensors:
        owner, part = _split(tensor.name)
        # A network saved alone, or inside another, has one name less, or more, in front.
        others = (owner, f"model.{owner}", owner.partition(".")[2])
        known = [other for other in others if f"{other}.weight" in base]
        name = (known or [owner])[0] + part
        if name in named:
            raise CardError(f"{file}: two tensors for {name!r}")
        named[name] = tensor
    return named


def _layer_of(name: str) -> str | None:
    """The layer that a factor, or a magnitude, is of."""
    return layer_of(name) or scaled_layer_of(name)


def _split(name: str) -> tuple[str, str]:
    """What a tensor belongs to, and the rest of its name."""
    layer = _layer_of(name)
    owner = layer if layer is not None else name.rpartition(".")[0]
    return owner, name.removeprefix(owner)


def _check_pooler(file: Path, base: Path, head: str) -> None:
    if not ModelMetadata.from_folder(base).is_decoder:
        raise CardError(
            f"{file}: its head {head!r} classifies texts by what a pooler of the base makes of them, and "
            "that of a card takes the states as they are; expected one that labels tokens"
        )


def _heads(tensors: Iterable[str], base: Mapping[str, Any]) -> list[str]:
    """Owners of tensors that the base knows nothing of."""
    owners = {
        name.rpartition(".")[0]
        for name in tensors
        if name.endswith((".weight", ".bias")) and not (layer_of(name) or side_of(name)) and name not in base
    }
    known = {name.rpartition(".")[0] for name in base}
    return sorted(owners - known)


def _values(
    file: Path, tensors: Mapping[str, SourceTensor], settings: AdapterSettings | None
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if name.endswith(_SCALE):
            continue
        read = tensor.read()
        if tensor.dtype == "int8":
            scale = tensors.get(name.removesuffix(".weight") + _SCALE)
            if scale is None or scale.num_params != tensor.shape[0] or tensor.shape[1:] == ():
                raise CardError(f"{file}: {name!r} is int8 and has no scale for each of its rows")
            codes = (read.astype(np.int16) + 128).astype(np.uint8)
            values: Tensor = Codes(codes, scale.read().reshape(-1, 1), None, 8, 0)
        else:
            values = values_of(read)
        layer = layer_of(name)
        if settings is not None and layer is not None and name.endswith(B):
            own = settings.of(layer, tensor.shape[1])
            if own != settings.scaling:
                values = values_of(values) * np.float32(own / settings.scaling)
        yield name, values
