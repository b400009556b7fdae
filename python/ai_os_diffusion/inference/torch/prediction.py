"""What rows of blocks give, of several texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.inference.torch.choice import FORBIDDEN, Predictions, not_finite, summarise
from ai_os_diffusion.utils.errors import InferenceError, ShapeError

if TYPE_CHECKING:
    from ai_os_diffusion.inference.torch.session import TorchSession
    from ai_os_diffusion.inference.torch.torch_core import Texts

__all__ = ["predict_all"]

Ids = NDArray[np.int32]
Allowed = Sequence[tuple[int, Sequence[int]]]
Tensor = Any


def predict_all(
    sessions: Sequence[TorchSession],
    ids: Sequence[Ids],
    rows: Sequence[NDArray[np.int64]],
    samplers: Sequence[_native.Sampler | None],
    *,
    top_k: int = 0,
    forbidden: Sequence[int] | None = None,
    allowed: Sequence[Allowed] | None = None,
    guidance: tuple[float, Sequence[TorchSession], Sequence[Ids]] | None = None,
    places: Sequence[tuple[Ids, int] | None] | None = None,
    prefix: bool = False,
    logits: bool = False,
) -> list[Predictions]:
    """Predict rows of a block behind each session, in as few passes as they fit in.

    The arguments are those of `_native.Session.predict_all`.

    Raises:
        ShapeError: arguments differ in number, or rows do not ascend within their block.
        InferenceError: as for `prefill`; a session is there twice; the logits are not finite.
    """
    count = len(ids)
    held = [()] * count if allowed is None else allowed
    placed = [None] * count if places is None else places
    scale, others, other_ids = (1.0, (), ()) if guidance is None else guidance
    if any(len(one) != count for one in (sessions, rows, samplers, held, placed)) or (
        guidance is not None and list(map(len, ids)) != list(map(len, other_ids))
    ):
        raise ShapeError(
            f"pass: expected sessions, rows, samplers, allowed tokens and places for {count} blocks, and as "
            f"many of the same lengths to guide them, got {len(sessions)}, {len(rows)}, {len(samplers)}, "
            f"{len(held)}, {len(placed)} and {len(others)}"
        )
    if not count:
        return []
    pairs = zip((*sessions, *others), (*ids, *other_ids), [*rows] * 2, [*placed] * 2, strict=False)
    asked = [_Asked(*pair) for pair in pairs]
    everyone = [one.session for one in asked]
    if len({id(session) for session in everyone}) < len(everyone):
        raise InferenceError("pass: a session is there twice; each belongs to one text")
    texts = everyone[0].texts
    if any(session.texts is not texts for session in everyone):
        raise ShapeError("pass: expected sessions of one model")
    before = [len(session) for session in everyone]
    if prefix:
        _read_prefixes(asked)
    with texts.device.running(f"blocks of {sum(map(len, ids))} tokens"):
        found = _logits_of(texts, asked)
        scores = torch.cat(found[:count])
        if guidance is not None:
            without = torch.cat(found[count:])
            scores = without + scale * (scores - without)
        counts = [len(one.rows) for one in asked[:count]]
        for part, own in zip(scores.split(counts), held, strict=True):
            _restrict(part, own)
        told = summarise(
            scores,
            counts,
            samplers,
            texts.device.precise,
            top_k=top_k,
            forbidden=forbidden or (),
            with_logits=logits,
        )
    predictions = [one for one in told if one is not None]
    if len(predictions) < count:
        for session, length in zip(everyone, before, strict=True):
            session.truncate(length)
        for index in range(len(everyone)):
            if told[index % count] is None:
                everyone[index].taint()
        raise not_finite()
    return predictions


class _Asked:
    """A block of a text, and what is wanted of it.

    Args:
        session: the text.
        ids: int32[length] of the block.
        rows: int64[n] of it that are wanted.
        place: positions of the block, none for those behind what was read; and how many of its tokens are
            counted as read, with the keys and values that they have in this pass.
    """

    def __init__(
        self, session: TorchSession, ids: Ids, rows: NDArray[np.int64], place: tuple[Ids, int] | None
    ) -> None:
        session.check(ids)
        window = session.texts.window
        self.session, self.ids, self.rows = session, ids, [int(row) for row in rows]
        self.positions, self.keep = (np.zeros(0, np.int32), 0) if place is None else place
        if not len(ids) or not all(one < other for one, other in pairwise([-1, *self.rows, len(ids)])):
            wanted = f"wanted rows ascend below the {len(ids)} of their block"
            what = wanted if len(ids) else "span 0 has no rows"
            raise ShapeError(f"pass: {what}, got {self.rows}")
        if len(self.positions) not in (0, len(ids)) or not 0 <= self.keep <= len(ids):
            raise ShapeError(
                f"pass: a block of {len(ids)} tokens has {len(self.positions)} positions, of which "
                f"{self.keep} are to stay"
            )
        if len(self.positions) and not 0 <= self.positions.min() <= self.positions.max() < window:
            raise InferenceError(
                f"positions up to {self.positions.max()} do not fit the model's window of {window}; shorten "
                "the text"
            )


def _read_prefixes(asked: Sequence[_Asked]) -> None:
    """Read the tokens that stay, which do not see what follows them, in a pass of their own."""
    waiting = [one for one in asked if one.keep]
    for one in waiting:
        if one.rows and one.rows[0] < one.keep:
            raise ShapeError(
                f"pass: rows {one.rows} begin within the {one.keep} tokens that are read before them"
            )
    type(asked[0].session).prefill_all(
        [one.session for one in waiting], [one.ids[: one.keep] for one in waiting], causal=False
    )
    for one in waiting:
        one.ids, one.positions = one.ids[one.keep :], one.positions[one.keep :]
        one.rows, one.keep = [row - one.keep for row in one.rows], 0


def _logits_of(texts: Texts, asked: Sequence[_Asked]) -> list[Tensor]:
    """float32[n, vocab] of the wanted rows of each, from as few passes as they fit in."""
    found: dict[int, Tensor] = {}
    of_session = {id(one.session): one for one in asked}
    for group in texts.batcher.groups([one.session for one in asked]):
        waiting = [of_session[id(session)] for session in group]
        while waiting:
            together = waiting[: texts.batcher.steps.most_blocks(max(len(one.ids) for one in waiting))]
            del waiting[: len(together)]
            found.update(zip(map(id, together), _pass(texts, together), strict=True))
    return [found[id(one)] for one in asked]


def _pass(texts: Texts, asked: Sequence[_Asked]) -> list[Tensor]:
    for one in asked:
        one.session.reserve(len(one.session) + len(one.ids))
    block = texts.batcher.steps.block(
        max(len(one.ids) for one in asked),
        max(len(one.session) + len(one.ids) for one in asked),
        [one.session.adapter for one in asked],
    )
    block.load(
        [one.ids for one in asked],
        [len(one.session) for one in asked],
        [one.session.pages for one in asked],
        [one.positions for one in asked],
    )
    block.run()
    # The texts' cards count in the head too, so each keeps its place.
    most = max(len(one.rows) for one in asked)
    wanted = np.zeros((len(block.states), most), np.int64)
    for row, one in enumerate(asked):
        wanted[row, : len(one.rows)] = one.rows
    at = torch.from_numpy(wanted).to(block.states.device)[..., None]
    logits = texts.network.head(
        block.states.gather(1, at.expand(-1, -1, block.states.shape[-1])), block.cards
    )
    for one in asked:
        if one.keep:
            one.session.keep(one.ids[: one.keep])
    return [logits[row, : len(one.rows)] for row, one in enumerate(asked)]


def _restrict(scores: Tensor, allowed: Allowed) -> None:
    """Leave in some rows nothing but the tokens that are allowed there."""
    for row, tokens in allowed:
        if not 0 <= row < len(scores) or not len(tokens):
            raise ShapeError(f"pass: expected tokens for some of {len(scores)} wanted rows, got row {row}")
        for position, id in enumerate(tokens):
            if not 0 <= id < scores.shape[1]:
                raise InferenceError(
                    f"token id {id} at position {position} is outside the vocabulary of {scores.shape[1]}"
                )
        at = torch.tensor(list(tokens), device=scores.device)
        kept = scores[row, at]
        scores[row] = FORBIDDEN
        scores[row, at] = kept
