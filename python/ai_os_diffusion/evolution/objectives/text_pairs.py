"""Texts that belong together, which an encoder is to bring near each other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ai_os_diffusion.evolution.qa_pairs import rows_of
from ai_os_diffusion.inference.arrow_engine import ArrowEngine
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["TextPairs"]

Pair = tuple[str, str]

_QUERY, _POSITIVE = ("query", "q", "question"), ("positive", "a", "answer")


@dataclass(frozen=True)
class TextPairs:
    """Queries and the texts that they are to find, each pair once.

    Attributes:
        pairs: in the order given.
        repeated: pairs that were there before.
    """

    pairs: tuple[Pair, ...]
    repeated: int = 0

    @classmethod
    def of(cls, rows: Iterable[Any], place: str = "pairs") -> TextPairs:
        """Check pairs before anything is computed.

        Args:
            rows: pairs of texts; or mappings with `query` and `positive`, or the names of questions and
                answers.
            place: names them in errors.

        Raises:
            TrainingError: there are fewer than two, between which there is nothing to tell apart, or one is
                not two texts.
        """
        if isinstance(rows, str | bytes | Mapping):
            raise TrainingError(f"{place} is a {type(rows).__name__}, expected a list of pairs")
        given = [_pair(row, f"{place}, {number}") for number, row in enumerate(rows, 1)]
        kept = tuple(dict.fromkeys(given))
        if len({positive for _, positive in kept}) < 2:
            raise TrainingError(
                f"{place}: expected at least two texts to be found, got {len(kept)} pairs: what a query is "
                "near to is learned beside what it is not"
            )
        return cls(kept, len(given) - len(kept))

    @classmethod
    def read(cls, path: Path) -> TextPairs:
        """Read a file: `.jsonl`, `.json` (a list) or `.csv` with a header.

        Raises:
            TrainingError: it cannot be read, or a pair is not whole.
        """
        return cls.of(rows_of(path), str(path))

    def found_by(self, engine: ArrowEngine) -> float:
        """Share of the queries that an encoder finds nearest to their own text, among all texts."""
        places = {text: number for number, text in enumerate(dict.fromkeys(text for _, text in self.pairs))}
        queries = engine.encode_query([query for query, _ in self.pairs])
        nearest = engine.similarity(queries, engine.encode_document(list(places))).argmax(axis=1)
        own = [places[text] for _, text in self.pairs]
        return float(np.mean(nearest == np.array(own)))

    @property
    def digest(self) -> str:
        """The sha256 of the pairs."""
        return hashlib.sha256(json.dumps(self.pairs).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.pairs)


def _pair(row: Any, place: str) -> Pair:
    if isinstance(row, Mapping):
        found = [[row[name] for name in names if row.get(name) is not None] for names in (_QUERY, _POSITIVE)]
        texts = [given[0] if len(given) == 1 else None for given in found]
        got = ", ".join(map(str, row)) or "nothing"
    elif isinstance(row, tuple | list):
        texts, got = list(row), f"{len(row)} values"
    else:
        texts, got = [], type(row).__name__
    if len(texts) != 2 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise TrainingError(f"{place}: expected query and positive as texts that are not empty, got {got}")
    query, positive = (text.strip() for text in texts if text is not None)
    return query, positive
