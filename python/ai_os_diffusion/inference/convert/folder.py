"""A folder that appears under its name whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ai_os_diffusion.utils.atomic_file import speaking_of, sync_path
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["new_folder"]


@contextlib.contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder beside `target` that takes its name when the block ends well.

    Everything is synced before the rename. An exception, Ctrl-C included, removes the temporary folder;
    what a killed process left is removed by the next call for the same target.

    Raises:
        ModelLoadError: `target` exists and is not to be replaced, or is no folder of a model.
    """
    _check_free(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with speaking_of(target, temporary):
            temporary.mkdir()
            yield temporary
            for path in temporary.iterdir():
                sync_path(path)
            sync_path(temporary)
            _check_free(target, overwrite=overwrite)
            _replace(temporary, target)
            sync_path(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _check_free(target: Path, *, overwrite: bool) -> None:
    """A rename and a removal would take anything: only a folder with a model in it, or an empty one, goes."""
    if not target.exists() and not target.is_symlink():
        return
    if not overwrite:
        raise ModelLoadError(f"{target}: exists already; pass overwrite=True (--force) to replace it")
    if target.is_symlink() or not target.is_dir():
        raise ModelLoadError(f"{target}: expected a folder or a free name, got something else; give another")
    if any(target.iterdir()) and not (target / "metadata.json").is_file():
        raise ModelLoadError(
            f"{target}: expected the folder of a model, with metadata.json; it is not replaced"
        )


def _replace(temporary: Path, target: Path) -> None:
    """Rename over `target`, whose old content steps aside for the moment between two renames."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    if old.exists():
        shutil.rmtree(old)


def _clear_leftovers(target: Path) -> None:
    """Remove what processes that are gone left; bring an old model back whose replacement never came."""
    for path in target.parent.glob(f".{target.name}.*"):
        pid, _, kind = path.name.removeprefix(f".{target.name}.").partition(".")
        if kind not in ("new", "old") or not pid.isdecimal() or _is_alive(int(pid)):
            continue
        if kind == "old" and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
