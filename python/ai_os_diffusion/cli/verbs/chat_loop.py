"""The loop of `aios chat`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_os_diffusion.cli.failures import ExitCode, error_dict, error_message, exit_code
from ai_os_diffusion.cli.terminal.citations import note_index, show_citations, why_abstained
from ai_os_diffusion.cli.terminal.interruption import pass_over
from ai_os_diffusion.cli.terminal.output import ShownAnswer, note, show_json_line, show_line
from ai_os_diffusion.cli.terminal.standard_input import is_interactive, prompted_lines, read_lines, to_text
from ai_os_diffusion.utils.errors import InferenceError, IngestError, QuestionError, TrainingError

if TYPE_CHECKING:
    from ai_os_diffusion.runtime.conversation import Conversation, Reply

__all__ = ["ChatLoop"]

_CORRECT = "/correct"


class ChatLoop:
    """Lines of the input into a conversation, its replies out, until the input ends."""

    def __init__(self, conversation: Conversation, *, as_json: bool = False) -> None:
        """Wire.

        Args:
            conversation: what replies.
            as_json: write a JSON line for each message in place of the text.
        """
        self._conversation = conversation
        self._as_json = as_json
        self._shown = ShownAnswer()

    def run(self) -> ExitCode:
        """Talk until the end of the input.

        Returns:
            How the last message failed that did, or that it was declined; OK when all were answered, or a
            person saw it happen.
        """
        interactive = is_interactive()
        if interactive:
            note(f"Ctrl-C stops an answer, Ctrl-D ends; {_CORRECT} ANSWER tells the right one.")
        ended = ExitCode.OK
        for given in prompted_lines() if interactive else read_lines():
            try:
                message = to_text(given).strip()
                if message.split(maxsplit=1)[:1] == [_CORRECT]:
                    self._correct(message.removeprefix(_CORRECT))
                elif message and (code := self._answer(message)) is not ExitCode.OK:
                    ended = code
            except (InferenceError, IngestError, QuestionError, TrainingError) as error:
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
        from ai_os_diffusion.runtime.conversation import NOT_FROM_DOCUMENTS, Reply

        self._shown = ShownAnswer()
        # Before the first piece, but not before a message that cannot be answered.
        mark = "" if self._conversation.from_memory else f"[{NOT_FROM_DOCUMENTS}] "
        for event in self._conversation.reply(message):
            self._show(mark)
            mark = ""
            if isinstance(event, Reply):
                self._end(event)
                return ExitCode.ABSTAINED if event.declined else ExitCode.OK
            self._show(event)
        raise AssertionError("a conversation ends each message with a reply")

    def _correct(self, answer: str) -> None:
        taken = self._conversation.correct(answer)
        if self._as_json:
            show_json_line({"corrected": taken.question, "answer": taken.answer})
        else:
            note(f"{taken.answer!r} is the answer to {taken.question!r}; aios evolve run learns it")

    def _end(self, reply: Reply) -> None:
        if self._as_json:
            show_json_line(reply.to_dict())
            return
        if reply.answer is not None:
            note_index(reply.answer, quiet=False)
        if reply.answer is None:
            self._show("\n")
            if reply.skill is not None:
                note(f"with the skill {reply.skill}")
        elif reply.declined:
            show_line(why_abstained(reply.answer, filtered=False))
        else:
            self._show("\n")
            show_citations(reply.answer)

    def _show(self, piece: str) -> None:
        if not self._as_json:
            self._shown.write(piece)
