"""Questions and windows of passages as ids: what batches are drawn from, made of rows or kept in a file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.models.contents import sha256_of
from ai_os_diffusion.training.reader.recipe import WindowSettings
from ai_os_diffusion.training.reader.rows import Asked, Passage
from ai_os_diffusion.utils.errors import TrainingError
from ai_os_diffusion.utils.files.atomic_file import replacing

__all__ = ["BLOCK", "RELEVANT", "PackedQuestions", "joined"]

Ints = NDArray[Any]

_VERSION = 1
_AT_ONCE = 1024
"""Rows that are tokenised together."""

RELEVANT, BLOCK = 1, 2
"""Bits of `pair_flags`."""


@dataclass(frozen=True)
class PackedQuestions:
    """Questions, each with its windows, in arrays.

    Pair p is a question and a window: a run of tokens of one passage. Passages that are alike are kept once,
    and windows of a passage share its tokens.

    Attributes:
        about: JSON: kinds of questions in the order of `kinds`, the settings of windows, the vocabulary.
        kinds: uint8[questions], kind of each.
        question_ids: uint16 or int32[total], without special tokens.
        question_bounds: int64[questions + 1], where each begins in it.
        passage_ids: uint16 or int32[total], tokens of the passages.
        pair_bounds: int64[questions + 1], the pairs of each question.
        pair_spans: int64[pairs, 2], begin and end of the window in `passage_ids`.
        pair_passages: int32[pairs], which passage of its question.
        pair_flags: uint8[pairs], whether the window is relevant, and whether its answer is a block.
        answer_bounds: int64[pairs + 1], the answers of each pair.
        answers: int16[total, 2], first and last token of each, counted in the window.
    """

    about: str
    kinds: Ints
    question_ids: Ints
    question_bounds: Ints
    passage_ids: Ints
    pair_bounds: Ints
    pair_spans: Ints
    pair_passages: Ints
    pair_flags: Ints
    answer_bounds: Ints
    answers: Ints

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def kind_names(self) -> list[str]:
        """Of `kinds`."""
        names: list[str] = json.loads(self.about)["kinds"]
        return names

    def check(self, tokenizer: str, settings: WindowSettings, place: str) -> None:
        """Refuse what was packed for another model or otherwise than a recipe says.

        Raises:
            TrainingError: it was.
        """
        said = json.loads(self.about)
        expected = {"tokenizer": tokenizer, "windows": vars(settings), "version": _VERSION}
        for key, value in expected.items():
            if said.get(key) != value:
                raise TrainingError(
                    f"{place}: was packed with {key} {said.get(key)}, the recipe and its base have {value}; "
                    "pack the rows anew"
                )

    @classmethod
    def of(cls, rows: Iterable[Asked], folder: Path, settings: WindowSettings) -> PackedQuestions:
        """Tokenise rows.

        Args:
            rows: questions.
            folder: of the base.
            settings: how passages are cut.

        Raises:
            TrainingError: there is none.
        """
        packer = _Packer(FastTokenizer(folder), settings)
        waiting = iter(rows)
        while some := list(islice(waiting, _AT_ONCE)):
            packer.add(some)
        return packer.packed(sha256_of(folder / "tokenizer.json"))

    def save(self, path: Path) -> None:
        """Write it, whole or not at all, as a compressed NumPy archive."""
        with replacing(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> PackedQuestions:
        """Read it.

        Raises:
            TrainingError: it is damaged, or is no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as found:
                arrays: dict[str, Any] = {item.name: found[item.name] for item in fields(cls)}
            packed = cls(**{**arrays, "about": str(arrays["about"])})
            packed._check_bounds()
        except (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile) as error:
            raise TrainingError(f"{path}: no packed questions: {error}; pack the rows anew") from error
        return packed

    def _check_bounds(self) -> None:
        """Refuse arrays that do not fit each other: an index out of range would be told of nowhere."""
        names, pairs = len(self.kind_names), len(self.pair_spans)
        for bounds, count, total in (
            (self.question_bounds, len(self), len(self.question_ids)),
            (self.pair_bounds, len(self), pairs),
            (self.answer_bounds, pairs, len(self.answers)),
        ):
            if len(bounds) != count + 1 or bounds[0] or bounds[-1] != total or (np.diff(bounds) < 0).any():
                raise ValueError("bounds that do not rise from nothing to everything")
        spans, lengths = self.pair_spans, np.diff(self.pair_spans, axis=1)[:, 0]
        owners = np.repeat(np.arange(pairs), np.diff(self.answer_bounds))
        if (
            not len(self)
            or self.kinds.max() >= names
            or (np.diff(self.pair_bounds) < 1).any()
            or {len(self.pair_flags), len(self.pair_passages)} != {pairs}
            or (lengths < 1).any()
            or spans.min() < 0
            or spans.max() > len(self.passage_ids)
            or (self.answers < 0).any()
            or (self.answers[:, 0] > self.answers[:, 1]).any()
            or (self.answers[:, 1] >= lengths[owners]).any()
        ):
            raise ValueError("arrays that do not fit each other")


