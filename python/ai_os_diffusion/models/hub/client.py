"""What a Hugging Face hub says of a repository and its files, believed only as far as it is checked.

Three requests: the list of a repository's files, what is known of one file before its content is asked for,
and the content. Every name that comes back is clean, every commit and ETag hexadecimal, every size within its
limit; anything else is refused here, before it reaches a path or a disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from ai_os_diffusion.models.hub.cache import hub_home, is_commit, is_content_hash
from ai_os_diffusion.models.untrusted_values import MAX_TOKENIZER_BYTES
from ai_os_diffusion.utils.bounded_http import Answer, Limits, TransferError, request
from ai_os_diffusion.utils.errors import ModelLoadError, ModelNotFoundError
from ai_os_diffusion.utils.files.clean_name import is_clean_path
from ai_os_diffusion.utils.files.regular_file import parse_json, read_regular

__all__ = ["HubClient", "HubUnavailableError", "RemoteFile"]

MAX_LISTING_BYTES = 4 << 20
"""Of the list of a repository's files: some fifty thousand. At worst it takes thirty times as much memory."""

MAX_WEIGHTS_BYTES = 1 << 40
"""Of one file of weights. Hubs take files of at most 50 or 500 GB."""

MAX_TOKEN_BYTES = 4096

LIMITS = Limits()


class HubUnavailableError(ModelLoadError):
    """The hub cannot be asked, or its answer cannot be used. Another source may do."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a hub.

    Attributes:
        name: clean path in the repository.
        etag: sha256 of the content, or git's sha1.
        size_bytes: of the content.
        open: asks for the content from a byte on.
    """

    name: str
    etag: str
    size_bytes: int
    open: Callable[[int], AbstractContextManager[Answer]]


class HubClient:
    """Asks one repository at one revision.

    Args:
        endpoint: address of the hub.
        repo: `org/name`, clean.
        revision: branch, tag or commit.
    """

    def __init__(self, endpoint: str, repo: str, revision: str) -> None:
        self.endpoint, self.repo, self.revision = endpoint, repo, revision
        self._token = _token()

    def files(self) -> list[str]:
        """Names of the repository's files; from here on `revision` is the commit that has them.

        Names that are not clean are left out: nothing that is needed has one.
        """
        url = f"{self.endpoint}/api/models/{self.repo}/revision/{quote(self.revision, safe='')}"
        with self._ask(url) as answer:
            self._check(answer, "")
            content = answer.read(MAX_LISTING_BYTES)
        listing = parse_json(content, url, HubUnavailableError)
        try:
            commit, names = listing["sha"], [entry["rfilename"] for entry in listing["siblings"]]
        except (TypeError, KeyError) as error:
            raise HubUnavailableError(
                f"{url}: expected `sha` and `siblings`, got {content[:80]!r}"
            ) from error
        self._set_commit(commit)
        return [name for name in names if is_clean_path(name)]

    def describe(self, name: str) -> RemoteFile:
        """What the hub knows of a file before it sends it."""
        if not is_clean_path(name):
            raise ModelNotFoundError(f"{self.repo}: {name!r} is not the name of a file")
        # A large file is described in the redirection to the host that holds it.
        asked = self._ask(
            self._url(name), method="HEAD", is_final=lambda headers: bool(headers.get("X-Linked-Etag"))
        )
        with asked as answer:
            if answer.status < 300 or not answer.headers.get("X-Linked-Etag"):
                self._check(answer, name)
            headers = answer.headers
        self._set_commit(headers.get("X-Repo-Commit") or self.revision)
        etag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/").strip('"')
        if not is_content_hash(etag):
            raise HubUnavailableError(
                f"{self.repo}: {name}: the hub gives {etag[:200]!r} as its ETag, expected the sha256 or "
                "git's sha1 of the content"
            )
        size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
        most = MAX_WEIGHTS_BYTES if name.endswith((".safetensors", ".gguf")) else MAX_TOKENIZER_BYTES
        if not (size.isascii() and size.isdecimal() and len(size) < 20 and int(size) <= most):
            raise HubUnavailableError(
                f"{self.repo}: {name}: the hub gives {size[:40]!r} as its size, expected at most {most} bytes"
            )
        return RemoteFile(name, etag, int(size), partial(self._open, self._url(name)))

    def _url(self, name: str) -> str:
        return f"{self.endpoint}/{self.repo}/resolve/{quote(self.revision, safe='')}/{quote(name)}"

    def _open(self, url: str, start: int) -> AbstractContextManager[Answer]:
        return self._ask(url, headers={"Range": f"bytes={start}-"} if start else {})

    def _ask(self, url: str, **options: Any) -> AbstractContextManager[Answer]:
        return request(url, token=self._token, limits=LIMITS, **options)

    def _set_commit(self, commit: object) -> None:
        """All files are of one commit, though a branch moves meanwhile."""
        if not (isinstance(commit, str) and is_commit(commit)):
            raise HubUnavailableError(
                f"{self.repo}: the hub gives {str(commit)[:80]!r} as the commit of {self.revision!r}, "
                "expected 40 hexadecimal digits"
            )
        if is_commit(self.revision) and commit != self.revision:
            raise HubUnavailableError(
                f"{self.repo}: the hub gives files of the commit {commit}, asked for were those of "
                f"{self.revision}"
            )
        self.revision = commit

    def _check(self, answer: Answer, name: str) -> None:
        """Raise what the status of an answer means."""
        status, code = answer.status, answer.headers.get("X-Error-Code", "")
        if status == 200:
            return
        place = f"{self.endpoint}/{self.repo}"
        if code == "GatedRepo":
            raise ModelLoadError(
                f"{self.repo}: access is granted on request; ask on {place}, then set HF_TOKEN"
            )
        if code == "RevisionNotFound":
            raise ModelNotFoundError(
                f"{self.repo}: has no revision {self.revision!r}; expected a branch, tag or commit"
            )
        if code == "EntryNotFound":
            raise ModelNotFoundError(f"{self.repo}: has no file {name!r} in {self.revision!r}")
        if code == "RepoNotFound" or status == 404 or (status == 401 and self._token is None):
            raise ModelNotFoundError(
                f"{self.repo}: no such model on {self.endpoint}, or it is private; check the name, or set "
                "HF_TOKEN"
            )
        if status in (401, 403):
            raise ModelLoadError(
                f"{self.repo}: {self.endpoint} refused access (HTTP {status}); check HF_TOKEN"
            )
        raise HubUnavailableError(f"{answer.url}: answered HTTP {status}")


def _token() -> str | None:
    """The token of the environment, or that of `huggingface_hub`'s login."""
    environment: Mapping[str, str] = os.environ
    token = environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN")
    if token is None and environment.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").lower() not in (
        "1",
        "true",
        "yes",
        "on",
    ):
        file = environment.get("HF_TOKEN_PATH") or hub_home() / "token"
        try:
            token = read_regular(file, MAX_TOKEN_BYTES, TransferError).decode("ascii")
        except (OSError, UnicodeDecodeError, TransferError):
            return None
    token = (token or "").strip()
    return token if token and token.isascii() and token.isprintable() else None
