"""What the `.gitignore` files of a folder, and of those above it, say of the files within (gitignore(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ai_os_diffusion.ingestion.corpus.glob import Glob
from ai_os_diffusion.utils.errors import IngestError
from ai_os_diffusion.utils.files.regular_file import read_regular

__all__ = ["IgnoreRules"]

_FILE = ".gitignore"
_REPOSITORY = ".git"
# Of the clone alone, in place of the files that are shared.
_OWN_FILE = Path(_REPOSITORY, "info", "exclude")
_MAX_BYTES = 1_000_000
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class _Rule:
    """A line of a file.

    Attributes:
        where: the file, and the line in it.
        said: the line.
        glob: what it is of; a name, or the whole path below the folder of the file.
    """

    where: str
    said: str
    glob: Glob
    is_name: bool
    is_of_folders: bool
    takes: bool

    def is_of(self, names: tuple[bytes, ...], *, is_folder: bool) -> bool:
        """Whether it says something of a path below its folder."""
        if self.is_of_folders and not is_folder:
            return False
        return self.glob.matches_name(names[-1]) if self.is_name else self.glob.matches_path(names)


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules for what stands in one folder: the file nearest to it decides, and its last line that fits.

    Where git would not go, it has no rules: those of a repository end at its root.

    Attributes:
        folder: what they are for.
        problem: why those of the folder's own file are not among them; "" where they are.
    """

    folder: Path
    problem: str = ""
    # Rules of each file, nearest first and its last line first, and the names from its folder to this one.
    _files: tuple[tuple[tuple[_Rule, ...], tuple[bytes, ...]], ...] = ()

    @classmethod
    def of(cls, folder: Path) -> IgnoreRules:
        """The rules for a folder, those of its repository above it included.

        Args:
            folder: without links in its path.
        """
        above = [folder, *folder.parents]
        root = next((index for index, parent in enumerate(above) if _is_repository(parent)), 0)
        rules = cls(above[root]).within(above[root])
        for parent in reversed(above[:root]):
            rules = rules.within(parent)
        return rules

    def within(self, folder: Path) -> IgnoreRules:
        """The rules for a folder in this one, or, of the outermost, with its own file."""
        files = self._files
        if _is_repository(folder):
            files = ()
        elif folder != self.folder:
            name = os.fsencode(folder.name)
            files = tuple((rules, (*names, name)) for rules, names in files)
        problem = ""
        for file in (folder / _OWN_FILE, folder / _FILE):
            try:
                rules = tuple(_read(file))[::-1]
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, IngestError) as error:
                problem = str(getattr(error, "strerror", None) or error)
                continue
            files = ((rules, ()), *files) if rules else files
        return IgnoreRules(folder, problem, files)

    def why_not(self, name: str, *, is_folder: bool) -> str:
        """Why a file or folder in this folder is ignored; "" where it is not.

        Args:
            name: of the file or folder.
            is_folder: which of both.
        """
        own = os.fsencode(name)
        for rules, names in self._files:
            path = (*names, own)
            for rule in rules:
                if rule.is_of(path, is_folder=is_folder):
                    return "" if rule.takes else f"ignored by {rule.where}: {rule.said}"
        return ""


def _is_repository(folder: Path) -> bool:
    try:
        return (folder / _REPOSITORY).exists()
    except OSError:
        return False


def _read(file: Path) -> Iterator[_Rule]:
    """The rules of a file, in its order.

    Raises:
        OSError: it cannot be read.
        IngestError: it is no regular file, or far larger than they are.
    """
    content = read_regular(file, _MAX_BYTES, IngestError).removeprefix(_MARK)
    shown = os.fsencode(file).decode("utf-8", "backslashreplace")
    for number, line in enumerate(content.split(b"\n"), 1):
        said = line.removesuffix(b"\r")
        if said.startswith(b"#"):
            continue
        said = _without_spaces(said)
        takes = said.startswith(b"!")
        pattern = said[takes:]
        is_of_folders = pattern.endswith(b"/")
        pattern = pattern[: len(pattern) - is_of_folders]
        if pattern:
            told = said.decode("utf-8", "backslashreplace")
            is_name = b"/" not in pattern
            glob = Glob(pattern.removeprefix(b"/"))
            yield _Rule(f"{shown}:{number}", told, glob, is_name, is_of_folders, takes)


def _without_spaces(line: bytes) -> bytes:
    """A line without the spaces that end it; one behind a backslash stays."""
    kept = line.rstrip(b" ")
    is_escaped = (len(kept) - len(kept.rstrip(b"\\"))) % 2 == 1
    return line[: len(kept) + 1] if is_escaped and len(kept) < len(line) else kept
