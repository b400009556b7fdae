"""Model files from a Hugging Face hub, by `huggingface_hub`.

Its environment variables hold: HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_TOKEN. Files stay in
its cache, shared with other programs; a file cut off by a dropped connection or the end of the process is
continued, and files that were complete are not fetched again.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from ai_os_diffusion.inference.hub_blobs import fetch_blobs, reporter
from ai_os_diffusion.inference.model_registry import HubSource, Progress
from ai_os_diffusion.utils.errors import ModelLoadError, ModelNotFoundError

__all__ = ["HubUnavailableError", "fetch_from_hub"]

CONNECT_TIMEOUT_S = 2.0
"""An unreachable hub costs no more than this, name look-up included."""

_TRUE = {"1", "true", "yes", "on"}


class HubUnavailableError(ModelLoadError):
    """The hub cannot be asked: not installed, offline or unreachable. Another source may do."""


Choose = Callable[[list[str]], list[str]]
"""Picks the files wanted among all files of a repository."""


def fetch_from_hub(
    source: HubSource, wanted: list[str] | Choose, progress: Progress, *, offline: bool
) -> Path:
    """Download files of a repository.

    Args:
        source: the repository.
        wanted: names of the files, or a function that picks them from the list of all.
        progress: told the bytes so far.
        offline: open no connection; only what the cache already holds will do.

    Returns:
        The folder of the files.

    Raises:
        HubUnavailableError: the hub cannot be asked, and the cache does not hold the files.
        ModelLoadError: the hub refuses: no such repository, revision or permission.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise HubUnavailableError(
            "the package huggingface_hub is not installed; install ai-os-diffusion[hub]"
        )
    # Read when the package is imported; without it a request tells the hub what runs it.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    offline = offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE
    cached_only = offline or not _reachable(endpoint)
    try:
        return _download(source, wanted, progress, endpoint, cached_only)
    except HubUnavailableError as error:
        if offline:
            raise HubUnavailableError(f"offline, and the hub's cache does not hold {source.repo}") from error
        if cached_only:
            raise HubUnavailableError(
                f"{endpoint} cannot be reached; check the network or HF_ENDPOINT"
            ) from error
        raise


def _download(
    source: HubSource, wanted: list[str] | Choose, progress: Progress, endpoint: str, cached_only: bool
) -> Path:
    from huggingface_hub import HfApi, errors, snapshot_download

    try:
        names: list[str] | None = None if callable(wanted) else wanted
        if callable(wanted) and not cached_only:
            names = wanted(HfApi(endpoint=endpoint).list_repo_files(source.repo, revision=source.revision))
        if names is not None and not cached_only:
            fetch_blobs(source, names, progress, endpoint=endpoint, cache_dir=_cache_dir())
        folder = snapshot_download(
            source.repo,
            revision=source.revision,
            allow_patterns=names,
            endpoint=endpoint,
            cache_dir=_cache_dir(),
            local_files_only=cached_only,
            max_workers=4,
            tqdm_class=reporter(progress),
        )
    except errors.GatedRepoError as error:
        raise ModelLoadError(
            f"{source.repo}: access is granted on request; ask on {endpoint}/{source.repo}, then set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"{source.repo}: no such model on {endpoint}, or it is private; check the name, or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFoundError(
            f"{source.repo}: has no revision {source.revision!r}; expected a branch, tag or commit"
        ) from error
    except ModelLoadError:
        raise
    except errors.HFValidationError as error:
        raise ModelNotFoundError(
            f"hf:{source.repo}: not the name of a model: expected hf:org/name"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise HubUnavailableError(f"{source.repo}: {_first_line(error)}") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise ModelLoadError(
                f"{source.repo}: {endpoint} refused access (HTTP {status}); check HF_TOKEN"
            ) from error
        raise HubUnavailableError(f"{source.repo}: {_first_line(error)}") from error
    except Exception as error:  # its HTTP client's errors have no common class across versions
        raise HubUnavailableError(f"{source.repo}: {_first_line(error)}") from error
    return Path(folder)


def _cache_dir() -> Path:
    """The hub's cache as the environment says now: the package reads its variables once, on import."""
    from huggingface_hub import constants

    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"]).expanduser()
    home = os.environ.get("HF_HOME")
    return Path(home).expanduser() / "hub" if home else Path(constants.HF_HUB_CACHE)


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


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
