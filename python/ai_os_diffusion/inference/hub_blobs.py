"""Files of a hub into its cache, each continued where an attempt that was ended had come to.

`huggingface_hub` begins a file anew in every process. Here a file grows under a name of its own and gets the
name under which the hub's cache keeps it, its ETag, once its content has that hash: the sha256 of a large
file, the git hash of a small one.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ai_os_diffusion.inference.model_contents import hash_of
from ai_os_diffusion.inference.model_registry import HubSource, Progress
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["fetch_blobs", "reporter"]

# git's sha1, or sha256. Anything else proves nothing of the content.
_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def fetch_blobs(
    source: HubSource, names: list[str], progress: Progress, *, endpoint: str, cache_dir: Path
) -> None:
    """Download what the cache lacks. A file whose ETag is no hash is left to `huggingface_hub`.

    Args:
        source: the repository.
        names: the files.
        progress: told the bytes of all that is downloaded here.
        endpoint: of the hub.
        cache_dir: the hub's cache.

    Raises:
        ModelLoadError: a file has not the hash that the hub promised.
        OSError: the disk refuses. Errors of the hub's client pass through.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    folder = cache_dir / f"models--{source.repo.replace('/', '--')}" / "blobs"
    missing: list[tuple[str, Path, int]] = []
    revision = source.revision
    for name in names:
        url = hf_hub_url(source.repo, name, revision=revision, endpoint=endpoint)
        found = get_hf_file_metadata(url)
        # All files of one commit, though the branch moves meanwhile.
        revision = found.commit_hash or revision
        if found.size and found.etag and _ETAG.fullmatch(found.etag) and not (folder / found.etag).exists():
            missing.append((name, folder / found.etag, found.size))
    # Small files first: they are there whatever becomes of the weights.
    missing.sort(key=lambda file: file[2])
    total = sum(size for _, _, size in missing)
    before = 0
    for name, blob, size in missing:

        def tell(stage: str, done: int, _total: int | None, before: int = before) -> None:
            progress(stage, before + done, total)

        url = hf_hub_url(source.repo, name, revision=revision, endpoint=endpoint)
        _fetch(url, name, blob, size, tell)
        before += size
        progress("download", before, total)


def reporter(progress: Progress) -> Any:
    """A class of progress bars for `huggingface_hub` that draws nothing and reports the bytes."""
    from tqdm import tqdm

    class Reporter(tqdm):  # type: ignore[misc]
        # No thread to redraw what is not drawn: each subclass would start one that never ends.
        monitor_interval = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.update(file=io.StringIO(), disable=False)
            kwargs.pop("name", None)
            super().__init__(*args, **kwargs)

        def display(self, *_: Any, **__: Any) -> None:
            """Draw nothing."""

        def update(self, n: float | None = 1) -> bool | None:
            updated: bool | None = super().update(n)
            if self.unit == "B":
                progress("download", int(self.n), int(self.total) if self.total else None)
            return updated

    return Reporter


def _fetch(url: str, name: str, blob: Path, size: int, progress: Progress) -> None:
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{blob.name}.aios.incomplete")
    with _locked(part) as file:
        if blob.exists():
            return  # another process was at it
        held = os.fstat(file.fileno()).st_size
        _continue(url, file, held, size, progress)
        if held and _hash(part, blob.name) != blob.name:
            # What was held is of no use.
            _continue(url, file, 0, size, progress)
        digest = _hash(part, blob.name)
        if digest != blob.name:
            file.truncate(0)
            raise ModelLoadError(
                f"{name}: its hash is {digest}, the hub says {blob.name}; "
                "it was damaged on its way: pull again"
            )
        os.fsync(file.fileno())
        part.rename(blob)


def _continue(url: str, file: IO[bytes], held: int, size: int, progress: Progress) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    if held == size:
        return
    held = held if held < size else 0
    file.truncate(held)
    file.seek(held)
    # Its older versions draw a bar of their own.
    knows = "tqdm_class" in inspect.signature(http_get).parameters
    options = {"tqdm_class": reporter(progress)} if knows else {}
    http_get(url, file, resume_size=held, headers=build_hf_headers(), expected_size=size, **options)


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to append to it, alone; unbuffered, so that a kill loses nothing that was written."""
    import fcntl

    with path.open("ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _hash(path: Path, like: str) -> str:
    """The hash of a file, of the kind that `like` is: sha256, or git's sha1 of header and content."""
    digest = hashlib.sha256()
    if len(like) == 40:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    return hash_of(path, digest)
