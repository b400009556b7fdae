"""Batches of questions, each with some of its windows, packed into rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.inference.fast_tokenizer import FastTokenizer
from ai_os_diffusion.models.contents import sha256_of
from ai_os_diffusion.training.example_files import example_paths
from ai_os_diffusion.training.reader.packed import BLOCK, RELEVANT, PackedQuestions, joined
from ai_os_diffusion.training.reader.recipe import ReaderRecipe
from ai_os_diffusion.training.reader.rows import read_asked
from ai_os_diffusion.training.reader.scores import TeacherScores
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["Batch", "ReaderBatches", "Special", "open_questions"]

Batch = dict[str, NDArray[Any]]

IGNORED, NONE = -1, 0
"""As a label: not learned; no answer."""


def open_questions(recipe: ReaderRecipe, folder: Path) -> PackedQuestions:
    """The questions of a recipe.

    Args:
        recipe: names the files.
        folder: of the base.

    Raises:
        TrainingError: a file is missing, damaged, or packed for another model or recipe.
    """
    tokenizer = sha256_of(folder / "tokenizer.json")
    parts = {}
    for path in recipe.data.files:
        if path.suffix == ".npz" and path.is_file():
            parts[str(path)] = PackedQuestions.load(path)
        else:
            rows = (row for file in example_paths([path]) for row in read_asked(file))
            parts[str(path)] = PackedQuestions.of(rows, folder, recipe.windows)
    for place, part in parts.items():
        part.check(tokenizer, recipe.windows, place)
    packed = joined(parts)
    if strange := sorted(set(recipe.data.passes) - set(packed.kind_names)):
        raise TrainingError(
            f"data.passes: there is no kind {strange[0]!r} in the files; there are "
            f"{', '.join(packed.kind_names)}"
        )
    return packed


@dataclass(frozen=True)
class Special:
    """The tokens around a question and a passage.

    Attributes:
        first: stands before the question.
        between: parts it from the passage, and ends that.
        pad: fills rows.
    """

    first: int
    between: int
    pad: int

    @classmethod
    def of(cls, folder: Path) -> Special:
        """Those that a model puts around a text of its own."""
        around = FastTokenizer(folder).encode("a", padding=False, split_special_tokens=True).ids[0]
        return cls(int(around[0]), int(around[-1]), 0)


class ReaderBatches:
    """Batch k is a function of the seed and k alone: a run that was broken off goes on with the next one.

    A batch is a dict of, with q questions, k windows each and n places each,
    `ids`, `types`, `positions`, `document` int32[rows, length]: the windows behind each other;
    `places` int32[q, k, n]: where in the flattened rows the first token and the passage's tokens stand, and
    -1 behind the last; `start`, `end` int32[q, k]: indices in it, 0 is "none", -1 is not learned;
    `relevant` float32[q, k]: 1, 0, or -1 where there is no window; `passage` int32[q, k], of the question;
    and with teachers `taught` float32[q, k, n, 2] and `taught_relevance` float32[q, k].

    Args:
        folder: of the base.
        recipe: what is drawn.
        packed: what of; None for what the recipe names, opened by the process that draws.
    """

    def __init__(self, folder: Path, recipe: ReaderRecipe, packed: PackedQuestions | None = None) -> None:
        self._folder, self._recipe, self._packed = folder, recipe, packed
        self._scores: TeacherScores | None = None
        self._special: Special | None = None
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Processes that draw open the files themselves."""
        return {**vars(self), "_packed": None, "_scores": None, "_order": None}

    def __getitem__(self, index: int) -> Batch:
        return self.of(self._questions(index), np.random.default_rng([self._recipe.seed, 1, index]))

    @property
    def packed(self) -> PackedQuestions:
        """The questions."""
        if self._packed is None:
            self._packed = open_questions(self._recipe, self._folder)
        return self._packed

    def of(self, questions: Sequence[int], rng: np.random.Generator) -> Batch:
        """The batch of some questions."""
        recipe, packed = self._recipe, self.packed
        special = self._special = self._special or Special.of(self._folder)
        if recipe.data.scores and self._scores is None:
            self._scores = TeacherScores(recipe.data.scores, packed)
        batch = _Draft(recipe, special, self._scores)
        chosen = [self._pairs(question, rng) for question in questions]
        for rank in range(recipe.questions.windows):
            # The answers of all questions first: what does not fit any more is a window without one.
            for at, (question, pairs) in enumerate(zip(questions, chosen, strict=True)):
                if rank < len(pairs):
                    batch.add(packed, (at, rank), question, pairs[rank], rng)
        return batch.arrays

    def _questions(self, index: int) -> list[int]:
        """Those of a batch: the epochs behind each other, cut to size."""
        count = self._recipe.questions.count
        found: list[int] = []
        per_epoch = len(self._epoch(0))
        for at in range(index * count, (index + 1) * count):
            epoch, place = divmod(at, per_epoch)
            found.append(int(self._epoch(epoch)[place]))
        return found

    def _epoch(self, number: int) -> NDArray[np.int64]:
        """The questions of an epoch in order; each kind as often as the recipe says."""
        if self._order is None or self._order[0] != number:
            rng = np.random.default_rng([self._recipe.seed, 0, number])
            drawn = []
            for kind, name in enumerate(self.packed.kind_names):
                own = np.flatnonzero(self.packed.kinds == kind)
                passes = self._recipe.data.passes.get(name, 1.0)
                whole, rest = divmod(round(passes * len(own)), max(1, len(own)))
                drawn += [own] * whole + [rng.choice(own, rest, replace=False)]
            order = rng.permutation(np.concatenate(drawn))
            if not len(order):
                raise TrainingError("data.passes leaves no question; expected some above 0")
            self._order = number, order
        return self._order[1]

    def _pairs(self, question: int, rng: np.random.Generator) -> list[int]:
        """The windows of a question that are read: those that answer first."""
        packed, settings = self.packed, self._recipe.questions
        pairs = np.arange(packed.pair_bounds[question], packed.pair_bounds[question + 1])
        answers = (packed.pair_flags[pairs] & RELEVANT) > 0
        good, bad = rng.permutation(pairs[answers]), rng.permutation(pairs[~answers])
        return [*good[: settings.positives], *bad[: settings.negatives]]


