"""The cache that `huggingface_hub` and other programs share, read and written without them.

    models--org--name/
      blobs/<etag>                  a file's content, named by its hash
      refs/<revision>               the commit that a branch or tag pointed to
      snapshots/<commit>/<name>     a link to the content

Names in it come from a hub. Only checked ones reach a path: a commit and an ETag are hexadecimal, the rest
are clean.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from ai_os_diffusion.utils.files.atomic_file import replacing
from ai_os_diffusion.utils.files.clean_name import is_clean_path

__all__ = ["HubCache", "is_commit", "is_content_hash"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_CONTENT_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MOST_FILES = 10_000


def is_commit(text: str) -> bool:
    """Whether a text is the name of a commit."""
    return bool(_COMMIT.fullmatch(text))


def is_content_hash(text: str) -> bool:
    """Whether an ETag is git's sha1 of a file, or its sha256."""
    return bool(_CONTENT_HASH.fullmatch(text))


class HubCache:
    """The files of one repository.

    Args:
        repo: `org/name`, clean.
    """

    def __init__(self, repo: str) -> None:
        if not is_clean_path(repo):
            raise ValueError(f"{repo!r} is no clean path")
        self.folder = _cache_folder() / f"models--{repo.replace('/', '--')}"

    def blob(self, etag: str) -> Path:
        """Where content of this hash is, or comes."""
        if not is_content_hash(etag):
            raise ValueError(f"{etag!r} is no hash")
        return self.folder / "blobs" / etag

    def snapshot(self, commit: str) -> Path:
        """The folder of the files of a commit."""
        if not is_commit(commit):
            raise ValueError(f"{commit!r} is no commit")
        return self.folder / "snapshots" / commit

    def commit(self, revision: str) -> str | None:
        """The commit that a revision pointed to when it was last asked for."""
        if is_commit(revision):
            return revision
        if not is_clean_path(revision):
            return None
        try:
            with (self.folder / "refs" / revision).open(encoding="ascii") as file:
                commit = file.read(64).strip()
        except (OSError, ValueError):
            return None
        return commit if is_commit(commit) else None

    def files(self, commit: str) -> list[str]:
        """Names of the files of a commit that are here, top folder and one below."""
        folder = self.snapshot(commit)
        found = sorted([*folder.glob("*"), *folder.glob("*/*")])[:_MOST_FILES]
        names = [path.relative_to(folder).as_posix() for path in found if path.is_file()]
        return [name for name in names if is_clean_path(name)]

    def record(self, revision: str, commit: str, etags: dict[str, str]) -> None:
        """Give the contents their names in the snapshot of a commit, then the commit its name.

        Args:
            revision: what was asked for.
            commit: what it is.
            etags: by name of the file, a clean path.
        """
        for name, etag in etags.items():
            if not is_clean_path(name):
                raise ValueError(f"{name!r} is no clean path")
            _link(self.blob(etag), self.snapshot(commit) / name)
        if revision != commit and is_clean_path(revision):
            reference = self.folder / "refs" / revision
            reference.parent.mkdir(parents=True, exist_ok=True)
            with replacing(reference) as draft:
                draft.write_text(commit, encoding="ascii")


def _link(blob: Path, name: Path) -> None:
    if name.exists() and name.samefile(blob):
        return
    name.parent.mkdir(parents=True, exist_ok=True)
    name.unlink(missing_ok=True)
    try:
        name.symlink_to(os.path.relpath(blob, name.parent))
    except FileExistsError:
        return  # another process was at it
    except OSError:
        with replacing(name) as copy:  # a file system without links
            shutil.copyfile(blob, copy)


def _cache_folder() -> Path:
    """As the environment says now."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"]).expanduser()
    return hub_home() / "hub"


def hub_home() -> Path:
    """The folder of `huggingface_hub`: cache, token."""
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "huggingface"
