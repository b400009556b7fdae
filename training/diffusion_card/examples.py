"""Examples for the diffusion card, drawn from open data: what is given, and what is to be written."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from dataclasses import replace
from pathlib import Path

from notes import Filled, Notes
from open_data import OpenData, sentences
from passages import NOT_STATED, answer_of, ask, ask_back, crop, gap_in, join
from yes_no import YesNo

from ai_os_diffusion.training import Example, Piece
from ai_os_diffusion.utils.errors import TrainingError

MIXTURE = {
    "grounded": 0.36,
    "unanswerable": 0.05,
    "cloze": 0.05,
    "yes_no": 0.12,
    "two_parts": 0.10,
    "template": 0.15,
    "task": 0.03,
    "plain": 0.04,
    "infill": 0.10,
}
"""Share of the positions of a batch that each kind of example takes, where a recipe asks for nothing else."""


class Examples:
    """Draws examples of every kind; one public method a kind.

    Args:
        folder: holds `reader/{extractive,nli}.jsonl.gz` and `train/*.jsonl.gz`; `$NAME` is a variable.
        held_out: draw from the contexts kept for judging, and only from them.
    """

    kinds = MIXTURE

    def __init__(self, folder: str | Path, *, held_out: bool = False) -> None:
        place = os.path.expandvars(folder)
        if "$" in str(place):
            raise TrainingError(f"{place}: the variable is not set; expected the folder of the open data")
        self._data = OpenData(Path(place), held_out=held_out)
        self._notes = Notes(itertools.islice(self._data.questions_of, 6000))
        self._yes_no = YesNo(self._data)

    def draw(self, kind: str, rng: random.Random) -> Example:
        """An example of a kind, with the length of its blocks."""
        if kind not in (*MIXTURE, "question"):
            raise TrainingError(f"there is no kind {kind!r}; there are {', '.join(MIXTURE)}, question")
        example: Example = getattr(self, kind)(rng)
        block = 16 if example.room <= 16 and len(example.pieces[0].text) <= 200 else 32
        if example.kind in ("grounded", "unanswerable", "cloze") and rng.random() < 0.2:
            block = rng.choice([8, 32])
        return replace(example, block=block)

    # Questions about passages.

    def grounded(self, rng: random.Random) -> Example:
        """A question and a passage that answers it, in three of ten cases among others."""
        source, row = self._data.draw(rng)
        among_others = rng.random() < 0.3
        answer = answer_of(rng, row)
        passages = [crop(rng, row, 700 if among_others else 1500)]
        if among_others:
            others = [self._data.other(rng, source, 700) for _ in range(rng.randint(1, 3))]
            passages += [other for other in others if answer.lower() not in other.lower()]
            rng.shuffle(passages)
        return Example("grounded", ask(join(rng, passages), row["question"]), (Piece(answer),))

    def question(self, rng: random.Random) -> Example:
        """The question that belongs to an answer: for a card that asks, see `questions.py`."""
        _, row = self._data.draw(rng)
        prompt = ask_back(crop(rng, row, 1500), answer_of(rng, row))
        return Example("question", prompt, (Piece(row["question"].strip()),), room=32)

    def unanswerable(self, rng: random.Random) -> Example:
        """A question that its passages do not answer, though they may be near it."""
        if self._data.unanswerable and rng.random() < 0.15:
            row = rng.choice(self._data.unanswerable)
            return Example("unanswerable", ask(row["context"][:2500], row["question"]), (Piece(NOT_STATED),))
        source, row = self._data.draw(rng)
        answers = [answer["text"].lower() for answer in row["answers"]]

        def is_silent(text: str) -> bool:
            return len(text) >= 60 and not any(answer in text.lower() for answer in answers)

        without = " ".join(sentence for sentence in sentences(row["context"]) if is_silent(sentence))
        passages = [without if rng.random() < 0.4 else self._data.other(rng, source, 1400)]
        if rng.random() < 0.3:
            passages.append(self._data.other(rng, source, 500))
        passages = list(filter(is_silent, passages)) or [rng.choice(self._data.prose)[:600]]
        return Example("unanswerable", ask(join(rng, passages), row["question"]), (Piece(NOT_STATED),))

    def cloze(self, rng: random.Random) -> Example:
        """A gap in a sentence of a passage: grounded answers from text that nobody asked about."""
        while True:
            parts = sentences(rng.choice(self._data.prose))
            if len(parts) < 3:
                continue
            begin = rng.randrange(max(1, len(parts) - 6))
            window = parts[begin : begin + rng.randint(3, 8)]
            sentence = rng.choice(window)
            gap = gap_in(rng, sentence)
            if gap is None or len(sentence) > 400:
                continue
            answer = sentence[slice(*gap)].strip(" .,;:()\"'")
            if not 2 <= len(answer) <= 80:
                continue
            left, right = sentence[: gap[0]].split(), sentence[gap[1] :].split()
            if rng.random() < 0.5:
                # A few words are left of the sentence, so that it must be found by them.
                left, right = left[-rng.randint(2, 8) :], right[: rng.randint(2, 8)]
            question = " ".join([*left, "____", *right])
            return Example("cloze", ask(" ".join(window), question), (Piece(answer),))

    def yes_no(self, rng: random.Random) -> Example:
        """Whether something is so, with the reason."""
        return self._yes_no.draw(rng)

    def two_parts(self, rng: random.Random) -> Example:
        """Two questions in one, answered from one passage or from two."""
        while True:
            source, first = self._data.draw(rng)
            siblings = [row for row in self._data.questions_of[first["context"]] if row is not first]
            if siblings and len(first["context"]) <= 1800 and rng.random() < 0.4:
                second = rng.choice(siblings)
                passages = [first["context"]]
            else:
                second = rng.choice(self._data.by_source[source])
                if not second["answers"] or second["context"] == first["context"]:
                    continue
                passages = [crop(rng, first, 700), crop(rng, second, 700)]
                if rng.random() < 0.3:
                    passages.append(self._data.other(rng, source, 400))
                rng.shuffle(passages)
            answers = [answer_of(rng, first), answer_of(rng, second)]
            if sum(map(len, answers)) > 120:
                continue
            if len(passages) > 1 and rng.random() < 0.25:
                # A part whose passage is not there has no answer, and the other still has.
                passages.remove(next(own for own in passages if own in second["context"]))
                if any(answer["text"].lower() in "".join(passages).lower() for answer in second["answers"]):
                    continue
                answers[1] = NOT_STATED
            one, other = first["question"].strip(), second["question"].strip()
            if rng.random() < 0.5:
                one, other = f"{one.rstrip('?')}, and", other[:1].lower() + other[1:]
            prompt = ask(join(rng, passages), f"{one} {other}")
            return Example("two_parts", prompt, (Piece("; ".join(answers)),), room=32)

    # Forms, tasks and text.

    def template(self, rng: random.Random) -> Example:
        """A JSON object whose slots are filled from notes; a slot that they do not fill stays empty."""
        draw = rng.choices([self.asked_form, self._judged, lambda _: None], [0.4, 0.2, 0.4])[0]
        notes, fields = draw(rng) or self._notes.draw(
            rng, [row["premise"] for row in rng.sample(self._data.entailment, 2)]
        )
        pieces = [Piece("{", written=False)]
        for index, field in enumerate(fields):
            before, behind = ('["', '"]') if field.is_list else ('"', '"')
            opening = f"{', ' if index else ''}{json.dumps(field.name, ensure_ascii=False)}: {before}"
            pieces += [
                Piece(opening, written=False),
                Piece(field.value),
                Piece(behind, written=False),
            ]
        pieces.append(Piece("}", written=False))
        asked = rng.choice(
            ["Fill in the template.", "Fill in the form from the notes.", "Extract the fields."]
        )
        return Example("template", f"{notes}\n\n{asked}", tuple(pieces), room=rng.choice([8, 12, 12, 16]))

    def asked_form(self, rng: random.Random) -> tuple[str, list[Filled]] | None:
        """Questions as the names of fields."""
        context = rng.choice(self._data.contexts)
        found = [row for row in self._data.questions_of[context] if len(row["answers"][0]["text"]) <= 60]
        if len(found) < 2 or len(context) > 2000:
            return None
        chosen = rng.sample(found, min(len(found), rng.randint(2, 4)))
        fields = [
            (row["question"].strip(), answer_of(rng, row).replace('"', "'").replace("\\", "/"))
            for row in chosen
        ]
        for _ in range(rng.choice([0, 0, 1, 1, 2])):
            _, other = self._data.draw(rng)
            if not any(answer["text"].lower() in context.lower() for answer in other["answers"]):
                fields.insert(rng.randrange(len(fields) + 1), (other["question"].strip(), ""))
        if rng.random() < 0.7:
            fields = [(_name(rng, question), value) for question, value in fields]
        # One name for two values would ask for both in each.
        if len(dict(fields)) < len(fields):
            return None
        return context, [Filled(*field) for field in fields]

    def _judged(self, rng: random.Random) -> tuple[str, list[Filled]]:
        """What notes say to be so, or not so, or nothing of."""
        rows = rng.sample(self._data.entailment, rng.randint(2, 5))
        fields = {
            _name(rng, row["hypothesis"], most=5): {"entail": "true", "contradict": "false"}.get(
                row["label"], ""
            )
            for row in rows[: rng.randint(1, 3)]
        }
        rng.shuffle(rows)
        return rng.choice(["\n", " ", "\n- "]).join(row["premise"] for row in rows), [
            Filled(*field) for field in fields.items()
        ]

    def task(self, rng: random.Random) -> Example:
        """An instruction and its answer."""
        _, prompt, text = rng.choices(self._data.tasks, cum_weights=self._data.task_weights)[0]
        return Example("task", prompt, (Piece(text),))

    def plain(self, rng: random.Random) -> Example:
        """A stretch of text, any of which may be masked."""
        _, text = rng.choices(self._data.texts, cum_weights=self._data.text_weights)[0]
        begin = rng.randrange(max(1, len(text) - 1200))
        return Example(
            "plain", "", (Piece(text[begin : begin + rng.randint(400, 1600)]),), room=0, ends=False
        )

    def infill(self, rng: random.Random) -> Example:
        """A stretch of text with one to three gaps whose lengths are not told."""
        _, text = rng.choices(self._data.texts, cum_weights=self._data.text_weights)[0]
        if rng.random() < 0.5:
            parts = sentences(text)
            begin = rng.randrange(len(parts))
            text = " ".join(parts[begin : begin + rng.randint(1, 3)])[:800]
        else:
            begin = rng.randrange(max(1, len(text) - 700))
            text = text[begin : begin + rng.randint(200, 700)]
        words = [match.span() for match in re.finditer(r"\s?\S+", text)]
        if len(words) < 8:
            return self.plain(rng)
        pieces, at = [], 0
        for word in sorted(rng.sample(range(1, len(words) - 1), min(rng.randint(1, 3), len(words) // 6))):
            begin, end = words[word][0], words[min(len(words), word + rng.randint(1, 6)) - 1][1]
            if begin >= at:
                pieces += [Piece(text[at:begin], written=False), Piece(text[begin:end])]
                at = end
        pieces.append(Piece(text[at:], written=False))
        return Example("infill", "", tuple(pieces), room=rng.choice([4, 6, 8, 8, 12]), ends=False)


def _name(rng: random.Random, text: str, most: int = 3) -> str:
    """Some words of a text, one behind the other, as the name of a field; the longer ones tell more."""
    words = [word for word in re.findall(r"[^\W_]+", text.lower()) if len(word) > 2] or ["value"]
    count = rng.randint(1, min(most, len(words)))
    runs = [words[first : first + count] for first in range(len(words) - count + 1)]
    chosen = rng.choices(runs, [sum(map(len, run)) ** 2 for run in runs])[0]
    return rng.choice(["_", "_", " "]).join(chosen)
