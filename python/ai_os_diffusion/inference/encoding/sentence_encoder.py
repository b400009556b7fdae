"""Sentences to vectors: prompts, windows, number types."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.encoding.embedding_output import quantize_embeddings, truncate_embeddings
from ai_os_diffusion.inference.encoding.long_text import embed_windows
from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.inference.inference_core import InferenceCore
from ai_os_diffusion.inference.ragged import Ragged
from ai_os_diffusion.utils.errors import InferenceError
from ai_os_diffusion.utils.logger import get_logger

__all__ = ["SentenceEncoder"]

_log = get_logger(__name__)

_CHUNK = 1024
"""Texts handed to the core together: enough to sort by length, few enough to show progress."""

Vectors = NDArray[np.float32]


class SentenceEncoder:
    """What `ArrowEngine.encode` does once its aliases are resolved.

    Args:
        core: the forward pass.
        tokenizer: the model's.
        name: of the model, for messages.
    """

    def __init__(self, core: InferenceCore, tokenizer: FastTokenizer, name: str) -> None:
        self._core, self._tokenizer, self._name = core, tokenizer, name
        self._first_cut = threading.Lock()

    def encode(
        self,
        texts: Sequence[str],
        *,
        prefix: str,
        normalize: bool,
        truncate_dim: int | None,
        precision: str,
        long_text: str,
        step: int | None,
        show_progress: bool,
    ) -> NDArray[Any]:
        """Embed texts; `step` texts are done between two steps of the progress bar.

        Returns:
            [n, dim] in the order of the texts.
        """
        if long_text not in ("truncate", "average"):
            raise InferenceError(f"long_text is {long_text!r}, expected 'truncate' or 'average'")
        if step is not None and step < 1:
            raise InferenceError(f"batch_size is {step}, expected 1 or more")
        skip = self._unpooled(prefix)
        if skip and long_text == "average":
            raise InferenceError(
                "long_text is 'average', expected 'truncate': this model leaves its prompt out of the pooling"
            )
        if prefix:
            texts = [prefix + text if isinstance(text, str) else text for text in texts]
        size = step if step is not None and show_progress else _CHUNK
        parts = []
        with _progress(len(texts), show_progress) as advance:
            for start in range(0, len(texts), size):
                part = texts[start : start + size]
                parts.append(
                    self._average(part, normalize)
                    if long_text == "average"
                    else self._cut(part, normalize, skip)
                )
                advance(len(part))
        vectors = np.concatenate(parts) if parts else self._cut([], normalize)
        kept = (self._core.config.truncate_dim or None) if truncate_dim is None else truncate_dim
        return quantize_embeddings(truncate_embeddings(vectors, kept, normalize), precision)

    def encode_tokens(self, texts: Sequence[str], prefix: str) -> list[Vectors]:
        """The last hidden states of each text, cut to the window: n arrays float32[length, hidden]."""
        prefixed = [prefix + text if isinstance(text, str) else text for text in texts]
        batch = self._tokenizer.encode_ragged(prefixed, self._core.config.max_seq_length)
        return self._core.token_states(batch) if prefixed else []

    def is_truncated(self, texts: Sequence[str], prefix: str) -> NDArray[np.bool_]:
        """Which texts have more tokens than the model's window takes: bool[n]."""
        window = self._core.config.max_seq_length
        _, offsets = self._tokenizer.encode_ragged([prefix + text for text in texts], window + 1)
        return np.asarray(np.diff(offsets) > window, np.bool_)

    def prompt(self, prompt: str | None, name: str | None) -> str:
        """The text to put before every sentence: the one given, the one named, or the model's default.

        Raises:
            InferenceError: the model has no prompt of that name.
        """
        prompts = self._core.config.prompts
        if prompt is not None:
            return prompt
        name = self._core.config.default_prompt_name if name is None else name
        if name is None:
            return ""
        if name not in prompts:
            known = ", ".join(prompts) or "none"
            raise InferenceError(f"prompt_name is {name!r}, expected one of the model's prompts: {known}")
        return prompts[name]

    def _unpooled(self, prefix: str) -> int:
        """Tokens of a prompt that take no part in the pooling: those before a text, as with it alone."""
        if not prefix or self._core.config.include_prompt:
            return 0
        window = self._core.config.max_seq_length
        ids = self._tokenizer.encode(prefix, max_length=window, split_special_tokens=True).flat_ids
        named = {self._tokenizer.token_to_id(token) for token in self._tokenizer.special_tokens.values()}
        return len(ids) - int(len(ids) > 0 and int(ids[-1]) in self._tokenizer.special_ids | named)

    def _average(self, texts: Sequence[str], normalize: bool) -> Vectors:
        def embed(batch: Ragged) -> Vectors:
            return self._core.embed(batch, normalize=False)

        vectors = embed_windows(embed, self._tokenizer, texts, self._core.config.max_seq_length)
        return truncate_embeddings(vectors, vectors.shape[1], normalize)

    def _cut(self, texts: Sequence[str], normalize: bool, skip: int = 0) -> Vectors:
        window = self._core.config.max_seq_length
        # One token more than the window tells which texts are longer.
        batch = self._tokenizer.encode_ragged(texts, window + 1)
        cut = int((np.diff(batch[1]) > window).sum())
        if cut:
            batch = self._tokenizer.encode_ragged(texts, window)
        vectors = self._core.embed(batch, normalize=normalize, skip=skip)
        # Whoever gets the lock, which nobody gives back, is the first.
        if cut and self._first_cut.acquire(blocking=False):
            _log.warning(
                "%s: %d of %d texts exceed %d tokens and were truncated; later ones are truncated silently",
                self._name,
                cut,
                len(texts),
                window,
            )
        return vectors


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of finished texts."""
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("embedding", total=total)
        yield lambda count: progress.advance(task, count)
