"""A larger reader that scores the questions for the card: `teacher.py RECIPE WEIGHTS SCORES --seconds N`.

RECIPE is one of `aios train-reader`, of whose batches it learns; WEIGHTS the folder that `mpnet.py` packed.
SCORES gets what it says of every window of the recipe's questions, as `data.scores` names it.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mpnet import Teacher
from torch.utils.data import DataLoader

from ai_os_diffusion.models.local_models import resolve_model
from ai_os_diffusion.training.reader.batches import ReaderBatches, Special, open_questions
from ai_os_diffusion.training.reader.packed import PackedQuestions
from ai_os_diffusion.training.reader.recipe import ReaderRecipe
from ai_os_diffusion.training.reader.scores import score_bounds
from ai_os_diffusion.training.reader.torch.loss import reader_losses

Tensor = Any
_MULTIPLE = 16
_CHUNKS = 4
"""Into which the windows of a batch are parted by length, so that little is padded."""


def padded(rows: list[np.ndarray], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    """Ids int64[w, n] and which are tokens."""
    n = -(-max(map(len, rows)) // _MULTIPLE) * _MULTIPLE
    ids, is_token = np.full((len(rows), n), pad, np.int32), np.zeros((len(rows), n), bool)
    for row, own in enumerate(rows):
        ids[row, : len(own)], is_token[row, : len(own)] = own, True
    return torch.from_numpy(ids).to(device).long(), torch.from_numpy(is_token).to(device)


def batch_scores(teacher: Teacher, batch: dict[str, Tensor], pad: int, device: Any) -> Tensor:
    """float32[positions, 3] of a packed batch."""
    flat, document = batch["ids"].numpy().ravel(), batch["document"].numpy().ravel()
    edges = np.flatnonzero(np.diff(document, prepend=-2, append=-2))
    spans = [(a, b) for a, b in itertools.pairwise(edges) if document[a] >= 0]
    spans.sort(key=lambda span: span[1] - span[0])
    out = torch.zeros(len(flat), 3, device=device)
    size = -(-len(spans) // _CHUNKS)
    for at in range(0, len(spans), size):
        part = spans[at : at + size]
        ids, is_token = padded([flat[a:b] for a, b in part], pad, device)
        places = torch.from_numpy(np.concatenate([np.arange(a, b) for a, b in part])).to(device)
        out = out.index_copy(0, places, teacher(ids, is_token)[is_token])
    return out


def train(
    teacher: Teacher, recipe: ReaderRecipe, base: Path, seconds: float, rate: float, device: Any
) -> None:
    """Teach the teacher."""
    special = Special.of(base)
    stream = iter(
        DataLoader(
            ReaderBatches(base, recipe),
            batch_size=None,
            sampler=itertools.count(),
            num_workers=recipe.batch.workers,
            **({"multiprocessing_context": "spawn", "prefetch_factor": 4} if recipe.batch.workers else {}),
        )
    )
    trained = list(teacher.parameters())
    matrices = [value for value in trained if value.ndim > 1]
    vectors = [value for value in trained if value.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.98),
        fused=device.type == "cuda",
    )
    teacher.train()
    begun, total = 0.0, 0.0
    for step in itertools.count():
        batch = next(stream)
        begun = begun or time.monotonic()
        progress = (time.monotonic() - begun) / seconds
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, progress / 0.06, (1 - progress) / 0.94)
        with torch.autocast(device.type, torch.bfloat16):
            scores = batch_scores(teacher, batch, special.pad, device)
        on_device = {
            name: batch[name].to(device) for name in ("places", "start", "end", "relevant", "passage")
        }
        loss = sum(reader_losses(scores.float(), on_device, recipe.loss).values())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # Where the clock ends the run it has to be the device's.
        total += float(loss.detach())
        if step % 100 == 99:
            print(step + 1, round(total / 100, 4), round(time.monotonic() - begun, 1), flush=True)
            total = 0.0


@torch.no_grad()
def score(
    teacher: Teacher, packed: PackedQuestions, base: Path, device: Any, tokens: int = 1 << 16
) -> np.ndarray:
    """float16[total], as `TeacherScores` reads it."""
    special, bounds = Special.of(base), score_bounds(packed)
    out = np.zeros(bounds[-1], np.float16)
    questions = np.repeat(np.arange(len(packed)), np.diff(packed.pair_bounds))
    asked = np.diff(packed.question_bounds)[questions]
    told = np.diff(packed.pair_spans, axis=1)[:, 0]
    order = np.argsort(asked + told, kind="stable")
    teacher.eval()
    begun, at = time.monotonic(), 0
    waiting: list[tuple[np.ndarray, Tensor, Tensor]] = []

    def write() -> None:
        pairs, mask, scores = waiting.pop(0)
        flat = scores.float().cpu().numpy()
        ends = np.cumsum(mask.sum(1).cpu().numpy())
        for pair, rows in zip(pairs, np.split(flat, ends[:-1]), strict=True):
            first, last = asked[pair] + 2, asked[pair] + 2 + told[pair]
            span = out[bounds[pair] : bounds[pair + 1]]
            span[0], span[1:3] = rows[0, 2], rows[0, :2]
            span[3:] = rows[first:last, :2].ravel()

    while at < len(order):
        longest = int((asked + told)[order[min(at + 4096, len(order) - 1)]]) + 3
        some = order[at : at + max(1, tokens // longest)]
        at += len(some)
        rows = []
        for pair in some:
            begin, end = packed.question_bounds[questions[pair] : questions[pair] + 2]
            passage = packed.passage_ids[slice(*packed.pair_spans[pair])]
            rows.append(
                np.concatenate(
                    [
                        [special.first],
                        packed.question_ids[begin:end],
                        [special.between],
                        passage,
                        [special.between],
                    ]
                ).astype(np.int32)
            )
        ids, mask = padded(rows, special.pad, device)
        with torch.autocast(device.type, torch.bfloat16):
            scores = teacher(ids, mask)
        # While the device computes the last ones are written.
        waiting.append((some, mask, scores[mask]))
        if len(waiting) > 2:
            write()
    while waiting:
        write()
    print("scored", len(order), "windows", round(time.monotonic() - begun, 1), flush=True)
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
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    recipe = replace(ReaderRecipe.read(options.recipe), seed=options.seed)
    base = resolve_model(recipe.base)
    teacher = Teacher(options.weights).to(device)
    train(teacher, recipe, base, options.seconds, options.rate, device)
    np.save(options.scores, score(teacher, open_questions(recipe, base), base, device))


if __name__ == "__main__":
    main()
