"""Conversations: messages in, replies out, from memory or from the model alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_os_diffusion.answers.answer import Answer
from ai_os_diffusion.contracts import Message
from ai_os_diffusion.runtime.before import Before
from ai_os_diffusion.utils.errors import InferenceError, TrainingError

if TYPE_CHECKING:
    from ai_os_diffusion.evolution import Feedback
    from ai_os_diffusion.inference.generation.generation_stream import GenerationStream
    from ai_os_diffusion.runtime.runtime import Runtime

__all__ = ["NOT_FROM_DOCUMENTS", "Conversation", "Reply"]

NOT_FROM_DOCUMENTS = "not from your documents"
"""What is written beside everything that the model says of itself."""

# Turns that are sent along; older ones are forgotten before the window is full.
_MAX_TURNS = 6


@dataclass(frozen=True, slots=True)
class Reply:
    """What a conversation says to a message.

    Attributes:
        question: the message.
        text: what was said; "" when memory was asked and holds nothing that fits.
        answer: from memory; None when memory was not asked, so that the text is the model's own.
        skill: that the model used, by its name.
    """

    question: str
    text: str
    answer: Answer | None
    skill: str | None = None

    @property
    def declined(self) -> bool:
        """Whether memory was asked and cannot answer: the model is not, for it would invent."""
        return self.answer is not None and self.answer.abstained

    def to_dict(self) -> dict[str, Any]:
        """The reply as JSON-able values; what the model says of itself is marked."""
        if self.answer is not None:
            return {**self.answer.to_dict(), "from_memory": True}
        return {
            "question": self.question,
            "answer": self.text,
            "from_memory": False,
            "origin": NOT_FROM_DOCUMENTS,
            "skill": self.skill,
        }


class Conversation:
    """Messages and what is said to them.

    Where memory is asked, it alone answers: what it cannot answer is declined, never left to the model. A
    message may refer to what was asked and answered before it: it is searched and read with that as well, and
    the surer answer counts. Without memory the model speaks of itself, of the latest turns too, and its
    replies say so; with the skill that a message belongs to, where one was learned.

    Attributes:
        from_memory: whether memory is asked; it is not where there is no store.
        last: the latest reply.
    """

    def __init__(
        self, runtime: Runtime, *, from_memory: bool = True, max_tokens: int = 96, **sampling: Any
    ) -> None:
        """Begin, with the decoder loaded where it is what answers.

        Args:
            runtime: what answers.
            from_memory: ask memory, if there is one.
            max_tokens: length of a reply at most.
            sampling: as for `ArrowEngine.generate`, where the model speaks of itself.

        Raises:
            ModelNotFoundError: it is not there. This and what follows shows now, not after the first message.
            ConfigurationError: another encoder made the memories.
            CardError: the reader's card does not read, or is of another encoder.
        """
        self._runtime = runtime
        self.from_memory = from_memory and runtime.has_store
        if self.from_memory:
            self._runtime.searched, self._runtime.reader  # noqa: B018
        else:
            self._runtime.decoder  # noqa: B018
        self._before: Before | None = None
        self._max_tokens = max_tokens
        self._sampling = sampling
        self._history: list[Message] = []
        self.last: Reply | None = None

    def reply(self, message: str) -> Iterator[str | Reply]:
        """Answer a message.

        Yields:
            Pieces of the text, then the `Reply`; only the reply when it is declined.

        Raises:
            InferenceError: the message does not fit the model's window.
        """
        if self.from_memory:
            answer = self._runtime.ask(message, before=self._before)
            if self._before is None or not answer.abstained:
                self._before = Before.of(answer)
            self._runtime.skills.consider(answer)
            self.last = Reply(message, answer.text, answer)
            if answer.text:
                yield answer.text
            yield self.last
            return
        turn: Message = {"role": "user", "content": message}
        with self._runtime.skills.using(message) as route:
            stream = self._begin(turn)
        skill = route.skill.name if route is not None and route.skill is not None else None
        yield from stream
        text = str(stream.generation).strip()
        self._history += [turn, {"role": "assistant", "content": text}]
        del self._history[: -2 * _MAX_TURNS]
        self.last = Reply(message, text, None, skill)
        yield self.last

    def correct(self, answer: str) -> Feedback:
        """Take in the right answer to the last message; the next round of learning learns it.

        Raises:
            TrainingError: nothing was said yet, or the answer is empty or too long.
        """
        if self.last is None:
            raise TrainingError("there is no reply to correct yet; ask something first")
        said = self.last
        uncertainty = None if said.answer is None else said.answer.doubt
        return self._runtime.skills.correct(
            said.question, answer, said=said.text, uncertainty=uncertainty, skill=said.skill
        )

    def _begin(self, turn: Message) -> GenerationStream:
        """Begin a reply; where all turns do not fit the window, the oldest are left behind."""
        turns = list(self._history)
        while True:
            try:
                stream = self._runtime.generate([*turns, turn], max_tokens=self._max_tokens, **self._sampling)
            except InferenceError:
                if not turns:
                    raise
                del turns[:2]
            else:
                self._history = turns
                return stream
