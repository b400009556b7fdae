"""A larger reader that scores the questions for the card: `teacher.py RECIPE WEIGHTS SCORES --seconds N`.

RECIPE is one of `aios train-reader`, of whose batches it learns; WEIGHTS the folder that `mpnet.py` packed.
SCORES gets what it says of every window of the recipe's questions, as `data.scores` names it; `--also` the
same for other packed questions, from which nothing is learned.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mpnet import Teacher
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from ai_os_diffusion.models.local_models import resolve_model
from ai_os_diffusion.training.reader.batches import ReaderBatches, Special, open_questions
from ai_os_diffusion.training.reader.packed import PackedQuestions
from ai_os_diffusion.training.reader.recipe import ReaderRecipe
from ai_os_diffusion.training.reader.scores import score_bounds
from ai_os_diffusion.training.reader.torch.loss import reader_losses

Tensor = Any
_SEEN = ("ids", "positions", "document")
_LEARNED = ("places", "start", "end", "relevant", "passage")


def drawn(batches: Any, numbers: Iterable[int], workers: int) -> Iterator[dict[str, Tensor]]:
    """Batches, drawn by other processes where there are some."""
    apart = {"multiprocessing_context": "spawn", "prefetch_factor": 4} if workers else {}
    return iter(DataLoader(batches, batch_size=None, sampler=numbers, num_workers=workers, **apart))


def scores_of(teacher: Teacher, batch: dict[str, Tensor], device: Any) -> Tensor:
    """float32[positions, 3]."""
    return teacher(*(batch[name].to(device, non_blocking=True).long() for name in _SEEN))


def train(
    teacher: Teacher, recipe: ReaderRecipe, base: Path, seconds: float, rate: float, device: Any
) -> None:
    """Teach the teacher for some seconds, the first step not counted: it compiles."""
    trained = list(teacher.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [value for value in trained if value.ndim > 1], "weight_decay": 0.01},
            {"params": [value for value in trained if value.ndim < 2], "weight_decay": 0.0},
        ],
        lr=rate,
        betas=(0.9, 0.98),
        fused=device.type == "cuda",
    )
    teacher.train()
    begun, losses = 0.0, []
    for step, batch in enumerate(drawn(ReaderBatches(base, recipe), itertools.count(), recipe.batch.workers)):
        progress = (time.monotonic() - begun) / seconds if begun else 0.0
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (progress + 1e-3) / 0.06, (1 - progress) / 0.94)
        scores = scores_of(teacher, batch, device)
        on_device = {name: batch[name].to(device, non_blocking=True) for name in _LEARNED}
        loss = sum(reader_losses(scores, on_device, recipe.loss).values())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        # Where the clock ends the run it has to be the device's; one step behind, so that it never waits.
        float(losses[-2 if begun and len(losses) > 1 else -1])
        begun = begun or time.monotonic()
        if step % 100 == 99:
            told = round(float(torch.stack(losses).mean()), 4)
            print(step + 1, told, round(time.monotonic() - begun, 1), flush=True)
            losses = []


class Windows:
    """All windows of some questions in their order, packed into rows.

    Batch k is a dict of `ids`, `positions`, `document` int64[rows, length], `taken` int64: which of the
    flattened scores [rows · length · 3] are written, in the order of `TeacherScores`, and `span`, where.

    Args:
        packed: the questions.
        special: the tokens around them.
        rows: of a batch.
        length: of a row.
    """

    def __init__(self, packed: PackedQuestions, special: Special, rows: int, length: int) -> None:
        self._packed, self._special, self._shape = packed, special, (rows, length)
        questions = np.repeat(np.arange(len(packed)), np.diff(packed.pair_bounds))
        self._questions = questions
        sizes = np.diff(packed.question_bounds)[questions] + np.diff(packed.pair_spans, axis=1)[:, 0] + 3
        places, row, used = np.empty((len(sizes), 2), np.int64), 0, 0
        for pair, size in enumerate(sizes.tolist()):
            if used + size > length:
                row, used = row + 1, 0
            places[pair] = row, used
            used += size
        self._places = places
        self._edges = np.searchsorted(places[:, 0], np.arange(0, row + 1 + rows, rows))
        self.bounds = score_bounds(packed)

    def __len__(self) -> int:
        return len(self._edges) - 1

    def __getitem__(self, index: int) -> dict[str, NDArray[np.int64]]:
        rows, length = self._shape
        packed, special, taken = self._packed, self._special, []
        ids = np.full(rows * length, special.pad, np.int64)
        positions, document = np.zeros(rows * length, np.int64), np.full(rows * length, -1, np.int64)
        first, last = self._edges[index : index + 2]
        for pair in range(first, last):
            question = self._questions[pair]
            asked = packed.question_ids[slice(*packed.question_bounds[question : question + 2])]
            told = packed.passage_ids[slice(*packed.pair_spans[pair])]
            size, head = len(asked) + len(told) + 3, len(asked) + 2
            at = (self._places[pair, 0] - index * rows) * length + self._places[pair, 1]
            ids[at], ids[at + head - 1], ids[at + size - 1] = special.first, special.between, special.between
            ids[at + 1 : at + head - 1], ids[at + head : at + size - 1] = asked, told
            positions[at : at + size], document[at : at + size] = np.arange(size), pair - first
            tokens = 3 * np.arange(at + head, at + size - 1)
            taken += [[3 * at + 2, 3 * at, 3 * at + 1], np.stack([tokens, tokens + 1], 1).ravel()]
        return {
            "ids": ids.reshape(rows, length),
            "positions": positions.reshape(rows, length),
            "document": document.reshape(rows, length),
            "taken": np.concatenate(taken),
            "span": self.bounds[[first, last]],
        }


@torch.no_grad()
def score(
    teacher: Teacher, packed: PackedQuestions, recipe: ReaderRecipe, base: Path, device: Any
) -> NDArray[np.float16]:
    """float16[total], as `TeacherScores` reads it."""
    settings, begun = recipe.batch, time.monotonic()
    windows = Windows(packed, Special.of(base), settings.rows, settings.length)
    out = np.zeros(windows.bounds[-1], np.float16)
    teacher.eval()
    waiting: list[tuple[Tensor, Tensor]] = []
    for batch in itertools.chain(drawn(windows, range(len(windows)), settings.workers), [None]):
        # While the device computes, the batch before is written.
        if waiting and (batch is None or len(waiting) > 1):
            for span, found in waiting if batch is None else [waiting.pop(0)]:
                out[slice(*span.tolist())] = found.cpu().numpy()
        if batch is not None:
            scores = scores_of(teacher, batch, device).flatten()
            waiting.append((batch["span"], scores[batch["taken"].to(device, non_blocking=True)].half()))
    print("scored", len(packed), "questions", round(time.monotonic() - begun, 1), flush=True)
    return out


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, default=4e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--also", type=Path, nargs=2, action="append", metavar=("PACKED", "SCORES"))
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    recipe = replace(ReaderRecipe.read(options.recipe), seed=options.seed)
    base = resolve_model(recipe.base)
    teacher = Teacher(options.weights, device)
    train(teacher, recipe, base, options.seconds, options.rate, device)
    for packed, scores in options.also or ():
        np.save(scores, score(teacher, PackedQuestions.load(packed), recipe, base, device))
    np.save(options.scores, score(teacher, open_questions(recipe, base), recipe, base, device))


if __name__ == "__main__":
    main()
