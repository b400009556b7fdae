"""Which files a list of paths means, and which of them are left out."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ai_os_diffusion.ingestion.corpus.ignore_rules import IgnoreRules

__all__ = ["Found", "Skipped", "walk"]

IGNORED_FOLDERS = frozenset(("node_modules", "__pycache__", "site-packages"))
IGNORED_FILES = frozenset(
    "cargo.lock composer.lock gemfile.lock go.sum package-lock.json pdm.lock pipfile.lock "
    "pnpm-lock.yaml poetry.lock uv.lock yarn.lock npm-shrinkwrap.json bun.lockb".split()
)
IGNORED_ENDINGS = (".min.js", ".min.css", ".js.map", ".css.map")
_REPOSITORY = ".git"
_NOT_DOCUMENTS = "what git keeps of a repository, no documents"
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
        kind: `ignored`, by its name or a `.gitignore`, as nobody asked for it; `unreadable`, as it cannot be
            read now, though its name is one that could be; `other`.
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

    A path named directly is always taken. Below a folder, these are passed by unless `takes_all`: what
    `.gitignore` files say (those of the folder, of folders within, and of those above it up to the root of
    its repository), hidden files and folders, `node_modules`, `__pycache__`, `site-packages`, virtual
    environments, lock files and minified code. What git keeps of a repository (`.git`) is always passed by.
    Links to folders are not followed. A name that is not UTF-8 is always passed by:
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
        if root.is_dir():
            rules = None if takes_all else IgnoreRules.of(root.resolve())
            found = _below(root, rules, refusal)
        else:
            found = iter([_named(root)])
        for item in found:
            if isinstance(item, Skipped):
                yield item
            elif item.path not in seen:
                seen.add(item.path)
                yield item


def _below(
    root: Path, rules: IgnoreRules | None, refusal: Callable[[Path], str]
) -> Iterator[Found | Skipped]:
    """What is below a folder.

    Args:
        root: the folder.
        rules: what is passed by in it; None takes all.
        refusal: as for `walk`.
    """
    # A stack, for folders may be nested more deeply than calls.
    open_folders = [_in_folder(root, rules, refusal)]
    while open_folders:
        for item in open_folders[-1]:
            if isinstance(item, _Folder):
                open_folders.append(_in_folder(item.path, item.rules, refusal))
                break
            yield item
        else:
            open_folders.pop()


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to go into, and what is passed by in it."""

    path: Path
    rules: IgnoreRules | None


def _in_folder(
    folder: Path, rules: IgnoreRules | None, refusal: Callable[[Path], str]
) -> Iterator[Found | Skipped | _Folder]:
    """What stands in one folder."""
    if reason := _NOT_DOCUMENTS if folder.name == _REPOSITORY else refusal(folder):
        yield Skipped.of(folder, reason)
        return
    if rules is not None and rules.problem:
        yield Skipped.of(folder / ".gitignore", f"its rules are not followed: {rules.problem}")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Skipped.of(folder, f"unreadable: {error.strerror}", "unreadable")
        return
    for entry in entries:
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            ignored = _why_ignored(entry, rules, is_folder=is_folder)
        except OSError as error:
            yield Skipped.of(entry.path, f"unreadable: {error.strerror}", "unreadable")
            continue
        if ignored:
            yield Skipped.of(entry.path, ignored, "ignored")
        elif not _is_utf8(entry.name):
            yield Skipped.of(entry.path, _NOT_UTF8)
        elif is_folder:
            yield _Folder(Path(entry.path), rules and rules.within(rules.folder / entry.name))
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


def _why_ignored(entry: os.DirEntry[str], rules: IgnoreRules | None, *, is_folder: bool) -> str:
    """Why nobody asked for a file or folder; "" where somebody did."""
    name = entry.name.lower()
    if name == _REPOSITORY:
        return _NOT_DOCUMENTS
    if rules is None:
        return ""
    if name.startswith("."):
        return "hidden"
    if is_folder:
        if name in IGNORED_FOLDERS or Path(entry.path, "pyvenv.cfg").exists():
            return "generated or installed"
    elif name in IGNORED_FILES or name.endswith(IGNORED_ENDINGS):
        return "generated"
    return rules.why_not(entry.name, is_folder=is_folder)
