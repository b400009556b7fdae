"""The skills that are here: files of cards in a folder."""

from __future__ import annotations

import re
from pathlib import Path

from ai_os_diffusion.models.cards import Card
from ai_os_diffusion.utils.errors import DiffusionError, ModelNotFoundError
from ai_os_diffusion.utils.files.atomic_file import sync_path
from ai_os_diffusion.utils.logger import get_logger

__all__ = ["find_skill", "list_skills", "remove_skill", "skill_files", "skill_path", "versions_folder"]

_log = get_logger(__name__)
_ENDING = ".parquet"
_NAME = re.compile(r"\w[\w.-]{0,99}")


def skill_path(name: str, folder: Path) -> Path | None:
    """The file of a skill of that name; None where no skill can be called so."""
    return folder / f"{name}{_ENDING}" if _NAME.fullmatch(name) else None


def list_skills(folder: Path) -> list[Card]:
    """The skills of a folder by name; files that are none are told and left out."""
    found = []
    for path in sorted(folder.glob(f"*{_ENDING}")):
        try:
            found.append(Card(path))
        except DiffusionError as error:
            _log.warning("%s", error)
    return found


def find_skill(name: str, folder: Path) -> Card:
    """A skill by its name.

    Raises:
        ModelNotFoundError: there is none.
        WeightError: its file is damaged.
    """
    path = skill_path(name, folder)
    if path is None or not path.is_file():
        known = ", ".join(file.stem for file in sorted(folder.glob(f"*{_ENDING}"))) or "none"
        raise ModelNotFoundError(f"there is no skill {name!r}; learned are: {known}")
    return Card(path)


def versions_folder(name: str, folder: Path) -> Path:
    """Where versions of a skill lie that are in use no more, as `NUMBER.parquet`."""
    return folder / ".versions" / name


def skill_files(name: str, folder: Path) -> list[Path]:
    """The files of a skill: its card, and those of versions before.

    Raises:
        ModelNotFoundError: there is none.
    """
    path = skill_path(name, folder)
    earlier = [] if path is None else sorted(versions_folder(name, folder).glob(f"*{_ENDING}"))
    # What was retired has versions before alone.
    return (
        earlier
        if path is not None and earlier and not path.is_file()
        else [
            find_skill(name, folder).path,
            *earlier,
        ]
    )


def remove_skill(name: str, folder: Path) -> int:
    """Remove a skill with all its versions; the bytes that this frees.

    Raises:
        ModelNotFoundError: there is none.
    """
    size = 0
    # The card first: a version before never takes its place.
    for path in skill_files(name, folder):
        size += path.stat().st_size
        path.unlink()
        sync_path(path.parent)
    return size
