"""Questions and passages to scores, by a model that reads both at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.inference.inference_core import InferenceCore
from ai_os_diffusion.utils.errors import InferenceError

__all__ = ["relevance"]


def relevance(
    core: InferenceCore, tokenizer: FastTokenizer, question: str, passages: Sequence[str]
) -> NDArray[np.float32]:
    """Score how well each passage answers a question.

    Args:
        core: of a model with a head for it (a reranker).
        tokenizer: the model's.
        question: one text.
        passages: what they spell is text, and no special token.

    Returns:
        float32[n]: from 0 to 1, or any number where the model says that its scores are no probabilities.

    Raises:
        InferenceError: the model has no such head.
        TokenizerError: a text is not a `str` or holds a lone surrogate.
    """
    config = core.config
    if not config.num_labels:
        raise InferenceError(
            f"relevance needs a model that scores texts (a reranker); this is a {config.architecture} "
            "model without a head for it: compare embeddings with similarity()"
        )
    if not passages:
        return np.zeros(0, np.float32)
    ids, offsets, types = tokenizer.encode_pairs(question, passages, config.max_seq_length)
    # A model of one token type was never told which text is which.
    known = types if config.type_vocab_size > 1 else None
    scores = core.class_scores((ids, offsets), known)[:, 0]
    if config.score_scale == "identity":
        return scores
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-scores)), np.float32)
