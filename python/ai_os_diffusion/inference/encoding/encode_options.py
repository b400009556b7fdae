"""The arguments of sentence-transformers' `encode`, as what they mean here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.errors import InferenceError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EncodeOptions", "EncodeSettings", "as_tensor", "check_placement", "encode_settings"]


class EncodeOptions(TypedDict, total=False):
    """Options of `ArrowEngine.encode` that do not change what it returns.

    Attributes:
        prompt: put before every text.
        prompt_name: the prompt of this name in the model's metadata; without either, its default prompt.
        truncate_dim: keep this many dimensions; by default as many as the model says.
        precision: "float32", or see `quantize_embeddings`.
        long_text: what to do beyond the model's window: "truncate" with one warning in the log, or
            "average" the vectors of consecutive windows.
        output_value: "sentence_embedding", or "token_embeddings": the last hidden states of each text,
            those of its special tokens too, neither pooled nor scaled.
        show_progress_bar: the other name of `show_progress`.
        normalize_embeddings: the other name of `normalize`.
        device: where the engine is; another one is refused, for an engine stays where it was made.
        pool: None; there are no processes to share the work, threads do.
        chunk_size: None; it belongs to `pool`.
    """

    prompt: str | None
    prompt_name: str | None
    truncate_dim: int | None
    precision: Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
    long_text: Literal["truncate", "average"]
    output_value: Literal["sentence_embedding", "token_embeddings"]
    show_progress_bar: bool | None
    normalize_embeddings: bool | None
    device: str | None
    pool: None
    chunk_size: None


class EncodeSettings(NamedTuple):
    """Arguments under one name each.

    Attributes:
        normalize: scale to length 1; None is as the model says.
        show_progress: draw a bar.
        of_tokens: return the vectors of tokens.
    """

    normalize: bool | None
    show_progress: bool
    of_tokens: bool


def encode_settings(options: EncodeOptions, normalize: bool | None, show_progress: bool) -> EncodeSettings:
    """Bring what has two names together.

    Raises:
        InferenceError: two names contradict each other, or vectors of tokens are asked for in a form that
            only those of texts have.
        TypeError: there is no such argument.
    """
    for name in options:
        if name not in EncodeOptions.__annotations__:
            raise TypeError(f"encode() got an unexpected keyword argument {name!r}")
    alias = options.get("normalize_embeddings")
    if normalize is not None and alias is not None and normalize != alias:
        raise InferenceError(f"normalize={normalize} and normalize_embeddings={alias} contradict each other")
    bar = options.get("show_progress_bar")
    value = options.get("output_value", "sentence_embedding")
    if value not in ("sentence_embedding", "token_embeddings"):
        raise InferenceError(
            f"output_value is {value!r}, expected 'sentence_embedding' or 'token_embeddings'; "
            "ids come from engine.tokenizer"
        )
    of_tokens = value == "token_embeddings"
    if of_tokens:
        for name, usual in (("truncate_dim", None), ("precision", "float32"), ("long_text", "truncate")):
            if options.get(name, usual) != usual:
                raise InferenceError(
                    f"{name}={options.get(name)!r} has no meaning for token_embeddings; leave it out"
                )
    return EncodeSettings(
        alias if normalize is None else normalize, show_progress if bar is None else bar, of_tokens
    )


def check_placement(options: EncodeOptions, device: str) -> None:
    """Refuse to work elsewhere than where the engine is.

    Raises:
        InferenceError: another device, several, or a pool of processes is asked for.
    """
    for name in ("pool", "chunk_size"):
        if options.get(name) is not None:
            raise InferenceError(f"{name} is not supported: one process serves all cores; leave it out")
    asked = options.get("device")
    if asked is not None and _place(asked) != _place(device):
        raise InferenceError(
            f"device is {asked!r}, but the engine is on {device!r} and stays there; "
            f"make another with ArrowEngine(..., device={asked!r})"
        )


def _place(device: Any) -> tuple[str, str]:
    """Kind and index of a device; the first of its kind needs none."""
    kind, _, index = str(device).partition(":")
    return kind, index or "0"


def as_tensor(array: NDArray[Any]) -> Tensor:
    """The array as a tensor of torch on the CPU, sharing its memory.

    Raises:
        InferenceError: torch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise InferenceError(
            "convert_to_tensor needs torch, which is not installed: pip install 'ai-os-diffusion[gpu]', "
            "or take the NumPy array"
        ) from error
    return torch.from_numpy(np.ascontiguousarray(array))
