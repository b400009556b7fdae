"""Files and folders that are being made, each under a hidden name of its own.

A draft is locked by the process that makes it, and the lock ends with that process, however it ends. So a
draft that can be locked is nobody's, and whoever makes the next one in the same folder removes it. Neither
names nor times tell: a name may begin like another's, and a slow process is not a dead one.

A draft folder holds `lock`, what is being made, and, while a folder is being replaced on a file system that
cannot exchange two names at once, `old`: the folder that stepped aside, whose name `lock` then says.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = [
    "clear_draft",
    "clear_drafts",
    "draft_file",
    "draft_folder",
    "has_draft_folders",
    "interrupted",
]

_NAME = re.compile(r"\.aios-[0-9a-f]{16}\.draft")
_MAX_NAME_BYTES = 1024


@contextlib.contextmanager
def draft_file(parent: Path, asked: Path | None = None) -> Iterator[Path]:
    """Give an empty file in `parent` that belongs to this process and vanishes with the block.

    If the process is killed, whoever makes the next draft in `parent` removes it. An error in making it names
    `asked`, or `parent`.
    """
    with _held(_new_file, parent, asked) as draft:
        yield draft


@contextlib.contextmanager
def draft_folder(parent: Path, asked: Path | None = None) -> Iterator[Path]:
    """Give a hidden folder in `parent`, as `draft_file` gives a file."""
    with _held(_new_folder, parent, asked) as draft:
        yield draft


def clear_drafts(folder: Path) -> None:
    """Remove what processes that are gone left in a folder; what cannot be removed stays."""
    for draft in _drafts(folder):
        clear_draft(draft)


def interrupted(folder: Path) -> dict[str, list[Path]]:
    """The drafts that hold a folder which stepped aside, by the name that it had."""
    found: dict[str, list[Path]] = {}
    for draft in _drafts(folder):
        if (name := _stepped_aside(draft)) is not None:
            found.setdefault(name, []).append(draft)
    return found


def has_draft_folders(folder: Path) -> bool:
    """Whether anybody is making a folder in this one, or died at it."""
    return any(draft.is_dir() for draft in _drafts(folder))


def clear_draft(draft: Path) -> None:
    """Remove a draft, and bring back what had stepped aside, unless a process holds it or it cannot be."""
    is_folder = draft.is_dir()
    lock = draft / "lock" if is_folder else draft
    with contextlib.suppress(OSError):
        if is_folder and not lock.exists():
            draft.rmdir()  # Only when it is empty: its maker ended before it had locked it.
            return
        descriptor = os.open(lock, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            if _hold(descriptor, lock, unlockable=False):
                _remove(draft)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _held(make: Callable[[Path], tuple[Path, int]], parent: Path, asked: Path | None) -> Iterator[Path]:
    try:
        draft, lock = make(parent)
    except OSError as error:
        error.filename = str(asked or parent)
        raise
    try:
        yield draft
    finally:
        # What cannot be removed (a network's file system keeps open files) is nobody's from here on.
        with contextlib.suppress(OSError):
            _remove(draft)
        os.close(lock)


def _new_file(parent: Path) -> tuple[Path, int]:
    """Make an empty file and lock it: its path and the descriptor that holds the lock."""
    clear_drafts(parent)
    while True:
        draft = _new_name(parent)
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if _hold(descriptor, draft):
            return draft, descriptor
        os.close(descriptor)


def _new_folder(parent: Path) -> tuple[Path, int]:
    """Make a folder with a locked file in it: its path and the descriptor that holds the lock."""
    clear_drafts(parent)
    while True:
        draft = _new_name(parent)
        draft.mkdir()
        # Another process may find it before it is locked, and think it nobody's.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(draft / "lock", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            if _hold(descriptor, draft / "lock"):
                return draft, descriptor
            os.close(descriptor)


def _remove(draft: Path) -> None:
    """Remove a draft whose lock the caller holds, after bringing back what had stepped aside.

    Raises:
        OSError: what had stepped aside cannot be brought back; the draft stays.
    """
    if not draft.is_dir():
        draft.unlink(missing_ok=True)
        return
    name = _stepped_aside(draft)
    if name is not None and not os.path.lexists(draft.parent / name):
        (draft / "old").rename(draft.parent / name)
    # The lock last: a draft without one would be nobody's and not empty.
    for entry in list(draft.iterdir()):
        if entry.name != "lock":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    (draft / "lock").unlink()
    draft.rmdir()


def _new_name(folder: Path) -> Path:
    return folder / f".aios-{os.urandom(8).hex()}.draft"


def _drafts(folder: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if _NAME.fullmatch(entry.name) and (
            entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
        ):
            yield Path(entry.path)


def _stepped_aside(draft: Path) -> str | None:
    """The name that the folder `old` of a draft had."""
    try:
        if not stat.S_ISDIR((draft / "old").lstat().st_mode):
            return None
        with (draft / "lock").open("rb") as file:
            name = os.fsdecode(file.read(_MAX_NAME_BYTES))
    except OSError:
        return None
    return name if name and Path(name).name == name else None


def _hold(descriptor: int, path: Path, *, unlockable: bool = True) -> bool:
    """Lock an open file, unless another process holds it or it has lost its name.

    Where a file system knows no locks the answer is `unlockable`: a draft is made all the same, and is never
    thought to be nobody's.
    """
    if sys.platform == "win32":
        return unlockable
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return unlockable and error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
