"""A session whose next token is chosen by its score and by what it does to the energy of the text."""

from __future__ import annotations

from collections.abc import Collection
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native
from ai_os_diffusion.inference.constraints.constraint import OPEN
from ai_os_diffusion.inference.constraints.constraint_set import ConstraintSet
from ai_os_diffusion.inference.constraints.token_texts import TokenTexts

__all__ = ["ConstrainedSession", "LostTextError"]

_FAR = 64
"""Characters by which a token may add to what is lacking: with more room there is no need to count."""
_NEGLIGIBLE = log(1e4)
"""How much less probable than the best, in nats at temperature 1, a token is that need not be looked at."""


class LostTextError(Exception):
    """Nothing can make this text right any more; another one is to be drawn."""


class ConstrainedSession:
    """A session in which the score of a token is logit - energy * (E(text with it) - E(text)).

    E counts what is wrong with a text that may go on. What a text lacks costs 1 for each constraint where it
    ends, and 1 as soon as no room is left for it, or the others would not let it follow. Where the model
    would end the text though something is lacking, a token also costs as much as 1, the less the nearer it
    brings the text to what it lacks.

    Args:
        session: reads and scores.
        constraints: what the text has to satisfy.
        texts: of tokens.
        special_ids: tokens that write nothing.
        end_ids: tokens that end the text.
        room: tokens to write at most.
        energy: weight of energies, in nats.
        candidates: most likely tokens to look at for each place, at most.

    Source: the composition of scores with energies follows guidance of samplers by gradients (Kumar et al.,
    arXiv:2205.12558; Dathathri et al., arXiv:1912.02164); for tokens the difference of energies is the
    gradient.
    """

    def __init__(
        self,
        session: Any,
        constraints: ConstraintSet,
        texts: TokenTexts,
        special_ids: Collection[int],
        end_ids: Collection[int],
        room: int,
        *,
        energy: float,
        candidates: int,
    ) -> None:
        self._session, self._constraints, self._texts = session, constraints, texts
        self._ends, self._silent = frozenset(end_ids), frozenset(special_ids)
        self._room, self._energy, self._most = room, energy, candidates
        self._history: list[int] = []
        self._written: list[int] = []
        self._text = ""
        self._is_ending = False

    def prefill(self, ids: NDArray[np.int32]) -> None:
        """Read the prompt."""
        self._session.prefill(ids)
        self._history = ids.tolist()

    def push(self, id: int) -> None:
        """Read a token that was chosen."""
        self._session.push(id)
        self._history.append(id)
        self._written.append(id)
        self._text = self._texts.text(self._written)

    def sample(self, sampler: _native.Sampler) -> tuple[int, float]:
        """Choose the next token: its id, and its log-probability under the model's own distribution.

        Raises:
            LostTextError: the text cannot satisfy the constraints any more.
        """
        if self._constraints.is_lost(self._text):
            raise LostTextError
        logits = self._session.logits()
        temperature = sampler.settings[0]
        scores = self._scores(logits, temperature * _NEGLIGIBLE)
        id, _ = sampler.sample(scores, np.array(self._history, np.uint32))
        greatest = logits.max()
        total = greatest + np.log(np.exp(logits - greatest, dtype=np.float64).sum())
        return id, float(logits[id] - total)

    def _scores(self, logits: NDArray[np.float32], margin: float) -> NDArray[np.float32]:
        """Logits less what a token costs; minus infinity for those that were not looked at.

        Args:
            logits: float32[vocab].
            margin: how far behind the best a token may be that is looked at.
        """
        now = self._constraints.energy([self._text, OPEN])
        lacking = self._constraints.completions(self._text)
        wanted = [self._texts.ids(one)[:1] for one in lacking if one]
        left = sum(len(one) for one in lacking if one)
        self._is_ending = left > 0 and (self._is_ending or int(logits.argmax()) in self._ends)
        is_narrow = left + _FAR > self._room - len(self._written)
        is_lacking = bool(self._constraints.required) and bool(self._constraints.missing([self._text]))
        scores = np.full_like(logits, -np.inf)
        best = -np.inf
        # What would end the text or bring it to its form is looked at however unlikely it is.
        sure = [*self._ends, *(id for ids in wanted for id in ids)]
        stride = self._stride([id for ids in wanted for id in ids], left) if self._is_ending else 0
        for at, id in enumerate([*sure, *self._likeliest(logits)]):
            # No token takes more from the energy than there is.
            if at >= len(sure) and logits[id] + self._energy * now < best - margin:
                break
            if id in self._ends:
                cost = float(sum(one != "" for one in lacking))
            elif id in self._silent:
                continue
            else:
                text = self._texts.following(self._written, self._text, id)
                cost = self._constraints.energy([text, OPEN]) - now
                if self._is_ending:
                    cost += min(max(1 - (left - self._left(text)) / stride, 0.0), 1.0)
                if is_lacking:
                    cost += self._constraints.is_blocked(text)
                if is_narrow:
                    cost += not self._has_room_for(self._constraints.completions(text))
            scores[id] = logits[id] - self._energy * cost
            best = max(best, float(scores[id]))
        return scores

    def _stride(self, wanted: list[int], left: int) -> float:
        """Characters by which what is lacking becomes less with the best of its own tokens; 1 at least."""
        after = [self._left(self._texts.following(self._written, self._text, id)) for id in wanted]
        return max([1.0, *(left - one for one in after)])

    def _left(self, text: str) -> float:
        """Characters that a text lacks."""
        found = self._constraints.completions(text)
        return float("inf") if None in found else sum(len(one) for one in found if one)

    def _has_room_for(self, lacking: list[str | None]) -> bool:
        """Whether what is lacking can be written behind one more token."""
        room = self._room - len(self._written) - 1
        needed = [one for one in lacking if one]
        # No text has more tokens than bytes.
        if sum(len(one.encode()) for one in needed) <= room:
            return True
        return sum(len(self._texts.ids(one)) for one in needed) <= room

    def _likeliest(self, logits: NDArray[np.float32]) -> list[int]:
        """Tokens from the likeliest on."""
        count = min(self._most, len(logits))
        found = np.argpartition(-logits, count - 1)[:count]
        ordered: list[int] = found[np.argsort(-logits[found], kind="stable")].tolist()
        return ordered
