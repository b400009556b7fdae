"""Which files a list of paths means, and which of them are left out."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Found", "Skipped", "walk"]

IGNORED_FOLDERS = frozenset(("node_modules", "__pycache__", "site-packages"))
IGNORED_FILES = frozenset(
    "cargo.lock composer.lock gemfile.lock go.sum package-lock.json pdm.lock pipfile.lock "
    "pnpm-lock.yaml poetry.lock uv.lock yarn.lock npm-shrinkwrap.json bun.lockb".split()
)
IGNORED_ENDINGS = (".min.js", ".min.css", ".js.map", ".css.map")
_NOT_UTF8 = "its name is not UTF-8; rename it"


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read: its resolved path and its size when it was listed."""

    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that was passed by, and why.

    Attributes:
        path: as it can be shown: bytes of a name that are not UTF-8 stand as hexadecimal escapes.
        reason: in words.
        kind: `ignored`, by its name, as nobody asked for it; `unreadable`, as it cannot be read now, though
            its name is one that could be; `other`.
    """

    path: str
    reason: str
    kind: Literal["ignored", "unreadable", "other"] = "other"

    @classmethod
    def of(
        cls,
        path: str | os.PathLike[str],
        reason: str,
        kind: Literal["ignored", "unreadable", "other"] = "other",
    ) -> Skipped:
        """Pass by a file or folder of any name."""
        return cls(os.fsencode(path).decode("utf-8", "backslashreplace"), reason, kind)


def walk(
    paths: Iterable[str | os.PathLike[str]],
    *,
    takes_all: bool = False,
    refusal: Callable[[Path], str] = lambda _folder: "",
) -> Iterator[Found | Skipped]:
    """List the files below some paths, each once, in the order of the paths and then of their names.

    A path named directly is always taken. Below a folder, these are passed by unless `takes_all`:
    hidden files and folders, `node_modules`, `__pycache__`, `site-packages`, virtual environments, lock
    files and minified code. Links to folders are not followed. A name that is not UTF-8 is always passed by:
    a citation could not hold it.

    Args:
        paths: files and folders.
        takes_all: take what is passed by otherwise.
        refusal: says why nothing in a folder is a document, named directly or not; "" takes it.

    Raises:
        FileNotFoundError: a path does not exist.
    """
    seen: set[Path] = set()
    for given in paths:
        root = Path(given)
        if not root.exists():
            raise FileNotFoundError(errno.ENOENT, "no such file or folder", str(given))
        found = _below(root, takes_all, refusal) if root.is_dir() else iter([_named(root)])
        for item in found:
            if isinstance(item, Skipped):
                yield item
            elif item.path not in seen:
                seen.add(item.path)
                yield item


def _below(root: Path, takes_all: bool, refusal: Callable[[Path], str]) -> Iterator[Found | Skipped]:
    if reason := refusal(root):
        yield Skipped.of(root, reason)
        return
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        yield Skipped.of(root, f"unreadable: {error.strerror}", "unreadable")
        return
    for entry in entries:
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            is_ignored = not takes_all and _is_ignored(entry, is_folder)
        except OSError as error:
            yield Skipped.of(entry.path, f"unreadable: {error.strerror}", "unreadable")
            continue
        if is_ignored:
            yield Skipped.of(entry.path, "ignored by name", "ignored")
        elif not _is_utf8(entry.name):
            yield Skipped.of(entry.path, _NOT_UTF8)
        elif is_folder:
            yield from _below(Path(entry.path), takes_all, refusal)
        else:
            yield _named(Path(entry.path))


def _named(path: Path) -> Found | Skipped:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return Skipped.of(path, "a link to a folder")
        if not stat.S_ISREG(status.st_mode):
            return Skipped.of(path, "not a regular file", "unreadable")
        resolved = path.resolve()
        return Found(resolved, status.st_size) if _is_utf8(str(resolved)) else Skipped.of(path, _NOT_UTF8)
    except OSError as error:
        return Skipped.of(path, f"unreadable: {error.strerror}", "unreadable")


def _is_utf8(name: str) -> bool:
    """Whether a name came from UTF-8 bytes; Python keeps other bytes as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_ignored(entry: os.DirEntry[str], is_folder: bool) -> bool:
    name = entry.name.lower()
    if name.startswith("."):
        return True
    if is_folder:
        return name in IGNORED_FOLDERS or Path(entry.path, "pyvenv.cfg").exists()
    return name in IGNORED_FILES or name.endswith(IGNORED_ENDINGS)
