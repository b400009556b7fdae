"""A folder that appears under its name whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ai_os_diffusion.utils.files.atomic_file import speaking_of, sync_path
from ai_os_diffusion.utils.files.drafts import (
    clear_draft,
    draft_folder,
    has_draft_folders,
    interrupted,
)

__all__ = [
    "make_folders",
    "read_consistently",
    "remove_folder",
    "replacing_folder",
    "restore_folder",
]

RESTORE_WAIT_S = 5.0
"""Longest wait for a process that is between the two renames of a replacement."""

_TRIES = 20

# What a system or a file system answers that cannot exchange names.
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}

# What it answers when the name has come or gone since it was looked at.
_OVERTAKEN = {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}

Result = TypeVar("Result")


def make_folders(path: Path) -> None:
    """Make a folder and those above it that are missing, so that a power loss does not take them again."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        sync_path(folder.parent)


@contextmanager
def replacing_folder(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Give an empty folder that takes the place of `target`, a folder or nothing, when the block ends well.

    All of it is synced, then the names are exchanged in one step, then the folder above is synced, and only
    then is the old content removed. So `target` is the old folder or the new one, whole, whenever the process
    or the machine stops. Where the file system cannot exchange names the old folder steps aside for the
    moment between two renames; `restore_folder` brings it back.

    Args:
        target: where the folder will be.
        replace: whether a folder that is there, or comes there meanwhile, may be replaced.

    Raises:
        OSError: the system refuses; it names `target`, never the draft.
    """
    with draft_folder(target.parent, target) as draft:
        new = draft / "new"
        with speaking_of(target, new):
            new.mkdir()
            yield new
            if replace:
                # Gone while another process is between its two renames: then it has the mode of a new one.
                with suppress(FileNotFoundError):
                    shutil.copymode(target, new)
            _sync_tree(new)
            _put(draft, target, replace=replace)
            sync_path(target.parent)
            sync_path(draft)
            if (draft / "old").exists():
                # Its name is taken again: from here on it is not to be brought back.
                (draft / "old").rename(draft / "gone")


def remove_folder(target: Path) -> None:
    """Remove a folder, its name first: half of it never bears the name."""
    with draft_folder(target.parent, target) as draft:
        target.rename(draft / "gone")
        sync_path(target.parent)


def restore_folder(target: Path) -> None:
    """Bring a folder back that is missing because its replacement was broken off.

    A process that is at it is waited for. Where nothing stepped aside this looks and does nothing.
    """
    deadline = time.monotonic() + RESTORE_WAIT_S
    while not os.path.lexists(target):
        drafts = interrupted(target.parent).get(target.name, [])
        for draft in drafts:
            clear_draft(draft)
        if not drafts or time.monotonic() > deadline:
            return
        time.sleep(0.01)


def read_consistently(folder: Path, read: Callable[[], Result]) -> Result:
    """Read several files of a folder that another process may replace meanwhile: all of them of one time."""
    for _ in range(_TRIES - 1):
        restore_folder(folder)
        before = _identity(folder)
        try:
            result = read()
        except Exception:
            if _is_unchanged(folder, before):
                raise
            continue
        if _is_unchanged(folder, before):
            return result
    return read()


def _is_unchanged(folder: Path, before: tuple[int, int, int] | None) -> bool:
    """Whether a folder is as before; one that is not there, only if nobody is about to put it there."""
    return _identity(folder) == before and (before is not None or not has_draft_folders(folder.parent))


def _identity(folder: Path) -> tuple[int, int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _put(draft: Path, target: Path, *, replace: bool) -> None:
    """Give what is new its name, whatever others do with that name meanwhile."""
    for turn in range(_TRIES):
        try:
            restore_folder(target)  # another process may be between its two renames
            if not (replace and target.is_dir()):
                (draft / "new").rename(target)
            elif not _exchange(draft / "new", target):
                _step_aside(draft, target)
            return
        except OSError as error:
            # Gone since it was looked at, or there again.
            if not replace or turn == _TRIES - 1 or error.errno not in _OVERTAKEN:
                raise
            if (draft / "old").exists() and target.exists():
                (draft / "old").rename(draft / f"gone-{turn}")


def _step_aside(draft: Path, target: Path) -> None:
    """Replace in two renames; the draft says, durably and beforehand, whose place `old` had."""
    (draft / "lock").write_bytes(os.fsencode(target.name))
    for path in (draft / "lock", draft, target.parent):
        sync_path(path)
    target.rename(draft / "old")
    (draft / "new").rename(target)


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            sync_path(Path(parent) / name)
        sync_path(Path(parent))


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where that is not known."""
    # Needed by what replaces a folder and by nothing else.
    import ctypes

    if sys.platform == "win32":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(library, "renameat2"):
        at_cwd, rename_exchange = -100, 2
        failed = library.renameat2(at_cwd, names[0], at_cwd, names[1], rename_exchange)
    elif hasattr(library, "renamex_np"):
        rename_swap = 2
        failed = library.renamex_np(*names, rename_swap)
    else:
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(other))