class _Draft:
    """A batch in the making."""

    def __init__(self, recipe: ReaderRecipe, special: Special, scores: TeacherScores | None) -> None:
        self._recipe, self._special, self._scores = recipe, special, scores
        rows, length = recipe.batch.rows, recipe.batch.length
        shape = (recipe.questions.count, recipe.questions.windows)
        places = 1 + recipe.windows.passage
        self.arrays: Batch = {
            "ids": np.full((rows, length), special.pad, np.int32),
            "types": np.zeros((rows, length), np.int32),
            "positions": np.zeros((rows, length), np.int32),
            "document": np.full((rows, length), -1, np.int32),
            "places": np.full((*shape, places), -1, np.int32),
            "start": np.full(shape, IGNORED, np.int32),
            "end": np.full(shape, IGNORED, np.int32),
            "relevant": np.full(shape, -1, np.float32),
            "passage": np.full(shape, -1, np.int32),
        }
        if scores is not None:
            self.arrays["taught"] = np.zeros((*shape, places, 2), np.float32)
            self.arrays["taught_relevance"] = np.zeros(shape, np.float32)
        self._used = [0] * rows
        self._windows = 0

    def add(
        self,
        packed: PackedQuestions,
        at: tuple[int, int],
        question: int,
        pair: int,
        rng: np.random.Generator,
    ) -> None:
        """Add a window; one that fits into no row is left out."""
        begin, end = packed.question_bounds[question : question + 2]
        asked, told = packed.question_ids[begin:end], packed.passage_ids[slice(*packed.pair_spans[pair])]
        length, head = len(asked) + len(told) + 3, len(asked) + 2
        # The fullest row that it fits into: long windows find room at the end too.
        row = max(
            (row for row, used in enumerate(self._used) if used + length <= self._recipe.batch.length),
            key=self._used.__getitem__,
            default=None,
        )
        if row is None:
            return
        first, arrays = self._used[row], self.arrays
        span = slice(first, first + length)
        ids = arrays["ids"][row, span]
        ids[0], ids[head - 1], ids[-1] = self._special.first, self._special.between, self._special.between
        ids[1 : head - 1], ids[head:-1] = asked, told
        arrays["types"][row, first + head : first + length] = 1
        arrays["positions"][row, span] = np.arange(length)
        arrays["document"][row, span] = self._windows
        self._used[row] += length
        self._windows += 1
        flat = row * self._recipe.batch.length + first
        arrays["places"][at][0] = flat
        arrays["places"][at][1 : 1 + len(told)] = flat + head + np.arange(len(told))
        flags = int(packed.pair_flags[pair])
        arrays["relevant"][at] = bool(flags & RELEVANT)
        arrays["passage"][at] = packed.pair_passages[pair]
        arrays["start"][at], arrays["end"][at] = self._labels(packed, pair, flags, rng)
        if self._scores is not None:
            taught, relevance = self._scores.of(pair)
            arrays["taught"][at][: len(taught)] = taught
            arrays["taught_relevance"][at] = relevance

    def _labels(
        self, packed: PackedQuestions, pair: int, flags: int, rng: np.random.Generator
    ) -> tuple[int, int]:
        """Of start and end."""
        answers = packed.answers[slice(*packed.answer_bounds[pair : pair + 2])]
        if flags & BLOCK and flags & RELEVANT:
            blocks = self._recipe.loss.blocks
            if blocks != "first" or not len(answers):
                return (NONE, NONE) if blocks == "none" else (IGNORED, IGNORED)
        if not len(answers):
            return NONE, NONE
        first, last = answers[rng.integers(len(answers))]
        return 1 + int(first), 1 + int(last)
