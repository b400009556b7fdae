"""Batches of packed rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion.training.example import Example
from ai_os_diffusion.training.example_files import example_paths, read_examples
from ai_os_diffusion.training.example_source import ExampleSource, open_source
from ai_os_diffusion.training.positions import IGNORED, PositionMaker, Positions
from ai_os_diffusion.training.recipe import Recipe
from ai_os_diffusion.training.settings import DataSettings
from ai_os_diffusion.training.text_encoder import TextEncoder
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["Batch", "Batches", "validation_batches"]

Batch = dict[str, NDArray[Any]]

_MOST_MISSES = 2
_MOST_VALIDATION = 64


class Batches:
    """Batch k is a function of the seed and k alone: a run that was broken off goes on with the next one.

    A batch is a dict of int32 or float32 [rows, length]: ids, labels, weights, positions, level, noisy,
    document. Files and tokenizer are opened by the process that draws, on its first batch.

    Args:
        folder: of the base.
        recipe: what is drawn.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._folder, self._recipe = folder, recipe
        self._source: ExampleSource | None = None
        self._layout: _Layout | None = None

    def __getitem__(self, index: int) -> Batch:
        source = self._source = self._source or open_source(self._recipe.data)
        layout = self._layout = self._layout or _Layout(self._folder, self._recipe)
        settings, kinds = self._recipe.batch, source.kinds
        rng = _random(f"{self._recipe.seed}/{index}")
        used = {kind: rng.random() * settings.length for kind in kinds}
        rows: list[list[Positions]] = [[] for _ in range(settings.rows)]
        free = [settings.length] * settings.rows
        misses = 0
        while misses < _MOST_MISSES * settings.rows:
            kind = min(kinds, key=lambda name: used[name] / kinds[name])
            made = layout.positions(source.draw(kind, rng), rng)
            used[kind] += len(made)
            row = max(range(settings.rows), key=free.__getitem__)
            if not 0 < len(made) <= min(free[row], settings.longest):
                misses += 1
                continue
            rows[row].append(made)
            free[row] -= len(made)
        if not any(rows):
            raise TrainingError(
                f"no example of {misses} drawn fits into batch.longest = {settings.longest} positions; "
                "raise it, or cut the texts"
            )
        return layout.packed(rows)


def validation_batches(folder: Path, recipe: Recipe) -> Iterator[Batch]:
    """The examples of the files that are only measured on, always masked alike; a number of batches at most.

    Raises:
        TrainingError: a file is missing or damaged.
    """
    layout, settings = _Layout(folder, replace(recipe, data=DataSettings())), recipe.batch
    rows: list[list[Positions]] = [[]]
    count = 0
    for path in example_paths(recipe.data.validation):
        for number, (example, _) in enumerate(read_examples(path)):
            made = layout.positions(example, _random(f"{path.name}/{number}"))
            if not 0 < len(made) <= settings.longest:
                continue
            if sum(map(len, rows[-1])) + len(made) > settings.length:
                if len(rows) == settings.rows:
                    yield layout.packed(rows)
                    rows, count = [[]], count + 1
                    if count == _MOST_VALIDATION:
                        return
                else:
                    rows.append([])
            rows[-1].append(made)
    if any(rows):
        yield layout.packed([*rows, *([] for _ in range(settings.rows - len(rows)))])


def _random(seed: str) -> random.Random:
    """What draws the same for the same text, in every process."""
    return random.Random(seed)  # noqa: S311  # no secret


class _Layout:
    """Examples as positions, positions as rows."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._encoder = TextEncoder(folder, recipe.card, masks=recipe.objective != "causal")
        self._maker = PositionMaker(self._encoder.special, recipe.noise)
        self._recipe = recipe
        fill = {"ids": max(self._encoder.special.null, 0), "labels": IGNORED, "weights": 0, "positions": 0}
        self._fill = {**fill, "level": 0, "noisy": 0, "document": -1}

    def positions(self, example: Example, rng: random.Random) -> Positions:
        encoder, maker = self._encoder, self._maker
        block = example.block or self._recipe.card.block_length
        prompt = encoder.prompt(example.prompt) if example.prompt else []
        ids, written = encoder.canvas(example, block, rng.randint(0, 3))
        if self._recipe.objective == "causal":
            return maker.causal(prompt, ids, written)
        if not prompt or example.has_gaps:
            block = max(1, len(ids))
        made = maker.diffused if self._recipe.objective == "diffusion" else maker.both
        return made(prompt, ids, written, block, rng)

    def packed(self, rows: list[list[Positions]]) -> Batch:
        packed = [self._row(row) for row in rows]
        return {name: np.stack([row[name] for row in packed]) for name in self._fill}

    def _row(self, row: list[Positions]) -> Batch:
        length = self._recipe.batch.length
        out: Batch = {
            name: np.full(length, fill, np.float32 if name == "weights" else np.int32)
            for name, fill in self._fill.items()
        }
        at = 0
        for number, one in enumerate(row):
            span = slice(at, at + len(one))
            out["document"][span] = number
            for name in out.keys() - {"document"}:
                out[name][span] = getattr(one, name)
            at += len(one)
        return out
