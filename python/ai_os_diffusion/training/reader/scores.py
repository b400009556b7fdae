"""What teachers say of questions: scores that a card learns from beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.training.reader.packed import PackedQuestions
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["TeacherScores"]


class TeacherScores:
    """Start, end and relevance of every window of some questions, the mean of several teachers.

    A file is a NumPy array float16[total], written by whatever the teacher is: for each pair in the order of
    `PackedQuestions` the relevance, then start and end of "none", then start and end of each token of the
    window. Teachers share a vocabulary with the card.

    Args:
        files: of the teachers.
        packed: the questions.

    Raises:
        TrainingError: a file is none, or of other questions.
    """

    def __init__(self, files: Sequence[Path], packed: PackedQuestions) -> None:
        self.bounds = score_bounds(packed)
        self._teachers = [_opened(path, int(self.bounds[-1])) for path in files]

    def of(self, pair: int) -> tuple[NDArray[np.float32], float]:
        """float32[1 + tokens, 2] of a pair's window, "none" first, and its relevance."""
        span = slice(*self.bounds[pair : pair + 2])
        told = np.stack([teacher[span] for teacher in self._teachers])
        mean: NDArray[np.float32] = told.mean(0, np.float32)
        return mean[1:].reshape(-1, 2), float(mean[0])


def score_bounds(packed: PackedQuestions) -> NDArray[np.int64]:
    """int64[pairs + 1]: where the scores of each pair begin in a file."""
    lengths = np.diff(packed.pair_spans, axis=1)[:, 0]
    return np.cumsum([0, *(2 * lengths + 3)], dtype=np.int64)


def _opened(path: Path, expected: int) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TrainingError(f"{path}: no scores: {error}; expected what a teacher wrote") from error
    if found.dtype != np.float16 or found.shape != (expected,):
        raise TrainingError(
            f"{path}: {found.dtype}{list(found.shape)}, expected float16[{expected}]: scores of the "
            "questions of data.files, in their order"
        )
    return found