class _Packer:
    """Takes rows, gives arrays."""

    def __init__(self, tokenizer: FastTokenizer, settings: WindowSettings) -> None:
        self._tokenizer, self._settings = tokenizer, settings
        self._kinds: dict[str, int] = {}
        self._kind: list[int] = []
        self._questions: list[Ints] = []
        self._passages: dict[str, tuple[int, Ints]] = {}
        self._ids: list[Ints] = []
        self._end = 0
        self._pairs: list[tuple[int, int, int, int]] = []
        self._pair_counts: list[int] = []
        self._answers: list[tuple[int, int]] = []
        self._answer_counts: list[int] = []

    def add(self, rows: list[Asked]) -> None:
        """Take some rows."""
        texts = dict.fromkeys(passage.text for row in rows for passage in row.passages)
        new = [text for text in texts if text not in self._passages]
        found = self._encode(new, return_offsets=True)
        for text, ids, places in zip(new, found.ids, found.offsets or [], strict=True):
            self._passages[text] = self._end, places
            self._ids.append(ids)
            self._end += len(ids)
        asked = self._encode([row.question for row in rows]).ids
        for row, ids in zip(rows, asked, strict=True):
            before = len(self._pairs)
            for number, passage in enumerate(row.passages):
                self._add(number, passage)
            if len(self._pairs) == before or not len(ids):
                # Nothing that the vocabulary knows.
                del self._pairs[before:], self._answer_counts[before:]
                continue
            self._kind.append(self._kinds.setdefault(row.kind, len(self._kinds)))
            # What is asked stands at the end of a long question.
            self._questions.append(ids[-self._settings.question :])
            self._pair_counts.append(len(self._pairs) - before)

    def _encode(self, texts: list[str], *, return_offsets: bool = False) -> Any:
        return self._tokenizer.encode(
            texts,
            add_special_tokens=False,
            padding=False,
            split_special_tokens=True,
            return_offsets=return_offsets,
        )

    def _add(self, number: int, passage: Passage) -> None:
        begin, places = self._passages[passage.text]
        length, settings = len(places), self._settings
        spans = [
            (int(np.searchsorted(places[:, 1], first, "right")), int(np.searchsorted(places[:, 0], end)) - 1)
            for first, end in passage.answers
        ]
        spans = [(first, last) for first, last in spans if 0 <= first <= last]
        for start in settings.starts(length):
            stop = min(start + settings.passage, length)
            inside = {
                (first - start, last - start) for first, last in spans if start <= first and last < stop
            }
            is_relevant = passage.is_relevant and (bool(inside) or not spans)
            flags = RELEVANT * is_relevant | BLOCK * passage.is_block
            self._pairs.append((begin + start, begin + stop, number, flags))
            self._answers += sorted(inside)
            self._answer_counts.append(len(inside))

    def packed(self, tokenizer: str) -> PackedQuestions:
        if not self._kind:
            raise TrainingError("no questions; expected a JSON object a line")
        windows = vars(self._settings)
        about = {"version": _VERSION, "kinds": list(self._kinds), "windows": windows, "tokenizer": tokenizer}
        small = np.uint16 if self._tokenizer.vocab_size <= 1 << 16 else np.int32
        pairs = np.array(self._pairs, np.int64)
        return PackedQuestions(
            about=json.dumps(about),
            kinds=np.array(self._kind, np.uint8 if len(self._kinds) < 256 else np.int32),
            question_ids=np.concatenate(self._questions).astype(small),
            question_bounds=_bounds(map(len, self._questions)),
            passage_ids=np.concatenate(self._ids).astype(small),
            pair_bounds=_bounds(self._pair_counts),
            pair_spans=pairs[:, :2],
            pair_passages=pairs[:, 2].astype(np.int32),
            pair_flags=pairs[:, 3].astype(np.uint8),
            answer_bounds=_bounds(self._answer_counts),
            answers=np.array(self._answers, np.int16).reshape(-1, 2),
        )


def _bounds(counts: Iterable[int]) -> Ints:
    return np.cumsum([0, *counts], dtype=np.int64)


def joined(parts: Mapping[str, PackedQuestions]) -> PackedQuestions:
    """Several as one, by what names each in errors."""
    packed = list(parts.values())
    if len(packed) == 1:
        return packed[0]
    names = list(dict.fromkeys(name for part in packed for name in part.kind_names))
    kinds = [np.array([names.index(name) for name in part.kind_names])[part.kinds] for part in packed]
    begins = np.cumsum([0, *(len(part.passage_ids) for part in packed)])

    def bounds(name: str) -> Ints:
        return _bounds(np.concatenate([np.diff(getattr(part, name)) for part in packed]))

    def whole(name: str) -> Ints:
        return np.concatenate([getattr(part, name) for part in packed])

    return PackedQuestions(
        about=json.dumps({**json.loads(packed[0].about), "kinds": names}),
        kinds=np.concatenate(kinds),
        question_ids=whole("question_ids"),
        question_bounds=bounds("question_bounds"),
        passage_ids=whole("passage_ids"),
        pair_bounds=bounds("pair_bounds"),
        pair_spans=np.concatenate(
            [part.pair_spans + begin for part, begin in zip(packed, begins[:-1], strict=True)]
        ),
        pair_passages=whole("pair_passages"),
        pair_flags=whole("pair_flags"),
        answer_bounds=bounds("answer_bounds"),
        answers=whole("answers"),
    )
