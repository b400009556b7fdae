"""Embeddings from a service that speaks OpenAI's `/embeddings`."""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import os
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ai_os_diffusion.utils.bounded_http import Limits, TransferError, request
from ai_os_diffusion.utils.errors import ConfigurationError, InferenceError
from ai_os_diffusion.utils.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HttpEmbeddingProvider"]

_RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504})
_LONGEST_WAIT_S = 30.0
# A vector of tens of thousands of numbers, written out.
_VECTOR_BYTES = 1 << 20


class HttpEmbeddingProvider:
    """Embeds over HTTP; safe to use from several threads.

    Args:
        base_url: up to and without `/embeddings`, for instance `http://127.0.0.1:8000/v1`.
        model: name the service knows the model by.
        api_key: sent as a bearer token; by default the environment variable `OPENAI_API_KEY`, if set.
        dimension: length of a vector; None asks the service with a first text when needed.
        batch_size: texts of one request.
        timeout_s: seconds to wait for a whole answer.
        retries: further attempts after a failure that may pass (timeouts, 429, 5xx), with growing waits.
        query_prefix: put before questions.
        document_prefix: put before passages.
        encoding: how vectors travel, "base64" or "float".

    Raises:
        ConfigurationError: an argument is out of range.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        dimension: int | None = None,
        batch_size: int = 64,
        timeout_s: float = 30.0,
        retries: int = 3,
        query_prefix: str = "",
        document_prefix: str = "",
        encoding: str = "base64",
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ConfigurationError(f"base_url is {base_url!r}, expected http:// or https://")
        if batch_size < 1 or retries < 0 or timeout_s <= 0:
            raise ConfigurationError(
                f"batch_size, retries and timeout_s are {batch_size}, {retries} and {timeout_s}; "
                "expected at least 1, at least 0 and more than 0"
            )
        if encoding not in ("base64", "float"):
            raise ConfigurationError(f"encoding is {encoding!r}, expected 'base64' or 'float'")
        self.url = base_url.rstrip("/") + "/embeddings"
        self.model = model
        self._key = api_key if api_key is not None else os.environ.get("OPENAI_API_KEY", "")
        self._dimension = dimension
        self._batch_size, self._timeout_s, self._retries = batch_size, timeout_s, retries
        self._query_prefix, self._document_prefix = query_prefix, document_prefix
        self._encoding = encoding

    @property
    def dimension(self) -> int:
        """Length of a vector; the first use may ask the service."""
        if self._dimension is None:
            self._dimension = int(self._request(["dimension"]).shape[1])
        return self._dimension

    @property
    def fingerprint(self) -> str:
        """What distinguishes these vectors from those of another provider."""
        return f"{self.url} {self.model}"

    def encode(self, sentences: str | Sequence[str]) -> NDArray[Any]:
        """Embed texts: float32[dim] for a string, float32[n, dim] for a sequence.

        Raises:
            InferenceError: the service cannot be reached, refuses, or answers with something else.
        """
        return self._encode(sentences, "")

    def encode_query(self, sentences: str | Sequence[str]) -> NDArray[Any]:
        """`encode` with the prefix of questions."""
        return self._encode(sentences, self._query_prefix)

    def encode_document(self, sentences: str | Sequence[str]) -> NDArray[Any]:
        """`encode` with the prefix of passages."""
        return self._encode(sentences, self._document_prefix)

    def _encode(self, sentences: str | Sequence[str], prefix: str) -> NDArray[Any]:
        import numpy as np

        texts = [prefix + text for text in ([sentences] if isinstance(sentences, str) else sentences)]
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        starts = range(0, len(texts), self._batch_size)
        vectors = np.concatenate([self._request(texts[start : start + self._batch_size]) for start in starts])
        return vectors[0] if isinstance(sentences, str) else vectors

    def _request(self, texts: list[str]) -> NDArray[Any]:
        body = {"model": self.model, "input": texts, "encoding_format": self._encoding}
        content = json.dumps(body).encode()
        attempt = 0
        while True:
            try:
                return self._vectors(self._send(content), len(texts))
            except _TransientError as error:
                problem = error
            attempt += 1
            if attempt > self._retries:
                raise InferenceError(
                    f"{self.url}: {problem}, after {counted(attempt, 'attempt')}"
                ) from problem
            # Jitter keeps clients that failed together from coming back together.
            spread = random.uniform(0.5, 1)  # noqa: S311
            time.sleep(problem.wait_s or spread * min(0.125 * 2**attempt, _LONGEST_WAIT_S))

    def _send(self, body: bytes) -> bytes:
        limits = Limits(stall_s=self._timeout_s, answer_s=self._timeout_s)
        headers = {"Content-Type": "application/json"}
        try:
            with request(
                self.url, method="POST", content=body, headers=headers, token=self._key or None, limits=limits
            ) as answer:
                content = answer.read((1 + self._batch_size) * _VECTOR_BYTES)
        except TransferError as error:
            raise _TransientError(f"cannot be reached: {error}") from error
        if answer.status // 100 == 2:
            return content
        phrase = http.client.responses.get(answer.status, "")
        problem = f"answered {answer.status} {phrase}: {_reason(content)}"
        if answer.status in _RETRIED:
            raise _TransientError(problem, _seconds(answer.headers.get("Retry-After")))
        raise InferenceError(f"{self.url}: {problem}")

    def _vectors(self, answer: bytes, count: int) -> NDArray[Any]:
        import numpy as np

        try:
            items = sorted(json.loads(answer)["data"], key=lambda item: item["index"])
            rows = [_row(item["embedding"]) for item in items]
            vectors = np.stack(rows).astype(np.float32)
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise InferenceError(
                f"{self.url}: expected an embeddings answer, got {answer[:120]!r} ({error!r})"
            ) from error
        expected = self._dimension or vectors.shape[-1]
        if vectors.shape != (count, expected) or not np.isfinite(vectors).all():
            raise InferenceError(
                f"{self.url}: expected {counted(count, 'vector')} of {expected} finite numbers, "
                f"got {list(vectors.shape)}"
            )
        return vectors


class _TransientError(Exception):
    def __init__(self, problem: str, wait_s: float = 0.0) -> None:
        super().__init__(problem)
        self.wait_s = wait_s


def _row(embedding: str | list[float]) -> NDArray[Any]:
    import numpy as np

    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    return np.asarray(embedding, np.float32)


def _reason(body: bytes) -> str:
    """The message of an OpenAI error, or the beginning of whatever came."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def _seconds(retry_after: str | None) -> float:
    """The wait a service asks for, within reason; dates are ignored."""
    try:
        return min(max(float(retry_after or 0), 0.0), _LONGEST_WAIT_S)
    except ValueError:
        return 0.0
