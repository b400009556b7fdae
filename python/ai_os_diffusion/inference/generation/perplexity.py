"""How well a decoder predicts a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.utils.errors import InferenceError

if TYPE_CHECKING:
    from ai_os_diffusion.inference.inference_core import InferenceCore

__all__ = ["PerplexityResult", "measure_perplexity"]


class PerplexityResult(NamedTuple):
    """What was measured.

    Attributes:
        perplexity: exponential of the mean loss.
        mean_nll: mean negative log-likelihood of a scored token, in nats.
        tokens: scored tokens.
    """

    perplexity: float
    mean_nll: float
    tokens: int


def measure_perplexity(
    core: InferenceCore, ids: NDArray[np.int32], context: int, stride: int | None = None
) -> PerplexityResult:
    """Sliding-window perplexity, as Hugging Face documents it for models of fixed length.

    Windows of `context` tokens begin every `stride` tokens; the last one ends with the text. A token is
    scored once, in the first window that holds it, given the tokens of that window before it. The first
    token of the text is never scored; with `stride == context` neither is the first of any window.

    Args:
        core: a decoder.
        ids: the text's tokens, special ones included if they should condition it.
        context: tokens of a window, at least 2 and within the model's.
        stride: tokens between windows, 1 to `context`, by default `context`.

    Raises:
        InferenceError: the model is an encoder, the settings are out of range, or fewer than two tokens
            are given.
    """
    stride = context if stride is None else stride
    if core.config.diffusion is not None:
        raise InferenceError(
            "perplexity reads a text from left to right, and this model writes by diffusion: it predicts a "
            "token from both sides"
        )
    if not core.config.is_decoder:
        raise InferenceError(
            f"perplexity needs a decoder; this model is of architecture {core.config.architecture!r}"
        )
    limit = core.config.max_position_embeddings
    if not 2 <= context <= limit:
        raise InferenceError(f"context is {context}, expected 2 to the model's window of {limit}")
    if not 1 <= stride <= context:
        raise InferenceError(f"stride is {stride}, expected 1 to the context of {context}")
    if len(ids) < 2:
        raise InferenceError(f"perplexity needs a text of at least 2 tokens, got {len(ids)}")
    total, count, scored = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + context, len(ids))
        first = max(scored - begin, 1)
        if first < end - begin:
            losses = core.token_nll(ids[begin:end], first)
            total += float(losses.sum(dtype=np.float64))
            count += len(losses)
        scored = end
        if end == len(ids):
            break
    return PerplexityResult(float(np.exp(total / count)), total / count, count)
