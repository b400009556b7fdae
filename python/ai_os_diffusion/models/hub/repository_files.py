"""Which files of a model repository are needed, and which of them is converted."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from ai_os_diffusion.utils.errors import ModelLoadError, ModelNotFoundError

__all__ = ["convertible", "wanted_files"]

# Configuration outside the top folder that changes what a model computes: 1_Pooling/config.json, ...
_MODULE = re.compile(r"\d+_\w+/config\.json")


def wanted_files(repo: str, files: list[str], file: str = "") -> list[str]:
    """Pick the weights and what describes them.

    Other forms of the same weights (ONNX, OpenVINO, subfolders) are left, and so are pickled ones (.bin,
    .pt), which can run code when loaded.

    Args:
        repo: name for messages.
        files: all files of the repository.
        file: the weights asked for by name, or "".

    Raises:
        ModelLoadError: there are no weights to use, or several to choose from.
    """
    if file and file not in files:
        raise ModelNotFoundError(f"{repo}: has no file {file!r}; it holds {_listed(files)}")
    top = [name for name in files if "/" not in name]
    described = [name for name in top if name.endswith((".json", ".jinja"))]
    if "tokenizer.json" not in top:
        # A tokenizer that is saved as a vocabulary and its merges.
        described += [name for name in top if name == "merges.txt"]
    described += [name for name in files if _MODULE.fullmatch(name)]
    return [*([file] if file else _weights(repo, top)), *described]


def convertible(folder: Path, repo: str, file: str = "") -> Path:
    """The folder of safetensors, or the GGUF file, that a download left.

    Raises:
        ModelLoadError: it left neither.
    """
    if file:
        return folder / file
    names = [entry.name for entry in folder.iterdir()]
    weights = _weights(repo, names)
    return folder / weights[0] if weights[0].endswith(".gguf") else folder


def _weights(repo: str, names: list[str]) -> list[str]:
    safetensors = [name for name in names if name.endswith(".safetensors")]
    # Some repositories hold the same weights twice, whole and as model-00001-of-00002.
    named = [name for name in safetensors if name.startswith("model")]
    if named or safetensors:
        return named or safetensors
    gguf = [name for name in names if name.endswith(".gguf")]
    if len(gguf) == 1:
        return gguf
    if gguf:
        raise ModelLoadError(
            f"{repo}: holds several GGUF files; name one: "
            + ", ".join(f"hf:{repo}/{name}" for name in sorted(gguf))
        )
    pickled = [name for name in names if PurePosixPath(name).suffix in (".bin", ".pt", ".pth")]
    hint = "; pickled weights are not loaded, ask for a revision with safetensors" if pickled else ""
    raise ModelNotFoundError(f"{repo}: holds no safetensors and no GGUF weights{hint}")


def _listed(files: list[str]) -> str:
    weights = [name for name in files if name.endswith((".safetensors", ".gguf"))]
    return ", ".join(sorted(weights)) or "no weights"
