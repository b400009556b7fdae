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

from ai_os_diffusion.utils.atomic_file import speaking_of, sync_path
from ai_os_diffusion.utils.drafts import clear_draft, interrupted, new_draft_folder, remove_draft

__all__ = [
    "draft_folder",
    "make_folders",
    "read_steadily",
    "remove_folder",
    "replacing_folder",
    "restore_folder",
    "restore_folders",
]

RESTORE_WAIT_S = 5.0
"""Longest wait for a process that is between the two renames of a replacement."""

_TRIES = 10

# What a system or a file system answers that cannot exchange names.
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}

Result = TypeVar("Result")


def make_folders(path: Path) -> None:
    """Make a folder and those above it that are missing, so that a power loss does not take them again."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        sync_path(folder.parent)


@contextmanager
def draft_folder(parent: Path, asked: Path | None = None) -> Iterator[Path]:
    """Give a hidden folder in `parent` that belongs to this process and vanishes with the block.

    If the process is killed, the next draft made in `parent` removes it. An error in making it names `asked`,
    or `parent`.
    """
    try:
        draft, lock = new_draft_folder(parent)
    except OSError as error:
        error.filename = str(asked or parent)
        raise
    try:
        yield draft
    finally:
        # What cannot be removed (a network's file system keeps open files) is nobody's from here on.
        with suppress(OSError):
            remove_draft(draft)
        os.close(lock)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of `target`, a folder or nothing, when the block ends well.

    All of it is synced, then the names are exchanged in one step, then the folder above is synced, and only
    then is the old content removed. So `target` is the old folder or the new one, whole, whenever the process
    or the machine stops. Where the file system cannot exchange names the old folder steps aside for the
    moment between two renames; `restore_folder` brings it back.

    Raises:
        OSError: the system refuses; it names `target`, never the draft.
    """
    with draft_folder(target.parent, target) as draft:
        new = draft / "new"
        with speaking_of(target, new):
            new.mkdir()
            yield new
            replaces = target.is_dir()
            if replaces:
                shutil.copymode(target, new)
            _sync_tree(new)
            if not replaces:
                new.rename(target)
            elif not _exchange(new, target):
                _step_aside(draft, target)
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


def restore_folders(parent: Path) -> None:
    """`restore_folder` for every folder of one."""
    for name in interrupted(parent):
        restore_folder(parent / name)


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


def read_steadily(folder: Path, read: Callable[[], Result]) -> Result:
    """Read several files of a folder that another process may replace meanwhile: all of them of one time."""
    for _ in range(_TRIES - 1):
        before = _identity(folder)
        try:
            result = read()
        except Exception:
            if _identity(folder) == before:
                raise
            continue
        if _identity(folder) == before:
            return result
    return read()


def _identity(folder: Path) -> tuple[int, int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


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
