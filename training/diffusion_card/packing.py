"""From examples to batches of packed rows: ids, what each position may see, what it is trained to write."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from examples import Example, Examples
from tokenizers import Tokenizer

MASK, NULL, START, END = 4, 16, 1, 2
"""Ids of SmolLM2: two that its training never used, and the marks of a turn."""

IGNORED = -100

MIXTURE = {
    "grounded": 0.38,
    "unanswerable": 0.08,
    "cloze": 0.07,
    "yes_no": 0.10,
    "two_parts": 0.11,
    "template": 0.07,
    "task": 0.06,
    "plain": 0.06,
    "infill": 0.07,
}
"""Share of the positions of a batch that each kind of example takes, where nothing else is asked for."""

MAX_POSITIONS = 1400
MIN_TIME = 0.05
"""Least share of masked positions: the weight 1/t of a loss stays bounded."""

NULL_WEIGHT = 0.3
_COPIES = 3
_GOLDEN = 0.6180339887498949
_FILL = {"ids": NULL, "labels": IGNORED, "weights": 0, "positions": 0, "level": 0, "noisy": 0, "document": -1}


class TextEncoder:
    """Text to ids, in which no text becomes a control token."""

    def __init__(self, path: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(path))

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        return self.tokenizer.encode(text.replace("<|", "< |"), add_special_tokens=False).ids

    def prompt(self, text: str) -> list[int]:
        """Ids of a user's turn and of the beginning of the answer."""
        return [
            START,
            *self.encode("user\n" + text),
            END,
            *self.encode("\n"),
            START,
            *self.encode("assistant\n"),
        ]

    def decode(self, ids: list[int]) -> str:
        """Text of ids up to the end of the turn."""
        if END in ids:
            ids = ids[: ids.index(END)]
        return self.tokenizer.decode([i for i in ids if i != NULL])


def canvas(
    encoder: TextEncoder, example: Example, block: int, extra: int = 0
) -> tuple[list[int], list[bool]]:
    """The finished canvas of an example.

    A written piece between given ones gets `room` positions, or `extra` more than it needs; one that ends the
    turn is filled to a multiple of `block`. What is over holds NULL.

    Returns:
        Ids, and for each whether it is written.
    """
    has_slots = example.kind in ("template", "infill")
    ids: list[int] = []
    written: list[bool] = []
    for piece in example.pieces:
        found = encoder.encode(piece.text) if piece.text else []
        if piece.written and has_slots:
            found += [NULL] * (max(example.room, len(found) + extra) - len(found))
        ids += found
        written += [piece.written] * len(found)
    if example.ends:
        rest = [END] if has_slots else [END] + [NULL] * (-(len(ids) + 1) % block)
        ids += rest
        written += [not has_slots] * len(rest)
    return ids, written


