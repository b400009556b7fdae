"""Texts of the form that a regular expression describes."""

from __future__ import annotations

from ai_os_diffusion.inference.constraints.automaton import Automaton, State
from ai_os_diffusion.inference.constraints.constraint import OPEN, SPACE, Constraint, Runs, begun
from ai_os_diffusion.utils.errors import SamplingError

__all__ = ["Matches"]

_MOST_CHARACTERS = 1000
_FAR = 64


class Matches(Constraint):
    """The whole text, without white space around it, matches a regular expression of `re`.

    Args:
        pattern: of at most 1000 characters; see `Automaton` for what it may not hold.

    Raises:
        SamplingError: it is none that can be held to.
    """

    def __init__(self, pattern: str) -> None:
        if not isinstance(pattern, str) or not 0 < len(pattern) <= _MOST_CHARACTERS:
            raise SamplingError(
                f"pattern: expected a regular expression of 1 to {_MOST_CHARACTERS} characters, "
                f"got {pattern!r:.80}"
            )
        self._hold_to(pattern)

    def _hold_to(self, pattern: str) -> None:
        self._automaton = Automaton(pattern)
        if self._automaton.completion(self._automaton.start) is None:
            raise SamplingError(f"pattern {pattern!r:.80} matches no text")
        # A text that was read, and where it led.
        self._read: tuple[str, State] = ("", self._automaton.start)

    def energy(self, runs: Runs) -> float:
        """1 where whatever is written into what is open cannot make it match, else 0."""
        if not runs:
            return float(not self._automaton.accepts(self._automaton.start))
        first = begun(runs[0]) if runs[0] else ""
        if first is None:
            return 1.0
        state = self._reached(first)
        for run in runs[(runs[0] is not OPEN) :]:
            state = self._automaton.read_anything(state) if run is OPEN else self._automaton.read(state, run)
        if runs[-1] is not OPEN and not self._automaton.accepts(state):
            # White space behind the text is none of it.
            return float(self._energy_without_space(runs))
        return float(not state)

    def completion(self, text: str) -> str | None:
        """A shortest one."""
        first = begun(text)
        return (
            ""
            if self._accepts(text.strip(SPACE))
            else self._automaton.completion(frozenset() if first is None else self._reached(first))
        )

    def violation(self, text: str) -> str | None:
        """That it does not match."""
        return (
            None
            if self._accepts(text.strip(SPACE))
            else f"the text does not match {self._automaton.pattern!r:.80}"
        )

    def is_lost(self, text: str) -> bool:
        """Whether no text that begins so matches."""
        return self.energy([text, OPEN]) > 0

    def _accepts(self, text: str) -> bool:
        return self._automaton.accepts(self._reached(text))

    def _energy_without_space(self, runs: Runs) -> bool:
        last = runs[-1] or ""
        kept = last.rstrip(SPACE)
        return True if len(kept) == len(last) else bool(self.energy([*runs[:-1], *([kept] if kept else [])]))

    def _reached(self, text: str) -> State:
        before, state = self._read
        if not text.startswith(before):
            before, state = "", self._automaton.start
        state = self._automaton.read(state, text[len(before) :])
        if len(text) - len(before) > _FAR:
            self._read = text, state
        return state
