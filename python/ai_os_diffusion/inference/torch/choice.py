"""From logits to tokens, on the device: as the native core chooses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.utils.errors import InferenceError

__all__ = [
    "FORBIDDEN",
    "GREEDY",
    "Predictions",
    "choose",
    "is_drawn",
    "is_penalised",
    "not_finite",
    "penalise",
    "summarise",
]

Tensor = Any
Settings = tuple[float, float, float, float, float]
"""temperature, top_k, top_p, min_p, repetition_penalty, as `_native.Sampler` has them."""

GREEDY: Settings = (0.0, 0.0, 1.0, 0.0, 1.0)

FORBIDDEN = -1e30


def is_drawn(settings: Settings) -> bool:
    """Whether tokens are drawn, and not the most probable ones."""
    return settings[0] > 0


def is_penalised(settings: Settings) -> bool:
    """Whether what was read before counts."""
    return settings[4] != 1


def not_finite() -> InferenceError:
    """What is raised for logits that are not numbers."""
    return InferenceError("logits are not finite; the weights or their quantisation are damaged")


def penalise(logits: Tensor, seen: Tensor, settings: Tensor) -> Tensor:
    """Make tokens less likely that were read before: `seen` is bool[texts, vocab]."""
    penalty = settings[:, 4:].float()
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def choose(logits: Tensor, settings: Tensor, units: Tensor | None) -> Tensor:
    """A token for each text.

    The order of the steps, and the draw, are those of the native sampler: the first token, in the order of
    their ids, whose weight and those before exceed the drawn part of all weight. Differences come from
    rounding alone.

    Args:
        logits: float32[texts, vocab], penalised.
        settings: [texts, 5], `Settings` in float64 where the device has it.
        units: [texts] drawn from [0, 1), of the type of `settings`; None takes the greatest logits.

    Returns:
        int64[texts].
    """
    greedy = logits.argmax(-1)
    if units is None:
        return greedy
    temperature, top_k, top_p, min_p = settings[:, :4, None].unbind(1)
    heat = temperature.float().clamp_min(torch.finfo(torch.float32).tiny)
    weights = ((logits - logits.amax(-1, keepdim=True)) / heat).exp()
    # Stable, so that equal weights come by id.
    ordered, order = weights.sort(dim=-1, descending=True, stable=True)
    place = torch.arange(logits.shape[-1], device=logits.device)
    kept = (place < top_k) | (top_k == 0)
    heaviest = (ordered * kept).to(settings.dtype)
    reached = heaviest.cumsum(-1)
    # The fewest that reach the share: those before which it was not reached.
    kept &= (reached - heaviest < top_p * reached[:, -1:]) | (top_p >= 1)
    kept &= ordered >= min_p.float()
    weights = weights * torch.zeros_like(kept).scatter_(-1, order, kept)
    reached = weights.to(settings.dtype).cumsum(-1)
    total = reached[:, -1:]
    drawn = (reached <= units[:, None] * total).sum(-1)
    # Rounding may leave the sum below what was drawn: then it is the last token that has weight.
    drawn = torch.minimum(drawn, (reached < total).sum(-1))
    return torch.where(temperature[:, 0] > 0, drawn, greedy)


class Predictions(NamedTuple):
    """What the rows of a block gave, in their order; as `_native.Session.predict` returns it.

    Attributes:
        ids: int32[rows], the chosen tokens.
        confidence: float32[rows], their probabilities.
        entropy: float32[rows], of the distributions, in nats.
        top_ids: int32[rows, top_k], the most probable tokens, lowest id first among equals.
        top_confidence: float32[rows, top_k], their probabilities.
        logits: float32[rows, vocab] if asked for; forbidden tokens are far below all others.
    """

    ids: NDArray[np.int32]
    confidence: NDArray[np.float32]
    entropy: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_confidence: NDArray[np.float32]
    logits: NDArray[np.float32] | None


def summarise(
    logits: Tensor,
    counts: Sequence[int],
    samplers: Sequence[_native.Sampler | None],
    precise: Any,
    *,
    top_k: int,
    forbidden: Sequence[int],
    with_logits: bool,
) -> list[Predictions | None]:
    """What is told of rows of logits of several texts; None of a text whose logits are not finite.

    Args:
        logits: float32[rows, vocab], the rows of one text behind those of another; they are changed.
        counts: rows of each text.
        samplers: of each text; None takes the most probable tokens.
        precise: the type in which shares are summed.
        top_k: most probable tokens to tell of each row.
        forbidden: tokens that have no part in the distribution.
        with_logits: whether to tell them too.

    Raises:
        InferenceError: a forbidden token is outside the vocabulary.
    """
    vocab = logits.shape[1]
    for position, id in enumerate(forbidden):
        if not 0 <= id < vocab:
            raise InferenceError(f"token id {id} at position {position} is outside the vocabulary of {vocab}")
    if len(forbidden):
        logits[:, torch.tensor(list(forbidden), device=logits.device)] = FORBIDDEN
    total = logits.logsumexp(-1, keepdim=True)
    entropy = (total[:, 0] - ((logits - total).exp() * logits).sum(-1)).clamp_min(0)
    top, top_ids = logits.topk(min(max(top_k, 1), vocab), -1)
    is_finite = entropy.isfinite() & (top[:, 0] > FORBIDDEN)
    ids = _chosen(logits, counts, samplers, precise)
    # Equal ones come by id, as a stable order of the negated would give them.
    by_id = top_ids.argsort(-1)
    top, top_ids = top.gather(-1, by_id), top_ids.gather(-1, by_id)
    by_size = top.argsort(dim=-1, descending=True, stable=True)[:, :top_k]
    top, top_ids = top.gather(-1, by_size), top_ids.gather(-1, by_size)
    confidence = (logits.gather(-1, ids[:, None]) - total)[:, 0].exp()
    told = [ids.int(), confidence, entropy, top_ids.int(), (top - total).exp()]
    ends = np.cumsum(counts)[:-1]
    parts: list[Any] = [np.split(one.cpu().numpy(), ends) for one in told]
    parts.append(np.split(logits.cpu().numpy(), ends) if with_logits else [None] * len(counts))
    is_whole = [bool(one.all()) for one in np.split(is_finite.cpu().numpy(), ends)]
    return [Predictions(*own) if whole else None for whole, *own in zip(is_whole, *parts, strict=True)]


def _chosen(
    logits: Tensor, counts: Sequence[int], samplers: Sequence[_native.Sampler | None], precise: Any
) -> Tensor:
    """int64[rows], as each text's sampler chooses."""
    settings = [GREEDY if sampler is None else sampler.settings for sampler in samplers]
    if not any(map(is_drawn, settings)):
        return logits.argmax(-1)
    units = [
        sampler.draws(count) if sampler is not None and is_drawn(own) else np.zeros(count)
        for count, sampler, own in zip(counts, samplers, settings, strict=True)
    ]
    table = np.repeat(np.array(settings), counts, 0)
    place = {"dtype": precise, "device": logits.device}
    return choose(logits, torch.tensor(table, **place), torch.tensor(np.concatenate(units), **place))
