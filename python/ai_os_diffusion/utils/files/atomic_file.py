"""A file that appears under its name whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ai_os_diffusion.utils.files.drafts import draft_file

__all__ = ["replacing", "speaking_of", "sync_path"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the name of an empty file that takes the place of `path` when the block ends well.

    What the block wrote is synced, then renamed, then the folder is synced. A rename replaces devices and
    pipes too, so only a regular file, or nothing, is accepted at `path`. A link is followed: the file it
    leads to is replaced, not the link. An exception leaves `path` as it was, and nothing beside it; what a
    kill leaves is removed by the next replacement in the same folder.

    Raises:
        OSError: `path` is something else, or the system refuses; it names `path`, never the draft.
    """
    target = Path(path)
    place = _destination(target)
    with draft_file(place.parent, target) as draft, speaking_of(target, draft):
        if place.exists():
            draft.chmod(stat.S_IMODE(place.stat().st_mode))
        yield draft
        sync_path(draft)
        draft.replace(_destination(place))
        sync_path(place.parent)


@contextmanager
def speaking_of(target: Path, draft: Path) -> Iterator[None]:
    """Let an error name the file or folder that was asked for, and not the draft it is made in."""
    try:
        yield
    except OSError as error:
        named = Path(error.filename) if isinstance(error.filename, str) else None
        if named is not None and (named == draft or draft in named.parents):
            error.filename, error.filename2 = str(target / named.relative_to(draft)), None
        elif named is None and not draft.is_dir():
            # A write that failed names no file.
            error.filename = str(target)
        raise


def sync_path(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _destination(path: Path) -> Path:
    """Where a path leads, when a file may be put there."""
    try:
        place = path.resolve(strict=True) if path.is_symlink() else path
        mode = place.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise
        return path
    if not stat.S_ISREG(mode):
        reason = f"expected a regular file or a free name, got {_kind(mode)}; give another name"
        raise OSError(errno.EINVAL, reason, str(path))
    return place


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "something else"
