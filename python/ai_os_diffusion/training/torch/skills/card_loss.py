"""What a card is judged by: labels, what the base says, or a gradient that others have."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

from ai_os_diffusion.training.torch.layers import rounded
from ai_os_diffusion.training.torch.objective import in_parts

__all__ = ["HEAD_ROWS", "CardLoss"]

Tensor = Any

HEAD_ROWS = 1024
"""Positions whose logits are held at a time."""


class CardLoss:
    """The weighted sum of losses of final states.

    Args:
        network: whose states they are.
        base_scores: float32[vocabulary, width], what makes the base's logits where the network's is trained;
            None where they are one.
    """

    def __init__(self, network: Any, base_scores: Tensor) -> None:
        self._network, self._base_scores = network, base_scores

    def __call__(self, states: Tensor, wanted: Tensor, weights: Tensor | None = None) -> Tensor:
        """The sum, float32[].

        Args:
            states: [rows, width].
            wanted: int64[rows], labels, for cross-entropy; or [rows, width], the base's states, for
                KL(base ‖ ours). Without weights, [rows, width], by which the loss changes with the states.
            weights: float32[rows].
        """
        if weights is None:
            return (states.float() * wanted).sum()
        if len(states) <= HEAD_ROWS:
            return self._part(states, wanted, weights)
        return in_parts(self._part, states, wanted, weights)

    def _part(self, own: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
        logits = self._network.logits(own)
        if wanted.ndim == 1:
            return (F.cross_entropy(logits, wanted, reduction="none") * weights).sum()
        theirs, ours = self._base_logits(wanted).log_softmax(-1), logits.log_softmax(-1)
        return (F.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1) * weights).sum()

    def _base_logits(self, states: Tensor) -> Tensor:
        network, scores = self._network, self._base_scores
        if scores is None:
            scores = network.scores if network.head is None else network.head.weight
        if scores is None:
            scores = network.embedding
        return F.linear(rounded(states) if network.is_rounded else states, scores)
