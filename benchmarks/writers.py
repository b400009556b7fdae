"""Ways to answer from passages and to fill forms from notes: by diffusion, left to right, by pointing."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ai_os_diffusion import _native
from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.inference.denoising.forms.template import Slot, Template
from ai_os_diffusion.utils.errors import SamplingError
from diffusion_card import TRAINED

ANSWER_ROOM = 32
"""Tokens of an answer, whoever writes it."""

SLOT_ROOM = 12
FORM_ROOM = 200
TRAINED_YES_NO = "{} True or false?"
"""How cards are asked for yes or no in their training."""

UNREAD = "(unread)"
"""Stands for each value of a form that does not parse."""

FORM_TASK = "Fill in the template."

_NULL, _END = int(TRAINED["null_id"]), int(TRAINED["end_ids"][0])
_TYPES: Mapping[str, Any] = {
    "str": str,
    "date": str,
    "int": int | None,
    "float": float | None,
    "bool": bool | None,
    "list[str]": list[str],
}


@dataclass(frozen=True, slots=True)
class Wrote:
    """What was written, and its cost.

    Attributes:
        value: a text, or the values of a form.
        passes: forward passes behind the prompt.
        read_s: seconds for the prompt.
        write_s: seconds for the rest.
    """

    value: Any
    passes: int
    read_s: float
    write_s: float


def prompt_of(engine: ArrowEngine, context: str, question: str | None = None) -> np.ndarray:
    """Ids of a prompt as cards are trained with: a question about passages, or a text as it is."""
    if question is not None:
        context = TRAINED["question"].format(context=context, question=question)
    turns = [{"role": "user", "content": context}]
    return engine.tokenizer.apply_chat_template(turns, tokenize=True, chat_template=TRAINED["chat_template"])


class Writer(ABC):
    """One way of answering.

    Attributes:
        yes_no: how a question for yes or no is put.
    """

    yes_no = "{}"

    @abstractmethod
    def answer(self, passages: Sequence[str], question: str) -> Wrote:
        """A text."""

    @abstractmethod
    def fill(self, notes: str, form: Mapping[str, str]) -> Wrote:
        """A value for each field; None where there is none."""


def template_of(form: Mapping[str, str]) -> dict[str, Any]:
    """A form as `engine.diffuse` takes it; a date is a text, what can be empty may be."""
    return {name: _TYPES[kind] for name, kind in form.items()}


class ByDiffusion(Writer):
    """The product's way: `engine.diffuse`.

    Args:
        engine: with its diffusion card.
        settings: further settings of `diffuse`.
    """

    yes_no = TRAINED_YES_NO

    def __init__(self, engine: ArrowEngine, **settings: Any) -> None:
        self._engine, self._settings = engine, settings

    def answer(self, passages: Sequence[str], question: str) -> Wrote:
        """As `Writer.answer`."""
        room = {"block_length": ANSWER_ROOM, "max_tokens": ANSWER_ROOM}
        found = self._engine.diffuse(question, context=passages, **room, **self._settings)
        return Wrote(found.text, found.steps, *found.timings)

    def fill(self, notes: str, form: Mapping[str, str]) -> Wrote:
        """As `Writer.fill`."""
        found = self._engine.diffuse(context=notes, template=template_of(form), **self._settings)
        return Wrote(found.value, found.steps, *found.timings)


class LeftToRight(Writer):
    """Token by token, with a card that was trained as the diffusion card, or by the model as it is.

    Args:
        engine: with its card, if any.
        has_card: prompts are those of the training; otherwise the model's own form with a task in words.
        in_slots: of a form only the values are written, and what lies between them is given; otherwise all
            of it is written, and what parses counts.
    """

    def __init__(self, engine: ArrowEngine, *, has_card: bool, in_slots: bool) -> None:
        self._engine, self._has_card, self._in_slots = engine, has_card, in_slots
        self.yes_no = TRAINED_YES_NO if has_card else "{}"

    def answer(self, passages: Sequence[str], question: str) -> Wrote:
        """As `Writer.answer`."""
        context = "\n\n".join(passages)
        if self._has_card:
            prompt = prompt_of(self._engine, context, question)
        else:
            prompt = self._turn(
                f"{context}\n\nQuestion: {question}\nAnswer as briefly as you can, from this text alone. "
                'A question for yes or no is answered "Yes: reason" or "No: reason". '
                'What the text does not say is "not stated".'
            )
        found = self._engine.generate(prompt, max_tokens=ANSWER_ROOM)
        return Wrote(
            self._text(found.tokens).strip(), found.usage.completion_tokens, *map(float, found.timings)
        )

    def fill(self, notes: str, form: Mapping[str, str]) -> Wrote:
        """As `Writer.fill`."""
        return self._slots(notes, form) if self._in_slots else self._whole(notes, form)

    def _whole(self, notes: str, form: Mapping[str, str]) -> Wrote:
        empty = json.dumps({name: [] if kind == "list[str]" else "" for name, kind in form.items()})
        words = "" if self._has_card else " Write JSON only. What the notes do not say stays empty."
        prompt = self._turn(f"{notes}\n\n{FORM_TASK}{words}\n{empty}")
        found = self._engine.generate(prompt, max_tokens=FORM_ROOM)
        text = self._text(found.tokens)
        try:
            value, _ = json.JSONDecoder().raw_decode(text[max(0, text.find("{")) :])
        except ValueError:
            value = {}
        # What does not parse is wrong everywhere, not rightly empty.
        is_read = isinstance(value, dict) and bool(value)
        filled = {name: value.get(name) if is_read else UNREAD for name in form}
        return Wrote(filled, found.usage.completion_tokens, *map(float, found.timings))

    def _slots(self, notes: str, form: Mapping[str, str]) -> Wrote:
        template = Template(template_of(form))
        words = "" if self._has_card else " Write JSON only. What the notes do not say stays empty."
        prompt = self._turn(f"{notes}\n\n{FORM_TASK}{words}")
        pieces = [self._encode(piece) for piece in template.pieces()]
        room = len(prompt) + sum(map(len, pieces)) + SLOT_ROOM * len(template.slots)
        begun = time.perf_counter()
        session, passes = self._engine.core.session(room), 0
        session.prefill(prompt)
        read = time.perf_counter()
        filled: dict[str, Any] = {}
        for slot, piece in zip(template.slots, pieces, strict=False):
            session.prefill(piece)
            text, tokens = self._slot(session, slot)
            passes += 1 + tokens
            try:
                filled[slot.path[0]] = slot.value(text)
            except SamplingError:
                filled[slot.path[0]] = text
        return Wrote(filled, passes, read - begun, time.perf_counter() - read)

    def _slot(self, session: Any, slot: Slot) -> tuple[str, int]:
        """What is written into a slot, and how many tokens were; the slot is closed in the session."""
        closing, ids, text, sampled = '"]' if slot.is_list else '"', [], "", 0
        while len(ids) < SLOT_ROOM:
            id, _ = session.sample(self._greedy)
            sampled += 1
            text = self._text([*ids, id])
            if id in (_NULL, _END) or closing in text:
                break
            ids.append(id)
            session.push(id)
        if self._has_card and len(ids) < SLOT_ROOM:
            # In its training a slot is as long as another, and what is over holds the token for nothing.
            session.prefill(np.full(SLOT_ROOM - len(ids), _NULL, np.int32))
        return text.partition(closing)[0], sampled

    @cached_property
    def _greedy(self) -> _native.Sampler:
        return _native.Sampler()

    def _turn(self, text: str) -> np.ndarray:
        if self._has_card:
            return prompt_of(self._engine, text)
        return self._engine.tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=True)

    def _encode(self, text: str) -> np.ndarray:
        tokenizer = self._engine.tokenizer
        return tokenizer.encode(
            text, add_special_tokens=False, padding=False, split_special_tokens=True
        ).flat_ids

    def _text(self, ids: Sequence[int]) -> str:
        return self._engine.tokenizer.decode([id for id in ids if id not in (_NULL, _END)])


class Pointing(Writer):
    """The best span of the passages, by a reader card on the encoder; of forms, the field is the question.

    Args:
        engine: the encoder with its card.
        each: of every passage its own best span, one behind the other.
    """

    def __init__(self, engine: ArrowEngine, *, each: bool) -> None:
        self._engine, self._each = engine, each

    def answer(self, passages: Sequence[str], question: str) -> Wrote:
        """As `Writer.answer`."""
        texts = passages if self._each else ["\n\n".join(passages)]
        found, seconds = self._read([(question, text) for text in texts])
        return Wrote("; ".join(filter(None, found)) or "not stated", 1, 0.0, seconds)

    def fill(self, notes: str, form: Mapping[str, str]) -> Wrote:
        """As `Writer.fill`."""
        asked = [(f"What is the {name.replace('_', ' ')}?", notes) for name in form]
        found, seconds = self._read(asked)
        values = {
            name: [text] if text and kind == "list[str]" else text
            for (name, kind), text in zip(form.items(), found, strict=True)
        }
        return Wrote(values, 1, 0.0, seconds)

    def _read(self, pairs: list[tuple[str, str]]) -> tuple[list[str | None], float]:
        from reader_card import read

        begun = time.perf_counter()
        found = read(self._engine, pairs)
        seconds = time.perf_counter() - begun
        return [one.text if one.margin > 0 else None for one in found], seconds
