"""What rows of blocks give, of several texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.inference.torch.choice import FORBIDDEN, Predictions, summarise
from ai_os_diffusion.utils.errors import InferenceError, ShapeError

if TYPE_CHECKING:
    from ai_os_diffusion.inference.torch.session import TorchSession

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
    logits: bool = False,
) -> list[Predictions]:
    """Predict rows of a block behind each session; see `_native.Session.predict_all` for the arguments.

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
    everyone = [*sessions, *others]
    if len({id(session) for session in everyone}) < len(everyone):
        raise InferenceError("pass: a session is there twice; each belongs to one text")
    found = []
    for index, session in enumerate(sessions):
        texts, before = session.texts, len(session)
        with texts.device.running(f"a block of {len(ids[index])} tokens"):
            scores = _block_logits(session, ids[index], rows[index], placed[index])
            if guidance is not None:
                without = _block_logits(others[index], other_ids[index], rows[index], placed[index])
                scores = without + scale * (scores - without)
            _restrict(scores, held[index])
            try:
                found.append(
                    summarise(
                        scores,
                        samplers[index],
                        texts.device.precise,
                        top_k=top_k,
                        forbidden=forbidden or (),
                        with_logits=logits,
                    )
                )
            except InferenceError:
                session.truncate(before)
                session.taint()
                raise
    return found


def _block_logits(
    session: TorchSession, ids: Ids, rows: NDArray[np.int64], place: tuple[Ids, int] | None
) -> Tensor:
    """float32[n, vocab] of the wanted rows of a block behind a text.

    Args:
        session: the text.
        ids: int32[length] of the block.
        rows: int64[n] of it that are wanted.
        place: positions of the block, none for those behind what was read; and how many of its tokens are
            counted as read, with the keys and values that they have in this pass.
    """
    session.check(ids)
    texts, read = session.texts, len(session)
    positions, keep = (np.zeros(0, np.int32), 0) if place is None else place
    wanted = [int(row) for row in rows]
    if not len(ids) or not all(one < other for one, other in pairwise([-1, *wanted, len(ids)])):
        what = f"wanted rows ascend below the {len(ids)} of their block" if len(ids) else "span 0 has no rows"
        raise ShapeError(f"pass: {what}, got {wanted}")
    if len(positions) not in (0, len(ids)) or not 0 <= keep <= len(ids):
        raise ShapeError(
            f"pass: a block of {len(ids)} tokens has {len(positions)} positions, of which {keep} are to stay"
        )
    if len(positions) and not 0 <= positions.min() <= positions.max() < texts.window:
        raise InferenceError(
            f"positions up to {positions.max()} do not fit the model's window of {texts.window}; shorten the "
            "text"
        )
    session.reserve(read + len(ids))
    block = texts.batcher.steps.block(len(ids), read + len(ids), session.adapter)
    block.load(ids, read, session.pages, positions if len(positions) else None)
    block.run()
    logits = texts.network.head(
        block.states[:, torch.tensor(wanted, device=block.states.device)], block.cards
    )[0]
    if keep:
        session.keep(ids[:keep])
    return logits


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
