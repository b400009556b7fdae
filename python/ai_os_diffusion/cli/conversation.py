"""The loop of `aios chat`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from ai_os_diffusion.cli.answer import show_citations
from ai_os_diffusion.cli.output import note, show_piece

if TYPE_CHECKING:
    from ai_os_diffusion.contracts import Message
    from ai_os_diffusion.grounding import Answer
    from ai_os_diffusion.runtime import Runtime

__all__ = ["Conversation"]

# Turns that are sent along; older ones are forgotten before the window is full.
_MAX_TURNS = 6


class Conversation:
    """Messages in, answers out, until the input ends."""

    def __init__(
        self, runtime: Runtime, *, from_memory: bool, max_tokens: int, sampling: dict[str, float | int]
    ) -> None:
        self._runtime = runtime
        self._from_memory = from_memory
        self._max_tokens = max_tokens
        self._sampling = sampling
        self._history: list[Message] = []

    def run(self) -> None:
        """Talk until the end of the input."""
        interactive = sys.stdin.isatty()
        if interactive:
            import readline  # noqa: F401 - gives input() its line editing

            note("Ctrl-C stops an answer, Ctrl-D ends.")
        for message in self._messages(interactive):
            try:
                self._answer(message)
            except KeyboardInterrupt:
                if not interactive:
                    raise
                typer.echo(" …")
        if interactive:
            typer.echo()

    def _messages(self, interactive: bool) -> Iterator[str]:
        while True:
            try:
                line = input("> ") if interactive else sys.stdin.readline()
            except EOFError:
                return
            except KeyboardInterrupt:
                typer.echo()
                continue
            if not interactive and not line:
                return
            if line.strip():
                yield line.strip()

    def _answer(self, message: str) -> None:
        if self._from_memory:
            answer = self._from_passages(message)
            if not answer.abstained:
                show_citations(answer)
                self._remember(message, answer.text)
                return
        turn: Message = {"role": "user", "content": message}
        pieces: list[str] = []
        for piece in self._runtime.generate(
            [*self._history, turn], max_tokens=self._max_tokens, **self._sampling
        ):
            pieces.append(piece)
            show_piece(piece)
        typer.echo()
        self._remember(message, "".join(pieces).strip())

    def _from_passages(self, message: str) -> Answer:
        from ai_os_diffusion.grounding import Answer

        for event in self._runtime.ask_stream(message, max_tokens=self._max_tokens):
            if isinstance(event, Answer):
                if not event.abstained:
                    typer.echo()
                return event
            show_piece(event)
        raise AssertionError("ask_stream ends with an answer")

    def _remember(self, message: str, answer: str) -> None:
        self._history += [
            {"role": "user", "content": message},
            {"role": "assistant", "content": answer},
        ]
        del self._history[: -2 * _MAX_TURNS]
