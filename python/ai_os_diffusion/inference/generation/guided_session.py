"""A session whose scores are led away from those of another prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ai_os_diffusion import _native

__all__ = ["GuidedSession"]


class GuidedSession:
    """Two sessions of one text behind two prompts: logits are u + scale * (c - u).

    c are those behind the prompt, u those behind the other one, which lacks what the text is to hold on to,
    or says what it is to keep away from.

    Args:
        session: reads the prompt.
        other: reads the other one.
        unguided: ids of that, int32[n].
        scale: 1 is the prompt's own text, above 1 leads further away from the other.

    Source: Sanchez et al., Stay on topic with classifier-free guidance, arXiv:2306.17806.
    """

    def __init__(self, session: Any, other: Any, unguided: NDArray[np.int32], scale: float) -> None:
        self._session, self._other, self._unguided, self._scale = session, other, unguided, scale
        self._history: list[int] = []

    def prefill(self, ids: NDArray[np.int32]) -> None:
        """Read both prompts."""
        self._session.prefill(ids)
        self._other.prefill(self._unguided)
        self._history = ids.tolist()

    def push(self, id: int) -> None:
        """Read a token behind both."""
        self._session.push(id)
        self._other.push(id)
        self._history.append(id)

    def logits(self) -> NDArray[np.float32]:
        """float32[vocab] of the next token."""
        led, other = self._session.logits(), self._other.logits()
        found: NDArray[np.float32] = other + np.float32(self._scale) * (led - other)
        return found

    def sample(self, sampler: _native.Sampler) -> tuple[int, float]:
        """Choose the next token: its id, and its log-probability under the guided distribution."""
        return sampler.sample(self.logits(), np.array(self._history, np.uint32))
