"""The content of a hub's file into the cache, continued where an attempt that was ended had come to.

It grows under a name of its own, never beyond the size that the hub gave beforehand, and is hashed as it
comes. It gets the name under which the cache keeps it, its ETag, once it has that hash: the sha256 of a large
file, git's sha1 of a small one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ai_os_diffusion.models.contents import hash_of
from ai_os_diffusion.models.hub.client import HubUnavailableError, RemoteFile
from ai_os_diffusion.models.registry import Progress
from ai_os_diffusion.utils.bounded_http import Answer, TransferError
from ai_os_diffusion.utils.errors import ModelLoadError, WeightError
from ai_os_diffusion.utils.files.atomic_file import sync_path

__all__ = ["fetch_blob", "is_blob"]

ATTEMPTS = 5
"""Attempts in a row that bring next to nothing, until a download is given up."""

PROGRESS_BYTES = 1 << 20
"""What an attempt must bring for the next to count as the first."""


def is_blob(blob: Path, etag: str, size_bytes: int) -> bool:
    """Whether a file is there with this size and hash."""
    try:
        return blob.stat().st_size == size_bytes and _hash_of(blob, etag, size_bytes) == etag
    except (OSError, WeightError):
        return False


def fetch_blob(remote: RemoteFile, blob: Path, progress: Progress) -> None:
    """Download a file.

    Args:
        remote: the file.
        blob: where it goes.
        progress: told its bytes so far.

    Raises:
        ModelLoadError: it has not the hash or the size that the hub promised.
        TransferError: the hub does not send it.
        OSError: the disk refuses.
    """
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(f"{blob.name}.aios.incomplete")
    with _locked(part) as file:
        if is_blob(blob, remote.etag, remote.size_bytes):
            return  # another process was at it
        held = os.fstat(file.fileno()).st_size
        digest = _receive(remote, file, progress)
        if digest != remote.etag and held:
            # What was held is of no use.
            file.truncate(0)
            digest = _receive(remote, file, progress)
        if digest != remote.etag:
            file.truncate(0)
            raise ModelLoadError(
                f"{remote.name}: its hash is {digest}, the hub says {remote.etag}; "
                "it was damaged on its way: pull again"
            )
        os.fsync(file.fileno())
        part.replace(blob)
        sync_path(blob.parent)


def _receive(remote: RemoteFile, file: IO[bytes], progress: Progress) -> str:
    """Bring a file to its full size, in as many attempts as it takes, and return its hash."""
    fruitless = 0
    while True:
        held = os.fstat(file.fileno()).st_size
        if held > remote.size_bytes:
            held = 0
        file.truncate(held)
        digest = _digest(remote.etag, remote.size_bytes)
        _hash_start(file, digest)
        if held == remote.size_bytes:
            return digest.hexdigest()
        try:
            with remote.open(held) as answer:
                held = _begin(answer, remote, held)
                if not held:
                    file.truncate(0)
                    digest = _digest(remote.etag, remote.size_bytes)
                _append(answer, remote, file, digest, held, progress)
            return digest.hexdigest()
        except TransferError as error:
            received = os.fstat(file.fileno()).st_size - held
            fruitless = 1 if received >= PROGRESS_BYTES else fruitless + 1
            # Waiting as long again would bring nothing; a connection that broke may come back.
            if fruitless >= ATTEMPTS or (error.final and received < PROGRESS_BYTES):
                raise TransferError(
                    f"{error}; what came is kept: pull again to go on", final=error.final
                ) from error


def _begin(answer: Answer, remote: RemoteFile, held: int) -> int:
    """The byte at which an answer begins.

    Raises:
        HubUnavailableError: the hub does not send it now.
        ModelLoadError: it is not the file that was described.
    """
    if answer.status not in (200, 206):
        raise HubUnavailableError(f"{answer.url}: answered HTTP {answer.status}")
    if answer.status == 200:
        held = 0
    else:
        wanted = f"bytes {held}-{remote.size_bytes - 1}/{remote.size_bytes}"
        given = re.sub(r"/\*$", f"/{remote.size_bytes}", answer.headers.get("Content-Range", ""))
        if given != wanted:
            raise ModelLoadError(f"{remote.name}: asked for {wanted!r}, the hub sends {given[:80]!r}")
    length = answer.headers.get("Content-Length")
    if length is not None and length.strip() != str(remote.size_bytes - held):
        raise ModelLoadError(
            f"{remote.name}: the hub sends {length[:40]!r} bytes, it promised {remote.size_bytes - held}"
        )
    return held


def _append(
    answer: Answer, remote: RemoteFile, file: IO[bytes], digest: hashlib._Hash, held: int, progress: Progress
) -> None:
    for piece in answer.pieces(remote.size_bytes - held):
        if held + len(piece) > remote.size_bytes:
            file.truncate(0)
            raise ModelLoadError(
                f"{remote.name}: the hub sends more than the {remote.size_bytes} bytes that it promised"
            )
        digest.update(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[file.write(rest) :]
        held += len(piece)
        progress("download", held, remote.size_bytes)
    if held < remote.size_bytes:
        raise TransferError(f"{answer.url}: the connection broke at byte {held} of {remote.size_bytes}")


def _digest(etag: str, size_bytes: int) -> hashlib._Hash:
    """Begins the hash of the kind that an ETag is: sha256, or git's sha1 of header and content."""
    if len(etag) == 40:
        return hashlib.sha1(f"blob {size_bytes}\0".encode(), usedforsecurity=False)
    return hashlib.sha256()


def _hash_of(path: Path, etag: str, size_bytes: int) -> str:
    return hash_of(path, _digest(etag, size_bytes))


def _hash_start(file: IO[bytes], digest: hashlib._Hash) -> None:
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to append to it, alone; unbuffered, so that a kill loses nothing that was written."""
    import fcntl

    while True:
        with path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # The one that held it may have given it its final name meanwhile.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                yield file
                return
