"""Model files from a Hugging Face hub.

The environment variables of `huggingface_hub` hold: HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and
HF_TOKEN. Files stay in its cache, shared with other programs; a file cut off by a dropped connection or the
end of the process is continued, and files that were complete are not fetched again.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ai_os_diffusion.models.hub.cache import HubCache
from ai_os_diffusion.models.registry import HubSource, PinnedFile, Progress
from ai_os_diffusion.utils.errors import ModelLoadError, ModelNotFoundError
from ai_os_diffusion.utils.files.clean_name import is_clean_path

if TYPE_CHECKING:
    from ai_os_diffusion.models.hub.client import HubClient, RemoteFile

__all__ = ["fetch_from_hub"]

CONNECT_TIMEOUT_S = 2.0
"""An unreachable hub costs no more than this, name look-up included."""

MOST_FILES = 1000
"""Files of one model; the largest come in some hundreds of pieces."""

DESCRIPTIONS_S = 120.0
"""Longest time for the descriptions of all files, each of which has a limit of its own."""

_TRUE = {"1", "true", "yes", "on"}

Choose = Callable[[list[str]], list[str]]
"""Picks the files wanted among all files of a repository."""


def fetch_from_hub(
    source: HubSource, wanted: Sequence[PinnedFile] | Choose, progress: Progress, *, offline: bool
) -> Path:
    """Have files of a repository in the cache.

    Args:
        source: the repository.
        wanted: the files, or a function that picks them from the list of all.
        progress: told the bytes so far.
        offline: open no connection; only what the cache already holds will do.

    Returns:
        The folder of the files, whose name is the commit.

    Raises:
        HubUnavailableError: the hub cannot be asked or its answer not used, and the cache does not hold the
            files.
        ModelLoadError: the hub refuses: no such repository, revision or permission; or it sends something
            else than it promised.
    """
    # What speaks HTTP is loaded by those that fetch something.
    from ai_os_diffusion.models.hub.client import HubClient, HubUnavailableError
    from ai_os_diffusion.utils.bounded_http import TransferError

    if not (is_clean_path(source.repo) and source.repo.count("/") == 1 and is_clean_path(source.revision)):
        raise ModelNotFoundError(
            f"hf:{source.repo}@{source.revision}: not the name of a model: expected hf:org/name"
        )
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    offline = offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE
    cache = HubCache(source.repo)
    if offline or not _reachable(endpoint):
        held = _held(cache, source.revision, wanted)
        if held is not None:
            return held
        if offline:
            raise HubUnavailableError(f"offline, and the hub's cache does not hold {source.repo}")
        raise HubUnavailableError(f"{endpoint} cannot be reached; check the network or HF_ENDPOINT")
    try:
        return _download(HubClient(endpoint, source.repo, source.revision), cache, wanted, progress)
    except TransferError as error:
        raise HubUnavailableError(f"{source.repo}: {error}") from error


def _held(cache: HubCache, revision: str, wanted: Sequence[PinnedFile] | Choose) -> Path | None:
    """The folder of the cache's files, if it holds all that are wanted."""
    commit = cache.commit(revision)
    present = cache.files(commit) if commit else []
    if commit is None or not present:
        return None
    names = wanted(present) if callable(wanted) else [pin.name for pin in wanted]
    return cache.snapshot(commit) if set(names) <= set(present) else None


def _download(
    client: HubClient, cache: HubCache, wanted: Sequence[PinnedFile] | Choose, progress: Progress
) -> Path:
    from ai_os_diffusion.models.hub.blobs import fetch_blob, is_blob

    asked = client.revision
    names = wanted(client.files()) if callable(wanted) else [pin.name for pin in wanted]
    if len(names) > MOST_FILES:
        raise ModelLoadError(f"{client.repo}: {len(names)} files, expected at most {MOST_FILES} of one model")
    files = _describe(client, names)
    if not callable(wanted):
        _check_pins(files, wanted)
    etags = {file.name: file.etag for file in files}
    # Small files first: they are there whatever becomes of the weights. The same content is fetched once.
    missing = {
        file.etag: file
        for file in sorted(files, key=lambda file: file.size_bytes)
        if not is_blob(cache.blob(file.etag), file.etag, file.size_bytes)
    }
    total = sum(file.size_bytes for file in missing.values())
    _need(cache.folder, total, client.repo)
    before = 0
    for file in missing.values():

        def tell(stage: str, done: int, _total: int | None, before: int = before) -> None:
            progress(stage, before + done, total)

        fetch_blob(file, cache.blob(file.etag), tell)
        before += file.size_bytes
        progress("download", before, total)
    cache.record(asked, client.revision, etags)
    return cache.snapshot(client.revision)


def _describe(client: HubClient, names: list[str]) -> list[RemoteFile]:
    from ai_os_diffusion.models.hub.client import HubUnavailableError

    deadline = time.monotonic() + DESCRIPTIONS_S
    files = []
    for name in names:
        files.append(client.describe(name))
        if time.monotonic() > deadline:
            raise HubUnavailableError(
                f"{client.repo}: the hub described {len(files)} of {len(names)} files in {DESCRIPTIONS_S:g} s"
            )
    return files


def _check_pins(files: Sequence[RemoteFile], pins: Sequence[PinnedFile]) -> None:
    """Refuse before the download what could not have the pinned hash after it."""
    for file, pin in zip(files, pins, strict=True):
        if len(file.etag) == len(pin.sha256) and file.etag != pin.sha256:
            raise ModelLoadError(f"{pin.name}: the hub's sha256 is {file.etag}, expected {pin.sha256}")
        if file.size_bytes != pin.size_bytes:
            raise ModelLoadError(
                f"{pin.name}: the hub's has {file.size_bytes} bytes, expected {pin.size_bytes}"
            )


def _need(folder: Path, size_bytes: int, repo: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size_bytes:
        raise ModelLoadError(
            f"{repo}: needs {size_bytes / 1e6:.0f} MB in {folder}, free are {free / 1e6:.0f} MB; make room, "
            "or set HF_HUB_CACHE to another disk"
        )


def _reachable(endpoint: str) -> bool:
    """Whether the hub, or the proxy in front of it, accepts a connection soon.

    Asked in a thread because looking up a name has no timeout of its own.
    """
    # Brings in all of http and ssl, which a command that opens no connection has no use for.

    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(endpoint)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(host):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    reached = threading.Event()
    done = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
            reached.set()
        except OSError:
            pass
        finally:
            done.set()

    threading.Thread(target=connect, daemon=True).start()
    done.wait(CONNECT_TIMEOUT_S)
    return reached.is_set()
