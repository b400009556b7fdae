"""The losses: masked tokens, the next token, and a teacher's predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ai_os_diffusion.training.positions import IGNORED
from ai_os_diffusion.training.torch.attention import Attention
from ai_os_diffusion.training.torch.network import TrainedDecoder

__all__ = ["DistillationLoss", "TokenLoss", "in_parts"]

Tensor = Any
Batch = Mapping[str, Tensor]

_HEAD_ROWS = 8192
"""Positions whose logits are held at a time."""


class TokenLoss(nn.Module):
    """Weighted mean cross-entropy of a batch's labels.

    With weights 1/t of masked tokens it is the negative ELBO of masked diffusion (MDLM, arXiv:2406.07524).
    """

    def __init__(self, decoder: TrainedDecoder, attention: Attention) -> None:
        super().__init__()
        self.decoder, self._attention = decoder, attention

    def forward(self, batch: Batch) -> Tensor:
        """The loss, float32[]."""
        mask = self._attention.mask(batch)
        states = self.decoder(batch["ids"].long(), batch["positions"], self._attention, mask)
        chosen = batch["labels"] != IGNORED
        labels, weights = batch["labels"][chosen].long(), batch["weights"][chosen]

        def part(h: Tensor, y: Tensor, w: Tensor) -> Tensor:
            return (F.cross_entropy(self.decoder.logits(h), y, reduction="none") * w).sum()

        return in_parts(part, states[chosen], labels, weights) / weights.sum().clamp_min(1e-6)


class DistillationLoss(nn.Module):
    """What a student's one pass lacks of several passes of its teacher.

    The teacher unmasks the batch's masked copies in `steps` passes, in each an equal share of what is left of
    a copy, the positions it is surest of, each with its likeliest token. The target of a position is what the
    teacher predicts in the pass that unmasks it; the loss is the divergence KL(student, teacher), weighted as
    the masked tokens are.

    Args:
        student: is trained.
        teacher: is not; of the same shape.
        attention: of both.
        steps: passes of the teacher.

    Source: self-distillation through time, arXiv:2410.21035, with the order of low-confidence remasking.
    """

    def __init__(
        self, student: TrainedDecoder, teacher: TrainedDecoder, attention: Attention, steps: int
    ) -> None:
        super().__init__()
        self.decoder, self._attention, self._steps = student, attention, steps
        # In a list, so that it is no module of this one: its numbers are not trained.
        self._teacher = [teacher]

    def forward(self, batch: Batch) -> Tensor:
        """The loss, float32[]."""
        mask = self._attention.mask(batch)
        targets = self._targets(batch, mask)
        states = self.decoder(batch["ids"].long(), batch["positions"], self._attention, mask)
        chosen = batch["labels"] != IGNORED
        weights = batch["weights"][chosen]
        teacher = self._teacher[0]

        def part(h: Tensor, target: Tensor, w: Tensor) -> Tensor:
            ours = self.decoder.logits(h).log_softmax(-1)
            theirs = teacher.logits(target).log_softmax(-1)
            return (F.kl_div(theirs, ours, reduction="none", log_target=True).sum(-1) * w).sum()

        return in_parts(part, states[chosen], targets, weights) / weights.sum().clamp_min(1e-6)

    @torch.no_grad()
    def _targets(self, batch: Batch, mask: Any) -> Tensor:
        """The teacher's states at the masked positions, [masked, width], each of the pass that unmasks it."""
        teacher, ids = self._teacher[0], batch["ids"].long().clone()
        is_masked = batch["labels"] != IGNORED
        copy = _copies(batch)[is_masked]
        is_open = torch.ones_like(copy, dtype=torch.bool)
        targets = None
        for step in range(self._steps):
            states = teacher(ids, batch["positions"], self._attention, mask)[is_masked]
            confidence, best = _surest(teacher, states)
            taken = _share(copy, confidence, is_open, 1 / (self._steps - step))
            targets = states if targets is None else torch.where(taken[:, None], states, targets)
            ids[is_masked] = torch.where(taken, best, ids[is_masked])
            is_open &= ~taken
        return targets


def _copies(batch: Batch) -> Tensor:
    """A number for each masked copy of a block, the same at its positions."""
    row = torch.arange(len(batch["noisy"]), device=batch["noisy"].device)[:, None]
    most = int(batch["noisy"].max()) + 1
    documents = int(batch["document"].max()) + 2
    return (row * documents + batch["document"] + 1) * most + batch["noisy"]


def _surest(decoder: TrainedDecoder, states: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token of each position but MASK, the first of the card's rows, behind its probability."""
    found = []
    for part in states.split(_HEAD_ROWS):
        logits = decoder.logits(part)
        logits[:, decoder.card_rows[0]] = -torch.inf
        found.append(logits.softmax(-1).max(-1))
    confidence, best = zip(*found, strict=True)
    return torch.cat(confidence), torch.cat(best)


def _share(copy: Tensor, confidence: Tensor, is_open: Tensor, share: float) -> Tensor:
    """The surest of the open positions of each copy: `share` of them, rounded up.

    Args:
        copy: int64[n], whose position each is.
        confidence: float32[n].
        is_open: bool[n].
        share: above 0, at most 1.

    Returns:
        bool[n].
    """
    order = torch.argsort(torch.where(is_open, confidence, -1.0), descending=True, stable=True)
    order = order[torch.argsort(copy[order], stable=True)]
    _, counts = torch.unique_consecutive(copy[order], return_counts=True)
    begins = (counts.cumsum(0) - counts).repeat_interleave(counts)
    place = torch.arange(len(order), device=order.device) - begins
    _, inverse = torch.unique(copy, return_inverse=True)
    left = torch.zeros(len(counts), device=copy.device).index_add_(0, inverse, is_open.float())
    taken = torch.empty_like(is_open)
    taken[order] = place < torch.ceil(left * share - 1e-6)[inverse[order]]
    return taken & is_open


def in_parts(part: Callable[..., Tensor], states: Tensor, *others: Tensor) -> Tensor:
    """The sum of `part` over all rows, whose logits are made again for the backward pass."""
    pieces = zip(*(tensor.split(_HEAD_ROWS) for tensor in (states, *others)), strict=True)
    return sum(
        (checkpoint(part, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces),
        states.new_zeros(()).float(),
    )