@dataclass
class Positions:
    """Positions of one example, in parallel lists.

    Attributes:
        level: 0 for the prompt, b + 1 for block b.
        noisy: 0 for clean positions; each masked copy of a block has a number of its own.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    level: list[int] = field(default_factory=list)
    noisy: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def clean(self, ids: list[int], first: int, level: int) -> None:
        """Add ids that are seen and not trained on."""
        for offset, i in enumerate(ids):
            self.add(i, IGNORED, 0.0, first + offset, level, 0)

    def add(self, i: int, label: int, weight: float, position: int, level: int, noisy: int) -> None:
        """Add one position."""
        self.ids.append(i)
        self.labels.append(label)
        self.weights.append(weight)
        self.positions.append(position)
        self.level.append(level)
        self.noisy.append(noisy)


def diffused(
    prompt: list[int], ids: list[int], written: list[bool], block: int, rng: random.Random
) -> Positions:
    """A prompt, the clean blocks before the last, and masked copies of each block.

    A short canvas is copied several times with different shares of masks, spread evenly: the prompt, most of
    the work, is computed once for all of them. Each masked position weighs 1/t (MDLM, arXiv:2406.07524).
    """
    out = Positions()
    out.clean(prompt, 0, 0)
    base = len(prompt)
    starts = range(0, len(ids), block)
    for number, start in enumerate(starts[:-1]):
        out.clean(ids[start : start + block], base + start, number + 1)
    copies = _COPIES if prompt and len(starts) <= 2 else 1
    offset, noisy = rng.random(), itertools.count(1)
    for number, start in enumerate(starts):
        span = range(start, min(len(ids), start + block))
        free = [k for k in span if written[k]]
        for copy in range(copies if free else 0):
            time = MIN_TIME + (1 - MIN_TIME) * ((offset + copy / copies + number * _GOLDEN) % 1)
            masked = {k for k in free if rng.random() < time} or {rng.choice(free)}
            own = next(noisy)
            for k in span:
                weight = (NULL_WEIGHT if ids[k] == NULL else 1.0) / time / copies
                if k in masked:
                    out.add(MASK, ids[k], weight, base + k, number + 1, own)
                else:
                    out.add(ids[k], IGNORED, 0.0, base + k, number + 1, own)
    return out


def causal(prompt: list[int], ids: list[int], written: list[bool]) -> Positions:
    """The same text for the next-token objective: each position sees what is before it."""
    while ids and ids[-1] == NULL:
        ids.pop()
    whole, learned = prompt + ids, [False] * len(prompt) + written[: len(ids)]
    out = Positions()
    for k, i in enumerate(whole):
        if k + 1 < len(whole) and learned[k + 1]:
            out.add(i, whole[k + 1], NULL_WEIGHT if whole[k + 1] == NULL else 1.0, k, k, 0)
        else:
            out.add(i, IGNORED, 0.0, k, k, 0)
    return out


def visible(document, level, noisy, query, key):
    """Whether position `query` sees `key`.

    Within a document: clean positions of lower levels; a clean one those of its own level too; a masked copy
    itself. So a prompt and finished blocks never see what follows, and their keys and values can be kept.
    """
    same = document[query] == document[key]
    is_before = level[key] < level[query]
    is_own = (level[key] == level[query]) & (noisy[query] == 0)
    is_copy = (noisy[query] > 0) & (noisy[key] == noisy[query])
    return same & (((noisy[key] == 0) & (is_before | is_own)) | is_copy)


class Batches(torch.utils.data.Dataset):
    """Batch k is a function of the seed and k alone: a run that was broken off goes on with the next one.

    A batch is a dict of int32 or float32 [rows, length]: ids, labels, weights, positions, level, noisy,
    document.
    """

    def __init__(
        self,
        data: Path,
        tokenizer: Path,
        *,
        rows: int,
        length: int,
        seed: int,
        objective: str,
        mixture: Mapping[str, float] = MIXTURE,
    ) -> None:
        self._data, self._tokenizer = data, tokenizer
        self._rows, self._length = rows, length
        self._seed, self._objective, self._mixture = seed, objective, mixture
        self._sources: tuple[TextEncoder, Examples] | None = None

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        # Read in the process that uses them: a worker's own.
        self._sources = self._sources or (TextEncoder(self._tokenizer), Examples(self._data))
        rng = random.Random(f"{self._seed}/{index}")
        used = {kind: rng.random() * self._length for kind in self._mixture}
        rows: list[list[Positions]] = [[] for _ in range(self._rows)]
        free = [self._length] * self._rows
        misses = 0
        while misses < 2 * self._rows:
            kind = min(self._mixture, key=lambda name: used[name] / self._mixture[name])
            made = self._positions(getattr(self._sources[1], kind)(rng), rng)
            used[kind] += len(made)
            row = max(range(self._rows), key=free.__getitem__)
            if not 0 < len(made) <= min(free[row], MAX_POSITIONS):
                misses += 1
                continue
            rows[row].append(made)
            free[row] -= len(made)
        packed = [self._packed(row) for row in rows]
        return {name: torch.from_numpy(np.stack([row[name] for row in packed])) for name in _FILL}

    def _positions(self, example: Example, rng: random.Random) -> Positions:
        assert self._sources
        encoder, _ = self._sources
        block = 16 if example.room <= 16 and len(example.pieces[0].text) <= 200 else 32
        if example.kind in ("grounded", "unanswerable", "cloze") and rng.random() < 0.2:
            block = rng.choice([8, 32])
        prompt = encoder.prompt(example.prompt) if example.prompt else []
        ids, written = canvas(encoder, example, block, rng.randint(0, 3))
        if self._objective == "causal":
            return causal(prompt, ids, written)
        if not prompt or example.kind == "template":
            block = max(1, len(ids))
        return diffused(prompt, ids, written, block, rng)

    def _packed(self, row: list[Positions]) -> dict[str, np.ndarray]:
        out = {
            name: np.full(self._length, fill, np.float32 if name == "weights" else np.int32)
            for name, fill in _FILL.items()
        }
        at = 0
        for number, one in enumerate(row):
            span = slice(at, at + len(one))
            out["document"][span] = number
            for name in out.keys() - {"document"}:
                out[name][span] = getattr(one, name)
            at += len(one)
        return out
