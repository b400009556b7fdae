"""Getting models: pull, find, list and remove.

A pull fetches the source's files, checks their hashes and converts them in a hidden folder that takes the
model's name when it is whole. A model that is there is never fetched again, and nothing else opens a
connection.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ai_os_diffusion.models.folder import (
    ModelsFolder,
    PulledModel,
    is_model_folder,
    out_of_space,
)
from ai_os_diffusion.models.metadata import ModelMetadata
from ai_os_diffusion.models.references import hub_folder, is_name, looks_like_path
from ai_os_diffusion.utils.errors import ConfigurationError, ModelLoadError, ModelNotFoundError
from ai_os_diffusion.utils.files.atomic_folder import restore_folder

if TYPE_CHECKING:
    from ai_os_diffusion.models.pull_request import PullRequest
    from ai_os_diffusion.models.registry import Progress

__all__ = ["PulledModel", "list_models", "pull", "remove_model", "resolve_model"]

QUANTIZATIONS = ("int8", "int4", "int2", "fp32", "fp16", "bf16", "none")


def pull(
    name_or_ref: str | os.PathLike[str],
    *,
    quantize: str | None = None,
    models_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    offline: bool | None = None,
) -> Path:
    """Make a model ready to use and return its folder.

    Args:
        name_or_ref: a known name ("minilm", "smollm2", "smollm2-diffusion"),
            `hf:org/name[/file.gguf][@revision]`, a folder of safetensors, a .gguf file, or a folder this
            package converted.
        quantize: "int8", "int4", "int2", "fp32", "fp16", "bf16", or "none" to keep the source's numbers; by
            default what suits the model. Another than the default goes into a folder of its own,
            `<name>-<quantize>`.
        models_dir: where models are kept; by default the setting `models_dir`.
        progress: called as (stage, done, total).
        offline: open no connection; by default False, and HF_HUB_OFFLINE holds for the hub.

    Raises:
        ConfigurationError: `quantize` is none of these.
        ModelLoadError: the name is unknown, no source can be reached, a file's hash is wrong, the disk is
            full, or the source cannot be converted.
    """
    if quantize is not None and quantize not in QUANTIZATIONS:
        raise ConfigurationError(f"quantize is {quantize!r}, expected one of {', '.join(QUANTIZATIONS)}")
    from ai_os_diffusion.models.pull_request import Fetched, read_request

    report = progress or (lambda _stage, _done, _total: None)
    models = _models_folder(models_dir)
    request = read_request(name_or_ref, quantize, models, offline=bool(offline))
    models.clear()
    target = models.find(request.folder)
    if request.is_met_by(target):
        return target
    if request.base is not None:
        base = pull(request.base, quantize=quantize, models_dir=models.root, progress=report, offline=offline)
        request = replace(request, quantize=None, fetch=lambda _folder, _progress: Fetched(base))
    with models.locked(request.folder, report), _clear_os_errors(request.folder):
        if request.is_met_by(target):
            return target  # another process built it while this one waited
        # The source, its conversion, and what the installer needs to unpack.
        models.need(3 * request.size_bytes, f"pulling {request.folder}")
        _build(models, request, report)
    return target


def resolve_model(
    name_or_path: str | os.PathLike[str], *, models_dir: str | os.PathLike[str] | None = None
) -> Path:
    """Find the folder of a model on this machine; opens no connection.

    Args:
        name_or_path: a pulled name, `hf:org/name`, or a converted folder.
        models_dir: where models are kept; by default the setting `models_dir`.

    Raises:
        ModelNotFoundError: it is not here; the message says how to get it.
    """
    given = os.fspath(name_or_path)
    path = Path(given).expanduser()
    restore_folder(path)
    if is_model_folder(path):
        return path
    if path.exists() and (looks_like_path(given) or not is_name(given)):
        raise ModelNotFoundError(
            f"{path}: not a converted model: expected a folder with metadata.json, weights.parquet and "
            f"tokenizer.json; convert it first: aios convert {path} OUT"
        )
    if looks_like_path(given):
        raise ModelNotFoundError(f"{path}: not found; expected a model folder or the name of a pulled model")
    models = _models_folder(models_dir)
    folder = models.find(hub_folder(given) if given.startswith("hf:") else given)
    if is_model_folder(folder):
        return folder
    from ai_os_diffusion.models.registry import known_models, unknown_model

    if given in known_models() or given.startswith("hf:"):
        raise ModelNotFoundError(f"model {given!r} is not pulled; run: aios pull {given}")
    raise unknown_model(given, models.names())


def list_models(*, models_dir: str | os.PathLike[str] | None = None) -> list[PulledModel]:
    """The models on this machine, by name."""
    return _models_folder(models_dir).models()


def remove_model(name: str, *, models_dir: str | os.PathLike[str] | None = None) -> int:
    """Delete a pulled model and return the bytes it held.

    Raises:
        ModelNotFoundError: there is no such model.
    """
    return _models_folder(models_dir).remove(hub_folder(name) if name.startswith("hf:") else name)


def _models_folder(models_dir: str | os.PathLike[str] | None) -> ModelsFolder:
    if models_dir is None:
        from ai_os_diffusion.config import load_config

        return ModelsFolder(load_config().models_dir)
    return ModelsFolder(Path(models_dir).expanduser())


def _build(models: ModelsFolder, request: PullRequest, progress: Progress) -> None:
    target = models.path(request.folder)
    with models.scratch() as scratch:
        source, commit = request.fetch(scratch, progress)
        origin = {**request.origin, **({"commit": commit} if commit else {})}
        from ai_os_diffusion.models.convert import convert_model
        from ai_os_diffusion.models.convert.folder import copy_model

        if is_model_folder(source) and request.quantize is None:
            ModelMetadata.from_folder(source)  # refuses what could not be opened
            copy_model(source, target, origin=origin, card=request.card)
        else:
            convert_model(
                source,
                target,
                quantize=request.quantize,
                overwrite=True,
                origin=origin,
                progress=lambda done, total: progress("convert", done, total),
            )


@contextmanager
def _clear_os_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = (
            "make room and pull again" if out_of_space(error) else "check the folder's permissions and disk"
        )
        raise ModelLoadError(f"pulling {name}: {error}; {remedy}") from error
