"""Whether a model folder still holds what was written into it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ai_os_diffusion.utils.errors import ModelDamagedError, ModelLoadError, ModelNotFoundError, WeightError
from ai_os_diffusion.utils.files.clean_name import is_clean_name
from ai_os_diffusion.utils.files.regular_file import open_regular, read_json

if TYPE_CHECKING:
    import hashlib

__all__ = [
    "CARD_FILE",
    "MAX_DESCRIPTION_BYTES",
    "MODEL_FILES",
    "contents_of",
    "hash_of",
    "sha256_of",
    "verify_model",
]

_DESCRIPTION = "metadata.json"

MODEL_FILES = (_DESCRIPTION, "weights.parquet", "tokenizer.json")
"""What the folder of a whole model holds."""

CARD_FILE = "card.parquet"
"""What the folder of a model with a card of its own holds beside them."""

MAX_DESCRIPTION_BYTES = 64 << 20
"""Of a metadata.json; those written here have some thousands."""

_CHUNK = 1 << 20


def contents_of(folder: Path) -> dict[str, str]:
    """The sha256 of every file of a model folder but metadata.json, which records them as `contents`."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != _DESCRIPTION)
    return {file.name: sha256_of(file) for file in files}


def verify_model(
    path: str | os.PathLike[str], progress: Callable[[str, int, int], object] | None = None
) -> dict[str, str]:
    """Read every file that a model folder's metadata.json records and compare its hash.

    Args:
        path: the model folder.
        progress: called as ("verify", bytes done, bytes of all).

    Returns:
        The files and their sha256.

    Raises:
        ModelLoadError: there is no record to compare with, or it is damaged.
        WeightError: a file is missing or not what was written.
    """
    folder = Path(path)
    try:
        document = read_json(folder / _DESCRIPTION, MAX_DESCRIPTION_BYTES, ModelDamagedError)
        expected = {str(name): str(digest) for name, digest in document["contents"].items()}
    except FileNotFoundError:
        raise ModelNotFoundError(f"{folder}: no {_DESCRIPTION}; expected a converted model folder") from None
    except (KeyError, TypeError, AttributeError):
        raise ModelLoadError(
            f"{folder}: its {_DESCRIPTION} does not record the hashes of its files; expected the folder of a "
            "model that this release pulled or converted"
        ) from None
    if unclean := [name for name in expected if not is_clean_name(name)]:
        raise ModelDamagedError(
            f"{folder / _DESCRIPTION}: `contents` names {unclean[0]!r}; expected names of files in the folder"
        )
    if missing := [name for name in expected if not (folder / name).is_file()]:
        raise WeightError(f"{folder / missing[0]}: missing; pull or convert the model again")
    total, done = sum((folder / name).stat().st_size for name in expected), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress("verify", done, total)

    for name, digest in expected.items():
        found = sha256_of(folder / name, tell)
        if found != digest:
            raise WeightError(
                f"{folder / name}: sha256 is {found}, expected {digest}; it was changed or damaged: "
                "pull or convert the model again"
            )
    return expected


def sha256_of(path: Path, tell: Callable[[int], object] = lambda _count: None) -> str:
    """The sha256 of a file; `tell` is given the bytes of each piece read."""
    import hashlib

    return hash_of(path, hashlib.sha256(), tell)


def hash_of(path: Path, digest: hashlib._Hash, tell: Callable[[int], object] = lambda _count: None) -> str:
    """What a digest, begun or new, makes of a regular file; `tell` is given the bytes of each piece read."""
    with open_regular(path, None, WeightError) as file:
        while block := file.read(_CHUNK):
            digest.update(block)
            tell(len(block))
    return digest.hexdigest()
