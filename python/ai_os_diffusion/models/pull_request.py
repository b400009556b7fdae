"""What a pull is asked for: a reference read as a known model, a model of a hub, or a local source."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ai_os_diffusion.models.folder import ModelsFolder, is_model_folder, read_metadata
from ai_os_diffusion.models.hub.known_source import fetch_known
from ai_os_diffusion.models.metadata import is_outdated
from ai_os_diffusion.models.references import hub_folder, is_name, looks_like_path
from ai_os_diffusion.models.registry import (
    SHIPPED,
    HubSource,
    KnownModel,
    Progress,
    known_models,
    unknown_model,
)
from ai_os_diffusion.utils.errors import ModelLoadError, ModelNotFoundError
from ai_os_diffusion.utils.files.atomic_folder import restore_folder
from ai_os_diffusion.utils.files.clean_name import is_clean_path

__all__ = ["Fetched", "PullRequest", "read_request"]

_HUB_REF = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[\w./-]+))?(?:@(?P<revision>[\w./-]+))?")


class Fetched(NamedTuple):
    """A source that is here.

    Attributes:
        path: what to convert.
        commit: the one that a hub's branch or tag pointed to.
    """

    path: Path
    commit: str | None = None


@dataclass(frozen=True)
class PullRequest:
    """What a pull was asked for.

    Attributes:
        folder: name of the model's folder.
        quantize: storage of the weights; None keeps the source's.
        fetch: brings the source into an empty folder.
        origin: goes into the model's metadata, with what `fetch` finds out.
        size_bytes: of the source, 0 if unknown.
        base: name of the known model whose folder becomes this one with `card`; None for a model of its own.
        card: file of a card.
    """

    folder: str
    quantize: str | None
    fetch: Callable[[Path, Progress], Fetched]
    origin: dict[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    base: str | None = None
    card: Path | None = None

    def is_met_by(self, folder: Path) -> bool:
        """Whether a folder holds the model as it would be written now; a local source must be unchanged."""
        self.refuse_another(folder)
        if not is_model_folder(folder) or is_outdated(read_metadata(folder)):
            return False
        source = _source(folder)
        return all(
            source.get(key) == self.origin.get(key) for key in ("fingerprint", "card") if key in self.origin
        )

    def refuse_another(self, folder: Path) -> None:
        """Refuse a folder that holds a model of another source: `./minilm` is not `minilm`.

        Raises:
            ModelLoadError: it does.
        """
        wanted = self.origin.get("name")
        if wanted is None or not is_model_folder(folder):
            return
        holds = _source(folder).get("name")
        if holds != wanted:
            raise ModelLoadError(
                f"pulling {wanted}: the name {self.folder!r} belongs to a model from "
                f"{holds or 'an unknown source'}; remove that one (aios rm {self.folder}) "
                "or rename the source"
            )


def _source(folder: Path) -> dict[str, Any]:
    source = read_metadata(folder).get("source")
    return source if isinstance(source, dict) else {}


def read_request(
    ref: str | os.PathLike[str], quantize: str | None, models: ModelsFolder, *, offline: bool
) -> PullRequest:
    """Find out what a reference means; opens no connection.

    Args:
        ref: as for `pull`.
        quantize: storage of the weights, "none" to keep the source's, or None for what suits the model.
        models: where pulled models are.
        offline: the source may open no connection either.

    Raises:
        ModelNotFoundError: it means nothing.
    """
    given = os.fspath(ref)
    known = known_models().get(given)
    if known is not None:
        return _known_request(known, quantize, offline)
    if given.startswith("hf:"):
        return _hub_request(given, quantize, offline)
    path = Path(given).expanduser()
    restore_folder(path)
    if path.exists():
        return _local_request(path.resolve(), quantize)
    if looks_like_path(given):
        raise ModelNotFoundError(f"{path}: not found; expected a model folder or a .gguf file")
    folder = models.root / given
    if is_name(given) and is_model_folder(folder):
        # Pulled from elsewhere under this name: it is ready.
        return PullRequest(given, None, lambda _folder, _progress: Fetched(folder))
    raise unknown_model(given, models.names())


def _known_request(model: KnownModel, quantize: str | None, offline: bool) -> PullRequest:
    stored = model.quantize or "none"
    chosen = quantize or stored
    return PullRequest(
        folder=model.name if chosen == stored else f"{model.name}-{chosen}",
        quantize=None if chosen == "none" else chosen,
        fetch=lambda folder, progress: Fetched(
            fetch_known(model, folder, progress, offline=offline) / model.convert
        ),
        origin={
            "name": model.name,
            **({"repo": model.hub.repo, "revision": model.hub.revision} if model.hub else {}),
            "license": model.license,
            "files": {file.name: file.sha256 for file in model.files},
            **({"card": model.card.sha256} if model.card else {}),
        },
        size_bytes=model.card.size_bytes if model.card else model.size_bytes,
        base=model.base,
        card=SHIPPED / model.card.name if model.card else None,
    )


def _hub_request(ref: str, quantize: str | None, offline: bool) -> PullRequest:
    from ai_os_diffusion.models.hub.hub_source import fetch_from_hub
    from ai_os_diffusion.models.hub.repository_files import convertible, wanted_files

    parsed = _HUB_REF.fullmatch(ref)
    if parsed is None or not all(is_clean_path(part) for part in parsed.groups() if part is not None):
        raise ModelNotFoundError(
            f"{ref!r}: expected hf:org/name, hf:org/name@revision or hf:org/name/file.gguf"
        )
    repo, file, revision = parsed["repo"], parsed["file"] or "", parsed["revision"]
    source = HubSource(repo, revision or "main")
    suffix = f"-{quantize}" if quantize not in (None, "none") else ""

    def choose(files: list[str]) -> list[str]:
        return wanted_files(source.repo, files, file)

    def fetch(_folder: Path, progress: Progress) -> Fetched:
        folder = fetch_from_hub(source, choose, progress, offline=offline)
        # The hub's cache calls the folder after the commit.
        return Fetched(convertible(folder, source.repo, file), folder.name)

    origin = {"name": ref, "repo": source.repo, "revision": source.revision}
    return PullRequest(hub_folder(ref) + suffix, None if quantize == "none" else quantize, fetch, origin)


def _local_request(path: Path, quantize: str | None) -> PullRequest:
    suffix = f"-{quantize}" if quantize not in (None, "none") else ""
    name = path.stem if path.is_file() else path.name
    return PullRequest(
        folder=name + suffix,
        quantize=None if quantize == "none" else quantize,
        fetch=lambda _folder, _progress: Fetched(path),
        origin={"name": str(path), "fingerprint": _fingerprint(path)},
    )


def _fingerprint(path: Path) -> str:
    """Changes when a file of a local source does; cheap, so it looks at sizes and times."""
    import hashlib

    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(os.fsencode(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n"))
    return digest.hexdigest()
