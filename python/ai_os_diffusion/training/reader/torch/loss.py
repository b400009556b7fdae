"""The loss of a batch of questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ai_os_diffusion.training.reader.recipe import LossSettings
from ai_os_diffusion.training.reader.torch.network import TrainedReader
from ai_os_diffusion.training.torch.attention import Attention

__all__ = ["ReaderLoss", "reader_losses"]

Tensor = Any

_OUT = -1e4
"""The score of a place that is not there; finite, so that no gradient is NaN."""


class ReaderLoss(nn.Module):
    """A batch to its loss.

    Args:
        reader: what learns.
        attention: of its blocks.
        settings: what is learned.
    """

    def __init__(self, reader: TrainedReader, attention: Attention, settings: LossSettings) -> None:
        super().__init__()
        self.reader, self._attention, self._settings = reader, attention, settings

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """float32[]."""
        scores = self.reader(batch, self._attention)
        total: Tensor = sum(reader_losses(scores, batch, self._settings).values())
        return total


def reader_losses(scores: Tensor, batch: Mapping[str, Tensor], settings: LossSettings) -> dict[str, Tensor]:
    """The parts of a batch's loss, weighted, each a mean over the questions.

    Args:
        scores: float32[positions, 3], start, end and relevance.
        batch: as `ReaderBatches` draws it.
        settings: the weights.
    """
    places, relevant = batch["places"].long(), batch["relevant"]
    is_place, is_window = places >= 0, relevant >= 0
    found = scores[places.clamp(min=0)]
    spans = found[..., :2].masked_fill(~is_place[..., None], _OUT)
    relevance = found[:, :, 0, 2]
    labels = torch.stack([batch["start"], batch["end"]], -1).long()
    told = 1 - settings.taught
    losses = {
        "spans": told * _span_loss(spans, labels, is_window, settings),
        "shared": told * settings.shared * _shared_loss(spans, labels, is_window, settings),
        "listed": told * settings.listed * _listed_loss(relevance, relevant),
        "relevance": told * settings.relevance * _binary(relevance, relevant.clamp(min=0), is_window),
    }
    if settings.taught:
        heat = settings.temperature
        taught = batch["taught"].masked_fill(~is_place[..., None], _OUT)
        own, theirs = _scaled(spans, heat, is_place), _scaled(taught, heat, is_place)
        weights = _window_weights(labels[..., 0] > 0, is_window, settings.negative)
        losses["taught_spans"] = (
            settings.taught * heat**2 * (weights * _divergence(theirs, own).sum(-1)).sum() / len(places)
        )
        theirs, own = (_margins(one, is_window) / heat for one in (taught, spans))
        losses["taught_shared"] = (
            settings.taught * settings.shared * heat**2 * _divergence(theirs, own, 1).sum(-1).mean()
        )
        theirs, own = (
            one.masked_fill(~is_window, _OUT) / heat for one in (batch["taught_relevance"], relevance)
        )
        losses["taught_listed"] = (
            settings.taught * settings.listed * heat**2 * _divergence(theirs, own, 1).mean()
        )
        wanted = torch.sigmoid(batch["taught_relevance"])
        losses["taught_relevance"] = (
            settings.taught * settings.relevance * _binary(relevance, wanted, is_window)
        )
    return losses


def _span_loss(spans: Tensor, labels: Tensor, is_window: Tensor, settings: LossSettings) -> Tensor:
    """Cross-entropy of start and end in each window, where "none" is a place."""
    logs = spans.log_softmax(2)
    is_told = is_window & (labels[..., 0] >= 0)
    right = logs.gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0]
    if settings.smoothing:
        is_place = spans > _OUT / 2
        counts = is_place.sum(2).clamp(min=1)
        alike = (logs * is_place).sum(2) / counts
        right = (1 - settings.smoothing) * right + settings.smoothing * alike
    weights = _window_weights(labels[..., 0] > 0, is_told, settings.negative)
    return -(weights * right.sum(-1)).sum() / len(spans)


def _window_weights(is_answered: Tensor, is_window: Tensor, negative: float) -> Tensor:
    return torch.where(is_answered, 1.0, negative) * is_window


def _shared_loss(spans: Tensor, labels: Tensor, is_window: Tensor, settings: LossSettings) -> Tensor:
    """Cross-entropy of start and end among the margins over "none" of all windows of a question, and 0."""
    logs = _margins(spans, is_window).log_softmax(1)
    questions, _, places = spans.shape[:3]
    is_answer = F.one_hot(labels.clamp(min=0), places)[..., 1:].bool()
    is_answer = (is_answer & (labels > 0)[..., None]).transpose(2, 3).flatten(1, 2)
    has_answer = is_answer.any(1)
    # A question some of whose windows are not learned is not learned as one without an answer.
    is_told = ~((labels < 0) & is_window[..., None]).any(1)
    is_wanted = torch.cat([(~has_answer)[:, None], is_answer], 1)
    right = logs.masked_fill(~is_wanted, _OUT).logsumexp(1)
    weights = torch.where(has_answer, 1.0, settings.negative * is_told)
    return -(weights * right).sum() / questions


def _margins(spans: Tensor, is_window: Tensor) -> Tensor:
    """[q, k, n, 2] to [q, 1 + k (n - 1), 2]: 0, and what each place has over "none" of its window."""
    margins = spans[:, :, 1:] - spans[:, :, :1]
    is_place = (spans[:, :, 1:] > _OUT / 2) & is_window[..., None, None]
    margins = margins.masked_fill(~is_place, _OUT).flatten(1, 2)
    return torch.cat([torch.zeros_like(margins[:, :1]), margins], 1)


def _listed_loss(relevance: Tensor, relevant: Tensor) -> Tensor:
    """Cross-entropy of the windows that are relevant among those of a question."""
    logs = relevance.masked_fill(relevant < 0, _OUT).log_softmax(1)
    right = logs.masked_fill(relevant < 1, _OUT).logsumexp(1)
    # Only where there is something to tell apart.
    is_list = (relevant == 1).any(1) & (relevant == 0).any(1)
    return -(right * is_list).sum() / len(relevance)


def _binary(scores: Tensor, wanted: Tensor, is_window: Tensor) -> Tensor:
    losses = F.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
    return (losses * is_window).sum() / len(scores)


def _scaled(spans: Tensor, heat: float, is_place: Tensor) -> Tensor:
    return (spans / heat).masked_fill(~is_place[..., None], _OUT)


def _divergence(theirs: Tensor, own: Tensor, axis: int = 2) -> Tensor:
    """Kullback-Leibler divergence along an axis, of what scores say."""
    wanted = theirs.log_softmax(axis)
    return (wanted.exp() * (wanted - own.log_softmax(axis))).sum(axis)
