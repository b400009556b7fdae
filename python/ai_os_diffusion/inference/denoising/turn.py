"""Prompts as a model that writes by diffusion reads them, when it is trained and when it is asked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer

__all__ = ["text_ids", "turn_ids"]

Ids = NDArray[np.int32]


def text_ids(tokenizer: FastTokenizer, text: str) -> Ids:
    """Ids of a text, int32[n], in which nothing is a special token."""
    return tokenizer.encode(text, add_special_tokens=False, padding=False, split_special_tokens=True).flat_ids


def turn_ids(tokenizer: FastTokenizer, text: str, chat_template: str | None) -> Ids:
    """Ids of a user's turn and of the beginning of the answer; of a model without turns, of the text.

    Args:
        tokenizer: the model's.
        text: what the user says.
        chat_template: in place of the model's own.
    """
    if chat_template is None and tokenizer.chat_template is None:
        return text_ids(tokenizer, text)
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=True, chat_template=chat_template
    )
