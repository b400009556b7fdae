"""Replies to many prompts at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from qwen2 import Cache, Prefix, Qwen2
from torch import Tensor

__all__ = ["Replies", "padded"]

_CHECKED_EVERY = 8
_SLOTS = 128
"""Slots are rounded up to so many: each number of slots is a graph of its own."""
_PROMPT_TOKENS = 1 << 15
"""Tokens that are read at once."""


def padded(prompts: Sequence[Sequence[int]], filler: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Prompts that end at the same place.

    Returns: int[rows, tokens], and bool[rows, tokens], which of them are not filled up.
    """
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), filler)
    for row, prompt in zip(ids, prompts, strict=True):
        row[longest - len(prompt) :] = torch.tensor(prompt)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    real = torch.arange(longest) >= longest - lengths[:, None]
    return ids.to(device), real.to(device)


@dataclass(slots=True)
class _Step:
    """The inputs of a step, in memory that a graph reads, and its logits."""

    prefix: Prefix
    ids: Tensor
    places: Tensor
    slot: Tensor
    hidden_slots: Tensor
    logits: Tensor
    graph: torch.cuda.CUDAGraph | None


class Replies:
    """Samples replies to prompts.

    Args:
        model: which writes.
        end: token that ends a reply.
        rows: most prompts at once.
        slots: most tokens of a prompt and its reply.
        temperature: of the samples.
        least: tokens less likely than this share of the likeliest are not taken (min-p).
        seed: of the samples.
        is_eager: launch kernels one by one on a GPU too.
    """

    def __init__(
        self,
        model: Qwen2,
        end: int,
        *,
        rows: int,
        slots: int,
        temperature: float = 0.8,
        least: float = 0.1,
        seed: int = 0,
        is_eager: bool = False,
    ) -> None:
        self._model, self._end = model, end
        self._rows, self._slots = rows, math.ceil(slots / _SLOTS) * _SLOTS
        self._cache = model.cache(rows, self._slots)
        self._temperature, self._log_least = temperature, math.log(least)
        self._random = torch.Generator(model.device)
        self._random.manual_seed(seed)
        self._steps: dict[tuple[int, int], _Step] = {}
        self._has_graphs = model.device.type == "cuda" and not is_eager
        # Graphs run one after another, and what one leaves is read before the next: they share memory.
        self._pool = torch.cuda.graph_pool_handle() if self._has_graphs else None

    @torch.inference_mode()
    def sample(
        self, prefix: Prefix, prompts: Sequence[Sequence[int]], most: int, *, enough: float = 0.97
    ) -> list[tuple[list[int], float]]:
        """A reply to each prompt, with the mean log-probability of its tokens.

        Args:
            prefix: what all prompts begin with.
            prompts: at most `rows`, of about equal length; without the prefix.
            most: tokens of a reply.
            enough: stops when this share of the replies has ended.

        Raises:
            ValueError: there are too many prompts, or they are too long.
        """
        longest = max(map(len, prompts))
        if len(prompts) > self._rows or longest + most > self._slots:
            raise ValueError(
                f"expected at most {self._rows} prompts of {self._slots - most} tokens,"
                f" got {len(prompts)} of {longest}"
            )
        step = self._step(prefix, math.ceil((longest + most) / _SLOTS) * _SLOTS)
        logits, lengths = self._read(prompts, step)
        count, device = len(prompts), self._model.device
        written = torch.full((self._rows, most), self._end, device=device)
        likely = torch.zeros(self._rows, device=device)
        ended = torch.arange(self._rows, device=device) >= count
        spoken = torch.zeros(self._rows, device=device)
        step.places[:count] = lengths + prefix.length
        for number in range(most):
            chosen, said = self._choose(logits)
            chosen = torch.where(ended, self._end, chosen)
            written[:, number] = chosen
            likely += torch.where(ended, 0.0, said)
            spoken += ~ended
            ended |= chosen == self._end
            if number % _CHECKED_EVERY == _CHECKED_EVERY - 1:
                share = (ended.float().mean() * self._rows - (self._rows - count)) / count
                if share.item() >= enough:
                    break
            slot = longest + number
            step.ids.copy_(chosen)
            step.slot.fill_(slot)
            step.hidden_slots[:, slot] = 0
            if step.graph is None:
                step.logits = self._run(step)
            else:
                step.graph.replay()
            logits = step.logits
            step.places += 1
        means = (likely / spoken.clamp(min=1)).tolist()
        replies = written[:count].tolist()
        return [
            (reply[: reply.index(self._end)] if self._end in reply else reply, mean)
            for reply, mean in zip(replies, means, strict=False)
        ]

    def _read(self, prompts: Sequence[Sequence[int]], step: _Step) -> tuple[Tensor, Tensor]:
        """Logits float[rows, vocabulary] behind the prompts, and int[prompts] of their lengths."""
        ids, real = padded(prompts, self._end, self._model.device)
        count, longest = ids.shape
        lengths = real.sum(1)
        places = step.prefix.length + (real.cumsum(1) - 1).clamp(min=0)
        order = torch.arange(longest, device=ids.device)
        at_once = max(1, _PROMPT_TOKENS // longest)
        hidden = torch.zeros(
            self._rows, self._model.width, device=self._model.device, dtype=self._model.dtype
        )
        for first in range(0, count, at_once):
            rows = slice(first, min(count, first + at_once))
            mask = (order[:, None] >= order) & real[rows, None]
            cache = Cache(self._cache.keys[:, rows], self._cache.values[:, rows])
            hidden[rows] = self._model.read(ids[rows], places[rows], mask, step.prefix, cache)[:, -1]
        step.hidden_slots.fill_(-math.inf)
        step.hidden_slots[:count, :longest].masked_fill_(real, 0)
        return self._model.logits(hidden), lengths

    def _choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """int[rows] of tokens by chance, and their log-probabilities at temperature 1."""
        said = logits.log_softmax(-1)
        warm = logits / self._temperature
        warm = warm.masked_fill(warm < warm.amax(-1, keepdim=True) + self._log_least, -math.inf)
        noise = torch.empty_like(warm).exponential_(generator=self._random).clamp_(min=1e-30).log_()
        chosen = (warm - noise).argmax(-1)
        return chosen, said.gather(1, chosen[:, None])[:, 0]

    def _run(self, step: _Step) -> Tensor:
        cache = self._cache.cut(self._rows, step.hidden_slots.shape[1])
        return self._model.step(step.ids, step.places, step.slot, step.hidden_slots, step.prefix, cache)

    def _step(self, prefix: Prefix, slots: int) -> _Step:
        """What runs a token through the model with so many slots; captured at its first use."""
        if (id(prefix), slots) in self._steps:
            return self._steps[id(prefix), slots]
        device, rows = self._model.device, self._rows
        step = _Step(
            prefix,
            torch.zeros(rows, dtype=torch.long, device=device),
            torch.zeros(rows, dtype=torch.long, device=device),
            torch.zeros(1, dtype=torch.long, device=device),
            torch.zeros(rows, slots, device=device, dtype=self._model.dtype),
            torch.zeros(0, device=device),
            None,
        )
        if self._has_graphs:
            # Libraries set themselves up at the first call, which must not be part of a graph.
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                self._run(step)
            torch.cuda.current_stream().wait_stream(beside)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                step.logits = self._run(step)
            step.graph = graph
        self._steps[id(prefix), slots] = step
        return step
