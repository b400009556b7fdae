"""The loop of `aios chat`."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from ai_os_diffusion.cli.answer import show_citations
from ai_os_diffusion.cli.failures import ExitCode, error_dict, error_message, exit_code
from ai_os_diffusion.cli.interruption import pass_over
from ai_os_diffusion.cli.output import ShownAnswer, note, show_json_line, show_line
from ai_os_diffusion.cli.remember import nothing_fits
from ai_os_diffusion.cli.standard_input import is_interactive, prompted_lines, read_lines, to_text
from ai_os_diffusion.utils.errors import InferenceError, IngestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ai_os_diffusion.contracts import Message
    from ai_os_diffusion.grounding import Reply
    from ai_os_diffusion.runtime import Runtime

__all__ = ["Conversation"]

# Turns that are sent along; older ones are forgotten before the window is full.
_MAX_TURNS = 6


class Conversation:
    """Messages in, answers out, until the input ends."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        from_memory: bool,
        max_tokens: int,
        sampling: dict[str, float | int],
        as_json: bool = False,
    ) -> None:
        """Wire.

        Args:
            runtime: what answers.
            from_memory: answer from memory alone; without a store the model speaks of itself.
            max_tokens: length of an answer at most.
            sampling: as for `ArrowEngine.generate`.
            as_json: write a JSON line for each message in place of the text.
        """
        self._runtime = runtime
        self._from_memory = from_memory
        self._max_tokens = max_tokens
        self._sampling = sampling
        self._as_json = as_json
        self._shown = ShownAnswer()
        self._history: list[Message] = []

    def run(self) -> ExitCode:
        """Talk until the end of the input.

        Returns:
            How the last message failed that did, or that it was declined; OK when all were answered, or a
            person saw it happen.
        """
        interactive = is_interactive()
        # What is missing shows now, not after the first message.
        self._runtime.decoder  # noqa: B018
        if self._from_memory and not self._runtime.has_store:
            self._from_memory = False
            note("there is no memory yet, so answers come from the model alone; aios add PATH makes one")
        if interactive:
            note("Ctrl-C stops an answer, Ctrl-D ends.")
        ended = ExitCode.OK
        for given in prompted_lines() if interactive else read_lines():
            try:
                message = to_text(given).strip()
                if message and (code := self._answer(message)) is not ExitCode.OK:
                    ended = code
            except (InferenceError, IngestError) as error:
                ended = exit_code(error)
                self._tell_error(given, error)
            except KeyboardInterrupt:
                if not interactive:
                    raise
                pass_over()
                show_line(" …")
        if interactive:
            note("")
            return ExitCode.OK
        return ended

    def _tell_error(self, given: bytes | str, error: Exception) -> None:
        """Say why a message was not answered; the next one may be."""
        if self._as_json:
            shown = given if isinstance(given, str) else given.decode("utf-8", "backslashreplace")
            show_json_line({"question": shown.strip(), "error": error_dict(error)})
        else:
            note(f"error: {error_message(error)}")

    def _answer(self, message: str) -> ExitCode:
        from ai_os_diffusion.grounding import NOT_FROM_DOCUMENTS, Reply

        self._shown = ShownAnswer()
        events = self._begin(message)
        if not self._from_memory:
            self._show(f"[{NOT_FROM_DOCUMENTS}] ")
        for event in events:
            if isinstance(event, Reply):
                self._end(event)
                return ExitCode.ABSTAINED if event.declined else ExitCode.OK
            self._show(event)
        raise AssertionError("reply_stream ends with a reply")

    def _end(self, reply: Reply) -> None:
        if self._as_json:
            show_json_line(reply.to_dict())
        elif reply.answer is None:
            self._show("\n")
        elif reply.declined:
            show_line(nothing_fits(reply.answer.nearest, reply.answer.threshold, filtered=False))
        else:
            self._show("\n")
            show_citations(reply.answer)
        if not reply.declined:
            self._remember(reply.question, reply.text)

    def _begin(self, message: str) -> Iterator[str | Reply]:
        """Begin a reply; where all turns do not fit the window, the oldest are left behind."""
        turns = list(self._history)
        while True:
            events = self._runtime.reply_stream(
                message,
                history=turns,
                from_memory=self._from_memory,
                max_tokens=self._max_tokens,
                **self._sampling,
            )
            try:
                first = next(events)
            except InferenceError:
                if not turns:
                    raise
                del turns[:2]
            else:
                self._history = turns
                return chain([first], events)

    def _show(self, piece: str) -> None:
        if not self._as_json:
            self._shown.write(piece)

    def _remember(self, message: str, answer: str) -> None:
        self._history += [
            {"role": "user", "content": message},
            {"role": "assistant", "content": answer},
        ]
        del self._history[: -2 * _MAX_TURNS]
