"""The folder that a conversion writes."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ai_os_diffusion.models.contents import CARD_FILE, MAX_DESCRIPTION_BYTES, MODEL_FILES, sha256_of
from ai_os_diffusion.utils.errors import ModelDamagedError, ModelLoadError
from ai_os_diffusion.utils.files.atomic_folder import make_folders, read_consistently, replacing_folder
from ai_os_diffusion.utils.files.clean_name import is_clean_name
from ai_os_diffusion.utils.files.regular_file import open_regular, read_json

__all__ = ["copy_model", "new_folder"]

_PIECE = 1 << 20


@contextlib.contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give an empty folder that takes the place of `target` when the block ends well, see `replacing_folder`.

    Raises:
        ModelLoadError: `target` exists and is not to be replaced, or is no folder of a model.
    """
    _check_free(target, overwrite=overwrite)
    make_folders(target.parent)
    with replacing_folder(target, replace=overwrite) as folder:
        yield folder
        _check_free(target, overwrite=overwrite)


def copy_model(source: Path, target: Path, *, origin: Mapping[str, Any], card: Path | None = None) -> None:
    """Copy the files of a model folder; `target` is replaced if it is one too.

    Args:
        source: a folder that `convert_model` wrote.
        target: the folder to write.
        origin: further entries of the record of the source, in place of those that `source` has.
        card: becomes the model's own. Its files are then links to those of `source` where the file system
            has links: one backbone on the disk and in memory, under two names.

    Raises:
        ModelLoadError: `target` cannot be replaced, or metadata.json cannot be read.
    """
    read_consistently(source, lambda: _copy(source, target, origin, card))


def _copy(source: Path, target: Path, origin: Mapping[str, Any], card: Path | None) -> None:
    metadata = read_json(source / "metadata.json", MAX_DESCRIPTION_BYTES, ModelDamagedError)
    metadata["source"] = {**(metadata.get("source") or {}), **origin}
    with new_folder(target, overwrite=True) as folder:
        for file in source.iterdir():
            copy = folder / file.name
            is_kept = file.is_file() and is_clean_name(file.name) and file.name != "metadata.json"
            if is_kept and (card is None or not _linked(file, copy)):
                _copy_file(file, copy)
        if card is not None:
            _copy_file(card, folder / CARD_FILE)
            contents = metadata.get("contents") or {}
            metadata["contents"] = {**contents, CARD_FILE: sha256_of(folder / CARD_FILE)}
        document = json.dumps(metadata, ensure_ascii=False, indent=2)
        (folder / "metadata.json").write_text(document + "\n", encoding="utf-8")


def _linked(file: Path, name: Path) -> bool:
    """Give a file another name, where the file system can."""
    try:
        name.hardlink_to(file)
    except OSError:
        return False
    return True


def _copy_file(file: Path, copy: Path) -> None:
    with open_regular(file, None, ModelDamagedError) as content, copy.open("wb") as out:
        shutil.copyfileobj(content, out, _PIECE)


def _check_free(target: Path, *, overwrite: bool) -> None:
    """A replacement would take anything: only a folder with a model in it, or an empty one, goes."""
    if not target.exists() and not target.is_symlink():
        return
    if not overwrite:
        raise ModelLoadError(f"{target}: exists already; pass overwrite=True (--force) to replace it")
    if target.is_symlink() or not target.is_dir():
        raise ModelLoadError(f"{target}: expected a folder or a free name, got something else; give another")
    if any(target.iterdir()) and not any((target / name).is_file() for name in MODEL_FILES):
        raise ModelLoadError(
            f"{target}: expected the folder of a model, with {' or '.join(MODEL_FILES)}; it is not replaced"
        )
