"""Searching memories: by vector, by words, and by both."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np

from ai_os_diffusion import _native
from ai_os_diffusion.contracts import Hit, Memory
from ai_os_diffusion.storage.hits import Candidate, Candidates, IndexState, TextHits
from ai_os_diffusion.storage.records import as_matrix, as_vector, filter_json
from ai_os_diffusion.storage.records import text as checked_text
from ai_os_diffusion.utils.errors import StorageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Metric", "Row", "Searchable", "as_memory"]

Metric = Literal["cosine", "dot", "euclidean"]
Row = tuple[str, str, str, int, int, Any]


class Searchable(ABC):
    """What can be searched. Filters are those of `MemoryView`."""

    @abstractmethod
    def _view(self) -> _native.Snapshot:
        """What to read from."""

    def query_by_similarity(
        self,
        embedding: ArrayLike,
        top_k: int = 5,
        *,
        filter: Mapping[str, Any] | None = None,
        min_similarity: float | None = None,
    ) -> list[Hit]:
        """Find the memories nearest to a vector by cosine, best first.

        Args:
            embedding: float[dim].
            top_k: memories at most.
            filter: only memories that satisfy this.
            min_similarity: only memories at least as similar.

        Returns:
            Pairs of a memory and its similarity; equal similarities are in the order of the ids.

        Raises:
            DimensionError: the vector does not fit the store, or is zero or not finite.
            FilterError: the filter cannot be understood.
        """
        return self.query(embedding, top_k, filter=filter, min_similarity=min_similarity)

    def search(
        self,
        embedding: ArrayLike,
        top_k: int = 5,
        *,
        filter: Mapping[str, Any] | None = None,
        min_similarity: float | None = None,
    ) -> list[Hit]:
        """Find the memories nearest to a vector by cosine, best first: a short name of `query_by_similarity`.

        A store makes no vectors: a text is refused, and is to be embedded first.

        Arguments, result and errors are those of `query_by_similarity`.
        """
        return self.query_by_similarity(embedding, top_k, filter=filter, min_similarity=min_similarity)

    @overload
    def query(
        self,
        embedding: ArrayLike,
        top_k: int = 5,
        *,
        text: None = None,
        filter: Mapping[str, Any] | None = None,
        min_similarity: float | None = None,
        metric: Metric = "cosine",
        num_threads: int = 0,
        k1: float = 0.9,
        b: float = 0.4,
    ) -> list[Hit]: ...
    @overload
    def query(
        self,
        embedding: ArrayLike,
        top_k: int = 5,
        *,
        text: str,
        filter: Mapping[str, Any] | None = None,
        min_similarity: float | None = None,
        metric: Metric = "cosine",
        num_threads: int = 0,
        k1: float = 0.9,
        b: float = 0.4,
    ) -> Candidates: ...

    def query(
        self,
        embedding: ArrayLike,
        top_k: int = 5,
        *,
        text: str | None = None,
        filter: Mapping[str, Any] | None = None,
        min_similarity: float | None = None,
        metric: Metric = "cosine",
        num_threads: int = 0,
        k1: float = 0.9,
        b: float = 0.4,
    ) -> list[Hit] | Candidates:
        """Find the memories nearest to a vector, best first, and with `text` also those that hold its words.

        Both searches are exact.

        Args:
            embedding: float[dim].
            top_k: memories at most; with `text`, at most as many of each search.
            text: words to look for, as `search_text` does.
            filter: only memories that satisfy this.
            min_similarity: of those found by the vector, only memories at least as similar.
            metric: `cosine`, `dot`, or `euclidean`, whose similarity is the negative distance.
            num_threads: threads that scan the vectors; 0 is one per core.
            k1: as for `search_text`.
            b: as for `search_text`.

        Returns:
            Pairs of a memory and its similarity; equal similarities are in the order of the ids. With
            `text`, the memories that one of the searches found, each with its similarity and its BM25 score,
            in the order of similarity, score and id: which of the two says more is for the caller to weigh.

        Raises:
            DimensionError: the vector does not fit the store, or is zero or not finite.
            FilterError: the filter cannot be understood.
            StorageError: there is no such metric, or another argument is out of range.
        """
        vector = as_vector(embedding, "the query")
        if text is None:
            return self._search(vector[None, :], top_k, metric, min_similarity, filter, num_threads)[0]
        _check(top_k, num_threads)
        found, state = self._view().search_both(
            vector,
            checked_text(text, "text"),
            top_k,
            k1,
            b,
            metric,
            min_similarity,
            filter_json(filter),
            num_threads,
        )
        candidates = (Candidate(as_memory(row), similarity, score) for row, similarity, score in found)
        return Candidates(candidates, cast(IndexState, state))

    def search_text(
        self,
        query: str,
        top_k: int = 5,
        *,
        filter: Mapping[str, Any] | None = None,
        k1: float = 0.9,
        b: float = 0.4,
    ) -> TextHits:
        """Find the memories that hold words of a query, best first, by BM25.

        Any text is a query: there is no syntax. Words match in every form of the language of the memory,
        without regard to case, width and accents; one that stands there as it was asked for scores higher.
        Identifiers match whole and in their parts, Chinese, Japanese and Korean by words and by pairs of
        characters. What was just saved is found.

        Args:
            query: words.
            top_k: memories at most.
            filter: only memories that satisfy this; it selects before anything is scored.
            k1: how soon more of a word stops counting; at least 0.
            b: how much long texts are held back, 0 to 1.

        Returns:
            Pairs of a memory and its score, above 0. Scores depend on all memories of the store and not on
            where they lie.

        Raises:
            FilterError: the filter cannot be understood.
            StorageError: an argument is out of range.
        """
        _check(top_k)
        found, state = self._view().search_text(
            checked_text(query, "the query"), top_k, k1, b, filter_json(filter)
        )
        return TextHits([(as_memory(row), score) for row, score in found], cast(IndexState, state))

    def query_many(
        self,
        embeddings: ArrayLike,
        top_k: int = 5,
        *,
        filter: Mapping[str, Any] | None = None,
        min_similarity: float | None = None,
        metric: Metric = "cosine",
        num_threads: int = 0,
    ) -> list[list[Hit]]:
        """Find the nearest memories of each row of float[n, dim]; the queries share one scan.

        Arguments and errors are those of `query`.
        """
        matrix = as_matrix(embeddings, "the queries")
        return self._search(matrix, top_k, metric, min_similarity, filter, num_threads)

    def _search(
        self,
        queries: np.ndarray[Any, np.dtype[np.float32]],
        top_k: int,
        metric: Metric,
        min_similarity: float | None,
        filter: Mapping[str, Any] | None,
        num_threads: int,
    ) -> list[list[Hit]]:
        _check(top_k, num_threads)
        found = self._view().search(queries, top_k, metric, min_similarity, filter_json(filter), num_threads)
        return [[(as_memory(row), similarity) for row, similarity in hits] for hits in found]


def as_memory(row: Row) -> Memory:
    """A memory of what the extension hands over."""
    memory_id, content, metadata, created_at, updated_at, embedding = row
    return {
        "memory_id": memory_id,
        "content": content,
        "embedding": embedding,
        "metadata": json.loads(metadata),
        "created_at": created_at / 1e6,
        "updated_at": updated_at / 1e6,
    }


def _check(top_k: int, num_threads: int = 0) -> None:
    if top_k < 0 or num_threads < 0:
        raise StorageError(f"query: expected top_k and num_threads >= 0, got {top_k} and {num_threads}")
